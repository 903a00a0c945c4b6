"""Pictures of a data set: who is active, what is popular, which categories there are.

Shown in ``notebooks/01_data.ipynb``.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter
from numpy.typing import NDArray

from recnb.style import PALETTE


def history_lengths(lengths: NDArray[np.int64]) -> Figure:
    """How many interactions users have: (U,) counts as a histogram with the median marked."""
    figure, axes = plt.subplots(figsize=(6, 3.5))
    wide = bool(lengths.max() > 10 * lengths.min())  # a long tail reads better on a log axis
    bins = {"log_scale": True, "bins": 30} if wide else {"discrete": True}
    sns.histplot(lengths, color=PALETTE[0], alpha=1, ax=axes, **bins)
    median = float(np.median(lengths))
    axes.axvline(median, color=PALETTE[3], linewidth=2, label=f"median {median:.0f}")
    axes.set(xlabel="interactions per user", ylabel="users")
    if wide:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.legend()
    return figure


def popularity_curve(counts: NDArray[np.int64]) -> Figure:
    """(N,) interactions per item: share of all interactions that the most popular items gather, and even popularity."""
    figure, axes = plt.subplots(figsize=(6, 3.5))
    share = np.cumsum(np.sort(counts)[::-1]) / max(int(counts.sum()), 1)
    rank = np.arange(1, len(counts) + 1) / len(counts)
    axes.plot(100 * rank, 100 * share, color=PALETTE[0], linewidth=2, label="this catalogue")
    axes.plot([0, 100], [0, 100], color="0.5", linestyle="--", label="if all were equally popular")
    axes.set(xlabel="most popular items (% of catalogue)", ylabel="interactions they gather (%)")
    axes.legend(loc="lower right")
    return figure


def category_counts(counts: pd.Series) -> Figure:
    """Items per category, the largest on top: an index of names with counts."""
    figure, axes = plt.subplots(figsize=(6, 0.28 * len(counts) + 1))
    axes.barh([str(name) for name in counts.index[::-1]], counts.to_numpy()[::-1], color=PALETTE[2])
    axes.set(xlabel="items", ylabel="category")
    axes.grid(axis="y", visible=False)
    axes.margins(y=0.01)
    return figure
