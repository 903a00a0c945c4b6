"""Where a system is good, and what its lists look like as a whole. Shown in ``06_evaluate``."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from recnb.evaluation.intervals import mean_interval
from recnb.evaluation.metrics import NO_ITEM


def quantile_groups(values: np.ndarray, groups: int) -> tuple[np.ndarray, list[str]]:
    """Users' numbers of groups from 0, (U,), of about equal size by an integer quantity (U,), and a label each,
    ``"3-7"``.

    Equal values stay together, so that there may be fewer groups than wanted.

    >>> quantile_groups(np.array([1, 2, 3, 4, 5, 6]), 3)
    (array([0, 0, 1, 1, 2, 2]), ['1-2', '3-4', '5-6'])
    """
    values = np.asarray(values)
    edges = np.unique(np.quantile(values, np.arange(1, groups) / groups, method="lower"))
    _, label = np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)
    bounds = [(int(values[label == g].min()), int(values[label == g].max())) for g in range(label.max() + 1)]
    return label, [f"{low}-{high}" if low < high else f"{low}" for low, high in bounds]


def by_group(values: np.ndarray, group: np.ndarray, names: Sequence[str], resamples: int, seed: int) -> pd.DataFrame:
    """Mean and interval of a per-user metric (U,) inside each group, (U,) numbers into ``names``. Returns one row per
    non-empty group: group, users, mean, low, high.
    """
    rows = [
        {"group": name, "users": int(inside.sum()), **mean_interval(values[inside], resamples, seed)}
        for number, name in enumerate(names)
        if (inside := np.asarray(group) == number).any()
    ]
    return pd.DataFrame(rows, columns=["group", "users", "mean", "low", "high"])


def list_statistics(lists: np.ndarray, popularity: np.ndarray, k: int) -> dict[str, float]:
    """Coverage and popularity bias of the first k places of lists (U, W), -1 for no item.

    Returns:
        ``coverage``: share of the catalogue that stands in some list.
        ``gini``: inequality of how often items are shown; 0 all alike, towards 1 a few items everywhere.
        ``popularity``: mean training interactions of a shown item, by ``popularity`` (N,).
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
