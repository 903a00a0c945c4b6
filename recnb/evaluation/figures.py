"""Figures of systems side by side: metrics, differences, groups of users, popularity."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recnb.evaluation.metrics import PROTOCOLS
from recnb.style import PALETTE, plain


def metric_bars(intervals: pd.DataFrame, metrics: list[str]) -> Figure:
    """Each system's metrics with their intervals, one panel per metric, both protocols side by side.

    ``intervals``: columns system, protocol, metric, mean, low, high; systems in the order to be drawn.
    """
    systems = list(dict.fromkeys(intervals.system))
    size = (5.2 * len(metrics), 0.55 * len(systems) + 1.6)
    figure, axes = plt.subplots(1, len(metrics), figsize=size, sharey=True, squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for number, (protocol, label) in enumerate(PROTOCOLS.items()):
            rows = intervals[(intervals.metric == metric) & (intervals.protocol == protocol)].set_index("system")
            rows = rows.reindex(systems)
            places = np.arange(len(systems)) + 0.36 * (number - 0.5)
            axis.barh(places, rows["mean"], 0.34, xerr=reach(rows), color=PALETTE[number], label=label,
                      error_kw={"elinewidth": 1.2, "ecolor": "0.2"})  # fmt: skip
        axis.set(xlabel=f"{metric} (mean over users, 95 % interval)", yticks=range(len(systems)), yticklabels=systems)
    axes[0, 0].invert_yaxis()
    axes[0, -1].legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    figure.tight_layout()
    return figure


def forest(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Differences with their intervals; green right of zero, red left of it, grey where zero is inside.

    ``panels``: label of an axis -> frame with columns diff, low, high, one named row per difference, the same in all.
    """
    names = next(iter(panels.values())).index
    size = (max(8, 5.2 * len(panels)), 0.45 * len(names) + 1.4)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (label, rows) in zip(axes[0], panels.items(), strict=True):
        for place, row in enumerate(rows.itertuples()):
            colour = PALETTE[2] if row.low > 0 else PALETTE[3] if row.high < 0 else "0.5"
            axis.plot([row.low, row.high], [place, place], color=colour, lw=2.5)
            axis.plot(row.diff, place, "s" if colour == "0.5" else "o", color=colour)
        axis.axvline(0, color="0.3", lw=1)
        axis.set(xlabel=label, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    figure.tight_layout()
    return figure


def grouped_metric(tables: Mapping[str, pd.DataFrame], metric: str, xlabel: str) -> Figure:
    """One metric by groups of users, a line with interval per system.

    ``tables``: system -> frame of :func:`recnb.evaluation.lists.by_group`; ``xlabel``: what groups are, with a unit.
    """
    figure, axis = plt.subplots(figsize=(7, 3.6))
    for number, (system, table) in enumerate(tables.items()):
        places = np.arange(len(table)) + 0.08 * (number - (len(tables) - 1) / 2)
        colour = PALETTE[number % len(PALETTE)]
        axis.errorbar(places, table["mean"], yerr=reach(table), marker="o", capsize=3, color=colour, label=system)
    first = next(iter(tables.values()))
    labels = [f"{name}\n({users} users)" for name, users in zip(first["group"], first["users"], strict=True)]
    axis.set(xticks=range(len(first)), xticklabels=labels, xlabel=xlabel, ylabel=f"{metric} (95 % interval)")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    return figure


def popularity_bias(statistics: pd.DataFrame, targets_head: float) -> Figure:
    """Coverage against the share of places that go to popular items (``head``), one point per system, by
    :func:`recnb.evaluation.lists.list_statistics`; an unbiased list would show ``targets_head``, as test targets do."""
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    for number, (system, row) in enumerate(statistics.iterrows()):
        axis.scatter(row["coverage"], row["head"], s=70, color=PALETTE[number % 10], label=str(system), zorder=3)
    axis.axhline(targets_head, color="0.4", ls="--", label="what users chose")
    axis.set(xlabel="share of the catalogue that is ever recommended", ylabel="share of places\ngiven to popular items")
    axis.set(xlim=(0, 1.02), ylim=(0, 1.04))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    return figure


# --- candidate sets --------------------------------------------------------------------------------------------------


def set_drawn(had: np.ndarray, target: int, sets: np.ndarray, n_items: int) -> Figure:
    """One user's catalogue as a strip of N squares, and below it what each of D sets (D, C) takes of it."""
    figure, axis = plt.subplots(figsize=(0.62 * n_items + 2.2, 0.5 * (len(sets) + 1) + 0.9))
    for item in range(n_items):
        colour = PALETTE[2] if item == target else "0.75" if item in had else "white"
        axis.scatter(item, 0, marker="s", s=330, color=colour, edgecolors="0.4")
        axis.text(item, 0, str(item), ha="center", va="center")
    for row, items in enumerate(sets, start=1):
        colours = [PALETTE[2] if item == target else PALETTE[0] for item in items]
        axis.scatter(items, np.full(len(items), row), marker="s", s=160, color=colours)
    labels = ["catalogue", *(f"set {row}" for row in range(len(sets)))]
    axis.set(xticks=[], yticks=range(len(labels)), yticklabels=labels, ylim=(len(sets) + 0.6, -0.7))
    axis.set_xlabel("green: the target, grey: what the user has, blue: drawn")
    axis.grid(visible=False)
    figure.tight_layout()
    return figure


def few_people(hits: int, low: float, high: float, people: int) -> Figure:
    """Everybody who was asked as a dot: ``hits`` of them right, and how many the ends ``low`` and ``high`` (shares) of
    an interval would be."""
    place, ends = np.arange(people), (round(low * people), round(high * people))
    colours = np.array(["0.88"] * people, dtype=object)
    colours[: ends[1]], colours[: ends[0]] = "#56b4e9", "#0173b2"
    figure, axis = plt.subplots(figsize=(7, 2.1))
    axis.scatter(place // 5, place % 5, s=110, color=list(colours))
    axis.scatter((hits - 1) // 5, (hits - 1) % 5, s=230, facecolors="none", edgecolors="black", linewidths=1.8)
    axis.set(xticks=[], yticks=[], ylim=(4.7, -0.7))
    axis.set_xlabel(f"ring: {hits} of {people} right; dark: {ends[0]}, dark and light: {ends[1]}, the interval's ends")
    axis.grid(visible=False)
    figure.tight_layout()
    return figure


def shares(panels: Mapping[str, pd.DataFrame], chance: Sequence[float]) -> Figure:
    """Shares with their intervals, a panel each; dashed: what guessing gives there.

    ``panels``: label of an axis -> frame with columns mean, low, high, one named row per system, the same in all.
    """
    names = list(next(iter(panels.values())).index)
    size = (max(7.5, 3.9 * len(panels)), 0.42 * len(names) + 1.5)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, sharex=True, squeeze=False)
    for axis, (label, rows), guess in zip(axes[0], panels.items(), chance, strict=True):
        axis.errorbar(rows["mean"], range(len(rows)), xerr=reach(rows), fmt="o", lw=2.5, color=PALETTE[0])
        axis.axvline(guess, color="0.4", ls="--")
        axis.set(xlabel=label, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axes[0, 0].set_xlim(left=0)
    figure.tight_layout()
    return figure


def row_panels(panels: Mapping[str, pd.DataFrame], ours: str, bar: str, width: float, margin: float) -> Figure:
    """Each system's mean with its interval, a panel each, the best of the first one on top; inches of a panel's width
    and around its height. ``panels``: rows by system with mean, low, high; ``ours`` is blue, ``bar`` orange, dashed."""
    order = next(iter(panels.values())).sort_values("mean", ascending=False).index.tolist()
    size = (1.6 + width * len(panels), 0.34 * len(order) + margin)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    colours = {bar: PALETTE[1], ours: PALETTE[0]}
    for axis, rows in zip(axes[0], panels.values(), strict=True):
        for place, name in enumerate(order):
            if name in rows.index:
                mean, low, high = rows.loc[name, ["mean", "low", "high"]]
                axis.plot([low, high], [place, place], color=colours.get(name, "0.45"), lw=2.5)
                axis.plot(mean, place, "o", color=colours.get(name, "0.45"))
        if bar in rows.index:
            axis.axvline(rows["mean"][bar], color=PALETTE[1], ls="--", lw=1)
        axis.set(yticks=range(len(order)), yticklabels=[plain(name) for name in order], ylim=(len(order) - 0.5, -0.5))
    return figure


def redraws(outcomes: Mapping[str, np.ndarray], xlabel: str) -> Figure:
    """How far one ranking's metric moves when its sets are drawn again: label -> (R,) outcomes of R redraws."""
    figure, axis = plt.subplots(figsize=(7, 3.4))
    everything = np.concatenate(list(outcomes.values()))
    bins = np.linspace(everything.min(), everything.max() + 1e-9, 16)
    for number, (label, values) in enumerate(outcomes.items()):
        axis.hist(values, bins=list(bins), alpha=0.6, color=PALETTE[number], label=label)
        axis.axvline(values.mean(), color=PALETTE[number], lw=2)
    axis.set(xlabel=xlabel, ylabel="redraws")
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(outcomes))
    figure.tight_layout()
    return figure


def reach(rows: pd.DataFrame) -> list[pd.Series]:
    """How far an interval goes to both sides of its mean."""
    return [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
