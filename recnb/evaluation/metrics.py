"""Full-ranking metrics on items.

Every system, ours or a baseline, enters as ranked lists of item numbers ``(U, W)``; a hit is an equal item number,
never an equal string, so an index in which items share a code earns nothing by it. Shown in ``06_evaluate``.
"""

from collections.abc import Iterable

import numpy as np

NO_ITEM = -1
CUTOFFS = (5, 10)
PROTOCOLS = {"kept": "seen items kept (the papers)", "removed": "seen items removed"}


def target_ranks(lists: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank of each user's target in that user's list (EAGER-LLM section 4.1: leave-one-out, one target per user).

    Lists (U, W) of item numbers are best first, -1 where one is shorter than W; targets (U,). Returns (U,) int64, 0 for
    the first place; W where the target is not in the list.

    Raises:
        ValueError: shapes do not fit, or a list names an item twice (it would occupy two places).

    >>> target_ranks(np.array([[4, 2, 7], [1, 0, 3]]), np.array([2, 9])).tolist()
    [1, 3]
    """
    lists, targets = np.asarray(lists), np.asarray(targets)
    if lists.ndim != 2 or targets.shape != lists.shape[:1]:
        raise ValueError(f"expected lists (U, W) and targets (U,), found {lists.shape} and {targets.shape}")
    if (targets < 0).any():
        raise ValueError("a target is not an item number (it is negative)")
    ordered = np.sort(lists, axis=1)
    repeated = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)).any(axis=1)
    if repeated.any():
        raise ValueError(f"the list in row {repeated.argmax()} names an item twice: a list must hold distinct items")
    hit = lists == targets[:, None]  # (U, W)
    return np.where(hit.any(axis=1), hit.argmax(axis=1), lists.shape[1]).astype(np.int64)


def per_user(ranks: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and NDCG at k >= 1 of each user, two (U,) float64, for one relevant item each of rank r (U,) from 0:

        R@k = 1 if r < k else 0,        N@k = 1 / log2(r + 2) if r < k else 0.

    With a single relevant item the ideal DCG is 1, so DCG is NDCG, and R@k is also the hit rate. A target that is
    not in the list has r = W and counts 0 only if W >= k: take k <= W, or the metric is that of a shorter list.

    >>> recall, ndcg = per_user(np.array([0, 2, 5]), k=5)
    >>> recall.tolist(), ndcg.round(4).tolist()
    ([1.0, 1.0, 0.0], [1.0, 0.5, 0.0])
    """
    if k < 1:
        raise ValueError(f"k = {k}: a cutoff is at least 1")
    ranks = np.asarray(ranks)
    inside = ranks < k
    return inside.astype(np.float64), np.where(inside, 1.0 / np.log2(ranks + 2.0), 0.0)


def per_user_metrics(ranks: np.ndarray, cutoffs: Iterable[int] = CUTOFFS) -> dict[str, np.ndarray]:
    """All metrics of each user: ``{"R@5": (U,), ..., "N@5": (U,), ...}``, recalls first as the papers print them."""
    both = {k: per_user(ranks, k) for k in cutoffs}
    return {f"{letter}@{k}": pair[side] for side, letter in enumerate("RN") for k, pair in both.items()}


def metrics(ranks: np.ndarray, cutoffs: Iterable[int] = CUTOFFS) -> dict[str, float]:
    """Means over all users of R@k and N@k; see :func:`per_user` for the formulas.

    Raises:
        ValueError: there is no user.

    >>> {name: round(value, 3) for name, value in metrics(np.array([0, 7])).items()}
    {'R@5': 0.5, 'R@10': 1.0, 'N@5': 0.5, 'N@10': 0.658}
    """
    if len(ranks) == 0:
        raise ValueError("no users to average over")
    return {name: float(values.mean()) for name, values in per_user_metrics(ranks, cutoffs).items()}


# --- dense scores: what ties do --------------------------------------------------------------------------------------


def rank_bounds(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst rank (U,) int64 from 0 that a target (U,) can have when equal scores may be ordered either way.

    Popularity counts and ItemKNN sums are full of ties; a library that sorts the target first among its equals reports
    the best rank, one that sorts it last the worst. Our lists order equal scores by item number, which knows nothing
    of the target; these bounds say how much could hang on that. ``scores`` (U, N): larger is better, -inf: excluded.

    >>> best, worst = rank_bounds(np.array([[3., 1., 1., 0.]]), np.array([2]))
    >>> best.tolist(), worst.tolist()
    ([1], [2])
    """
    own = np.take_along_axis(scores, np.asarray(targets)[:, None].astype(np.int64), axis=1)  # (U, 1)
    best = (scores > own).sum(axis=1)
    return best.astype(np.int64), (best + (scores == own).sum(axis=1) - 1).astype(np.int64)


def expected_per_user(best: np.ndarray, worst: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Expected R@k and N@k of each user if ties are broken at random: the mean of both over the ranks best..worst, (U,)
    of :func:`rank_bounds`.

    >>> recall, ndcg = expected_per_user(np.array([0]), np.array([3]), k=2)
    >>> recall.tolist(), ndcg.round(4).tolist()  # ranks 0, 1, 2, 3 equally likely
    ([0.5], [0.4077])
    """
    gains = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])  # (k+1,) DCG of the first r places
    low, high = np.minimum(best, k), np.minimum(worst + 1, k)  # ranks low..high-1 count
    ties = worst - best + 1
    return (high - low) / ties, (gains[high] - gains[low]) / ties
