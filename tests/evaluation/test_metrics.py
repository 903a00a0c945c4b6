"""Metrics and intervals against independent implementations; a hit is an item, never a string."""

from __future__ import annotations

import doctest
import importlib
import tracemalloc
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import sparse, stats
from sklearn.metrics import ndcg_score

from recnb.errors import RecipeError
from recnb.evaluation import figures, intervals
from recnb.evaluation.intervals import bootstrap_means, mean_interval, paired_bootstrap, paired_differences
from recnb.evaluation.lists import by_group, head_items, list_statistics, quantile_groups
from recnb.evaluation.metrics import (
    PROTOCOLS,
    expected_per_user,
    metrics,
    per_user,
    per_user_metrics,
    rank_bounds,
    target_ranks,
)
from recnb.llm.beam import list_width
from recnb.recommenders.interface import top_items
from recnb.workflow.stage import lists_once


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def random_lists(users: int, items: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (U, N) without ties, the lists they give, and targets."""
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(items, dtype=float), (users, 1)), axis=1)
    return scores, np.argsort(-scores, axis=1)[:, :width], rng.integers(0, items, users)


def test_docstrings_tell_the_truth() -> None:
    found = [doctest.testmod(importlib.import_module(f"recnb.evaluation.{name}")) for name in ("metrics", "lists", "intervals", "areas", "candidates", "verdicts")]
    assert not sum(one.failed for one in found) and sum(one.attempted for one in found) >= 12


# --- ranks and metrics ------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(users=st.integers(1, 30), items=st.integers(2, 40), seed=st.integers(0, 2**16), data=st.data())
def test_ranks_are_positions(users: int, items: int, seed: int, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, items))
    _, lists, targets = random_lists(users, items, width, seed)
    expected = [list(row).index(t) if t in row else width for row, t in zip(lists, targets, strict=True)]
    assert target_ranks(lists, targets).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(users=st.integers(1, 20), items=st.integers(2, 30), k=st.integers(1, 30), seed=st.integers(0, 2**16))
def test_ndcg_is_sklearns(users: int, items: int, k: int, seed: int) -> None:
    scores, lists, targets = random_lists(users, items, items, seed)
    truth = np.eye(items)[targets]
    ndcg = per_user(target_ranks(lists, targets), k)[1]
    assert ndcg.mean() == pytest.approx(ndcg_score(truth, scores, k=k), abs=1e-12)


def test_metrics_by_hand() -> None:
    lists = np.array([[3, 1, 2, 0, 4], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
    found = metrics(target_ranks(lists, np.array([3, 2, 9])), [1, 3])
    assert found == pytest.approx({"R@1": 1 / 3, "R@3": 2 / 3, "N@1": 1 / 3, "N@3": (1 + 1 / np.log2(4)) / 3})


def test_the_last_place_counts_and_the_next_does_not() -> None:
    recall, ndcg = per_user(np.array([4, 5]), 5)
    assert recall.tolist() == [1, 0]
    assert ndcg == pytest.approx([1 / np.log2(6), 0])


def test_hits_are_items_even_if_the_index_is_collapsed() -> None:
    """Every item under one and the same code: on code strings each list would hit, on items only the true ones do."""
    items = 50
    collapsed = np.array(["<s1_0><s2_0>"] * items)
    lists, targets = np.tile(np.arange(10), (items, 1)), np.arange(items)
    on_strings = (collapsed[lists] == collapsed[targets][:, None]).any(axis=1).mean()
    assert on_strings == 1.0
    assert metrics(target_ranks(lists, targets), [10])["R@10"] == pytest.approx(10 / items)


def test_padding_never_hits() -> None:
    assert target_ranks(np.array([[2, -1, -1]]), np.array([1])).tolist() == [3]
    with pytest.raises(ValueError, match="negative"):
        target_ranks(np.array([[2, -1, -1]]), np.array([-1]))


def test_a_list_may_not_name_an_item_twice() -> None:
    with pytest.raises(ValueError, match="row 1 names an item twice"):
        target_ranks(np.array([[0, 1, 2], [4, 1, 4]]), np.array([0, 4]))


@pytest.mark.parametrize(("lists", "targets"), [(np.zeros(3), np.zeros(3)), (np.zeros((3, 2)), np.zeros(2))])
def test_shapes_are_checked(lists: np.ndarray, targets: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected lists"):
        target_ranks(lists, targets)


def test_no_users_and_no_cutoff_are_errors() -> None:
    with pytest.raises(ValueError, match="no users"):
        metrics(np.array([], dtype=int))
    with pytest.raises(ValueError, match="at least 1"):
        per_user(np.array([0]), 0)
    with pytest.raises(ValueError, match="no users"):
        bootstrap_means(np.array([]), 100, 0)


# --- ties -------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), k=st.integers(1, 8))
def test_ties_are_bounded_and_expected_as_by_trying_all_orders(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores, targets = rng.integers(0, 3, (4, 8)).astype(float), rng.integers(0, 8, 4)
    best, worst = rank_bounds(scores, targets)
    ours = target_ranks(top_items(scores, 8), targets)
    assert ((best <= ours) & (ours <= worst)).all()
    expected = np.array(expected_per_user(best, worst, k))
    every = [[np.mean(part) for part in per_user(np.arange(b, w + 1), k)] for b, w in zip(best, worst, strict=True)]
    assert expected.T == pytest.approx(np.array(every))


def test_a_constant_scorer_is_worth_chance_whatever_the_order() -> None:
    scores, targets = np.zeros((40, 40)), np.arange(40)
    best, worst = rank_bounds(scores, targets)
    assert (best == 0).all() and (worst == 39).all()
    assert expected_per_user(best, worst, 10)[0] == pytest.approx(0.25)
    assert metrics(target_ranks(top_items(scores, 10), targets), [10])["R@10"] == pytest.approx(0.25)


# --- bootstrap --------------------------------------------------------------------------------------------------------


def test_mean_interval_is_scipys() -> None:
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 400, p=[0.8, 0.1, 0.1])
    ours = mean_interval(values, 20_000, seed=1)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert ours["mean"] == pytest.approx(values.mean())
    spread = theirs.high - theirs.low
    assert abs(ours["low"] - theirs.low) < 0.04 * spread
    assert abs(ours["high"] - theirs.high) < 0.04 * spread


def test_paired_bootstrap_is_scipys_and_uses_the_pairing() -> None:
    rng = np.random.default_rng(3)
    easy = rng.random(300)  # what makes a user easy is common to both systems
    a, b = easy + 0.03 + 0.05 * rng.random(300), easy + 0.05 * rng.random(300)
    ours = paired_bootstrap(a, b, 20_000, seed=4)

    def difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return x.mean(axis=axis) - y.mean(axis=axis)

    theirs = stats.bootstrap((a, b), difference, n_resamples=20_000, paired=True, method="percentile", rng=5)
    interval = theirs.confidence_interval
    assert ours["diff"] == pytest.approx(a.mean() - b.mean())
    assert abs(ours["low"] - interval.low) < 0.05 * (interval.high - interval.low)
    assert abs(ours["high"] - interval.high) < 0.05 * (interval.high - interval.low)
    assert ours["low"] > 0 and ours["p"] < 0.001
    alone = mean_interval(a, 2000, 0)
    assert ours["high"] - ours["low"] < 0.2 * (alone["high"] - alone["low"]), "unpaired, the gain is lost in noise"


def test_bootstrap_agrees_with_drawing_users_one_by_one() -> None:
    values = np.random.default_rng(6).random(50)
    drawn = np.random.default_rng(7).integers(0, 50, (20_000, 50))
    plain = values[drawn].mean(axis=1)
    ours = bootstrap_means(values, 20_000, 8)
    assert stats.ks_2samp(plain, ours).pvalue > 0.01
    assert ours.std() == pytest.approx(plain.std(), rel=0.03)


def test_equal_systems_are_not_different() -> None:
    """Under no difference an interval of 95 % misses zero about 1 time in 20, not more."""
    rng = np.random.default_rng(9)
    missed = 0
    for repeat in range(200):
        a, b = rng.random((2, 80)) < 0.3
        found = paired_bootstrap(a.astype(float), b.astype(float), 400, seed=repeat)
        missed += not found["low"] <= 0 <= found["high"]
    assert missed <= 22


def test_swapping_the_systems_turns_the_sign() -> None:
    a, b = np.random.default_rng(10).random((2, 60))
    there, back = paired_bootstrap(a, b, 5000, 0), paired_bootstrap(b, a, 5000, 0)
    assert there["diff"] == pytest.approx(-back["diff"])
    assert there["p"] == pytest.approx(back["p"], abs=0.03)


def test_bootstrap_repeats_with_its_seed_and_differs_with_another() -> None:
    values = np.random.default_rng(11).random(40)
    assert np.array_equal(bootstrap_means(values, 500, 1), bootstrap_means(values, 500, 1))
    assert not np.array_equal(bootstrap_means(values, 500, 1), bootstrap_means(values, 500, 2))


def test_bootstrap_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 users with as many different values and 2,000 resamples: 32 MB of counts, held 0.8 MB at a time."""
    monkeypatch.setattr(intervals, "_CELLS", 100_000)
    values = np.random.default_rng(12).random(2000)
    tracemalloc.start()
    bootstrap_means(values, 2000, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_chunks_do_not_change_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(13).random(30)
    whole = bootstrap_means(values, 1000, 0)
    monkeypatch.setattr(intervals, "_CELLS", 31)
    assert bootstrap_means(values, 1000, 0) == pytest.approx(whole), "chunks go on with the same generator"


def test_unequal_users_are_refused() -> None:
    with pytest.raises(ValueError, match="same users"):
        paired_bootstrap(np.zeros(3), np.zeros(4), 100, 0)


def test_compare_has_one_row_per_system_and_metric() -> None:
    ranks = np.random.default_rng(14).integers(0, 20, 50)
    ours, others = per_user_metrics(ranks, [5]), {"all wrong": per_user_metrics(np.full(50, 20), [5])}
    table = paired_differences(ours, others, 200, 0).set_index(["against", "metric"])
    assert list(table.index) == [("all wrong", "R@5"), ("all wrong", "N@5")]
    assert table.loc[("all wrong", "R@5"), "diff"] == pytest.approx((ranks < 5).mean())


# --- groups and lists -------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 6))
def test_groups_are_ordered_ranges_that_keep_equals_together(numbers: list[int], groups: int) -> None:
    values = np.array(numbers)
    label, names = quantile_groups(values, groups)
    assert set(label) == set(range(len(names))) and len(names) <= groups
    assert all(len(set(label[values == v])) == 1 for v in values)
    ends = [(values[label == g].min(), values[label == g].max()) for g in range(len(names))]
    assert all(left[1] < right[0] for left, right in zip(ends, ends[1:], strict=False))


def test_group_means_add_up_to_the_mean() -> None:
    rng = np.random.default_rng(15)
    values, group = rng.random(90), rng.integers(0, 3, 90)
    table = by_group(values, group, ["a", "b", "c", "empty"], 200, 0)
    assert table.group.tolist() == ["a", "b", "c"] and table.users.sum() == 90
    assert (table["mean"] * table.users).sum() / 90 == pytest.approx(values.mean())
    assert ((table.low <= table["mean"]) & (table["mean"] <= table.high)).all()


def test_gini_is_the_mean_difference() -> None:
    lists = np.random.default_rng(16).integers(0, 12, (40, 1))
    counts = np.bincount(lists.ravel(), minlength=12).astype(float)
    by_definition = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert list_statistics(lists, np.ones(12), 1)["gini"] == pytest.approx(by_definition)


def test_list_statistics_ignore_empty_places_and_places_beyond_k() -> None:
    found = list_statistics(np.array([[0, -1, 3], [1, 0, 3]]), np.array([8, 1, 1, 1]), 2)
    assert found["coverage"] == 0.5
    assert found["head"] == pytest.approx(2 / 3)
    assert found["popularity"] == pytest.approx(17 / 3)


def test_the_head_is_the_smallest_half() -> None:
    popularity = np.array([1, 5, 2, 2])
    assert head_items(popularity).tolist() == [False, True, False, False]
    assert head_items(np.ones(10)).sum() == 5


# --- widths -----------------------------------------------------------------------------------------------------------


def test_width_is_capped_by_the_catalogue_but_never_below_a_cutoff() -> None:
    assert list_width(20, 100, [5, 10]) == 20
    assert list_width(20, 12, [5, 10]) == 12
    with pytest.raises(RecipeError, match=r"R@10 needs lists of 10 items.*decode.beam = 20.*has 8"):
        list_width(20, 8, [5, 10])


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_systems() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(17)
    return {"a": per_user_metrics(rng.integers(0, 12, 60), [5]), "b": per_user_metrics(rng.integers(0, 30, 60), [5])}


def test_bars_are_the_means(two_systems: dict) -> None:
    rows = [{"system": s, "protocol": p, "metric": m, **mean_interval(v, 100, 0)}
            for s, found in two_systems.items() for p in PROTOCOLS for m, v in found.items()]  # fmt: skip
    axes = figures.metric_bars(pd.DataFrame(rows), ["R@5", "N@5"]).axes
    drawn = sorted(bar.get_width() for bar in axes[0].patches)
    assert drawn == pytest.approx(sorted(2 * [found["R@5"].mean() for found in two_systems.values()]))
    assert "R@5" in axes[0].get_xlabel() and [label.get_text() for label in axes[0].get_yticklabels()] == ["a", "b"]


def test_differences_stand_where_they_are(two_systems: dict) -> None:
    table = paired_differences(two_systems["a"], {"b": two_systems["b"]}, 200, 0)
    panels = {f"{m}, a minus the other": table[table.metric == m].set_index("against") for m in ("R@5", "N@5")}
    axis, other = figures.forest(panels).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["b"] and other.get_xlabel().startswith("N@5")
    assert axis.lines[0].get_xdata() == pytest.approx([table.low[0], table.high[0]])
    assert other.lines[1].get_xdata() == pytest.approx([table["diff"][1]])
    assert axis.lines[1].get_xdata() == pytest.approx([table["diff"][0]])


def test_groups_and_bias_are_labelled(two_systems: dict) -> None:
    group, names = quantile_groups(np.arange(60), 3)
    tables = {s: by_group(found["N@5"], group, names, 100, 0) for s, found in two_systems.items()}
    axis = figures.grouped_metric(tables, "N@5", "training interactions").axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()][0] == "0-19\n(20 users)"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b"]
    looks = pd.DataFrame({"a": {"coverage": 0.2, "head": 0.9}}).T
    assert figures.popularity_bias(looks, 0.5).axes[0].collections[0].get_offsets().tolist() == [[0.2, 0.9]]


def test_lists_are_made_once_under_each_protocol_and_the_time_is_kept() -> None:
    class Shelf:
        """A stage's shelf, which outlives the notebook."""

        kept: dict[str, dict[str, np.ndarray]] = {}

        def once(self, name: str, make):  # type: ignore[no-untyped-def]
            if name not in self.kept:
                self.kept[name] = make()
            return dict(self.kept[name])

    asked: list[object] = []

    def make(exclude: object) -> np.ndarray:
        asked.append(exclude)
        return np.array([[len(asked)]])

    protocols = {"kept": None, "removed": sparse.csr_matrix((1, 2))}
    lists, seconds = lists_once(Shelf(), "ours", make, protocols, before=5.0)  # type: ignore[arg-type]
    again = lists_once(Shelf(), "ours", make, protocols)  # type: ignore[arg-type]
    assert asked == [None, protocols["removed"]] and {p: int(found[0, 0]) for p, found in lists.items()} == {"kept": 1, "removed": 2}
    assert seconds >= 5.0 and again[1] == seconds and set(again[0]) == set(lists)
