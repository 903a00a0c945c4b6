"""Sessions drawn: one person's clicks cut in three ways, the parts of the split, and how long inputs are."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from recnb.style import PALETTE

PART_COLOURS = {"training": PALETTE[0], "validation": PALETTE[1], "test": PALETTE[3]}


def cuts(minutes: np.ndarray, ways: Mapping[str, np.ndarray], width: float) -> Figure:
    """One person's clicks (n,) on a clock, a row per way of cutting: session numbers (n,) as colours; the edges of bins
    of ``width`` minutes are dashed."""
    figure, axes = plt.subplots(figsize=(7.5, 0.55 * len(ways) + 1.1), layout="constrained")
    for row, numbers in enumerate(ways.values()):
        axes.scatter(minutes, np.full(len(minutes), row), s=170, color=[PALETTE[n % 6] for n in numbers], zorder=3)
        for at, number in zip(minutes, numbers, strict=True):
            axes.text(at, row, str(number + 1), ha="center", va="center", color="white", fontsize=9, zorder=4)
    for edge in np.arange(0, minutes.max() + width, width):
        axes.axvline(edge, color="0.7", linestyle="--", linewidth=1)
    axes.set(yticks=range(len(ways)), ylim=(len(ways) - 0.5, -0.5), xlabel="minutes since midnight")
    axes.set_yticklabels(list(ways))
    axes.grid(visible=False)
    return figure


def parts_drawn(sessions: Sequence[Sequence[object]], parts: Sequence[str]) -> Figure:
    """Sessions as rows of clicks in the order of the split, coloured by their part; targets are ringed."""
    figure, axes = plt.subplots(figsize=(6, 0.4 * len(sessions) + 0.9), layout="constrained")
    for row, (clicks, part) in enumerate(zip(sessions, parts, strict=True)):
        for place, item in enumerate(clicks):
            edge = "black" if place else "none"
            axes.scatter(place, row, s=260, color=PART_COLOURS[part], edgecolors=edge, linewidths=1.5)
            axes.text(place, row, str(item), ha="center", va="center", color="white", fontsize=9)
    axes.set(yticks=[], xticks=[], ylim=(len(sessions) - 0.4, -0.6), xlim=(-0.6, max(map(len, sessions)) - 0.4))
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=colour) for colour in PART_COLOURS.values()]
    axes.legend(handles, PART_COLOURS, loc="upper left", bbox_to_anchor=(1, 1), title="ringed: a target")
    axes.grid(visible=False)
    return figure


def session_lengths(lengths: Mapping[str, np.ndarray], shown: int) -> Figure:
    """How long inputs (M,) are, part by part, as shares of the samples with at least so many items; ``shown`` is T."""
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    for (part, values), colour in zip(lengths.items(), PART_COLOURS.values(), strict=True):
        sizes = np.arange(1, values.max() + 1)
        reach = 1 - np.searchsorted(np.sort(values), sizes) / len(values)
        axes.step(sizes, reach, where="post", color=colour, label=part)
    axes.axvline(shown, color="0.4", linestyle=":", label=f"T = {shown}: a model sees the latest of them")
    axes.set(xscale="log", xlabel="items of the input, or more", ylabel="share of samples", ylim=(0, 1.02))
    axes.legend()
    return figure
