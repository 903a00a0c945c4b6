"""Figures of 10_speed: contests as bars with their spread, curves of cost against size, the profile of a run."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from recnb.speed.measure import Contest
from recnb.style import PALETTE


def contest_bars(found: Contest, base: str) -> Figure:
    """Median seconds of each contestant with every round as a point, and how many times the base's it takes."""
    seconds, ratio = found.seconds, found.ratios(base).median()
    names = seconds.median().sort_values().index
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(names) + 1))
    for place, name in enumerate(names):
        axis.barh(place, seconds[name].median(), color=PALETTE[0] if name == base else PALETTE[7], alpha=0.8)
        axis.plot(seconds[name], np.full(len(seconds), place), "o", color="0.2", ms=3)
        axis.text(seconds[name].max(), place, f"  {ratio[name]:.2g}x", va="center", fontsize=9)
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel="seconds (bar: median; points: rounds)")
    axis.set_xlim(0, 1.15 * seconds.to_numpy().max())
    axis.invert_yaxis()
    figure.tight_layout()
    return figure


def shares(parts: Mapping[str, float]) -> Figure:
    """Seconds of the parts of a whole as bars, largest first, each with its share."""
    ordered = pd.Series(parts).sort_values(ascending=False)
    figure, axis = plt.subplots(figsize=(7, 0.42 * len(ordered) + 0.9))
    bars = axis.barh(ordered.index, ordered, color=PALETTE[0], alpha=0.85)
    axis.bar_label(bars, [f" {share:.0%}" for share in ordered / ordered.sum()], fontsize=9)
    axis.set(xlabel="s", xlim=(0, 1.15 * ordered.max()))
    axis.invert_yaxis()
    figure.tight_layout()
    return figure


def cost_curves(curves: pd.DataFrame) -> Figure:
    """One double-logarithmic panel per quantity of :func:`recnb.speed.measure.curve`, with the slope in its title."""
    titles = curves["what"] + ": slope " + curves["slope"].map("{:.2f}".format)
    grid = _lines(curves.assign(title=titles), "size", "seconds", col="title", col_wrap=3)
    return grid.set(xscale="log", yscale="log").set_titles("{col_name}").tight_layout().figure


def trie_curves(costs: pd.DataFrame) -> Figure:
    """Build time, bytes per item and time of one step against N, from :func:`recnb.speed.tries.trie_costs`."""
    panels = {"build": "build (s)", "bytes": "bytes per item", "step": "one step (s)"}
    long = costs.rename(columns=panels).melt(["trie", "items"], list(panels.values()), "panel", "cost").dropna()
    grid = _lines(long, "items", "cost", hue="trie", col="panel")
    grid.set(xscale="log", yscale="log", xlabel="items N", ylabel="").set_titles("{col_name}")
    return grid.tight_layout().figure


def learning_curves(curves: pd.DataFrame, chance: float) -> Figure:
    """Validation R@10 against training seconds, one line per system; guessing (``chance``) is dashed."""
    grid = _lines(curves, "seconds", "value", hue="system").refline(y=chance)
    return grid.set(xlabel="seconds of training", ylabel="validation R@10 (dashed: guessing)", ylim=(0, None)).figure


def retrieval(table: pd.DataFrame) -> Figure:
    """Users per second of generation and of search against N, from :func:`recnb.speed.retrieval.against_search`."""
    return _lines(table, "items", "users per second", hue="method").set(xscale="log", yscale="log").figure


def _lines(table: pd.DataFrame, x: str, y: str, **panels: Any) -> sns.FacetGrid:
    """Lines with a point per row, in panels with axes of their own."""
    own = {"sharex": False, "sharey": False}
    return sns.relplot(table, x=x, y=y, kind="line", marker="o", height=3.4, aspect=1.4, facet_kws=own, **panels)
