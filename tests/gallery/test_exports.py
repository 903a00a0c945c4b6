"""Exported models among the candidates: the right numbers at the right items, and nothing that was trained on the test."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from recnb.data.settings import SplitConfig
from recnb.errors import ArtifactError, RecipeError
from recnb.gallery.exports import export_row
from recnb.gallery.recipe import Gallery

IDS = ["a", "b", "c", "d"]
FACTS = {"name": "tiny", "data": {"interactions": 50, "users": 5}, "training": {"parameters": 7, "epochs": 2}}


class Fake:
    """Scores an item by its letter, and by how many items it was shown."""

    item_ids = ["d", "c", "b", "a", "e"]
    about = SimpleNamespace(model_dump=lambda: FACTS)

    def scores(self, histories, candidates):
        pairs = zip(histories, candidates, strict=True)
        return np.array([[len(seen) * 10 + ord(item) for item in asked] for seen, asked in pairs], np.float32)


def test_scores_stand_at_their_candidates():
    row = export_row(Fake(), IDS, SplitConfig())
    items = np.array([[[0, 3], [1, 2]], [[2, 0], [3, 1]]])
    found = row.scores(np.array([[-1, -1, 0], [1, 2, 3]]), items)
    shown = np.array([1, 3])[:, None, None]
    np.testing.assert_array_equal(found, shown * 10 + items + ord("a"))
    assert (row.learned.parameters, row.learned.examples) == (7, 2 * 35)


@pytest.mark.parametrize("split", [{"name": "llara-split"}, {"holdout": "random"}, {"min_rating": 3}])
def test_an_export_that_has_seen_the_test_is_refused(split):
    with pytest.raises(RecipeError, match=f"gallery.exports were trained on what .*{next(iter(split))}"):
        export_row(Fake(), IDS, SplitConfig(**split))


def test_an_export_of_other_items_is_refused():
    with pytest.raises(ArtifactError, match="knows no item 'z'"):
        export_row(Fake(), [*IDS, "z"], SplitConfig())


def test_a_recipe_is_refused_before_anything_starts(tmp_path):
    asked = Gallery.model_validate({
        "name": "x", "split": {"holdout": "random"}, "gallery": {"systems": ["talrec", "llara"], "exports": ["gone"]},
    })  # fmt: skip
    found = [problem.what for problem in asked.gallery.problems(tmp_path, asked)]
    assert len(found) == 3
    assert "unknown system 'talrec'; nearest: 'tallrec'" in found[0]
    assert "gone: no such folder" in found[1] and "split.holdout random" in found[2]
    assert Gallery.model_validate({"name": "x"}).gallery.problems(tmp_path, asked) == []
