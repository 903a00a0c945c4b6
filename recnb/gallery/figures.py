"""The gallery drawn: a prompt in the colours of its parts, two biases of lists, prices, what a request moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recnb.llm.figures import coloured_prompt as coloured_prompt, prompt_parts as prompt_parts
from recnb.style import PALETTE, plain


def list_biases(by_place: pd.DataFrame, popularity: Mapping[str, float], chance: float) -> Figure:
    """LLMRank's two figures: HR@1 by the target's place in the printed list, and how popular first places are.

    ``by_place``: rows with place (a label), mean, low, high; ``popularity``: name -> mean percentile of popularity.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    reach = [by_place["mean"] - by_place["low"], by_place["high"] - by_place["mean"]]
    left.errorbar(range(len(by_place)), by_place["mean"], yerr=reach, marker="o", capsize=3, color=PALETTE[0])
    left.axhline(chance, color="0.5", ls=":", lw=1.2, label="drawing lots")
    left.set(xlabel="place of the target in the printed list", ylabel="HR@1 (95 % interval)", ylim=(0, None))
    left.set_xticks(range(len(by_place)), by_place["place"])
    left.legend(frameon=False)
    right.barh(list(map(plain, popularity)), list(popularity.values()), color=PALETTE[0])
    right.set(xlabel="mean percentile of popularity", xlim=(0, 1))
    right.invert_yaxis()
    return figure


def prices(table: pd.DataFrame, metric: str, bar: float) -> Figure:
    """What a row costs and what it is worth: seconds a user (log) against a metric; a dashed line at the bar.

    ``table``: one row per system, columns seconds, value and ``trained`` (bool).
    """
    figure, axis = plt.subplots(figsize=(7.2, 4), layout="constrained")
    for trained, rows in table.groupby("trained"):
        marker, colour, label = ("o", PALETTE[0], "trained") if trained else ("s", PALETTE[1], "not trained")
        axis.scatter(rows.seconds, rows.value, marker=marker, color=colour, label=label)
    for place, (name, row) in enumerate(table.sort_values("seconds").iterrows()):  # neighbours above and below
        axis.annotate(plain(str(name)), (row.seconds, row.value), (4, (4, -10)[place % 2]), textcoords="offset points",
                      fontsize=8)  # fmt: skip
    axis.axhline(bar, color="0.4", ls="--", lw=1, label="sasrec")
    axis.set(xscale="log", xlabel="seconds a user (log)", ylabel=metric)
    axis.margins(x=0.18)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
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
