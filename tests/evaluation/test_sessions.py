"""Metrics of session samples by hand, the release's denominators, and intervals against slow twins."""

from __future__ import annotations

import doctest
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from recnb.evaluation import intervals, sessions
from recnb.evaluation.intervals import difference, mean_interval, paired_bootstrap, resampled_means
from recnb.evaluation.metrics import per_user_metrics
from recnb.evaluation.sessions import (
    per_sample_metrics,
    reciprocal_ranks,
    release_means,
    release_metrics,
    sample_ranks,
    seen_pairs,
    session_differences,
    session_groups,
    session_interval,
    session_intervals,
    session_metrics,
    yes_or_no,
)


def toy(sessions: int, seed: int, longest: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Hits (M,) that depend on the session, and the session of each."""
    rng = np.random.default_rng(seed)
    own = np.repeat(np.arange(sessions), rng.integers(1, longest + 1, sessions))
    return (rng.random(len(own)) < rng.beta(0.3, 0.7, sessions)[own]).astype(float), own


def slow_means(values: np.ndarray, own: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sessions drawn one by one, their samples laid side by side."""
    rng, names = np.random.default_rng(seed), np.unique(own)
    drawn = [rng.choice(names, len(names)) for _ in range(resamples)]
    return np.array([np.concatenate([values[own == s] for s in each]).mean() for each in drawn])


def test_docstrings_tell_the_truth() -> None:
    found = doctest.testmod(sessions)
    assert not found.failed and found.attempted >= 5


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    found = session_metrics(np.array([0, 1, 4, 5, 20]), [5, 10])
    assert found["R@5"] == 0.6 and found["R@10"] == 0.8
    assert found["M@5"] == pytest.approx((1 + 1 / 2 + 1 / 5) / 5)
    assert found["M@10"] == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 6) / 5)
    assert found["N@5"] == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(6)) / 5)


def test_hits_and_ndcg_are_those_of_every_other_system() -> None:
    ranks = np.random.default_rng(0).integers(0, 30, 200)
    ours, theirs = per_sample_metrics(ranks, [5, 10]), per_user_metrics(ranks, [5, 10])
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_what_is_in_no_list_is_no_hit_at_a_cutoff_above_the_catalogue() -> None:
    lists, targets = np.array([[2, 0, 1], [2, 0, -1], [2, 0, -1]]), np.array([1, 0, 1])  # of N = 3 items, all there are
    ranks = sample_ranks(lists, targets, 20)
    assert session_metrics(ranks, [5, 20])["R@20"] == pytest.approx(2 / 3)
    assert release_means(ranks, 2)["mrr_release"] == pytest.approx(1 / 2 / 2), "one of three is left out"
    assert sample_ranks(lists, targets, 2).tolist() == [2, 1, 3], "a shorter cutoff changes nothing"


def test_nothing_to_average_and_no_cutoff_are_errors() -> None:
    with pytest.raises(ValueError, match="no samples"):
        session_metrics(np.array([], dtype=int))
    with pytest.raises(ValueError, match="at least 1"):
        reciprocal_ranks(np.array([0]), 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=80), st.sampled_from([5, 10, 20]))
def test_the_releases_denominators_reproduce_its_inflation(found: list[int], k: int) -> None:
    """Published x (1 - (P@20 - P@k)) is the usual mean: that is how its tables are put right."""
    ranks = np.array([*found, 0])
    usual = session_metrics(ranks, [k, 20])
    shrunk = 1 - (usual["R@20"] - usual[f"R@{k}"])
    theirs = release_means(ranks, k)
    assert theirs["mrr_release"] * shrunk == pytest.approx(usual[f"M@{k}"])
    assert theirs["ndcg_release"] * shrunk == pytest.approx(usual[f"N@{k}"])


def test_the_release_leaves_out_what_stands_between_and_nothing_at_the_longest() -> None:
    ranks = np.array([0, 7, 15, 19, 20, 99])
    assert release_means(ranks, 5)["mrr_release"] == pytest.approx(1 / 3)
    assert release_means(ranks, 20)["mrr_release"] == pytest.approx(session_metrics(ranks, [20])["M@20"])
    assert list(release_metrics(ranks, (5, 10, 20))) == [
        "mrr_release@5", "mrr_release@10", "ndcg_release@5", "ndcg_release@10",
    ]  # fmt: skip


def test_the_release_cannot_average_over_nothing() -> None:
    few = release_metrics(np.array([6, 12]), (5, 10, 20))  # of a catalogue of 15 items, say
    assert np.isnan(few["mrr_release@5"]) and few["mrr_release@10"] == pytest.approx(1 / 7)
    with pytest.raises(ValueError, match="no sample is left"):
        release_means(np.array([6, 12]), 5)
    with pytest.raises(ValueError, match="longest list, 20"):
        release_means(np.array([0]), 25)


# --- intervals over sessions ------------------------------------------------------------------------------------------


def test_resampling_is_that_of_laying_sessions_side_by_side() -> None:
    values, own = toy(60, 1)
    fast, slow = resampled_means(values, own, 3000, 2)[:, 0], slow_means(values, own, 3000, 3)
    assert stats.ks_2samp(fast, slow).pvalue > 0.01
    assert fast.std() == pytest.approx(slow.std(), rel=0.08)


def test_with_one_sample_a_session_it_is_the_plain_bootstrap() -> None:
    rng = np.random.default_rng(4)
    a, b, own = rng.random(300), rng.random(300), rng.permutation(300)
    ours, plain = session_interval(a, own, 20_000, 5), mean_interval(a, 20_000, 6)
    width = plain["high"] - plain["low"]
    assert ours["mean"] == plain["mean"]
    assert abs(ours["low"] - plain["low"]) < 0.04 * width and abs(ours["high"] - plain["high"]) < 0.04 * width
    paired, theirs = session_differences({"x": a}, {"b": {"x": b}}, own, 20_000, 7).iloc[0], paired_bootstrap(a, b, 20_000, 8)
    width = theirs["high"] - theirs["low"]
    assert paired["diff"] == pytest.approx(theirs["diff"]) and paired["over"] == "sessions"
    assert abs(paired["low"] - theirs["low"]) < 0.05 * width and abs(paired["high"] - theirs["high"]) < 0.05 * width
    assert abs(paired["p"] - theirs["p"]) < 0.03


def test_samples_of_one_session_are_no_independent_witnesses() -> None:
    """Every sample ten times over: by sample the interval shrinks by the square root of ten, by session it does not."""
    values = (np.random.default_rng(9).random(200) < 0.3).astype(float)
    own, many = np.repeat(np.arange(200), 10), np.repeat(values, 10)
    once, by_session, by_sample = mean_interval(values, 4000, 0), session_interval(many, own, 4000, 0), mean_interval(many, 4000, 0)
    widths = [each["high"] - each["low"] for each in (once, by_session, by_sample)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert widths[0] / widths[2] == pytest.approx(10**0.5, rel=0.1)


def test_its_interval_covers_as_often_as_it_says() -> None:
    """95 %: of 200 draws about 10 miss the truth, and by sample many more."""
    truth, wrong = 0.3, {"session": 0, "sample": 0}
    for trial in range(200):
        values, own = toy(80, 100 + trial)
        for name, found in (("session", session_interval(values, own, 400, trial)), ("sample", mean_interval(values, 400, trial))):
            wrong[name] += not found["low"] <= truth <= found["high"]
    assert wrong["session"] <= 22 < 40 <= wrong["sample"]


def test_columns_share_their_draws() -> None:
    values, own = toy(40, 10)
    both = resampled_means(np.stack([values, 1 - values], axis=1), own, 200, 0)
    assert both.sum(axis=1) == pytest.approx(np.ones(200))
    assert np.array_equal(both[:, 0], resampled_means(values, own, 200, 0)[:, 0])
    table = session_intervals({"a": values, ("b", 1): 1 - values}, own, 200, 0)
    assert table.name.tolist() == ["a", ("b", 1)] and table["mean"].sum() == pytest.approx(1)


def test_chunks_bound_the_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, own = toy(2000, 11)
    whole = resampled_means(values, own, 300, 0)
    monkeypatch.setattr(intervals, "_CELLS", 50_000)
    tracemalloc.start()
    parts = resampled_means(values, own, 300, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(parts, whole) and peak < 4 * 2**20, "600,000 draws at once would be more"


def test_no_sample_and_shapes_that_do_not_fit_are_errors() -> None:
    for values, own in ((np.array([]), np.array([])), (np.ones(3), np.zeros(2))):
        with pytest.raises(ValueError, match="M > 0 samples"):
            resampled_means(values, own, 10, 0)


def test_a_difference_per_system_and_metric() -> None:
    ranks = np.random.default_rng(12).integers(0, 20, 50)
    ours, others = per_sample_metrics(ranks, [5]), {"wrong": per_sample_metrics(np.full(50, 20), [5])}
    table = session_differences(ours, others | {"same": ours}, np.arange(50) // 5, 200, 0).set_index(["against", "metric"])
    assert list(table.index) == [(s, m) for s in ("wrong", "same") for m in ("R@5", "M@5", "N@5")]
    assert table.loc[("wrong", "R@5"), "diff"] == pytest.approx((ranks < 5).mean())
    assert table.loc[("same", "M@5"), ["diff", "low", "high", "p"]].tolist() == [0, 0, 0, 1]


def test_a_difference_over_seeds_knows_of_sessions_too() -> None:
    """The same samples ten times over: their part of the interval is that of the samples once."""
    one, other = ({s: np.random.default_rng([s, side]).integers(0, 20, 150) for s in (1, 2)} for side in (0, 1))
    many = [{s: np.repeat(found, 10) for s, found in ranks.items()} for ranks in (one, other)]
    once, by_session = difference(one, other)["R@10"], difference(*many, sessions=np.repeat(np.arange(150), 10))["R@10"]
    by_sample = difference(*many)["R@10"]
    widths = [found["high"] - found["low"] for found in (once, by_session, by_sample)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1) and widths[2] < 0.4 * widths[0]
    assert (once["over"], by_session["over"]) == ("users", "sessions")


# --- groups -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=1, max_size=6), st.integers(0, 2**16))
def test_seen_pairs_are_those_of_a_walk_through_every_session(found: list[list[int]], seed: int) -> None:
    items = np.concatenate(found)
    first = np.concatenate([[True] + [False] * (len(one) - 1) for one in found])
    last, targets = np.random.default_rng(seed).integers(0, 7, (2, 30))
    known = {pair for one in found for pair in zip(one, one[1:], strict=False)}
    expected = [(a, b) in known for a, b in zip(last.tolist(), targets.tolist(), strict=True)]
    assert seen_pairs(items, first, last, targets).tolist() == expected


def test_group_means_add_up_and_their_intervals_are_over_sessions() -> None:
    values, own = toy(50, 13)
    group, names = yes_or_no(np.arange(len(values)) % 3 == 0, "third", "other")
    table = session_groups(values, own, group, [*names, "none"], 200, 0)
    assert table.group.tolist() == ["other", "third"] and table.samples.sum() == len(values)
    assert (table["mean"] * table.samples).sum() / len(values) == pytest.approx(values.mean())
    assert table.sessions.max() <= 50 and ((table.low <= table["mean"]) & (table["mean"] <= table.high)).all()
