"""Maps: trustworthiness against scikit-learn, colours that mean what they say, one map per seed; and how figures are kept."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numba
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.manifold import trustworthiness as reference

from recnb.eager_llm.figures import maps
from recnb.eager_llm.recipe import MapConfig
from recnb.index.health import nearest_neighbours, neighbours_together
from recnb.style import show

RNG = np.random.default_rng(0)
CROWDS = np.repeat(np.arange(4), 25)
SPACE = (10 * np.eye(4)[CROWDS] + RNG.normal(size=(100, 4))).astype(np.float32)
CODES = np.stack([CROWDS, np.tile(np.arange(25), 4)], axis=1).astype(np.int32)


@pytest.mark.parametrize("k", [3, 10])
def test_trustworthiness_is_scikit_learns(k: int) -> None:
    flat = RNG.normal(size=(100, 2))
    found = maps.trustworthiness(SPACE, flat, k, np.arange(100))
    assert found == pytest.approx(reference(SPACE, flat, n_neighbors=k), abs=1e-9) and found < 0.7
    assert maps.trustworthiness(SPACE, SPACE, k, np.arange(100)) == 1.0


def test_trustworthiness_of_a_sample_is_near_that_of_all() -> None:
    flat = SPACE[:, :2]
    whole, part = (maps.trustworthiness(SPACE, flat, 5, np.arange(0, 100, step)) for step in (1, 2))
    assert part == pytest.approx(whole, abs=0.1)


def test_a_map_keeps_crowds_apart_and_comes_out_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """UMAP as Python runs it: the same code, without the ten seconds that it takes to compile."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    config = MapConfig(neighbours=10)
    flat = maps.project(SPACE, config, seed=1)
    assert flat.shape == (100, 2) and np.array_equal(flat, maps.project(SPACE, config, seed=1))
    assert maps.trustworthiness(SPACE, flat, 5, np.arange(100)) > 0.85
    assert maps.project(SPACE[:3], config, seed=1).shape == (3, 2)  # too few for UMAP


def test_a_code_that_follows_the_crowds_is_a_neighbourhood() -> None:
    near = nearest_neighbours(SPACE, 5, np.arange(100))
    first, second = (neighbours_together(column, *near) for column in CODES.T)
    assert first["share"] > 0.95 and first["chance"] == pytest.approx(24 / 99)
    assert second["share"] < 0.05


def test_the_learned_space_is_the_tokens_side_by_side() -> None:
    class Backbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(9, 3)

        def get_input_embeddings(self) -> torch.nn.Embedding:
            return self.table

    backbone = Backbone()
    found = maps.learned_embeddings(backbone, np.array([[1, 2], [8, 0]]))  # type: ignore[arg-type]
    weight = backbone.table.weight.detach().numpy()
    assert np.array_equal(found, np.stack([np.r_[weight[1], weight[2]], np.r_[weight[8], weight[0]]]))


def test_an_item_takes_the_rarest_of_its_common_categories() -> None:
    categories = [["a"], ["a", "b"], ["b", "everywhere"], ["everywhere"], ["a", "everywhere"], ["rare", "everywhere"]]
    label, names = maps.main_category(categories, most=2)
    assert names == ["a", "b", "other"]  # "everywhere" is on more than half of the items
    assert label.tolist() == [0, 1, 1, 2, 0, 2]
    assert maps.main_category([[], []])[1] == ["other"] and maps.main_category([[], []])[0].tolist() == [0, 0]
    assert maps.category_colours(label, names)[3].tolist() == pytest.approx(list(maps.OTHER))


def test_the_first_code_is_the_hue_and_the_second_the_lightness() -> None:
    hue = maps.code_colours(CODES[:, :1], 25)
    both = maps.code_colours(CODES, 25)
    assert len(np.unique(hue, axis=0)) == 4 and len(np.unique(both.round(6), axis=0)) == 100
    assert np.array_equal(both[CODES[:, 1] == 0], hue[CODES[:, 1] == 0])  # second code 0: the hue itself
    one_crowd = both[:25].sum(axis=1)
    assert (np.diff(one_crowd) > 0).all(), "lighter with the second code"


def test_figures_show_every_item_and_every_code() -> None:
    flat = SPACE[:, :2]
    figure = maps.map_grid({"one": flat, "two": flat}, {"level 1": maps.code_colours(CODES[:, :1], 25)},
                           {"level 1": CROWDS}, legend=["a", "other"])  # fmt: skip
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    for axes in figure.axes:
        assert len(axes.collections[0].get_offsets()) == 100
        assert {text.get_text() for text in axes.texts} == {"0", "1", "2", "3"}
    plt.close(figure)
    label = np.zeros(100, int)
    tree = maps.prefix_trees({"semantic": CODES}, label, ["a", "other"])
    boxes, leaves = tree.axes
    assert [tick.get_text() for tick in boxes.get_xticklabels()] == ["0", "1", "2", "3"]
    assert leaves.images[0].get_array().shape[1] == 100
    plt.close(tree)


def test_one_item_is_followed_through_all_maps() -> None:
    flat = {"text": SPACE[:, :2], "taste": SPACE[:, 2:]}
    near = {"text": np.array([1, 2, 3]), "taste": np.array([4, 5])}
    figure = maps.followed(flat, 7, near)
    for axes, own in zip(figure.axes, flat.values(), strict=True):
        everyone, *circles, star = (scatter.get_offsets().data for scatter in axes.collections)
        assert np.allclose(everyone, own) and np.allclose(star, own[[7]])
        assert all(np.allclose(circle, own[rows]) for circle, rows in zip(circles, near.values(), strict=True))
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["neighbours by text", "neighbours by taste", "the item"]
    plt.close(figure)


def test_a_figure_is_kept_small_with_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure, axes = plt.subplots()
    axes.scatter(*RNG.normal(size=(2, 500)), c=RNG.random(500), cmap="viridis")
    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    show(figure, "Five hundred points.", save=tmp_path / "deep" / "points.png")
    kept = Image.open(tmp_path / "deep" / "points.png")
    assert len(kept.convert("RGB").getcolors(10**6)) <= 256 and (tmp_path / "deep" / "points.txt").read_text()
    assert (tmp_path / "deep" / "points.png").stat().st_size < 0.7 * len(raw.getvalue())
    assert not plt.get_fignums(), "closed"
    assert capsys.readouterr().out == "Five hundred points.\n"  # outside a notebook: words
