"""Contestants for the item index: ours against scikit-learn and k-means-constrained, judged by one function.

Equal means: the inertia in the full width, the sizes of the clusters, and whether every item has its own code.
``recnb.speed.measure.contest`` lets them take turns (``10_speed``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from recnb.index.assignment import blocks, nearest
from recnb.index.build import build_index
from recnb.index.kmeans import balanced_kmeans, group_means, kmeans_centroids
from recnb.index.settings import IndexConfig

OURS, SKLEARN, CONSTRAINED = "recnb", "scikit-learn", "k-means-constrained"
FREE_STEPS = 50  # Lloyd steps at most; scikit-learn may take 300 and stops after some 25
TOPICS = 300  # components of the mixture
SPREAD = 0.7  # of a topic, as a share of the spread between topics


@dataclass(frozen=True)
class Quality:
    """What a clustering is worth, whoever made it.

    Attributes:
        inertia: summed squared distance of items to the mean of their (first-level) cluster, in the full width.
        smallest: items in the smallest of the clusters that are used.
        largest: items in the largest.
        unique: share of items that are alone with their code.
    """

    inertia: float
    smallest: int
    largest: int
    unique: float


def quality(x: np.ndarray, labels: np.ndarray) -> Quality:
    """Judge labels (n,) or codes (n, levels), the first level first, of x (n, d).

    >>> quality(np.array([[0.0], [2.0], [5.0]]), np.array([[0, 0], [0, 1], [3, 0]]))
    Quality(inertia=2.0, smallest=1, largest=2, unique=1.0)
    """
    codes = labels.reshape(len(x), -1)
    first = codes[:, 0]
    k = int(first.max()) + 1
    means, spent = group_means(x, first, k), 0.0
    for rows in blocks(*x.shape):
        spent += float(((x[rows] - means[first[rows]]) ** 2).sum(dtype=np.float64))
    sizes = np.bincount(first)
    times = np.unique(codes, axis=0, return_counts=True)[1]
    return Quality(spent, int(sizes[sizes > 0].min()), int(sizes.max()), float((times == 1).sum() / len(x)))


def synthetic_embeddings(n: int, width: int, seed: int) -> np.ndarray:
    """Embeddings like a sentence encoder's: topics of very different size, variance falling as 1 / axis; (n, width).

    float32. The leading 64 of 768 axes hold about two thirds of the variance, as they do for product titles.
    """
    rng = np.random.default_rng(seed)
    scale = (np.arange(1, width + 1) ** -0.5).astype(np.float32)
    share = rng.gamma(1.0, size=TOPICS)
    centres = rng.standard_normal((TOPICS, width), np.float32) * scale
    topic = rng.choice(TOPICS, n, p=share / share.sum())
    x = rng.standard_normal((n, width), np.float32)
    x *= SPREAD * scale
    x += centres[topic]
    return x


def free_kmeans_contest(x: np.ndarray, k: int, seed: int) -> dict[str, Callable[[], np.ndarray]]:
    """K-means with free sizes: each contestant returns labels (n,)."""
    return {OURS: lambda: free_labels(x, k, seed), SKLEARN: lambda: sklearn_labels(x, k, seed)}


def balanced_contest(x: np.ndarray, k: int, seed: int) -> dict[str, Callable[[], np.ndarray]]:
    """K-means with sizes at most one apart: each returns labels (n,); k-means-constrained only if it is installed."""
    found: dict[str, Callable[[], np.ndarray]] = {OURS: lambda: balanced_kmeans(x, k, seed)[0]}
    if find_spec("k_means_constrained"):
        found[CONSTRAINED] = lambda: constrained_labels(x, k, seed)
    return found


def index_contest(x: np.ndarray, k: int, seed: int = 0) -> dict[str, Callable[[], np.ndarray]]:
    """An index of two levels: each returns codes (n, 2). Ours is what the recipe's defaults make."""
    config = IndexConfig(source="semantic", codes=k)
    return {
        OURS: lambda: build_index({"semantic": x}, config, seed).codes,
        SKLEARN: lambda: sklearn_codes(x, k, seed),
    }


def free_labels(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Ours: centroids placed on leading axes, then on all; each item goes to the nearest."""
    return nearest(x, kmeans_centroids(x, k, seed, FREE_STEPS).astype(x.dtype))


def sklearn_labels(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """scikit-learn's defaults: greedy k-means++, once, Lloyd until nothing moves."""
    from sklearn.cluster import KMeans

    return KMeans(min(k, len(x)), init="k-means++", n_init=1, random_state=seed).fit(x).labels_.astype(np.int64)


def sklearn_codes(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Two levels with scikit-learn: k-means, then k-means within each cluster; a cluster of at most k is numbered."""
    first = sklearn_labels(x, k, seed)
    second = np.empty_like(first)
    for cluster in np.unique(first):
        members = np.flatnonzero(first == cluster)
        small = len(members) <= k
        second[members] = np.arange(len(members)) if small else sklearn_labels(x[members], k, seed)
    return np.stack([first, second], axis=1)


def constrained_labels(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """k-means-constrained with sizes n // k to its ceiling: an exact assignment by min-cost flow in every step."""
    package = import_module("k_means_constrained")  # optional, hence by name
    model = package.KMeansConstrained(k, size_min=len(x) // k, size_max=-(-len(x) // k), n_init=1, random_state=seed)
    return model.fit_predict(x).astype(np.int64)
