"""Metrics of samples that come from sessions, and intervals that resample whole sessions. Shown in
``llm4sbr/08_evaluate``.

A sample is a beginning of a session and the item that came next, so samples of one session resemble each other: an
interval that resamples them one by one is too narrow. Here a session is drawn with all its samples, or not at all.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from recnb.evaluation.intervals import LEVEL, resampled_means
from recnb.evaluation.metrics import per_user, target_ranks
from recnb.evaluation.verdicts import SESSIONS

CUTOFFS = (5, 10, 20)


# --- metrics ---------------------------------------------------------------------------------------------------------


def sample_ranks(lists: np.ndarray, targets: np.ndarray, longest: int) -> np.ndarray:
    """(M,) :func:`recnb.evaluation.metrics.target_ranks` of lists (M, W), but that a target which is in no list stands
    behind the ``longest`` cutoff too: in a catalogue of few items that is above W.

    >>> sample_ranks(np.array([[1, 0, -1], [1, 0, -1]]), np.array([0, 2]), longest=20).tolist()
    [1, 20]
    """
    ranks, width = target_ranks(lists, targets), lists.shape[1]
    return np.where(ranks < width, ranks, max(width, longest))


def reciprocal_ranks(ranks: np.ndarray, k: int) -> np.ndarray:
    """(M,) 1 / place of the target among the first ``k`` places, else 0; ``ranks`` (M,) count from 0.

    >>> reciprocal_ranks(np.array([0, 3, 4]), k=4).tolist()
    [1.0, 0.25, 0.0]
    """
    if k < 1:
        raise ValueError(f"k = {k}: a cutoff is at least 1")
    ranks = np.asarray(ranks)
    return np.where(ranks < k, 1.0 / (ranks + 1.0), 0.0)


def per_sample_metrics(ranks: np.ndarray, cutoffs: Iterable[int] = CUTOFFS) -> dict[str, np.ndarray]:
    """All metrics of each sample (M,): R@k (a hit rate: the paper's P@k), then M@k (MRR), then N@k.

    >>> list(per_sample_metrics(np.array([0]), cutoffs=[5, 10]))
    ['R@5', 'R@10', 'M@5', 'M@10', 'N@5', 'N@10']
    """
    each = {k: dict(zip("RNM", (*per_user(ranks, k), reciprocal_ranks(ranks, k)), strict=True)) for k in cutoffs}
    return {f"{letter}@{k}": found[letter] for letter in "RMN" for k, found in each.items()}


def session_metrics(ranks: np.ndarray, cutoffs: Iterable[int] = CUTOFFS) -> dict[str, float]:
    """Means over all samples of :func:`per_sample_metrics`.

    Raises:
        ValueError: there is no sample.
    """
    if len(ranks) == 0:
        raise ValueError("no samples to average over")
    return {name: float(values.mean()) for name, values in per_sample_metrics(ranks, cutoffs).items()}


def release_means(ranks: np.ndarray, k: int, longest: int = 20) -> dict[str, float]:
    """``mrr_release``, ``ndcg_release``: MRR and NDCG at ``k`` as LLM4SBR's public code averages them over ranks (M,)
    from 0, for comparison with its tables alone.

    A target that stands behind place k but within the first ``longest`` is left out of the mean instead of counting 0,
    so the sum is divided by fewer samples: usual mean / (1 - (R@longest - R@k)).

    Raises:
        ValueError: k is beyond ``longest``, or no sample is left.

    >>> release_means(np.array([0, 9]), k=5), release_means(np.array([0, 20]), k=5)
    ({'mrr_release': 1.0, 'ndcg_release': 1.0}, {'mrr_release': 0.5, 'ndcg_release': 0.5})
    """
    if k > longest:
        raise ValueError(f"k = {k}: expected a cutoff up to the longest list, {longest}")
    ranks = np.asarray(ranks)
    counted = ranks[(ranks < k) | (ranks >= longest)]
    if len(counted) == 0:
        raise ValueError(f"every target stands between place {k} and {longest}: no sample is left to average over")
    found = {"mrr_release": reciprocal_ranks(counted, k), "ndcg_release": per_user(counted, k)[1]}
    return {name: float(values.mean()) for name, values in found.items()}


def release_metrics(ranks: np.ndarray, cutoffs: Iterable[int] = CUTOFFS) -> dict[str, float]:
    """:func:`release_means` of the cutoffs below the longest one, where they differ: ``mrr_release@5`` ...

    Not a number where no sample is left to average over, as may happen in a catalogue of few items.
    """
    ranks, longest = np.asarray(ranks), max(cutoffs := list(cutoffs))
    nothing = {"mrr_release": np.nan, "ndcg_release": np.nan}
    left = {k: bool(((ranks < k) | (ranks >= longest)).any()) for k in cutoffs if k < longest}
    each = {k: release_means(ranks, k, longest) if some else nothing for k, some in left.items()}
    return {f"{name}@{k}": found[name] for name in ("mrr_release", "ndcg_release") for k, found in each.items()}


# --- intervals over sessions -----------------------------------------------------------------------------------------


def session_interval(values: np.ndarray, sessions: np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    """``mean`` over samples (M,) with its 95 % percentile interval over sessions, ``low`` and ``high``.

    >>> session_interval(np.ones(4), np.array([0, 0, 1, 2]), resamples=50, seed=0)
    {'mean': 1.0, 'low': 1.0, 'high': 1.0}
    """
    return session_intervals({"": values}, sessions, resamples, seed).iloc[0].drop("name").to_dict()


def session_intervals(
    columns: Mapping[Hashable, np.ndarray], sessions: np.ndarray, resamples: int, seed: int
) -> pd.DataFrame:
    """A row per column (M,), all under the same draws: name, mean, low, high."""
    table = np.stack(list(columns.values()), axis=1)
    low, high = _percentiles(resampled_means(table, sessions, resamples, seed))
    return pd.DataFrame({"name": list(columns), "mean": table.mean(axis=0), "low": low, "high": high})


def session_differences(
    ours: Mapping[str, np.ndarray],
    others: Mapping[str, Mapping[str, np.ndarray]],
    sessions: np.ndarray,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Ours minus each other system, metric by metric, paired: with a session both systems' samples are drawn.

    Args:
        ours: metrics of each sample as of :func:`per_sample_metrics`; others: the same by system.
        sessions, resamples, seed: as of :func:`resampled_means`.

    Returns:
        a row per (against, metric): diff, low, high, p (two-sided, never 0: as of
        :func:`recnb.evaluation.intervals.paired_bootstrap`), over.
    """
    names = [(other, metric) for other in others for metric in ours]
    table = np.empty((len(sessions), len(names)))
    for number, (other, metric) in enumerate(names):
        table[:, number] = ours[metric] - others[other][metric]
    means = resampled_means(table, sessions, resamples, seed)
    low, high = _percentiles(means)
    tail = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    found = pd.DataFrame(names, columns=["against", "metric"])
    p = np.minimum(1.0, 2 * (tail + 1) / (resamples + 1))
    return found.assign(diff=table.mean(axis=0), low=low, high=high, p=p, over=SESSIONS)


def _percentiles(means: np.ndarray) -> np.ndarray:
    """(2, K) both ends of the interval of each column."""
    return np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


# --- groups of samples -----------------------------------------------------------------------------------------------


def seen_pairs(items: np.ndarray, first: np.ndarray, last: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(M,) bool: whether the target follows the last item somewhere in training.

    Args:
        items: (n,) clicks of all training sessions, one after the other; first: (n,) bool, a session's first click.
        last, targets: (M,) item numbers.

    >>> seen_pairs(np.array([1, 2, 3]), np.array([True, False, True]), np.array([1, 2]), np.array([2, 3])).tolist()
    [True, False]
    """
    items, last, targets = (np.asarray(each, dtype=np.int64) for each in (items, last, targets))
    width = 1 + max((int(each.max()) for each in (items, targets) if len(each)), default=0)
    pairs = (items[:-1] * width + items[1:])[~np.asarray(first)[1:]]
    return np.isin(last * width + targets, pairs)


def yes_or_no(answer: np.ndarray, yes: str, no: str) -> tuple[np.ndarray, list[str]]:
    """Groups of a yes-or-no question (M,): (M,) 0 for no, 1 for yes, and their names, as
    :func:`recnb.evaluation.lists.quantile_groups` gives them."""
    return np.asarray(answer).astype(np.int64), [no, yes]


def session_groups(
    values: np.ndarray, sessions: np.ndarray, group: np.ndarray, names: Sequence[str], resamples: int, seed: int
) -> pd.DataFrame:
    """Mean and interval over sessions of a number per sample (M,) inside each group, (M,) numbers into ``names``.
    Returns one row per non-empty group: group, samples, sessions, mean, low, high.
    """
    rows = []
    for number, name in enumerate(names):
        if (inside := np.asarray(group) == number).any():
            found = session_interval(values[inside], sessions[inside], resamples, seed)
            size = {"samples": int(inside.sum()), "sessions": len(np.unique(sessions[inside]))}
            rows.append({"group": name} | size | found)
    return pd.DataFrame(rows, columns=["group", "samples", "sessions", "mean", "low", "high"])
