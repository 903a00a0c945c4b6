"""Contestants for the index do the same work, and one function judges them; no test takes the time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from recnb.speed import indexing
from recnb.speed.measure import contest


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return indexing.synthetic_embeddings(150, 12, seed=0)


def test_quality_against_loops(x: np.ndarray) -> None:
    codes = np.random.default_rng(0).integers(0, 6, (150, 2))
    found = indexing.quality(x, codes)
    groups = [x[codes[:, 0] == c].astype(float) for c in range(6)]
    assert found.inertia == pytest.approx(sum(((g - g.mean(0)) ** 2).sum() for g in groups), rel=1e-5)
    assert (found.smallest, found.largest) == (min(map(len, groups)), max(map(len, groups)))
    times = Counter(map(tuple, codes.tolist()))
    assert found.unique == pytest.approx(sum(times[tuple(row)] == 1 for row in codes.tolist()) / 150)
    assert indexing.quality(x, codes[:, 0]).inertia == found.inertia


def test_synthetic_embeddings_decay_and_obey_the_seed() -> None:
    first, again, other = (indexing.synthetic_embeddings(3000, 40, seed) for seed in (1, 1, 2))
    assert first.dtype == np.float32 and first.tobytes() == again.tobytes() and (first != other).any()
    variance = first.var(0)
    assert 5 < variance[:4].sum() / variance[-4:].sum() < 40


def test_free_contestants_find_about_the_same(x: np.ndarray) -> None:
    results = contest(indexing.free_kmeans_contest(x, 8, seed=0), rounds=1).results
    ours, theirs = (indexing.quality(x, results[name]) for name in (indexing.OURS, indexing.SKLEARN))
    assert results[indexing.OURS].shape == (150,)
    assert ours.inertia < 1.1 * theirs.inertia and theirs.inertia < 1.1 * ours.inertia


def test_balanced_contestants_are_balanced_and_alike(x: np.ndarray) -> None:
    contestants = indexing.balanced_contest(x, 7, seed=0)
    found = {name: indexing.quality(x, run()) for name, run in contestants.items()}
    assert all((judged.smallest, judged.largest) == (21, 22) for judged in found.values())
    if indexing.CONSTRAINED not in found:
        pytest.skip("k-means-constrained is not installed")
    assert found[indexing.OURS].inertia < 1.1 * found[indexing.CONSTRAINED].inertia


def test_k_means_constrained_is_optional(x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "find_spec", lambda name: None)
    assert list(indexing.balanced_contest(x, 7, seed=0)) == [indexing.OURS]


@pytest.mark.parametrize("k", [13, 40])
def test_index_contestants_return_codes_and_ours_are_unique(x: np.ndarray, k: int) -> None:
    results = {name: run() for name, run in indexing.index_contest(x, k).items()}
    assert all(codes.shape == (150, 2) and codes.min() >= 0 and codes.max() < k for codes in results.values())
    assert indexing.quality(x, results[indexing.OURS]).unique == 1
    theirs = results[indexing.SKLEARN]
    assert len(np.unique(theirs[:, 0])) == k


def test_scikit_learn_splits_clusters_that_are_too_large() -> None:
    """A cluster of more than k items is split by k-means, so that not every item is alone."""
    rng = np.random.default_rng(0)
    crowd = np.vstack([rng.normal(size=(60, 3)) * 0.01, rng.normal(size=(3, 3)) * 100])
    codes = indexing.sklearn_codes(crowd, 4, seed=0)
    largest = np.bincount(codes[:, 0]).argmax()
    assert len(np.unique(codes[codes[:, 0] == largest, 1])) == 4
    assert indexing.quality(crowd, codes).unique < 1
