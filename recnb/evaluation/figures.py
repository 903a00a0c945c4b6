"""Figures of 06_evaluate."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recnb.style import PALETTE

PROTOCOLS = {"kept": "seen items kept (the papers)", "removed": "seen items removed"}


def metric_bars(intervals: pd.DataFrame, metrics: list[str]) -> Figure:
    """Each system's metrics with their intervals, one panel per metric, both protocols side by side.

    Args:
        intervals: columns system, protocol, metric, mean, low, high; systems in the order to be drawn.
        metrics: one panel each.
    """
    systems = list(dict.fromkeys(intervals.system))
    figure, axes = plt.subplots(1, len(metrics), figsize=(5.2 * len(metrics), 0.55 * len(systems) + 1.6), sharey=True)
    for axis, metric in zip(np.atleast_1d(axes), metrics, strict=True):
        for number, protocol in enumerate(PROTOCOLS):
            rows = intervals[(intervals.metric == metric) & (intervals.protocol == protocol)].set_index("system")
            rows = rows.reindex(systems)
            places = np.arange(len(systems)) + 0.36 * (number - 0.5)
            reach = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
            axis.barh(places, rows["mean"], 0.34, xerr=reach, color=PALETTE[number], label=PROTOCOLS[protocol],
                      error_kw={"elinewidth": 1.2, "ecolor": "0.2"})  # fmt: skip
        axis.set(xlabel=f"{metric} (mean over users, 95 % interval)", yticks=range(len(systems)), yticklabels=systems)
    np.atleast_1d(axes)[0].invert_yaxis()
    np.atleast_1d(axes)[-1].legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    figure.tight_layout()
    return figure


def differences(comparison: pd.DataFrame, metrics: list[str], ours: str) -> Figure:
    """Ours minus each other system with the paired interval; right of zero we are better.

    Args:
        comparison: from :func:`recnb.evaluation.intervals.compare`.
        metrics: one panel each.
        ours: name of our system, for the axis label.
    """
    against = list(dict.fromkeys(comparison.against))
    size = (5.2 * len(metrics), 0.5 * len(against) + 1.4)
    figure, axes = plt.subplots(1, len(metrics), figsize=size, sharey=True)
    for axis, metric in zip(np.atleast_1d(axes), metrics, strict=True):
        rows = comparison[comparison.metric == metric].set_index("against").loc[against]
        for place, (_, row) in enumerate(rows.iterrows()):
            clear = row.low > 0 or row.high < 0
            colour = PALETTE[2] if row.low > 0 else PALETTE[3] if row.high < 0 else "0.5"
            axis.plot([row.low, row.high], [place, place], color=colour, lw=2.5)
            axis.plot(row["diff"], place, "o" if clear else "s", color=colour)
        axis.axvline(0, color="0.3", lw=1)
        axis.set(xlabel=f"{metric}: {ours} minus the other", yticks=range(len(against)), yticklabels=against,
                 ylim=(len(against) - 0.5, -0.5))  # fmt: skip
    figure.tight_layout()
    return figure


def grouped_metric(tables: Mapping[str, pd.DataFrame], metric: str, xlabel: str) -> Figure:
    """One metric by groups of users, a line with interval per system.

    Args:
        tables: system -> frame from :func:`recnb.evaluation.lists.by_group`.
        metric: for the axis label.
        xlabel: what the groups are, with its unit.
    """
    figure, axis = plt.subplots(figsize=(7, 3.6))
    for number, (system, table) in enumerate(tables.items()):
        places = np.arange(len(table)) + 0.08 * (number - (len(tables) - 1) / 2)
        reach = [table["mean"] - table["low"], table["high"] - table["mean"]]
        colour = PALETTE[number % len(PALETTE)]
        axis.errorbar(places, table["mean"], yerr=reach, marker="o", capsize=3, color=colour, label=system)
    first = next(iter(tables.values()))
    labels = [f"{name}\n({users} users)" for name, users in zip(first["group"], first["users"], strict=True)]
    axis.set(xticks=range(len(first)), xticklabels=labels, xlabel=xlabel, ylabel=f"{metric} (95 % interval)")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    return figure


def popularity_bias(statistics: pd.DataFrame, targets_head: float) -> Figure:
    """Coverage against the share of places that go to popular items, one point per system.

    Args:
        statistics: index system; columns coverage, head (from :func:`recnb.evaluation.lists.list_statistics`).
        targets_head: share of the test targets that are popular items: what an unbiased list would show.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    for number, (system, row) in enumerate(statistics.iterrows()):
        axis.scatter(row["coverage"], row["head"], s=70, color=PALETTE[number % 10], label=str(system), zorder=3)
    axis.axhline(targets_head, color="0.4", ls="--", label="what users chose")
    axis.set(xlabel="share of the catalogue that is ever recommended", ylabel="share of places\ngiven to popular items")
    axis.set(xlim=(0, 1.02), ylim=(0, 1.04))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    return figure


def ledger_gaps(ledger: pd.DataFrame, metric: str) -> Figure:
    """Published and measured systems on one axis, in order of a metric; the two kinds in different colours.

    Args:
        ledger: from :func:`recnb.studies.ledger.build_ledger`.
        metric: e.g. ``N@10``.
    """
    rows = ledger.dropna(subset=[metric]).sort_values(metric)
    colours = {"measured": PALETTE[0], "published": "0.7", "derived": "0.85"}
    figure, axis = plt.subplots(figsize=(8, 0.34 * len(rows) + 1.2))
    axis.barh(rows.system, rows[metric], color=[colours[kind] for kind in rows.kind])
    for kind in dict.fromkeys(rows.kind):
        axis.barh([], [], color=colours[kind], label=kind)
    axis.set(xlabel=f"{metric}, seen items kept")
    axis.legend(frameon=False, loc="lower right")
    figure.tight_layout()
    return figure
