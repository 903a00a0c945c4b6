"""Figures of many runs: published beside measured, quality against the bits of a code."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recnb.style import PALETTE

_KINDS = {"measured": PALETTE[0], "published": "0.7", "derived": "0.85"}


def standing(table: pd.DataFrame, metric: str) -> Figure:
    """Published and measured systems in order of a metric, the bar of each with its kind as colour.

    Of :func:`recnb.studies.ledger.build_ledger` or :func:`recnb.studies.ledger.main_table`; without it, left out.
    """
    rows = table.dropna(subset=[metric]).sort_values(metric)
    figure, axis = plt.subplots(figsize=(8, 0.32 * len(rows) + 1.2))
    for kind in dict.fromkeys(rows["kind"]):
        own = rows["kind"] == kind
        axis.barh(np.flatnonzero(own), rows.loc[own, metric], color=_KINDS[kind], label=kind)
    names = [f"{row['system']} ({row['recipe']})" if row.get("recipe") else row["system"] for _, row in rows.iterrows()]
    axis.set(yticks=range(len(rows)), yticklabels=names, xlabel=f"{metric}, seen items kept")
    axis.tick_params(axis="y", labelsize=9)
    axis.legend(frameon=False, loc="lower right")
    figure.tight_layout()
    return figure


def compression(points: pd.DataFrame, metric: str) -> Figure:
    """Quality against the bits of a code, one colour per source; the random index is what meaning has to beat.

    ``points``: columns base (a panel each), source, bits, shape (e.g. "2 x 111"), and the metric with ``margin``.
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
