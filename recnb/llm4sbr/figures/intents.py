"""Stage one drawn: a list that is read once with the forks behind it, and the report on the answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recnb.style import PALETTE, plain

VIEW_COLOURS = {"long": PALETTE[0], "short": PALETTE[1], "merged": PALETTE[2]}
SHARES = {
    "without a word": "empty", "distinct": "distinct", "a title of the catalogue": "exact",
    "... of those, in the session": "in_session", "... of those, its last item": "last",
    "... of those, its first item": "first",
}  # fmt: skip


def forks_drawn(pieces: Sequence[tuple[str, int]], forks: Sequence[tuple[int, str, str]]) -> Figure:
    """A list as a row of pieces, and below it each fork: where it leaves the list, and what it reads of its own.

    Args:
        pieces: text and tokens of the heading and of each line.
        forks: pieces that a fork sees, its view, and its ending in words.
    """
    edges = np.concatenate([[0], np.cumsum([count for _, count in pieces])])
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(forks) + 1.3), layout="constrained")
    for (text, count), left in zip(pieces, edges[:-1], strict=True):
        _box(axes, left, 0, count - 0.3, "0.85", f"{plain(text, 24)}\n{count} tokens")
    for row, (seen, view, ending) in enumerate(forks, start=1):
        at = edges[seen] - 0.15 - 0.3 * list(VIEW_COLOURS).index(view)  # views of one prefix beside each other
        axes.plot([at, at, edges[-1] + 1], [0.45, row, row], color=VIEW_COLOURS[view], lw=1.4)
        axes.plot(at, 0.45, "v", color=VIEW_COLOURS[view], ms=5)
        axes.text(edges[-1] + 1.3, row, f"{view}: {plain(ending, 60)}", va="center", fontsize=8)
    axes.set(xlim=(-0.5, edges[-1] * 1.6), ylim=(len(forks) + 0.7, -0.8))
    axes.axis("off")
    return figure


def _box(axes: Axes, x: float, y: float, width: float, colour: Any, text: str) -> None:
    axes.add_patch(plt.Rectangle((x, y - 0.45), width, 0.9, facecolor=colour, linewidth=0))
    axes.text(x + width / 2, y, text, ha="center", va="center", fontsize=8)


def report_bars(report: Mapping[str, Mapping[str, Any]]) -> Figure:
    """The shares of an intent report (:func:`recnb.llm4sbr.intent_report.intent_report`), a bar per view."""
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(SHARES) * len(report) + 1.1), layout="constrained")
    height = 0.8 / len(report)
    for place, (view, found) in enumerate(report.items()):
        at = np.arange(len(SHARES)) + (place - (len(report) - 1) / 2) * height
        values = [100 * found[name] for name in SHARES.values()]
        axes.barh(at, values, height, color=VIEW_COLOURS[view], label=view)
        for y, value in zip(at, values, strict=True):
            axes.text(value + 0.8, y, f"{value:.0f}", va="center", fontsize=8)
    axes.set(yticks=range(len(SHARES)), xlim=(0, 108), ylim=(len(SHARES) - 0.5, -0.5), xlabel="share of answers in %")
    axes.set_yticklabels(list(SHARES))
    axes.grid(axis="y", visible=False)
    axes.legend(title="view", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure
