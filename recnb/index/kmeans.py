"""Balanced k-means: clusters whose sizes differ by at most one (shown in 03_index).

Why balanced: a level of the item index with K codes can only give every item its own code if no cluster outgrows what
the remaining levels can tell apart (EAGER-LLM, section 3.1). Ordinary k-means promises nothing about sizes.

Few costs (n k up to FEW) are worth an auction (:mod:`recnb.index.assignment`) in every step. Beyond that, centroids are
placed on a sample and on its leading axes first, where a step costs a fraction, then on all items and the full width;
balance is kept by prices until the last step.
"""

import numpy as np
from scipy.sparse import csr_array
from sklearn.decomposition import PCA

from recnb.index.assignment import (
    WHOLE_ROWS,
    Distances,
    assignment_at_prices,
    balanced_assignment,
    balanced_capacities,
    blocks,
    capacitated_assignment,
    choices_of,
    nearest,
    squared_distances,
    tuned_prices,
)

COARSE = 0.05  # bidding step, as a share of the mean cost, while the centroids still move
STILL = 1e-3  # balanced Lloyd steps end when one of them improves the cost by less than this share
FEW = 2**17  # costs (n k) up to which every step is an auction, and centroids see all items at full width
SAMPLE, SEEDING = 64, 48  # items per cluster that place the centroids, and among which k-means++ chooses
LARGE = 2**21  # numbers in a matrix from which principal components are computed in float32
SKETCH = 128  # leading axes on which centroids are placed
TRIALS = 16  # draws of k-means++ for each of them
TUNING, FIRST_TUNING = 15, 40  # changes of prices per Lloyd step; fewer leave sizes unequal where clusters overlap
LAST_STEPS = 4  # Lloyd steps at full width after those on the leading axes


def principal_components(x: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Centre ``x`` (n, d) and keep its ``width`` leading principal components, found from a random start. Returns (n,
    width) float64, float32 for a large float32 matrix; (n, d) where the width is 0 or >= min(n, d): then ``x`` is only
    centred, and distances stay as they are.
    """
    if x.size > LARGE and x.dtype == np.float32:
        centred = x - x.mean(axis=0, dtype=np.float64).astype(np.float32)
        return centred @ leading_axes(centred, width, seed) if 0 < width < min(x.shape) else centred
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    if not 0 < width < min(x.shape) or not centred.any():
        return centred
    return PCA(width, svd_solver="randomized", random_state=seed).fit_transform(centred)


def leading_axes(centred: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Leading principal axes of centred data (n, d), by subspace iteration: (d, width), orthonormal, largest first.

    Two passes over the data are within a few thousandths of the variance of a full decomposition.
    """
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((centred.shape[1], min(width + 10, centred.shape[1]))).astype(centred.dtype)
    for _ in range(2):
        axes = _orthonormal(centred.T @ (centred @ axes))
    positions = centred @ axes
    turn = np.linalg.eigh((positions.T @ positions).astype(np.float64))[1]
    return axes @ turn[:, ::-1][:, :width].astype(centred.dtype)


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the columns (d, m), zero columns for what depends on others; two rounds for precision."""
    for _ in range(2):
        squares, turn = np.linalg.eigh(columns.T.astype(np.float64) @ columns)
        scale = np.where(squares > 1e-12 * squares[-1], squares, np.inf) ** -0.5
        columns = (columns @ (turn * scale)).astype(columns.dtype)
    return columns


def first_axis(x: np.ndarray) -> np.ndarray:
    """Position (n,) of each row of ``x`` (n, d) along its first principal axis, whose largest weight is positive."""
    centred = x - x.mean(axis=0)
    if len(x) < 2 or not centred.any():
        return np.zeros(len(x))
    if len(x) > x.shape[1]:  # tall: the covariance is the smaller problem
        axis = np.linalg.eigh((centred.T @ centred).astype(np.float64))[1][:, -1]
    else:
        axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    return centred @ axis * np.sign(axis[np.abs(axis).argmax()])


def group_means(x: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Mean row of each group: x (n, d), labels (n,) in [0, k) -> (k, d); an empty group's row is zero."""
    counts = np.bincount(labels, minlength=k)
    order = np.argsort(labels, kind="stable")
    members = csr_array((np.ones(len(x), x.dtype), order, np.r_[0, np.cumsum(counts)]), shape=(k, len(x)))
    return (members @ x).astype(np.float64) / np.maximum(counts, 1)[:, None]


def balanced_kmeans(x: np.ndarray, k: int, seed: int, iterations: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Cluster ``x`` (n, d) into ``k`` groups whose sizes differ by at most one: labels (n,) int64 in [0, k), and
    centroids (k, d) float64, the mean of the members.

    Greedy k-means++ and a few ordinary Lloyd steps place the centroids, then Lloyd steps with a balanced assignment
    follow until they stop paying or ``iterations`` are spent. Labels are numbered along the first principal axis
    of the centroids, so that near numbers tend to mean near clusters. Beyond 16 million costs (n k) memory is a float32
    copy of ``x``, one of its leading axes, and 300 bytes per item.

    Duplicates and zero variance are allowed. With n < k each item has its own and k - n stay empty, with zeros.
    """
    n = len(x)
    if n <= k:
        labels = lined_up(x, k)
        return labels, group_means(x, labels, k)
    steps = max(1, iterations - iterations // 2)
    if n * k <= FEW or (n * k <= WHOLE_ROWS and _is_crowded(x, k)):
        labels = _balanced_lloyd(x, kmeans_centroids(x, k, seed, iterations // 2), steps)
    else:
        labels = _balanced_at_prices(_centred_float32(x), k, seed, iterations // 2, steps)
    rank = np.argsort(np.argsort(first_axis(group_means(x, labels, k)), kind="stable"), kind="stable")
    labels = rank[labels]
    return labels, group_means(x, labels, k)


def kmeans_centroids(x: np.ndarray, k: int, seed: int, iterations: int = 12) -> np.ndarray:
    """Ordinary k-means, sizes free: greedy k-means++ and Lloyd steps; on SAMPLE items per cluster if there are more.

    Arguments as of :func:`balanced_kmeans`. Returns (k, d) float64, numbered along their first principal axis; with
    n < k the rest repeat the mean.
    """
    if len(x) * k <= FEW or len(x) <= k:
        start = x[greedy_plusplus(x, min(k, len(x)), seed)]
        missing = np.repeat(x.mean(0, keepdims=True), k - len(start), axis=0)
        centroids = _free_lloyd(x, np.vstack([start, missing]), iterations)
    else:
        sample = _sample(_centred_float32(x), SAMPLE * k, seed)
        sketch, centroids = _place_centroids(sample, k, seed, iterations)
        if sketch is not sample:
            centroids = group_means(sample, nearest(sketch, centroids), k)
            centroids = _free_lloyd(sample, centroids.astype(np.float32), LAST_STEPS)
        centroids = centroids + x.mean(0, dtype=np.float64)
    return centroids[np.argsort(first_axis(centroids), kind="stable")]


def greedy_plusplus(x: np.ndarray, k: int, seed: int, trials: int | None = None) -> np.ndarray:
    """Greedy k-means++: numbers (k,) of rows of ``x`` (n, d) that lie far apart, k <= n.

    Each next row is the best of ``trials`` (None: 2 + log k) drawn in proportion to their squared distance from those
    chosen (Arthur and Vassilvitskii, 2007; greedy as in scikit-learn, whose choices it repeats, but in the precision
    of ``x``).
    """
    rng, n = np.random.RandomState(seed), len(x)
    trials = trials or 2 + int(np.log(k))
    squares = (x**2).sum(1)
    chosen = np.empty(k, np.int64)
    chosen[0] = rng.choice(n, p=np.full(n, 1 / n))
    closest = Distances(x[chosen[:1]], x)[:][0]
    for number in range(1, k):
        so_far = np.cumsum(closest, dtype=np.float64)
        drawn = np.minimum(np.searchsorted(so_far, rng.uniform(size=trials) * so_far[-1]), n - 1)
        reach = x[drawn] @ x.T
        reach *= -2
        reach += squares
        reach += squares[drawn, None]
        np.clip(reach, 0, closest, out=reach)
        best = reach.sum(1).argmin()
        closest, chosen[number] = reach[best], drawn[best]
    return chosen


def _centred_float32(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0, dtype=np.float64).astype(x.dtype)).astype(np.float32, copy=False)


def _sample(x: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """So many rows, in their order; ``x`` itself if it has no more."""
    if len(x) <= rows:
        return x
    return x[np.sort(np.random.default_rng(seed).choice(len(x), rows, replace=False))]


def _place_centroids(sample: np.ndarray, k: int, seed: int, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """The sample on its leading axes (n, at most SKETCH), and free centroids there (k, same)."""
    wide = sample.shape[1] > SKETCH
    sketch = sample @ leading_axes(sample, SKETCH, seed) if wide else sample
    few = _sample(sketch, SEEDING * k, seed + 1)
    return sketch, _free_lloyd(sketch, few[greedy_plusplus(few, k, seed, trials=TRIALS)], iterations)


def spread(n: int, k: int, phase: float = 0.5) -> np.ndarray:
    """``n`` <= ``k`` distinct, increasing codes spread evenly over [0, k); another ``phase`` in [0, 1), other codes.

    >>> spread(3, 6, 0.0), spread(3, 6, 0.5)
    (array([0, 2, 4]), array([1, 3, 5]))
    """
    return np.floor((np.arange(n) + phase) * k / max(n, 1)).astype(np.int64)


def lined_up(x: np.ndarray, k: int, phase: float = 0.5) -> np.ndarray:
    """Distinct codes (n,) of n <= k rows of ``x`` along their first principal axis, by :func:`spread`."""
    labels = np.empty(len(x), np.int64)
    labels[np.argsort(first_axis(x), kind="stable")] = spread(len(x), k, phase)
    return labels


def _free_lloyd(x: np.ndarray, centroids: np.ndarray, steps: int) -> np.ndarray:
    """Ordinary Lloyd steps; a cluster that runs empty keeps its centroid."""
    for _ in range(steps):
        moved = _moved(x, nearest(x, centroids), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _moved(x: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Centroids as the means of their items, in the precision of ``x``; an empty cluster's stays."""
    used = np.bincount(labels, minlength=len(centroids)) > 0
    return np.where(used[:, None], group_means(x, labels, len(centroids)), centroids).astype(x.dtype)


def _balanced_lloyd(x: np.ndarray, centroids: np.ndarray, steps: int) -> np.ndarray:
    before, prices = np.inf, None
    for _ in range(steps):
        cost = squared_distances(x, centroids)
        labels, prices = capacitated_assignment(cost, balanced_capacities(cost, prices), COARSE)
        centroids = group_means(x, labels, len(centroids))
        now = inertia(x, labels, centroids)
        if now >= before * (1 - STILL):
            break
        before = now
    return balanced_assignment(squared_distances(x, centroids))


def _balanced_at_prices(x: np.ndarray, k: int, seed: int, free_steps: int, steps: int) -> np.ndarray:
    """Labels of x (n, d), centred float32, for many costs: prices and centroids take turns, sizes are exact at last."""
    sample = _sample(x, SAMPLE * k, seed)
    sketch, centroids = _place_centroids(sample, k, seed, free_steps)
    centroids, prices, labels = _priced_lloyd(sketch, centroids, np.zeros(k, np.float32), steps)
    if sketch is not sample:
        centroids = group_means(sample, labels, k).astype(np.float32)
    centroids, prices, _ = _priced_lloyd(x, centroids, prices, 2)
    return assignment_at_prices(Distances(x, centroids), prices)


def _is_crowded(x: np.ndarray, k: int) -> bool:
    """Whether more items are (nearly) alike than a cluster holds: prices cannot part them, an auction can."""
    shadow = x @ np.random.default_rng(0).standard_normal((x.shape[1], 4)).astype(x.dtype)
    width = np.maximum(shadow.std(0), 1e-9 * np.abs(shadow).max() + np.finfo(x.dtype).tiny)
    cells = np.round((shadow - shadow.mean(0)) / width * 1000)
    return int(np.unique(cells, axis=0, return_counts=True)[1].max()) > max(2, len(x) // k)


def _priced_lloyd(x: np.ndarray, centroids: np.ndarray, prices: np.ndarray,
                  steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lloyd steps in which prices keep the sizes nearly equal: centroids (k, d), prices (k,), labels (n,)."""
    before = np.inf
    for _ in range(steps):
        choices = choices_of(Distances(x, centroids), prices)
        prices = tuned_prices(choices, prices, TUNING if prices.any() else FIRST_TUNING)
        labels = choices.cheapest(prices)
        centroids, old = _moved(x, labels, centroids), centroids
        now = sum(float(((x[rows] - old[labels[rows]]) ** 2).sum()) for rows in blocks(*x.shape))
        if abs(now - before) < STILL * now:  # it may rise at first, while sizes become equal
            break
        before = now
    return centroids, prices, labels


def inertia(x: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> float:
    """Sum of squared distances of the rows of ``x`` to their own centroid."""
    return float(((x - centroids[labels]) ** 2).sum())
