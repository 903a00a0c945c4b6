"""Figures of 10_speed: contests as bars with their spread, curves of cost against size, the profile of a run."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recnb.style import PALETTE


def contest_bars(seconds: pd.DataFrame, base: str) -> Figure:
    """Median seconds of each contestant with every round as a point, and how many times the base's it takes.

    Args:
        seconds: rounds as rows, contestants as columns.
        base: the contestant that the ratios are taken against, within a round.
    """
    ratio = seconds.div(seconds[base], axis=0)
    names = seconds.median().sort_values().index
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(names) + 1))
    for place, name in enumerate(names):
        axis.barh(place, seconds[name].median(), color=PALETTE[0] if name == base else PALETTE[7], alpha=0.8)
        axis.plot(seconds[name], np.full(len(seconds), place), "o", color="0.2", ms=3)
        axis.text(seconds[name].max(), place, f"  {ratio[name].median():.2g}x", va="center", fontsize=9)
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel="seconds (bar: median; points: rounds)")
    axis.set_xlim(0, 1.15 * seconds.to_numpy().max())
    axis.invert_yaxis()
    figure.tight_layout()
    return figure


def cost_curves(curves: pd.DataFrame, columns: int = 2) -> Figure:
    """One double-logarithmic panel per quantity, with the slope in its title.

    Args:
        curves: columns ``what``, ``size``, ``seconds``, ``slope`` as of :func:`recnb.speed.scaling.curve`.
        columns: panels side by side.
    """
    names = list(dict.fromkeys(curves["what"]))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 3.2 * rows), squeeze=False)
    for number, (axis, name) in enumerate(zip(axes.ravel(), names, strict=False)):
        part = curves[curves["what"] == name]
        axis.loglog(part["size"], part["seconds"], "o-", color=PALETTE[number % len(PALETTE)])
        axis.set(title=f"{name}: slope {part['slope'].iloc[0]:.2f}", xlabel=name.split(", ")[-1], ylabel="seconds")
    for axis in axes.ravel()[len(names) :]:
        axis.axis("off")
    figure.tight_layout()
    return figure


def trie_curves(costs: pd.DataFrame) -> Figure:
    """Build time, bytes per item and time of one step of the trie, of dicts and of dense tables, against N.

    Args:
        costs: rows as of :func:`recnb.speed.tries.trie_costs`.
    """
    panels = {
        "build (s)": {"arrays": "build", "dicts": "dict build"},
        "bytes per item": {"arrays": "bytes", "dicts": "dict bytes", "dense table (computed)": "dense bytes"},
        "one step (s)": {"arrays": "step", "dicts": "dict step"},
    }
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for number, (name, column) in enumerate(lines.items()):
            axis.loglog(costs["items"], costs[column], "o-", color=PALETTE[number], label=name)
        axis.set(title=title, xlabel="items N")
        axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def learning_curves(curves: pd.DataFrame, chance: float) -> Figure:
    """Validation R@10 against training seconds, one line per system.

    Args:
        curves: rows as of :func:`recnb.speed.training.learning_curve`.
        chance: R@10 of guessing (dashed).
    """
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    for number, (name, part) in enumerate(curves.groupby("system", sort=False)):
        axis.plot(part["seconds"], part["value"], "o-", color=PALETTE[number], label=name)
    axis.axhline(chance, ls="--", color="0.5", label="guessing")
    axis.set(xlabel="seconds of training", ylabel="validation R@10", ylim=(0, None))
    axis.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


def shares(parts: Mapping[str, float], unit: str = "s") -> Figure:
    """Parts of a whole as bars, largest first, each with its share."""
    ordered = pd.Series(parts).sort_values(ascending=False)
    figure, axis = plt.subplots(figsize=(7, 0.42 * len(ordered) + 0.9))
    axis.barh(ordered.index, ordered, color=PALETTE[0], alpha=0.85)
    for place, value in enumerate(ordered):
        axis.text(value, place, f" {value / ordered.sum():.0%}", va="center", fontsize=9)
    axis.set(xlabel=unit, xlim=(0, 1.15 * ordered.max()))
    axis.invert_yaxis()
    figure.tight_layout()
    return figure


def retrieval(table: pd.DataFrame) -> Figure:
    """Users per second (in a batch) of generation and of search, against N.

    Args:
        table: columns ``method``, ``items``, ``users per second``.
    """
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    for number, (name, part) in enumerate(table.groupby("method", sort=False)):
        axis.loglog(part["items"], part["users per second"], "o-", color=PALETTE[number], label=name)
    axis.set(xlabel="items N", ylabel="users per second")
    axis.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure
