"""The evaluation drawn: what resampling sessions does, all systems beside the bar, two denominators, gains by group."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recnb.evaluation.figures import row_panels
from recnb.style import PALETTE, plain


def resampling(means: Mapping[str, np.ndarray], metric: str) -> Figure:
    """Means of a bootstrap, a histogram per way of drawing: ``means`` maps what was drawn to (resamples,) means."""
    figure, axis = plt.subplots(figsize=(6.4, 3), layout="constrained")
    edges = np.linspace(min(map(np.min, means.values())), max(map(np.max, means.values())) + 1e-9, 24).tolist()
    for number, (drawn, found) in enumerate(means.items()):
        axis.hist(found, edges, density=True, color=PALETTE[number], alpha=0.5, label=f"{drawn} drawn")
    axis.set(xlabel=f"mean {metric} of a resample", ylabel="density")
    axis.legend(frameon=False)
    return figure


def system_intervals(intervals: pd.DataFrame, metrics: Mapping[str, str], ours: str, bar: str) -> Figure:
    """Each system's mean with its interval over sessions, a panel per metric, best first; a dashed line at the bar.

    ``intervals``: columns system, metric, mean, low, high; ``metrics``: metric -> label of its axis; ``bar`` may be no
    system at all: then there is no line.
    """
    panels = {metric: intervals[intervals.metric == metric].set_index("system") for metric in metrics}
    figure = row_panels(panels, ours, bar, 3.6, 1.1)
    for axis, label in zip(figure.axes, metrics.values(), strict=True):
        axis.locator_params(axis="x", nbins=5)
        axis.set_xlabel(label)
    return figure


def two_denominators(table: pd.DataFrame, labels: tuple[str, str]) -> Figure:
    """A metric as usual and as the release averages it, two points per system, joined.

    ``table``: one row per system, two columns, named as ``labels``.
    """
    figure, axis = plt.subplots(figsize=(6.4, 0.3 * len(table) + 1.1), layout="constrained")
    places = np.arange(len(table))
    usual, release = (table[label].to_numpy() for label in labels)
    axis.hlines(places, usual, release, color="0.7", lw=2, zorder=1)
    axis.scatter(usual, places, color=PALETTE[0], label=labels[0], zorder=2)
    axis.scatter(release, places, color=PALETTE[3], marker="s", label=labels[1], zorder=2)
    axis.set(xlabel="mean over samples", yticks=places, ylim=(len(table) - 0.5, -0.5), xlim=(0, None))
    axis.set_yticklabels([plain(name) for name in table.index])
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    axis.locator_params(axis="x", nbins=6)
    return figure


def gains_by_group(tables: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """What one system has more than another inside groups of samples, a panel per way of grouping.

    ``tables``: question -> frame of :func:`recnb.evaluation.session_groups`; green where the interval lies above zero,
    red below, grey around it.
    """
    height = max(len(table) for table in tables.values())
    size = (3.1 * len(tables) + 0.6, 0.42 * height + 1.4)
    figure, axes = plt.subplots(1, len(tables), figsize=size, squeeze=False, layout="constrained", sharex=True)
    for axis, (question, table) in zip(axes[0], tables.items(), strict=True):
        for place, row in enumerate(table.itertuples()):
            colour = PALETTE[2] if row.low > 0 else PALETTE[3] if row.high < 0 else "0.5"
            axis.plot([row.low, row.high], [place, place], color=colour, lw=2.5)
            axis.plot(row.mean, place, "s" if colour == "0.5" else "o", color=colour)
        axis.axvline(0, color="0.3", lw=1)
        axis.set(title=question, yticks=range(len(table)), ylim=(len(table) - 0.5, -0.5))
        axis.set_yticklabels([f"{row.group}\n({row.samples:,})" for row in table.itertuples()], fontsize=9)
        axis.title.set_fontsize(11)
    figure.supxlabel(label, fontsize=11)
    return figure


def dose_response(doses: pd.DataFrame, metric: str) -> Figure:
    """What texts bring a session model against what they find by themselves, as the answer stands in more of them.

    Args:
        doses: a row per share of samples that are told the answer: ``share``, ``alone`` (``metric`` of texts alone),
            diff, low, high (of the session model, over the one without texts), all as fractions.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    rows = 100 * doses.sort_values("alone")
    axis.fill_between(rows.alone, rows.low, rows.high, color=PALETTE[0], alpha=0.2, lw=0)
    axis.plot(rows.alone, rows["diff"], "o-", color=PALETTE[0])
    for row in rows.itertuples():
        axis.annotate(f"{row.share:.0f} %", (row.alone, row.high), (0, 4), textcoords="offset points", ha="center")
    axis.axhline(0, color="0.3", lw=1)
    axis.set(xlabel=f"{metric} of the texts alone, %", ylabel=f"{metric} gained, points", xlim=(0, None))
    axis.margins(y=0.15)
    return figure
