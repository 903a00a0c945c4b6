"""The gallery drawn: a prompt in the colours of its parts, two biases of lists, prices, what a request moves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from recnb.style import PALETTE, plain

if TYPE_CHECKING:
    from recnb.llm.ranking_prompts import Prompt

WIDE = 104  # characters of a line
SIZE, ADVANCE = 8.37, 0.07  # points; inches from letter to letter: 7 whole pixels of DejaVu Sans Mono at 100 dpi
SPANS = dict(zip(("history", "candidates", "question", "item", "request"), PALETTE, strict=False))
Line = list[tuple[str, str]]


def prompt_parts(prompt: Prompt, tokenizer: object) -> list[tuple[str, str]]:
    """A prompt as pieces of text, each with the span that it stands in (empty: none); a vector is written [vector]."""
    names = np.full(len(prompt.ids), "", object)
    for name in [name for name in SPANS if name in prompt.spans]:
        names[prompt.spans[name]] = name
    pieces = groupby(range(len(names)), lambda place: (names[place], prompt.slots[place] >= 0))
    decode = tokenizer.decode  # type: ignore[attr-defined]
    return [
        (name, " [vector]" if slot else decode(prompt.ids[list(places)].tolist())) for (name, slot), places in pieces
    ]


def _lines(parts: Sequence[tuple[str, str]]) -> list[Line]:
    """Pieces as lines of at most :data:`WIDE` characters, each a list of pieces."""
    lines: list[Line] = [[]]
    for name, text in parts:
        for number, row in enumerate(text.split("\n")):
            room = WIDE - sum(len(piece) for _, piece in lines[-1]) if not number else WIDE
            cut = textwrap.wrap(row, max(room, 20), drop_whitespace=False, expand_tabs=False) or [""]
            lines += [[]] * bool(number)
            lines[-1] = [*lines[-1], (name, cut[0])]
            lines += [[(name, more)] for more in cut[1:]]
    return [line for line in lines if any(piece for _, piece in line)]


def coloured_prompt(parts: Sequence[tuple[str, str]], answer: str) -> Figure:
    """A prompt in monospace, its spans on colour, and what it asks for behind it."""
    lines = _lines([*parts, ("answer", f" {answer}")])
    colours = {**SPANS, "answer": PALETTE[7]}
    size = (WIDE * ADVANCE, 0.17 * (len(lines) + 1.5))
    figure = plt.figure(figsize=size)
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDE), ylim=(len(lines) + 1.5, 0))
    axis.axis("off")
    for row, line in enumerate(lines):
        column = 0
        for name, text in line:
            if name in colours:
                axis.add_patch(Rectangle((column, row), len(text), 1, color=colours[name], alpha=0.28, lw=0))
            axis.text(column, row + 0.5, text, family="monospace", fontsize=SIZE, va="center", parse_math=False)
            column += len(text)
    here = {name for line in lines for name, _ in line}
    marks = [Patch(color=colour, alpha=0.28, label=name) for name, colour in colours.items() if name in here]
    axis.legend(handles=marks, ncols=len(marks), frameon=False, fontsize=SIZE, loc="lower left", borderaxespad=0)
    return figure


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
    for name, row in table.iterrows():
        axis.annotate(plain(str(name)), (row.seconds, row.value), (4, 4), textcoords="offset points", fontsize=8)
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
