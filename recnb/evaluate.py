"""Full-ranking metrics on items, paired bootstrap, and what the lists look like as a whole.

Every system, ours or a baseline, enters as ranked lists of item numbers ``(U, W)``; a hit is an equal item number,
never an equal string, so an index in which items share a code earns nothing by it. Shown in ``06_evaluate``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recnb.errors import RecipeError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from recnb.recipe import DecodeConfig
    from recnb.store import Stage
    from recnb.trie import Trie

NO_ITEM = -1
_CELLS = 4_000_000  # numbers held at once by a bootstrap chunk: 32 MB of float64


def target_ranks(lists: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank of each user's target in that user's list (EAGER-LLM section 4.1: leave-one-out, one target per user).

    Args:
        lists: (U, W) item numbers, best first; -1 where a list is shorter than W.
        targets: (U,) item numbers.

    Returns:
        (U,) int64, 0 for the first place; W where the target is not in the list.

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
    _refuse_repeats(lists)
    hit = lists == targets[:, None]  # (U, W)
    return np.where(hit.any(axis=1), hit.argmax(axis=1), lists.shape[1]).astype(np.int64)


def _refuse_repeats(lists: np.ndarray) -> None:
    ordered = np.sort(lists, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)
    if repeated.any():
        user = int(repeated.any(axis=1).argmax())
        raise ValueError(f"the list in row {user} names an item twice: a list must hold distinct items")


def per_user(ranks: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Recall and NDCG at k of each user, for one relevant item each.

    With rank r counted from 0:

        R@k = 1 if r < k else 0,        N@k = 1 / log2(r + 2) if r < k else 0.

    With a single relevant item the ideal DCG is 1, so DCG is NDCG, and R@k is also the hit rate. A target that is
    not in the list has r = W and counts 0 only if W >= k: take k <= W, or the metric is that of a shorter list.

    Args:
        ranks: (U,) as returned by :func:`target_ranks`.
        k: cutoff, at least 1.

    Returns:
        two (U,) float64 arrays: recall, NDCG.

    >>> recall, ndcg = per_user(np.array([0, 2, 5]), k=5)
    >>> recall.tolist(), ndcg.round(4).tolist()
    ([1.0, 1.0, 0.0], [1.0, 0.5, 0.0])
    """
    if k < 1:
        raise ValueError(f"k = {k}: a cutoff is at least 1")
    ranks = np.asarray(ranks)
    inside = ranks < k
    return inside.astype(np.float64), np.where(inside, 1.0 / np.log2(ranks + 2.0), 0.0)


def per_user_metrics(ranks: np.ndarray, cutoffs: Iterable[int]) -> dict[str, np.ndarray]:
    """All metrics of each user: ``{"R@5": (U,), ..., "N@5": (U,), ...}``, recalls first as the papers print them."""
    both = {k: per_user(ranks, k) for k in cutoffs}
    return {f"{letter}@{k}": pair[side] for side, letter in enumerate("RN") for k, pair in both.items()}


def metrics(ranks: np.ndarray, cutoffs: Iterable[int] = (5, 10)) -> dict[str, float]:
    """Means over all users of R@k and N@k; see :func:`per_user` for the formulas.

    Raises:
        ValueError: there is no user.

    >>> {name: round(value, 3) for name, value in metrics(np.array([0, 7]), [5, 10]).items()}
    {'R@5': 0.5, 'R@10': 1.0, 'N@5': 0.5, 'N@10': 0.658}
    """
    if len(ranks) == 0:
        raise ValueError("no users to average over")
    return {name: float(values.mean()) for name, values in per_user_metrics(ranks, cutoffs).items()}


# --- dense scores: what ties do --------------------------------------------------------------------------------------


def rank_bounds(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst rank that a target can have when equal scores may be ordered either way.

    Popularity counts and ItemKNN sums are full of ties; a library that sorts the target first among its equals reports
    the best rank, one that sorts it last the worst. Our lists order equal scores by item number, which knows nothing
    of the target; these bounds say how much could hang on that.

    Args:
        scores: (U, N), larger is better; -inf for an excluded item.
        targets: (U,).

    Returns:
        two (U,) int64 arrays, counted from 0; equal where the target has no ties.

    >>> best, worst = rank_bounds(np.array([[3., 1., 1., 0.]]), np.array([2]))
    >>> best.tolist(), worst.tolist()
    ([1], [2])
    """
    own = np.take_along_axis(scores, np.asarray(targets)[:, None].astype(np.int64), axis=1)  # (U, 1)
    best = (scores > own).sum(axis=1)
    return best.astype(np.int64), (best + (scores == own).sum(axis=1) - 1).astype(np.int64)


def expected_per_user(best: np.ndarray, worst: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Expected R@k and N@k of each user if ties are broken at random: the mean of both over ranks best..worst.

    Args:
        best, worst: (U,) from :func:`rank_bounds`.
        k: cutoff, at least 1.

    >>> recall, ndcg = expected_per_user(np.array([0]), np.array([3]), k=2)
    >>> recall.tolist(), ndcg.round(4).tolist()  # ranks 0, 1, 2, 3 equally likely
    ([0.5], [0.4077])
    """
    gains = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])  # (k+1,) DCG of the first r places
    low, high = np.minimum(best, k), np.minimum(worst + 1, k)  # ranks low..high-1 count
    ties = worst - best + 1
    return (high - low) / ties, (gains[high] - gains[low]) / ties


# --- intervals -------------------------------------------------------------------------------------------------------


def bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of ``resamples`` samples of U users drawn with replacement.

    Drawing U users and counting how often each distinct value comes up is a multinomial draw over the distinct values,
    so that is what is drawn: the same distribution, without U x resamples indices. Metrics take few distinct values
    (R@k two, N@k k + 1), and memory stays below a fixed bound for any U.

    Args:
        values: (U,) one number per user.
        resamples: number of means to return.
        seed: of this bootstrap alone.

    Returns:
        (resamples,) float64.
    """
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    users, rng = int(counts.sum()), np.random.default_rng(seed)
    if users == 0:
        raise ValueError("no users to resample")
    chunk = max(1, _CELLS // len(distinct))
    parts = [
        rng.multinomial(users, counts / users, size=min(chunk, resamples - start)) @ distinct
        for start in range(0, resamples, chunk)
    ]
    return np.concatenate(parts) / users


def mean_interval(values: np.ndarray, resamples: int, seed: int, level: float = 0.95) -> dict[str, float]:
    """Mean over users with its percentile bootstrap interval.

    Returns:
        ``{"mean", "low", "high"}``. All users equal: an interval of no width, not an error.

    >>> mean_interval(np.ones(8), resamples=100, seed=0)
    {'mean': 1.0, 'low': 1.0, 'high': 1.0}
    """
    low, high = _percentiles(bootstrap_means(values, resamples, seed), level)
    return {"mean": float(np.mean(values)), "low": low, "high": high}


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, resamples: int, seed: int, level: float = 0.95
) -> dict[str, float]:
    """Difference of means a - b over the same users, with interval and two-sided p.

    The users are resampled, and with a user both systems' values: what makes a user easy for both cancels out. p is
    twice the smaller share of resampled differences on the other side of zero, counting one more resample so that it
    is never 0. It says nothing about another training seed; that needs several runs.

    Args:
        a, b: (U,) per-user values of two systems, same users in the same order.
        resamples, seed, level: as in :func:`mean_interval`.

    Returns:
        ``{"diff", "low", "high", "p"}``.

    >>> paired_bootstrap(np.ones(4), np.ones(4), resamples=100, seed=0)
    {'diff': 0.0, 'low': 0.0, 'high': 0.0, 'p': 1.0}
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"expected two (U,) arrays of the same users, found {a.shape} and {b.shape}")
    means = bootstrap_means(a - b, resamples, seed)
    low, high = _percentiles(means, level)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (int(tail) + 1) / (resamples + 1))
    return {"diff": float((a - b).mean()), "low": low, "high": high, "p": p}


def _percentiles(means: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare(
    ours: Mapping[str, np.ndarray], others: Mapping[str, Mapping[str, np.ndarray]], resamples: int, seed: int
) -> pd.DataFrame:
    """Paired bootstrap of our system against each other one, metric by metric.

    Args:
        ours: per-user metrics as of :func:`per_user_metrics`.
        others: the same for each system, by its name.

    Returns:
        one row per (against, metric): diff, low, high, p.
    """
    rows = [
        {"against": name, "metric": metric, **paired_bootstrap(ours[metric], values[metric], resamples, seed)}
        for name, values in others.items()
        for metric in ours
    ]
    return pd.DataFrame(rows, columns=["against", "metric", "diff", "low", "high", "p"])


# --- where a system is good, and what its lists look like ------------------------------------------------------------


def quantile_groups(values: np.ndarray, groups: int) -> tuple[np.ndarray, list[str]]:
    """Split users into groups of about equal size by an integer quantity; equal values stay together.

    Args:
        values: (U,) integers, e.g. history lengths.
        groups: how many are wanted; ties can make them fewer.

    Returns:
        (U,) group numbers from 0, and a label per group such as ``"3-7"``.

    >>> quantile_groups(np.array([1, 2, 3, 4, 5, 6]), 3)
    (array([0, 0, 1, 1, 2, 2]), ['1-2', '3-4', '5-6'])
    """
    values = np.asarray(values)
    edges = np.unique(np.quantile(values, np.arange(1, groups) / groups, method="lower"))
    _, label = np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)
    bounds = [(int(values[label == g].min()), int(values[label == g].max())) for g in range(label.max() + 1)]
    return label, [f"{low}-{high}" if low < high else f"{low}" for low, high in bounds]


def by_group(
    values: np.ndarray, group: np.ndarray, names: Sequence[str], resamples: int, seed: int
) -> pd.DataFrame:
    """Mean and interval of a per-user metric inside each group.

    Args:
        values: (U,); group: (U,) numbers into ``names``.

    Returns:
        one row per non-empty group: group, users, mean, low, high.
    """
    rows = [
        {"group": name, "users": int(inside.sum()), **mean_interval(values[inside], resamples, seed)}
        for number, name in enumerate(names)
        if (inside := np.asarray(group) == number).any()
    ]
    return pd.DataFrame(rows, columns=["group", "users", "mean", "low", "high"])


def list_statistics(lists: np.ndarray, popularity: np.ndarray, k: int) -> dict[str, float]:
    """Coverage and popularity bias of the first k places of all lists.

    Args:
        lists: (U, W), -1 for no item.
        popularity: (N,) training interactions of each item.

    Returns:
        ``coverage``: share of the catalogue that stands in some list.
        ``gini``: inequality of how often items are shown; 0 all alike, towards 1 a few items everywhere.
        ``popularity``: mean training interactions of a shown item.
        ``head``: share of places given to head items, see :func:`head_items`.

    >>> list_statistics(np.array([[0, 1], [0, 1]]), np.array([5, 3, 2, 0]), k=2)
    {'coverage': 0.5, 'gini': 0.5, 'popularity': 4.0, 'head': 0.5}
    """
    popularity = np.asarray(popularity)
    shown = lists[:, :k][lists[:, :k] != NO_ITEM]
    times = np.bincount(shown, minlength=len(popularity))
    return {
        "coverage": float((times > 0).mean()),
        "gini": _gini(times),
        "popularity": float(popularity[shown].mean()),
        "head": float(head_items(popularity)[shown].mean()),
    }


def head_items(popularity: np.ndarray) -> np.ndarray:
    """(N,) bool: the fewest most popular items that together hold at least half of all interactions."""
    order = np.argsort(-np.asarray(popularity), kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    head = np.zeros(len(popularity), dtype=bool)
    head[order[before < popularity.sum() / 2]] = True
    return head


def _gini(counts: np.ndarray) -> float:
    ordered, n = np.sort(counts).astype(np.float64), len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def list_width(beam: int, n_items: int, cutoffs: Iterable[int]) -> int:
    """How long the lists are: the beam, or the whole catalogue where that is smaller.

    Raises:
        RecipeError: shorter than the largest cutoff, so that a metric would silently be one of a shorter list.
    """
    width, needed = min(beam, n_items), max(cutoffs)
    if width < needed:
        raise RecipeError(
            f"evaluate.cutoffs: R@{needed} needs lists of {needed} items, but decode.beam = {beam} and the catalogue "
            f"has {n_items}: lower the cutoff, or raise decode.beam"
        )
    return width


def recommend_lists(
    model: Any,
    prompts: Sequence[np.ndarray],
    trie: Trie,
    config: DecodeConfig,
    exclude: csr_matrix | None = None,
    progress: bool = False,
    pad_id: int = 0,
    prior: Callable[[np.ndarray], np.ndarray] | None = None,
    prior_weight: float = 1.0,
) -> np.ndarray:
    """:func:`recnb.decode.recommend`, also for users who have fewer items left than the beam is wide.

    Such a user's beam is as wide as there are items left; the list ends with -1. Under ``accelerate launch`` the
    processes share the users, and each returns all lists.

    Args:
        model, prompts, trie, progress, pad_id, prior, prior_weight: as there.
        config: a beam wider than the catalogue is cut to it.
        exclude: (U, N) items to leave out; None: none.

    Returns:
        (U, W) int64 with W = min(beam, N).
    """
    from recnb.decode import recommend  # torch: the metrics alone need none of it

    width = min(config.beam, trie.n_items)
    removed = np.zeros(len(prompts), dtype=np.int64) if exclude is None else np.diff(exclude.indptr)
    room = np.minimum(width, trie.n_items - removed)
    lists = np.full((len(prompts), width), NO_ITEM, dtype=np.int64)
    for places in np.unique(room[room > 0]).tolist():  # nearly always one value
        users = np.flatnonzero(room == places)
        beam = config.model_copy(update={"beam": places})
        left_out = None if exclude is None else exclude[users]
        opinion = None if prior is None else lambda rows, users=users: prior(users[rows])
        asked = [prompts[int(user)] for user in users]
        found, _ = recommend(model, asked, trie, beam, left_out, progress, pad_id, opinion, prior_weight)
        lists[users, :places] = found
    return lists


def lists_once(
    stage: Stage,
    system: str,
    make: Callable[[csr_matrix | None], np.ndarray],
    protocols: Mapping[str, csr_matrix | None],
    before: float = 0.0,
) -> tuple[dict[str, np.ndarray], float]:
    """A system's lists under each protocol, made once: a notebook that was killed goes on behind them.

    Args:
        stage: keeps them (:meth:`recnb.store.Stage.once`).
        system: its name.
        make: lists (U, W) without the items to leave out.
        protocols: name -> (U, N) items to leave out; None: none.
        before: seconds that the system took until here.

    Returns:
        protocol -> (U, W), and the seconds that the system took in all.
    """

    def timed() -> dict[str, np.ndarray]:
        start = time.perf_counter()
        found = {protocol: make(exclude) for protocol, exclude in protocols.items()}
        return found | {"seconds": np.array(before + time.perf_counter() - start)}

    found = stage.once(f"lists-{system}", timed)
    seconds = round(float(found.pop("seconds")), 2)
    return found, seconds
