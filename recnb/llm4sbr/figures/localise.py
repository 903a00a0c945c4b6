"""Localisation drawn: an answer in the plane and its blends, how near answers are to titles, and hits by k."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recnb.style import PALETTE


def blends_drawn(
    items: np.ndarray, names: Sequence[str], answer: np.ndarray, blends: Mapping[int, np.ndarray]
) -> Figure:
    """Items (n, 2) as dots with their names, an answer (2,) as a star, and what it becomes with each k: k -> (2,)."""
    figure, axes = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    for item, name in zip(items, names, strict=True):
        axes.plot([0, item[0]], [0, item[1]], color="0.8", linewidth=1, zorder=1)
        axes.annotate(name, item, xytext=(6, 6), textcoords="offset points")
    axes.scatter(items[:, 0], items[:, 1], s=60, color="0.45", zorder=2, label="items of the catalogue")
    axes.plot([0, answer[0]], [0, answer[1]], color=PALETTE[3], linewidth=1.5, linestyle="--", zorder=1)
    axes.scatter(answer[0], answer[1], s=260, marker="*", color=PALETTE[3], zorder=4, label="the answer")
    for (k, blend), colour, marker in zip(blends.items(), (PALETTE[1], PALETTE[0], PALETTE[2]), "osD", strict=False):
        axes.scatter(blend[0], blend[1], s=110, marker=marker, facecolors="none", edgecolors=[colour], linewidths=2.5,
                     zorder=5, label=f"k = {k}")  # fmt: skip
    axes.scatter(0, 0, marker="+", color="black")
    axes.margins(0.15)
    axes.set(xlabel="first dimension", ylabel="second dimension", aspect="equal")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def nearest_cosines(cosines: Mapping[str, np.ndarray]) -> Figure:
    """How near texts (n,) are to the title nearest to them: a curve per kind of text, the share that is at least so
    near."""
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for number, (name, values) in enumerate(cosines.items()):
        found, share = np.sort(values)[::-1], np.arange(1, len(values) + 1) / len(values)
        axes.step(found, share, where="post", color=PALETTE[number % 10], label=name)
    axes.set(xlabel="cosine to the nearest item, or more", ylabel="share of texts", ylim=(0, 1.02))
    axes.legend(frameon=False)
    return figure


def hits_by_k(hits: pd.DataFrame, chance: float, what: str) -> Figure:
    """Hits of texts alone against k: a row per k, a column per source; chance is dashed, ``what`` names the axis."""
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    places = np.arange(len(hits))
    for number, source in enumerate(hits):
        axes.plot(places, hits[source], marker="osD^v"[number % 5], color=PALETTE[number % 10], label=source)
    axes.axhline(chance, color="0.4", linestyle="--", label="chance")
    axes.set_xticks(places, [str(k) for k in hits.index])
    axes.set(xlabel="k, items that are blended (0: the text's own vector)", ylabel=what, ylim=(0, None))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure
