"""Balanced k-means against exact assignment, and its promises on awkward data."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import LinearConstraint, linear_sum_assignment, milp
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from sklearn.cluster import kmeans_plusplus
from sklearn.decomposition import PCA

from recnb.index import assignment, kmeans


def exact_balanced_cost(cost: np.ndarray) -> float:
    """Least total cost over all assignments with sizes n // k and n // k + 1: an integral linear program."""
    n, k = cost.shape
    once, sizes = np.kron(np.eye(n), np.ones(k)), np.kron(np.ones(n), np.eye(k))
    rows = [LinearConstraint(csr_array(once), 1, 1), LinearConstraint(csr_array(sizes), n // k, -(-n // k))]
    return float(milp(cost.ravel(), constraints=rows, bounds=(0, 1)).fun)


def total(cost: np.ndarray, labels: np.ndarray) -> float:
    return float(cost[np.arange(len(cost)), labels].sum())


def cases() -> list[tuple[str, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    found = []
    for n, k, d in [(30, 20, 2), (60, 8, 5), (97, 10, 3), (120, 7, 2), (200, 40, 8), (60, 59, 4)]:
        x = rng.normal(size=(n, d)) * rng.gamma(1.0, size=d)
        found.append((f"normal {n} {k}", x, x[rng.choice(n, k, replace=False)]))
        clustered = np.vstack([x[: n // 2] * 0.05 + 3, x[n // 2 :]])
        found.append((f"crowded {n} {k}", clustered, clustered[rng.choice(n, k, replace=False)]))
        rough = np.round(x)
        found.append((f"duplicates {n} {k}", rough, rough[rng.choice(n, k, replace=False)]))
    return found


@pytest.mark.parametrize(("name", "x", "centroids"), cases(), ids=lambda c: c if isinstance(c, str) else "")
def test_small_assignments_are_optimal(name: str, x: np.ndarray, centroids: np.ndarray) -> None:
    cost = cdist(x, centroids, "sqeuclidean")
    labels = assignment.balanced_assignment(cost)
    assert np.ptp(np.bincount(labels, minlength=len(centroids))) <= 1
    assert total(cost, labels) == pytest.approx(exact_balanced_cost(cost), rel=1e-6, abs=1e-6)


# clusters of one or two items are only ever assigned exactly
ROOMY = [case for case in cases() if len(case[1]) >= 4 * len(case[2])]


@pytest.mark.parametrize(("name", "x", "centroids"), ROOMY, ids=lambda c: c if isinstance(c, str) else "")
def test_auctions_are_within_two_percent_of_the_optimum(
    name: str, x: np.ndarray, centroids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "EXACT_UP_TO", 0)
    cost = cdist(x, centroids, "sqeuclidean")
    labels = assignment.balanced_assignment(cost)
    assert np.ptp(np.bincount(labels, minlength=len(centroids))) <= 1
    assert total(cost, labels) <= 1.02 * exact_balanced_cost(cost)


def test_the_oracle_is_no_better_than_brute_force() -> None:
    from itertools import product

    cost = np.random.default_rng(0).random((7, 3))
    allowed = [labels for labels in product(range(3), repeat=7) if np.ptp(np.bincount(labels, minlength=3)) <= 1]
    assert exact_balanced_cost(cost) == pytest.approx(min(total(cost, np.array(labels)) for labels in allowed))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(2, 25), st.integers(1, 4), st.integers(0, 2**20), st.booleans())
def test_sizes_differ_by_at_most_one(n: int, k: int, d: int, seed: int, rough: bool) -> None:
    x = np.random.default_rng(seed).normal(size=(n, d))
    x = np.round(x) if rough else x
    labels, centroids = kmeans.balanced_kmeans(x, k, seed=1, iterations=6)
    sizes = np.bincount(labels, minlength=k)
    assert np.isfinite(centroids).all() and centroids.shape == (k, d)
    assert set(np.unique(sizes)) <= {n // k, n // k + 1}
    for code in np.unique(labels):
        np.testing.assert_allclose(centroids[code], x[labels == code].mean(0), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 2**20))
def test_capacities_are_respected(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    capacities = rng.integers(1, 6, k)
    capacities[rng.integers(k)] += max(0, n - capacities.sum())
    labels, _ = assignment.capacitated_assignment(rng.random((n, k)), capacities)
    assert (np.bincount(labels, minlength=k) <= capacities).all()


def test_capacity_with_slack_is_near_the_optimum() -> None:
    rng = np.random.default_rng(5)
    cost, capacities = rng.random((60, 6)), np.full(6, 14)
    columns = np.repeat(np.arange(6), capacities)
    rows, chosen = linear_sum_assignment(cost[:, columns])
    least = cost[rows, columns[chosen]].sum()
    assert total(cost, assignment.capacitated_assignment(cost, capacities)[0]) <= 1.02 * least


def test_too_little_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="5 items do not fit in a capacity of 4"):
        assignment.capacitated_assignment(np.zeros((5, 2)), np.array([2, 2]))


def test_equal_blobs_are_found() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(8), 12)
    x = rng.normal(size=(8, 5))[truth] * 10 + rng.normal(size=(96, 5)) * 0.1
    labels, _ = kmeans.balanced_kmeans(x, 8, seed=0)
    assert len(set(zip(truth, labels, strict=True))) == 8


def test_numbers_follow_the_first_axis() -> None:
    """Codes of clusters along a line are in order, one way or the other."""
    x = np.random.default_rng(0).permutation(np.repeat(np.arange(9.0), 5))[:, None] * [3.0, 4.0]
    centroids = kmeans.balanced_kmeans(x, 9, seed=0)[1]
    steps = np.sign(np.diff(centroids[:, 0]))
    assert abs(steps.sum()) == 8


@pytest.mark.parametrize("x", [np.zeros((97, 3)), np.ones((97, 1)) * 1e6, np.r_[np.zeros((90, 2)), np.ones((7, 2))]])
def test_items_that_are_all_alike_still_spread(x: np.ndarray) -> None:
    labels, _ = kmeans.balanced_kmeans(x, 10, seed=0)
    assert set(np.bincount(labels, minlength=10)) == {9, 10}


def test_thousands_of_duplicates_do_not_stall() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 8))
    x[:900] = x[0] + 1e-9 * rng.normal(size=(900, 8))
    start = time.perf_counter()
    labels, _ = kmeans.balanced_kmeans(x, 39, seed=0, iterations=6)
    assert np.ptp(np.bincount(labels)) <= 1
    assert time.perf_counter() - start < 30  # minutes without the doubling step


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_clusters() -> None:
    x = np.random.default_rng(1).normal(size=(200, 6))
    first, second, other = (kmeans.balanced_kmeans(x, 14, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1].tobytes() == second[1].tobytes()
    assert (first[0] != other[0]).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 2**20))
def test_swaps_never_cost_and_keep_balance(k: int, per: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = k * per + int(rng.integers(k))
    labels = rng.permutation(np.arange(n) % k)
    cost = rng.random((n, k))
    better = assignment.refine_by_swaps(cost, labels)
    assert total(cost, better) <= total(cost, labels)
    assert np.ptp(np.bincount(better, minlength=k)) <= 1
    swapped = [(a, b) for a in range(n) for b in range(a) if better[a] != better[b]]
    gains = [cost[a, better[a]] + cost[b, better[b]] - cost[a, better[b]] - cost[b, better[a]] for a, b in swapped]
    assert max(gains, default=0) <= 1e-6, "a swap that still pays was left"


# --- many costs: tuned prices, sketches, blocks; each against the slow way -------------------------------------------


@pytest.mark.parametrize(("name", "x", "centroids"), ROOMY, ids=lambda c: c if isinstance(c, str) else "")
def test_tuned_prices_are_within_two_percent_of_the_optimum(name: str, x: np.ndarray, centroids: np.ndarray) -> None:
    cost = cdist(x, centroids, "sqeuclidean")
    labels = assignment.assignment_at_prices(assignment.Distances(x, centroids), np.zeros(len(centroids)))
    assert np.ptp(np.bincount(labels, minlength=len(centroids))) <= 1
    assert total(cost, labels) <= (1.1 if 'duplicates' in name else 1.02) * exact_balanced_cost(cost) + 1e-9


def test_a_larger_assignment_at_prices_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1200, 8)) * np.linspace(2, 0.2, 8)).astype(np.float32)
    centroids = x[rng.choice(1200, 60, replace=False)]
    distances = assignment.Distances(x, centroids)
    labels = assignment.assignment_at_prices(distances, np.zeros(60))
    assert set(np.bincount(labels, minlength=60)) == {20}
    columns = np.repeat(np.arange(60), 20)
    cost = cdist(x, centroids, "sqeuclidean")
    rows, chosen = linear_sum_assignment(cost[:, columns])
    assert total(cost, labels) <= 1.02 * cost[rows, columns[chosen]].sum()


def test_favourites_at_prices_of_a_sample_do_nearly_as_well_as_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 6)).astype(np.float32)
    centroids = x[rng.choice(4000, 40, replace=False)]
    cost, part = assignment.Distances(x, centroids), assignment.Distances(x[:2000], centroids)
    prices = assignment.tuned_prices(assignment.choices_of(part, np.zeros(40)), np.zeros(40))
    whole = assignment.assignment_at_prices(cost, np.zeros(40))
    monkeypatch.setattr(assignment, "WHOLE_ROWS", 0)
    few = assignment.assignment_at_prices(cost, prices)
    assert np.ptp(np.bincount(few, minlength=40)) <= 1
    assert total(cost[:], few) <= 1.01 * total(cost[:], whole)


def test_choices_are_all_clusters_or_the_cheapest_at_the_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, prices = rng.normal(size=(50, 3)).astype("f"), rng.random(9).astype(np.float32)
    cost = assignment.Distances(x, x[:9])
    whole = assignment.choices_of(cost, prices)
    offers = whole.offers(prices, slice(None))
    np.testing.assert_array_equal(whole.cheapest(prices), offers.argmin(1))
    ordered = np.sort(offers, 1)
    np.testing.assert_allclose(whole.regret(prices, np.arange(50)), ordered[:, 1] - ordered[:, 0], rtol=1e-5)
    monkeypatch.setattr(assignment, "WHOLE_ROWS", 0)
    monkeypatch.setattr(assignment, "FAVOURITES", 3)
    few, exact = assignment.choices_of(cost, prices), cdist(x, x[:9], "sqeuclidean")
    assert whole.clusters is None and few.clusters is not None
    np.testing.assert_array_equal(few.clusters, (exact + prices).argsort(1)[:, :3])
    noise = few.costs - np.take_along_axis(exact, few.clusters.astype(int), 1)
    assert -1e-5 < noise.min() and noise.max() < 2 * assignment.JITTER * exact.mean()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(1, 60), st.integers(0, 2**20))
def test_the_rest_finds_places_whatever_the_prices(k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    capacities = np.full(k, n // k) + (np.arange(k) < n % k)
    labels = np.zeros(n, np.int64)
    waiting = np.arange(capacities[0], n)
    assignment.place_the_rest(rng.random((n, k)), labels, waiting, rng.random(k), capacities)
    np.testing.assert_array_equal(np.bincount(labels, minlength=k), capacities)


def test_distances_on_demand_are_those_of_the_matrix() -> None:
    rng = np.random.default_rng(3)
    x, centroids = rng.normal(size=(40, 5)), rng.normal(size=(7, 5))
    found, rows = assignment.Distances(x, centroids), np.array([3, 3, 39])
    np.testing.assert_allclose(found[:], cdist(x, centroids, "sqeuclidean"), atol=1e-12)
    np.testing.assert_allclose(found[rows], assignment.squared_distances(x, centroids)[rows], atol=1e-12)


@pytest.mark.parametrize("data", ["plain", "wide", "copies", "crowd"])
def test_many_costs_take_the_other_way_with_the_same_promises(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Balance, exact means, the same bits for a seed, and inertia near that of an auction in every step."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(900, 160 if data == "wide" else 6)) * 0.5 + 5
    x[:, :6] += rng.normal(size=(25, 6))[rng.integers(25, size=900)] * 2
    if data in ("copies", "crowd"):
        x[: 300 if data == "copies" else 850] = x[0]
    slow = kmeans.inertia(x, *kmeans.balanced_kmeans(x, 24, seed=1))
    monkeypatch.setattr(kmeans, "FEW", 0)
    labels, centroids = kmeans.balanced_kmeans(x, 24, seed=1)
    assert set(np.bincount(labels, minlength=24)) == {37, 38}
    np.testing.assert_allclose(centroids, [x[labels == c].mean(0) for c in range(24)], atol=1e-9)
    np.testing.assert_array_equal(labels, kmeans.balanced_kmeans(x, 24, seed=1)[0])
    assert kmeans.inertia(x, labels, centroids) <= 1.05 * slow


@pytest.mark.parametrize("x", [np.zeros((97, 3)), np.ones((97, 1)) * 1e6, np.r_[np.zeros((90, 2)), np.ones((7, 2))]])
def test_alike_items_spread_on_the_other_way_too(x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "FEW", 0)
    assert set(np.bincount(kmeans.balanced_kmeans(x, 10, seed=0)[0], minlength=10)) == {9, 10}


def test_centroids_from_a_sample_and_a_sketch_are_nearly_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(40, 150))[rng.integers(40, size=3000)] + 0.3 * rng.normal(size=(3000, 150))).astype("f")
    whole = assignment.squared_distances(x, kmeans.kmeans_centroids(x, 20, seed=0)).min(1).sum()
    monkeypatch.setattr(kmeans, "FEW", 0)
    for sample in (1000, 60):
        monkeypatch.setattr(kmeans, "SAMPLE", sample)
        found = kmeans.kmeans_centroids(x, 20, seed=0)
        assert assignment.squared_distances(x, found).min(1).sum() <= 1.05 * whole


@pytest.mark.parametrize("seed", range(4))
def test_seeding_repeats_scikit_learns(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(300, 5))
    np.testing.assert_array_equal(kmeans.greedy_plusplus(x, 20, seed), kmeans_plusplus(x, 20, random_state=seed)[1])


def test_nearest_and_means_against_loops() -> None:
    rng = np.random.default_rng(6)
    x, centroids = rng.normal(size=(70, 4)), rng.normal(size=(9, 4))
    labels = assignment.nearest(x, centroids)
    np.testing.assert_array_equal(labels, cdist(x, centroids).argmin(1))
    means = kmeans.group_means(x, labels, 9)
    for code in np.unique(labels):
        np.testing.assert_allclose(means[code], x[labels == code].mean(0), atol=1e-12)


def test_leading_axes_span_what_a_full_decomposition_finds() -> None:
    x = np.random.default_rng(7).normal(size=(300, 60)) * np.arange(1, 61) ** -0.5
    x -= x.mean(0)
    axes = kmeans.leading_axes(x, 10, seed=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(10), atol=1e-6)
    assert ((x @ axes) ** 2).sum() >= 0.98 * (np.linalg.svd(x, compute_uv=False)[:10] ** 2).sum()


def test_principal_components_are_those_of_a_full_decomposition() -> None:
    x = np.random.default_rng(0).normal(size=(80, 30)) * np.geomspace(1, 1e-3, 30)
    ours = kmeans.principal_components(x.astype(np.float32), 5, seed=0)
    theirs = PCA(5, svd_solver="full").fit_transform(x)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)
    np.testing.assert_allclose(cdist(kmeans.principal_components(x, 0, 0), [np.zeros(30)]), cdist(x, [x.mean(0)]))
    assert not kmeans.principal_components(np.ones((50, 20)), 4, seed=0).any()


def test_first_axis_is_the_first_component() -> None:
    x = np.random.default_rng(0).normal(size=(40, 6)) * [1, 2, 9, 1, 1, 1]
    theirs = PCA(1).fit_transform(x)[:, 0]
    assert abs(np.corrcoef(kmeans.first_axis(x), theirs)[0, 1]) == pytest.approx(1)
    assert kmeans.first_axis(-x)[0] == pytest.approx(-kmeans.first_axis(x)[0])


def test_group_means_of_an_empty_group_are_zero() -> None:
    means = kmeans.group_means(np.array([[1.0], [3.0], [5.0]]), np.array([2, 0, 2]), 4)
    np.testing.assert_array_equal(means[:, 0], [3, 0, 3, 0])


def test_kmeans_centroids_with_more_centroids_than_items() -> None:
    centroids = kmeans.kmeans_centroids(np.array([[0.0], [2.0]]), 5, seed=0)
    assert centroids.shape == (5, 1) and {0.0, 1.0, 2.0} == set(centroids[:, 0])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 50), st.integers(0, 50), st.floats(0, 0.999))
def test_spread_codes_are_distinct_increasing_and_in_range(n: int, more: int, phase: float) -> None:
    codes = kmeans.spread(n, n + more, phase)
    assert (np.diff(codes) > 0).all() and codes[0] >= 0 and codes[-1] < n + more
