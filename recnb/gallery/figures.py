"""The gallery drawn: a prompt in the colours of its parts, two biases of lists, prices, what a request moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recnb.evaluation.figures import reach
from recnb.llm.figures import coloured_prompt as coloured_prompt, prompt_parts as prompt_parts
from recnb.style import PALETTE, plain


def list_biases(by_place: pd.DataFrame, popularity: Mapping[str, float], chance: float) -> Figure:
    """LLMRank's two figures: HR@1 by the target's place in the printed list, and how popular first places are.

    ``by_place``: rows with place (a label), mean, low, high; ``popularity``: name -> mean percentile of popularity.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.errorbar(range(len(by_place)), by_place["mean"], yerr=reach(by_place), marker="o", capsize=3, color=PALETTE[0])
    left.axhline(chance, color="0.5", ls=":", lw=1.2, label="drawing lots")
    left.set(xlabel="place of the target in the printed list", ylabel="HR@1 (95 % interval)", ylim=(0, None))
    left.set_xticks(range(len(by_place)), by_place["place"])
    left.legend(frameon=False)
    right.barh(list(map(plain, popularity)), list(popularity.values()), color=PALETTE[0])
    right.set(xlabel="mean percentile of popularity", xlim=(0, 1))
    right.invert_yaxis()
    return figure


def prices(table: pd.DataFrame, metric: str, bar: float) -> Figure:
    """What a row is worth and what it costs, the best on top: a metric with a dashed line at the bar, and seconds a
    user (log) beside it.

    ``table``: one row per system, columns seconds, value and ``trained`` (bool).
    """
    rows = table.sort_values(["value", "seconds"], ascending=[True, False])
    size = (8, 0.26 * len(rows) + 1.2)
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    places = np.arange(len(rows))
    for trained, marker, colour, label in ((True, "o", PALETTE[0], "trained"), (False, "s", PALETTE[1], "not trained")):
        here = (rows.trained == trained).to_numpy()
        for axis, column in zip(axes, ("value", "seconds"), strict=True):
            axis.scatter(rows[column][here], places[here], marker=marker, color=colour, label=label)
    axes[0].axvline(bar, color="0.4", ls="--", lw=1, label="sasrec")
    axes[0].set(xlabel=metric, yticks=places, yticklabels=[plain(str(name)) for name in rows.index])
    axes[1].set(xlabel="seconds a user (log)", xscale="log")
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=3)
    return figure


def moved_list(titles: Sequence[str], places: np.ndarray, asked_for: np.ndarray) -> Figure:
    """A list before and after a request, items joined by lines; those that were asked for in colour.

    ``places``: (C,) place after the request of each item, from 0; ``asked_for``: (C,) bool.
    """
    figure, axis = plt.subplots(figsize=(7.2, 0.26 * len(titles) + 0.8), layout="constrained")
    for before, (title, after, wanted) in enumerate(zip(titles, places, asked_for, strict=True)):
        colour = PALETTE[2] if wanted else "0.6"
        axis.plot([0, 1], [before, after], color=colour, lw=2 if wanted else 1, marker="o")
        _name(axis, -0.03, before, title, "right", wanted)
        _name(axis, 1.03, int(after), title, "left", wanted)
    axis.set(xlim=(-1.2, 2.2), ylim=(len(titles) - 0.5, -1.2), yticks=[], xticks=[0, 1])
    axis.set_xticklabels(["before", "after the request"])
    axis.grid(visible=False)
    axis.spines["left"].set_visible(False)
    return figure


def _name(axis: Axes, x: float, y: int, title: str, side: str, wanted: bool) -> None:
    weight = "bold" if wanted else "normal"
    axis.text(x, y, plain(title, 38), ha=side, va="center", fontsize=8, weight=weight, parse_math=False)
