"""Pictures of a data set: who is active, what is popular, which categories there are.

Shown in ``notebooks/01_data.ipynb``.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter
from numpy.typing import NDArray

from recnb.style import PALETTE, plain

ROLES = {"training": PALETTE[0], "validation": PALETTE[1], "test": PALETTE[3]}


def leave_one_out(items: Sequence[object], window: int) -> Figure:
    """One user's n >= 3 events in time order, and below them what each part of the split sees.

    A target is a question mark; the history shown for it is the latest T = ``window`` items before it. White cells are
    not looked at. The rows are those of :func:`recnb.data.split.training_sequences` and
    :func:`recnb.data.split.histories`.
    """
    n, roles = len(items), ["training"] * (len(items) - 2) + ["validation", "test"]
    rows = {"all events": (0, n, n), "fit on": (0, n - 2, n)}  # first and last event shown, and the target
    rows |= {f"{part}, T = {window}": (max(0, t - window), t, t) for part, t in (("validate", n - 2), ("test", n - 1))}
    figure, axes = plt.subplots(figsize=(0.7 * n + 2.2, 3), layout="constrained")
    for row, (first, last, target) in enumerate(rows.values()):
        for place, item in enumerate(items):
            seen, asked = first <= place < last, place == target
            face = (*ROLES[roles[place]], 1.0 if asked else 0.4 if seen else 0.0)
            axes.add_patch(plt.Rectangle((place - 0.46, row - 0.4), 0.92, 0.8, facecolor=face, edgecolor="0.7"))
            axes.text(place, row, "?" if asked else str(item) if seen else "", ha="center", va="center")
    axes.set(xlim=(-0.6, n - 0.4), ylim=(len(rows) - 0.5, -0.5), xlabel="item of each event, oldest first")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.legend([plt.Rectangle((0, 0), 1, 1, facecolor=colour) for colour in ROLES.values()], ROLES, ncols=3,
                loc="lower center", bbox_to_anchor=(0.5, 1))  # fmt: skip
    return figure


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
    axes.barh(range(len(counts)), counts.to_numpy()[::-1], color=PALETTE[2])
    axes.set_yticks(range(len(counts)), [plain(str(name), 40) for name in counts.index[::-1]], parse_math=False)
    axes.set(xlabel="items", ylabel="category")
    axes.grid(axis="y", visible=False)
    axes.margins(y=0.01)
    return figure
