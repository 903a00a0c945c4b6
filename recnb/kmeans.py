"""Balanced k-means: clusters whose sizes differ by at most one (shown in notebooks/03_index.ipynb).

Why balanced: a level of the item index with K codes can only give every item its own code if no cluster outgrows what
the remaining levels can tell apart (EAGER-LLM, section 3.1, dual-source knowledge-rich item index). Ordinary k-means
promises nothing about sizes.

The assignment step is a transportation problem: n items, k clusters with capacities, squared distances as cost. It is
solved by an auction: items bid for clusters, a full cluster keeps its best bids and raises its price. All items without
a place bid at once, so a round is a handful of array operations.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import kmeans_plusplus
from sklearn.decomposition import PCA

COARSE = 0.05  # bidding step, as a share of the mean cost, while the centroids still move
FINE = 0.005  # the same for the assignment that is kept
EXACT_UP_TO = 400  # items that are assigned exactly, in some 50 ms
PATIENCE = 2000  # rounds of an auction before its step doubles
STILL = 1e-3  # balanced Lloyd steps end when one of them improves the cost by less than this share


def principal_components(x: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Centre ``x`` and keep its ``width`` leading principal components.

    Args:
        x: (n, d) finite embeddings.
        width: components to keep; 0 or >= min(n, d): only centre (distances stay as they are).
        seed: of the randomised SVD.

    Returns:
        (n, min(width, d)) float64.
    """
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    if not 0 < width < min(x.shape) or not centred.any():
        return centred
    return PCA(width, svd_solver="randomized", random_state=seed).fit_transform(centred)


def first_axis(x: np.ndarray) -> np.ndarray:
    """Position of each row of ``x`` (n, d) along its first principal axis, (n,).

    The sign is fixed (the largest weight is positive), so that the order is the same on every machine.
    """
    centred = x - x.mean(axis=0)
    if len(x) < 2 or not centred.any():
        return np.zeros(len(x))
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    return centred @ axis * np.sign(axis[np.abs(axis).argmax()])


def group_means(x: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Mean row of each group: x (n, d), labels (n,) in [0, k) -> (k, d); an empty group's row is zero."""
    sums = np.zeros((k, x.shape[1]))
    order = np.argsort(labels, kind="stable")
    present, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    sums[present] = np.add.reduceat(x[order], starts, axis=0, dtype=np.float64) / counts[:, None]
    return sums


def squared_distances(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n, d), (k, d) -> (n, k) squared Euclidean distances, never negative."""
    squares = (x**2).sum(1)[:, None] + (centroids**2).sum(1) - 2 * (x @ centroids.T)
    return np.maximum(squares, 0)


def balanced_kmeans(x: np.ndarray, k: int, seed: int, iterations: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Cluster ``x`` into ``k`` groups whose sizes differ by at most one.

    Greedy k-means++ and a few ordinary Lloyd steps place the centroids, then Lloyd steps with a balanced assignment
    follow until they stop paying or ``iterations`` are spent. Labels are numbered along the first principal axis
    of the centroids, so that near numbers tend to mean near clusters.

    Args:
        x: (n, d) finite embeddings; duplicates and zero variance are allowed.
        k: number of clusters. With n < k each item has its own and k - n stay empty.
        seed: of k-means++.
        iterations: at most so many Lloyd steps.

    Returns:
        labels (n,) int64 in [0, k) and centroids (k, d) float64 (mean of the members; an empty cluster's row is zero).
        The memory peak is about six (n, k) float64 arrays.
    """
    n = len(x)
    if n <= k:
        labels = np.empty(n, np.int64)
        labels[np.argsort(first_axis(x), kind="stable")] = spread(n, k)
        return labels, group_means(x, labels, k)
    centroids = kmeans_centroids(x, k, seed, iterations // 2)
    labels = _balanced_lloyd(x, centroids, steps=max(1, iterations - iterations // 2))
    rank = np.argsort(np.argsort(first_axis(group_means(x, labels, k)), kind="stable"), kind="stable")
    labels = rank[labels]
    return labels, group_means(x, labels, k)


def kmeans_centroids(x: np.ndarray, k: int, seed: int, iterations: int = 12) -> np.ndarray:
    """Ordinary k-means, sizes free: greedy k-means++ and Lloyd steps.

    Args:
        x: (n, d) finite embeddings.
        k: number of centroids; if there are fewer items, the rest repeat the mean.
        seed: of k-means++.
        iterations: at most so many Lloyd steps.

    Returns:
        (k, d) float64, numbered along their first principal axis.
    """
    start = kmeans_plusplus(x, min(k, len(x)), random_state=seed)[0]
    missing = np.repeat(x.mean(0, keepdims=True), k - len(start), axis=0)
    centroids = _free_lloyd(x, np.vstack([start, missing]), iterations)
    return centroids[np.argsort(first_axis(centroids), kind="stable")]


def spread(n: int, k: int, phase: float = 0.5) -> np.ndarray:
    """``n`` <= ``k`` distinct, increasing codes spread evenly over [0, k).

    ``phase`` in [0, 1) shifts them, so that groups with different phases use different codes.

    >>> spread(3, 6, 0.0), spread(3, 6, 0.5)
    (array([0, 2, 4]), array([1, 3, 5]))
    """
    return np.floor((np.arange(n) + phase) * k / max(n, 1)).astype(np.int64)


def _free_lloyd(x: np.ndarray, centroids: np.ndarray, steps: int) -> np.ndarray:
    """Ordinary Lloyd steps; a cluster that runs empty keeps its centroid."""
    for _ in range(steps):
        labels = squared_distances(x, centroids).argmin(1)
        used = np.bincount(labels, minlength=len(centroids)) > 0
        moved = np.where(used[:, None], group_means(x, labels, len(centroids)), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _balanced_lloyd(x: np.ndarray, centroids: np.ndarray, steps: int) -> np.ndarray:
    before, prices = np.inf, None
    for _ in range(steps):
        cost = squared_distances(x, centroids)
        labels, prices = capacitated_assignment(cost, _capacities(cost, prices), COARSE)
        centroids = group_means(x, labels, len(centroids))
        now = inertia(x, labels, centroids)
        if now >= before * (1 - STILL):
            break
        before = now
    return balanced_assignment(squared_distances(x, centroids))


def balanced_assignment(cost: np.ndarray, exact_up_to: int = EXACT_UP_TO) -> np.ndarray:
    """Assign n items to k <= n clusters, sizes n // k or n // k + 1, at (nearly) the least total cost.

    Which n % k clusters may be the larger ones is part of the problem. Few items: solved exactly. Many: a first guess
    gives the extra places to the clusters that most items would choose, an auction prices the places, a second auction
    gives the extra places to the dearest clusters; swaps and moves mend what is left. The exact solution takes cubic
    time; the auctions lose well under 2 % against it when clusters have four items or more (tested).

    Args:
        cost: (n, k), finite, not negative.
        exact_up_to: items that are assigned exactly.

    Returns:
        labels (n,) int64.
    """
    if len(cost) <= exact_up_to:
        return _exact_assignment(cost)
    first, prices = capacitated_assignment(cost, _capacities(cost, None), FINE)
    second, _ = capacitated_assignment(cost, _capacities(cost, prices), FINE)
    better = min((first, second), key=lambda labels: np.take_along_axis(cost, labels[:, None], 1).sum())
    return refine_by_swaps(cost, better)


def _exact_assignment(cost: np.ndarray) -> np.ndarray:
    """One assignment problem: n // k places per cluster that must be filled (a large reward), and one that may be."""
    n, k = cost.shape
    must, may = n // k, int(n % k > 0)
    places = np.repeat(np.arange(k), must + may)
    reward = np.tile(np.r_[np.full(must, n * float(cost.max()) + 1.0), np.zeros(may)], k)
    return places[linear_sum_assignment(cost[:, places] - reward)[1]]


def _capacities(cost: np.ndarray, prices: np.ndarray | None) -> np.ndarray:
    """(k,) n // k, and one more where a place is worth most."""
    n, k = cost.shape
    worth = np.bincount(cost.argmin(1), minlength=k) if prices is None else prices
    capacities = np.full(k, n // k)
    capacities[np.argsort(-worth, kind="stable")[: n % k]] += 1
    return capacities


def capacitated_assignment(
    cost: np.ndarray, capacities: np.ndarray, step: float = FINE
) -> tuple[np.ndarray, np.ndarray]:
    """Assign n items to k clusters, at most ``capacities[j]`` to cluster j, at nearly the least total cost.

    An auction (Bertsekas): each item without a place bids for the cluster that is cheapest at the current prices, as
    much as it can before its second choice becomes cheaper, plus one bidding step. In the end every item is within one
    step of its best choice at the final prices, so the mean cost is within one step of the least (in practice far
    closer). Thousands of near-duplicates outbid each other one step at a time: after PATIENCE rounds the step doubles,
    and again, which bounds the time at a price in quality that only such catalogues pay.

    Args:
        cost: (n, k), finite, not negative.
        capacities: (k,) positive, with a sum of at least n.
        step: the bidding step as a share of the mean of ``cost``; smaller is better and slower.

    Returns:
        labels (n,) int64 and the final prices (k,): what one place more in a cluster would save.

    Raises:
        ValueError: the items do not fit.
    """
    n, k = cost.shape
    if capacities.sum() < n:
        raise ValueError(f"{n} items do not fit in a capacity of {capacities.sum()}")
    if k == 1:
        return np.zeros(n, np.int64), np.zeros(1)
    prices, bids = np.zeros(k), np.zeros(n)
    labels, waiting, rounds = np.full(n, -1), np.arange(n), 0
    raise_by = step * float(cost.mean()) or 1.0
    while len(waiting):
        rounds += 1
        raise_by *= 2 if rounds % PATIENCE == 0 else 1
        labels[waiting], bids[waiting] = _bid(cost[waiting] + prices, prices, raise_by)
        waiting = _keep_best_bids(labels, bids, np.unique(labels[waiting]), capacities, prices)
    return labels, prices


def _bid(offers: np.ndarray, prices: np.ndarray, raise_by: float) -> tuple[np.ndarray, np.ndarray]:
    """Each bidder's cheapest cluster at these offers (w, k), and the price it would pay there; (w,), (w,)."""
    rows, best = np.arange(len(offers)), offers.argmin(1)
    lowest = offers[rows, best]
    offers[rows, best] = np.inf
    return best, prices[best] + offers.min(1) - lowest + raise_by


def _keep_best_bids(labels: np.ndarray, bids: np.ndarray, called: np.ndarray, capacities: np.ndarray,
                    prices: np.ndarray) -> np.ndarray:
    """Let each called cluster keep its best bids and raise its price when full; return the items turned away.

    Changes ``labels`` (turned away: -1) and ``prices`` in place.
    """
    asked = np.zeros(len(prices) + 1, bool)  # the last entry stands for label -1
    asked[called] = True
    members = np.flatnonzero(asked[labels])
    members = members[np.lexsort((members, -bids[members], labels[members]))]
    cluster = labels[members]
    starts = np.searchsorted(cluster, cluster)
    place = np.arange(len(members)) - starts
    last = place == capacities[cluster] - 1
    prices[cluster[last]] = bids[members[last]]
    away = members[place >= capacities[cluster]]
    labels[away] = -1
    return away


def refine_by_swaps(cost: np.ndarray, labels: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Swap pairs of items between clusters, or move one from a larger to a smaller cluster, while the cost falls.

    Args:
        cost: (n, k). labels: (n,), every cluster used, sizes at most one apart (they stay so).
        rounds: at most so many; in a round each cluster takes part in one exchange.

    Returns:
        labels (n,), new.
    """
    labels = labels.copy()
    for _ in range(rounds):
        saving, who = _best_movers(cost, labels)
        sizes = np.bincount(labels, minlength=cost.shape[1])
        both = saving + saving.T
        move = np.where(sizes[:, None] > sizes[None, :], saving, -np.inf)
        gain = np.maximum(both, move)
        np.fill_diagonal(gain, -np.inf)
        pairs = _disjoint_pairs(gain, threshold=1e-9 * float(np.abs(cost).mean()))
        if not len(pairs):
            break
        source, target = pairs.T
        forth, back = who[source, target], who[target, source]
        labels[forth] = target
        swap = both[source, target] >= move[source, target]
        labels[back[swap]] = source[swap]
    return labels


def _best_movers(cost: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For clusters (a, b): the most that moving one item from a to b saves, and that item; two (k, k) arrays."""
    k = cost.shape[1]
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(k))
    saving = np.take_along_axis(cost, labels[:, None], 1)[order] - cost[order]
    best = np.maximum.reduceat(saving, starts, axis=0)
    is_best = saving == best[labels[order]]
    position = np.where(is_best, np.arange(len(labels))[:, None], len(labels))
    return best, order[np.minimum.reduceat(position, starts, axis=0)]


def _disjoint_pairs(gain: np.ndarray, threshold: float) -> np.ndarray:
    """Pairs (a, b), best gain first, in which no cluster appears twice; (p, 2)."""
    k = len(gain)
    partner = gain.argmax(1)
    value = gain[np.arange(k), partner]
    order = np.argsort(-value, kind="stable")
    free, pairs = np.ones(k, bool), []
    for a in order[value[order] > threshold]:  # at most k steps: clusters, not items
        b = partner[a]
        if free[a] and free[b]:
            free[[a, b]] = False
            pairs.append((a, b))
    return np.array(pairs, np.int64).reshape(-1, 2)


def unique_assignment(cost: np.ndarray) -> np.ndarray:
    """Distinct columns for the rows of ``cost`` (n, k), n <= k, at the least total cost, exactly; (n,)."""
    return linear_sum_assignment(cost)[1]


def inertia(x: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> float:
    """Sum of squared distances of the rows of ``x`` to their own centroid."""
    return float(((x - centroids[labels]) ** 2).sum())
