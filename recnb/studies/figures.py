"""Figures of 09_ablations."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recnb.style import PALETTE


def forest(effects: pd.DataFrame, metric: str, base: str) -> Figure:
    """Differences from the first choice with their intervals; right of zero a change helps.

    Args:
        effects: columns choice, diff, low, high (95 %), one row per change.
        metric: for the axis.
        base: what the differences are taken from.
    """
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(effects) + 1.3))
    for place, row in enumerate(effects.itertuples()):
        colour = PALETTE[2] if row.low > 0 else PALETTE[3] if row.high < 0 else "0.5"
        axis.plot([row.low, row.high], [place, place], color=colour, lw=2.5)
        axis.plot(row.diff, place, "o" if colour != "0.5" else "s", color=colour)
    axis.axvline(0, color="0.3", lw=1)
    axis.margins(y=0.5 / max(len(effects), 1))
    axis.set(yticks=range(len(effects)), yticklabels=effects["choice"], xlabel=f"{metric} minus that of: {base}")
    axis.invert_yaxis()
    figure.tight_layout()
    return figure


def standing(table: pd.DataFrame, metric: str) -> Figure:
    """Published and measured systems by a metric, the bar of each with its kind as colour.

    Args:
        table: of :func:`recnb.studies.claims.main_table`.
        metric: a column of it; rows without it are left out.
    """
    rows = table.dropna(subset=[metric]).sort_values(metric)
    kinds = list(dict.fromkeys(table["kind"]))
    figure, axis = plt.subplots(figsize=(8, 0.3 * len(rows) + 1.2))
    for kind, colour in zip(kinds, PALETTE, strict=False):
        own = rows["kind"] == kind
        axis.barh(np.flatnonzero(own), rows.loc[own, metric], color=colour, label=kind, alpha=0.85)
    names = [f"{row.system} ({row.recipe})" if row.recipe else row.system for row in rows.itertuples()]
    axis.set(yticks=range(len(rows)), yticklabels=names, xlabel=metric)
    axis.tick_params(axis="y", labelsize=9)
    axis.legend(frameon=False)
    figure.tight_layout()
    return figure


def compression(points: pd.DataFrame, metric: str) -> Figure:
    """Quality against the bits of a code, one colour per source; the random index is what meaning has to beat.

    Args:
        points: columns base (a panel each), source, bits, shape (e.g. "2 x 111", written at the point), and the metric
            with ``margin``.
        metric: column of ``points``.
    """
    bases = list(dict.fromkeys(points["base"]))
    colours = dict(zip(dict.fromkeys(points["source"]), PALETTE, strict=False))
    size = (1 + 5 * len(bases), 3.8)
    figure, axes = plt.subplots(1, len(bases), figsize=size, squeeze=False, sharex=True, sharey=True)
    for axis, base in zip(axes[0], bases, strict=True):
        for source, rows in points[points["base"] == base].groupby("source", sort=False):
            rows, colour = rows.sort_values("bits"), colours[source]
            axis.errorbar(rows["bits"], rows[metric], rows["margin"], fmt="o", color=colour, label=source, capsize=3)
            for row in rows.to_dict("records"):
                axis.annotate(f" {row['shape']}", (row["bits"], row[metric]), fontsize=8, color=colour)
        axis.margins(x=0.2)  # room for the shapes
        axis.set(title=base, xlabel="bits of a code: levels x log2 K")
        axis.legend(frameon=False)
    axes[0, 0].set(ylabel=f"validation {metric}")
    figure.tight_layout()
    return figure
