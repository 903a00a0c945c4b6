"""The schema and the leave-one-out split, against plain loops over users."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib import pyplot as plt
from sandbox import ROOT

from recnb.data import figures
from recnb.data.prepare import build_dataset, k_core_mask
from recnb.data.schema import Dataset, Sequences, check_titles, has_text, item_text, read_dataset, write_dataset
from recnb.data.settings import DataConfig, ToyConfig
from recnb.data.sources import load_dataset
from recnb.data.split import histories, replace_heldout, seen_items, training_sequences
from recnb.data.tables import Tables
from recnb.errors import DataError
from recnb.workflow.stage import Stage


def catalogue(n: int) -> pd.DataFrame:
    ids = [f"i{k}" for k in range(n)]
    items = pd.DataFrame({"item_id": ids, "title": [f"Item {k}" for k in range(n)], "description": "", "brand": ""})
    items["categories"] = pd.Series([[] for _ in range(n)], dtype=object)
    return items


def dataset_of(rows: list[list[int]], n_items: int) -> Dataset:
    users = np.repeat([f"u{u}" for u in range(len(rows))], [len(row) for row in rows])
    flat = np.concatenate([np.array(row, dtype=int) for row in rows])
    events = pd.DataFrame({"user_id": users, "item_id": [f"i{k}" for k in flat], "time": np.arange(len(flat)) * 1.0})
    return build_dataset(Tables("made", events, catalogue(n_items), {"clock": "order"}), 0)


histories_of_users = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=12), min_size=1, max_size=8)


@given(histories_of_users, st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_split_equals_a_loop_over_users(rows: list[list[int]], width: int) -> None:
    dataset = dataset_of(rows, 10)
    train = training_sequences(dataset)
    assert len(train) == len(rows)
    for u, row in enumerate(rows):
        assert train.items[train.offsets[u] : train.offsets[u + 1]].tolist() == row[:-2]
    for split, back in (("valid", 2), ("test", 1)):
        shown, target = histories(dataset, split, width)  # type: ignore[arg-type]
        assert shown.shape == (len(rows), width) and shown.dtype == np.int32
        assert target.tolist() == [row[-back] for row in rows]
        expected = [([-1] * width + row[: len(row) - back])[-width:] for row in rows]
        assert shown.tolist() == expected
        seen = seen_items(dataset, split)  # type: ignore[arg-type]
        assert seen.dtype == bool and seen.shape == (len(rows), 10)
        for u, row in enumerate(rows):
            assert sorted(seen[u].indices) == sorted(set(row[: len(row) - back]))


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_pad_keeps_the_latest(rows: list[list[int]], width: int) -> None:
    flat = np.array([item for row in rows for item in row] or [0], dtype=np.int32)
    sequences = Sequences(np.concatenate([[0], np.cumsum([len(row) for row in rows])]), flat)
    assert sequences.pad(width).tolist() == [([-1] * width + row)[-width:] for row in rows]
    assert sequences.lengths.tolist() == [len(row) for row in rows]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40), st.integers(0, 4))
@settings(max_examples=80, deadline=None)
def test_k_core_is_the_largest_fixed_point(pairs: list[tuple[int, int]], k: int) -> None:
    users = np.array([user for user, _ in pairs], dtype=np.int64)
    items = np.array([item for _, item in pairs], dtype=np.int64)
    keep, _ = k_core_mask(users, items, k)
    left = list(range(len(pairs)))
    removed = True
    while removed:  # the slow twin: remove one offending row at a time
        removed = False
        for row in list(left):
            of_user = sum(users[other] == users[row] for other in left)
            of_item = sum(items[other] == items[row] for other in left)
            if min(of_user, of_item) < k:
                left.remove(row)
                removed = True
                break
    assert np.flatnonzero(keep).tolist() == left


def test_k_core_renumbers_users_and_items() -> None:
    events = pd.DataFrame(
        [(u, i, float(t)) for u in ("a", "b", "c") for t, i in enumerate(("i1", "i3", "i4"))] + [("d", "i0", 0.0)] * 3,
        columns=["user_id", "item_id", "time"],
    )
    dataset = build_dataset(Tables("made", events, catalogue(6), {}), 3)
    assert dataset.user_ids.tolist() == ["a", "b", "c", "d"]  # d met one item three times: a 3-core keeps both
    assert dataset.items["item_id"].tolist() == ["i0", "i1", "i3", "i4"]
    assert dataset.sequence.tolist() == [1, 2, 3] * 3 + [0] * 3
    smaller = build_dataset(Tables("made", events.drop_duplicates(), catalogue(6), {}), 3)
    assert smaller.user_ids.tolist() == ["a", "b", "c"] and smaller.n_items == 3
    assert smaller.provenance["filter"]["dropped_by_k_core"] == 1


def test_ties_in_time_keep_the_order_of_the_file() -> None:
    rows = [("b", "i2", 5.0), ("a", "i4", 1.0), ("b", "i0", 5.0), ("a", "i3", 1.0), ("b", "i1", 2.0), ("a", "i0", 0.0)]
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "time"])
    dataset = build_dataset(Tables("made", events, catalogue(5), {}), 0)
    assert dataset.user_ids.tolist() == ["b", "a"]
    assert dataset.sequence.tolist() == [1, 2, 0, 0, 4, 3]
    assert dataset.times.tolist() == [2.0, 5.0, 5.0, 0.0, 1.0, 1.0]


def test_users_too_short_to_split_are_counted() -> None:
    events = pd.DataFrame({"user_id": list("aaabb"), "item_id": ["i0"] * 5, "time": np.arange(5.0)})
    dataset = build_dataset(Tables("made", events, catalogue(2), {}), 0)
    assert dataset.user_ids.tolist() == ["a"]
    assert dataset.provenance["filter"]["short_users"] == 1
    assert dataset.provenance["filter"]["dropped_with_short_users"] == 2
    with pytest.raises(DataError, match="no user has 3 interactions"):
        build_dataset(Tables("made", events.iloc[3:], catalogue(2), {}), 0)
    with pytest.raises(DataError, match="none of 5 interactions survives data.k_core = 9"):
        build_dataset(Tables("made", events, catalogue(2), {}), 9)


@given(histories_of_users, st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_leakage_probe_changes_every_heldout_event_and_nothing_else(rows: list[list[int]], seed: int) -> None:
    dataset = dataset_of(rows, 10)
    probe = replace_heldout(dataset, np.random.default_rng(seed))
    assert np.array_equal(training_sequences(probe).items, training_sequences(dataset).items)
    assert np.array_equal(probe.offsets, dataset.offsets)
    for split in ("valid", "test"):
        ours, theirs = histories(dataset, split, 3)[1], histories(probe, split, 3)[1]  # type: ignore[arg-type]
        assert np.all(ours != theirs)
    assert (probe.sequence != dataset.sequence).sum() == 2 * len(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([0, 2, 7])}, "each user needs 3"),
        ({"offsets": np.array([0, 3, 6])}, "offsets must run from 0 to 7"),
        ({"times": np.zeros(3)}, "3 times for 7"),
        ({"sequence": np.array([0, 1, 2, 3, 4, 5, 99], dtype=np.int32)}, r"outside 0\.\.9"),
        ({"items": catalogue(10).drop(columns="brand")}, r"lack the columns \['brand'\]"),
        ({"user_ids": np.array([], dtype=object)}, "no user has"),
    ],
)
def test_a_dataset_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    dataset = dataset_of([[0, 1, 2], [3, 4, 5, 6]], 10)
    with pytest.raises(DataError, match=message):
        dataclasses.replace(dataset, **change)


def test_only_valid_and_test_are_splits() -> None:
    with pytest.raises(ValueError, match="split 'train': expected valid or test"):
        histories(dataset_of([[0, 1, 2]], 10), "train", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("lengths", [np.array([3, 4, 5, 5]), np.array([20, 65, 737])])
def test_figures_draw_what_they_are_given(lengths: np.ndarray) -> None:
    bars = figures.history_lengths(lengths).axes[0]
    assert sum(patch.get_height() for patch in bars.patches) == len(lengths)  # type: ignore[attr-defined]
    assert bars.lines[0].get_label() == f"median {np.median(lengths):.0f}"
    curve = figures.popularity_curve(lengths).axes[0].lines[0]
    assert np.allclose(curve.get_ydata(), 100 * np.cumsum(np.sort(lengths)[::-1]) / lengths.sum())
    shelves = figures.category_counts(pd.Series({"Drama": 5, "War": 2})).axes[0]
    assert [label.get_text() for label in shelves.get_yticklabels()] == ["War", "Drama"], "the largest on top"
    figures.category_counts(pd.Series({r"$\\frac{$": 1})).canvas.draw()  # a name is no formula
    plt.close("all")


@pytest.mark.parametrize(("length", "window"), [(3, 5), (6, 3), (9, 4)])
def test_the_drawn_split_is_the_one_that_is_made(length: int, window: int) -> None:
    dataset = dataset_of([list(range(length))], length)  # an item is the number of its event
    axes = figures.leave_one_out(list(dataset.sequence), window).axes[0]
    drawn = np.array([text.get_text() for text in axes.texts]).reshape(4, length)
    assert drawn[0].tolist() == [str(item) for item in dataset.sequence]
    assert drawn[1][drawn[1] != ""].tolist() == [str(item) for item in training_sequences(dataset).items]
    for row, part in ((2, "valid"), (3, "test")):
        shown, target = histories(dataset, part, window)  # type: ignore[arg-type]
        assert drawn[row, target[0]] == "?"
        assert [text for text in drawn[row] if text not in ("", "?")] == [str(item) for item in shown[0] if item >= 0]
    plt.close("all")


def test_item_text_joins_what_is_there() -> None:
    items = catalogue(2)
    items.loc[0, "brand"] = "Acme"
    items["categories"] = pd.Series([[], ["A", "B"]], dtype=object)
    assert item_text(items, ["title", "brand", "categories"]) == ["Item 0. Acme", "Item 1. A, B"]
    assert item_text(items, ["description"]) == ["", ""]
    with pytest.raises(DataError, match="no text field 'colour'; valid: title, description, brand, categories"):
        item_text(items, ["colour"])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("notebooks", "params"):
        (tmp_path / folder).mkdir()
    source = "name: tiny\nruntime: {device: cpu, threads: 1}\ndata: {source: toy}\n"
    (tmp_path / "params" / "tiny.yaml").write_text(source, encoding="utf-8")
    return tmp_path


def test_an_item_has_text_in_the_fields_that_are_asked_for_and_not_in_others() -> None:
    items = catalogue(3)
    items.loc[1, "title"], items.loc[1, "brand"], items.loc[2, "title"] = " ", "Acme", ""
    assert has_text(items).tolist() == [True, True, False]
    assert has_text(items, ["title"]).tolist() == [True, False, False]
    assert has_text(items, ["brand", "categories"]).tolist() == [False, True, False]


def test_artifacts_come_back_as_they_went(project: Path) -> None:
    recipe = project / "params" / "tiny.yaml"
    stage = Stage.open("01_data", recipe, root=project)
    dataset = load_dataset(DataConfig(source="toy"), project, 3)
    write_dataset(dataset, stage)
    stage.close()
    assert_equal(dataset, read_dataset(Stage.open("02_embeddings", recipe, root=project)))


def assert_equal(left: Dataset, right: Dataset) -> None:
    assert left.name == right.name and left.provenance == right.provenance
    pd.testing.assert_frame_equal(left.items, right.items)
    for name in ("user_ids", "offsets", "sequence", "times"):
        assert np.array_equal(getattr(left, name), getattr(right, name)), name
        assert getattr(left, name).dtype == getattr(right, name).dtype, name


def test_toy_shows_its_hidden_groups_in_text_and_in_behaviour(tmp_path: Path) -> None:
    config = DataConfig(source="toy", toy=ToyConfig(users=300, items=80, groups=5, length=12, noise=0.1))
    dataset = load_dataset(config, tmp_path, 1)
    truth = dataset.provenance["truth"]
    group = np.array([truth["group"][name] for name in dataset.items["item_id"]])
    place = np.array([truth["place"][name] for name in dataset.items["item_id"]])
    brands = pd.Series(dataset.items["brand"]).groupby(group).nunique()
    assert (brands == 1).all() and dataset.items["brand"].nunique() == 5
    assert dataset.items["title"].is_unique
    user = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    step = (np.diff(user) == 0) & (np.diff(group[dataset.sequence]) == 0)
    inside = step.sum() / (np.diff(user) == 0).sum()
    assert 0.7 < inside < 0.97, "most steps stay in a group, whose share by chance is a fifth"
    onward = (np.diff(place[dataset.sequence])[step] % 16 == 1).mean()
    assert onward > 0.75, "inside a group the walk follows the hidden order"
    assert abs(dataset.lengths.mean() - 12) < 1
    assert all(len(set(row)) == len(row) for row in np.split(dataset.sequence, dataset.offsets[1:-1]))


def test_toy_noise_one_has_no_structure_and_noise_zero_only_structure(tmp_path: Path) -> None:
    def share(noise: float) -> float:
        toy = ToyConfig(users=200, items=60, groups=6, length=8, noise=noise)
        dataset = load_dataset(DataConfig(source="toy", toy=toy), tmp_path, 0)
        group = np.array([dataset.provenance["truth"]["group"][name] for name in dataset.items["item_id"]])
        return float(np.mean(np.diff(group[dataset.sequence]) == 0))

    assert share(0.0) > 0.8 > share(0.3) > share(1.0)


def test_toy_is_a_function_of_its_seed(tmp_path: Path) -> None:
    config = DataConfig(source="toy")
    assert_equal(load_dataset(config, tmp_path, 5), load_dataset(config, tmp_path, 5))
    assert not np.array_equal(load_dataset(config, tmp_path, 5).times, load_dataset(config, tmp_path, 6).times)


def test_toy_with_more_groups_than_themes_and_than_items(tmp_path: Path) -> None:
    for toy in (ToyConfig(items=200, groups=23, users=40), ToyConfig(items=8, groups=30, users=10, length=5)):
        dataset = load_dataset(DataConfig(source="toy", toy=toy), tmp_path, 2)
        assert dataset.n_items == toy.items and dataset.items["title"].is_unique


def test_an_item_without_a_title_is_named_by_its_id_where_titles_are_needed() -> None:
    dataset = dataset_of([[0, 1, 2], [2, 1, 0]], 4)
    check_titles(dataset)
    dataset.items.loc[[1, 3], "title"] = [" \u202e\x00 ", ""]  # direction marks and controls are nothing to see
    dataset.items.loc[1, "description"] = "has text, and no name"
    with pytest.raises(DataError, match=r"made: item 'i1' has no title \(2 of 4 items\).*expected one for each"):
        check_titles(dataset)
    cells = nbformat.read(ROOT / "notebooks" / "rsllm" / "03_candidates.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert "dataset = read_dataset(stage)\ncheck_titles(dataset)" in text, "the first notebook of both systems, first"
