"""A person's own candidate sets: read as they stand, and every fault named with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sandbox import ROOT
from small import catalogue

from recnb.data.held_out import HeldOut, hold_out
from recnb.data.schema import Dataset
from recnb.data.settings import SplitConfig
from recnb.errors import DataError
from recnb.evaluation.candidate_file import read_candidates
from recnb.workflow.recipe import load_recipe

SETS = [("b", "0", "i3"), ("b", "0", "i1"), ("a", "1", "i5"), ("a", "0", "i2"), ("a", "0", "i4"), ("b", "1", "i9"),
        ("b", "1", "i0"), ("a", "1", "i6")]  # fmt: skip


def data() -> tuple[Dataset, HeldOut]:
    """Users a and b with the items 0 1 2 and 3 4 5."""
    dataset = Dataset("made", catalogue(10), np.array(["a", "b"], object), np.array([0, 3, 6]),
                      np.arange(6, dtype=np.int32), np.arange(6.0), {"clock": "order"})  # fmt: skip
    return dataset, hold_out(dataset, SplitConfig(), 3, 0)


def written(folder: Path, rows: list[tuple[str, str, str]], header: str = "user_id,draw,item_id") -> Path:
    path = folder / "sets.csv"
    path.write_text("\n".join([header, *map(",".join, rows)]) + "\n", encoding="utf-8")
    return path


def test_sets_are_read_in_the_order_of_the_file(tmp_path):
    sets = read_candidates(written(tmp_path, SETS), *data(), 2, 2)
    assert sets.items.tolist() == [[[2, 4], [5, 6]], [[3, 1], [9, 0]]]
    assert sets.targets.tolist() == [2, 5] and sets.rule == "file"
    assert sets.place.tolist() == [[0, -1], [-1, -1]]


def changed(row: int, column: int, value: str) -> list[tuple[str, str, str]]:
    rows = [list(each) for each in SETS]
    rows[row][column] = value
    return [tuple(each) for each in rows]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(2, 2, "i77"), r"sets\.csv: line 4: item_id 'i77' is not in the catalogue \(1 such rows\); nearest: 'i7'"),
        (changed(3, 0, "c"), r"line 5: user_id 'c' is none of the users of the test"),
        (changed(4, 2, "i2"), r"line 6: item 'i2' stands twice in draw '0' of user 'a'"),
        (changed(4, 2, ""), r"line 6: column 'item_id' is empty"),
        (SETS[:-1], r"user 'a', draw '1': 1 items; expected candidates.size = 2"),
        ([row for row in SETS if row[1] == "0"], r"1 draws; expected candidates\.draws = 2"),
        ([row for row in SETS if row[0] == "a"], r"user 'b', draw '0': 0 items; expected candidates.size = 2"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_candidates(written(tmp_path, rows), *data(), 2, 2)


def test_a_file_of_another_shape_says_which_setting_would_follow_it(tmp_path):
    """Never read with the recipe's words: it is refused, and the shape that it has is named."""
    path = written(tmp_path, SETS)
    with pytest.raises(DataError, match=r"2 items; expected candidates\.size = 3 .*all sets have 2: --set candidates\.size=2$"):
        read_candidates(path, *data(), 3, 2)
    with pytest.raises(DataError, match=r"2 draws; expected candidates\.draws = 1: --set candidates\.draws=2"):
        read_candidates(path, *data(), 2, 1)
    with pytest.raises(DataError, match=r"for each test user and draw$"):  # not all alike
        read_candidates(written(tmp_path, SETS[:-1]), *data(), 2, 2)


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match="no column 'item_id'; found user_id, draw, item; nearest: 'item'"):
        read_candidates(written(tmp_path, SETS, "user_id,draw,item"), *data(), 2, 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["models.baselines=[popularity]"], "retrieved takes SASRec's best, and models.baselines has no sasrec"),
        (["candidates.file=mine.csv"], "candidates.file = mine.csv: no such file"),
        (["models.baselines=[popularity]", "candidates.rules=[uniform]"], ""),
    ],
)
def test_what_the_sets_lack_is_said_before_anything_starts(overrides, message):
    """By the section itself: both systems that have it refuse baselines without SASRec for reasons of their own."""
    recipe = load_recipe(ROOT / "params" / "rsllm" / "toy.yaml", [one for one in overrides if "models" not in one])
    models = recipe.models.model_copy(update={"baselines": ["popularity"]} if "models" in overrides[0] else {})
    found = recipe.candidates.problems(ROOT, recipe.model_copy(update={"models": models}))
    assert [message in each.what for each in found] == [True] * bool(message)
