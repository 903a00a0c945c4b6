"""Contestants for the item index: ours against scikit-learn and k-means-constrained, judged by one function.

Equal means: the inertia in the full width, the sizes of the clusters, and whether every item has its own code.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans

from recnb.index.assignment import nearest
from recnb.index.build import build_index
from recnb.index.health import unique_share
from recnb.index.kmeans import balanced_kmeans, group_means, kmeans_centroids
from recnb.index.settings import IndexConfig

OURS, SKLEARN, CONSTRAINED = "recnb", "scikit-learn", "k-means-constrained"
FREE_STEPS = 50  # Lloyd steps at most; scikit-learn may take 300 and stops after some 25
TOPICS = 300  # components of the mixture
SPREAD = 0.7  # of a topic, as a share of the spread between topics

Contestants = dict[str, Callable[[], np.ndarray]]


class Quality(NamedTuple):
    """What a clustering is worth, whoever made it."""

    inertia: float  # summed squared distance of items to the mean of their (first-level) cluster, in the full width
    smallest: int  # items in the smallest of the clusters that are used
    largest: int  # items in the largest
    unique: float  # share of items that are alone with their code


def quality(x: np.ndarray, labels: np.ndarray) -> Quality:
    """Judge labels (n,) or codes (n, levels), the first level first, of x (n, d).

    >>> quality(np.array([[0.0], [2.0], [5.0]]), np.array([[0, 0], [0, 1], [3, 0]]))
    Quality(inertia=2.0, smallest=1, largest=2, unique=1.0)
    """
    codes = labels.reshape(len(x), -1)
    first = codes[:, 0]
    means = group_means(x, first, int(first.max()) + 1).astype(x.dtype)
    inertia = float(((x - means[first]) ** 2).sum(dtype=np.float64))
    sizes = np.unique(first, return_counts=True)[1]
    return Quality(inertia, int(sizes.min()), int(sizes.max()), unique_share(codes))


def synthetic_embeddings(n: int, width: int, seed: int) -> np.ndarray:
    """Embeddings like a sentence encoder's: topics of very different size, variance falling as 1 / axis; (n, width).

    float32. The leading 64 of 768 axes hold about two thirds of the variance, as they do for product titles.
    """
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(TOPICS))
    centres = rng.standard_normal((TOPICS, width), np.float32)
    x = centres[rng.choice(TOPICS, n, p=share)]
    x += SPREAD * rng.standard_normal((n, width), np.float32)
    return x * np.arange(1, width + 1, dtype=np.float32) ** -0.5


def free_kmeans_contest(x: np.ndarray, k: int, seed: int) -> Contestants:
    """K-means with free sizes: each returns labels (n,). Ours places centroids on leading axes, then on all."""
    return {
        OURS: lambda: nearest(x, kmeans_centroids(x, k, seed, FREE_STEPS).astype(x.dtype)),
        SKLEARN: lambda: sklearn_labels(x, k, seed),
    }


def balanced_contest(x: np.ndarray, k: int, seed: int) -> Contestants:
    """K-means with sizes at most one apart: each returns labels (n,); k-means-constrained only if it is installed.

    That one assigns exactly, by min-cost flow in every step.
    """
    found: Contestants = {OURS: lambda: balanced_kmeans(x, k, seed)[0]}
    if find_spec("k_means_constrained"):
        package = import_module("k_means_constrained")  # optional, hence by name
        sizes = {"size_min": len(x) // k, "size_max": -(-len(x) // k)}
        found[CONSTRAINED] = lambda: package.KMeansConstrained(k, **sizes, n_init=1, random_state=seed).fit_predict(x)
    return found


def index_contest(x: np.ndarray, k: int, seed: int = 0) -> Contestants:
    """An index of two levels: each returns codes (n, 2). Ours is what the recipe's defaults make."""
    config = IndexConfig(source="semantic", codes=k)
    return {
        OURS: lambda: build_index({"semantic": x}, config, seed).codes,
        SKLEARN: lambda: sklearn_codes(x, k, seed),
    }


def sklearn_labels(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """scikit-learn's defaults: greedy k-means++, once, Lloyd until nothing moves."""
    return KMeans(min(k, len(x)), random_state=seed).fit_predict(x)


def sklearn_codes(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Two levels with scikit-learn: k-means, then k-means within each cluster; a cluster of at most k is numbered."""
    first = sklearn_labels(x, k, seed)
    second = np.empty_like(first)
    for cluster in np.unique(first):
        members = np.flatnonzero(first == cluster)
        small = len(members) <= k
        second[members] = np.arange(len(members)) if small else sklearn_labels(x[members], k, seed)
    return np.stack([first, second], axis=1)
