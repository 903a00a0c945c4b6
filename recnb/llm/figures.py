"""Prompts drawn: the parts of one in colours, its vectors, and what the loss is taken on."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from recnb.llm.ranking_prompts import Prompt
from recnb.style import PALETTE

WIDE = 104  # characters of a line
SIZE, ADVANCE = 8.37, 0.07  # points; inches from letter to letter: 7 whole pixels of DejaVu Sans Mono at 100 dpi
SPANS = dict(zip(("history", "candidates", "question", "item", "request"), PALETTE, strict=False))
VECTOR = " [vector]"
Line = list[tuple[str, str]]


def prompt_parts(prompt: Prompt, tokenizer: object) -> list[tuple[str, str]]:
    """A prompt as pieces of text, each with the span that it stands in (empty: none); a vector is written [vector]."""
    names = np.full(len(prompt.ids), "", object)
    for name in [name for name in SPANS if name in prompt.spans]:
        names[prompt.spans[name]] = name
    vectors = np.where(prompt.slots >= 0, np.arange(len(names)), -1)  # each a piece of its own
    pieces = groupby(range(len(names)), lambda place: (names[place], vectors[place]))
    decode = tokenizer.decode  # type: ignore[attr-defined]
    return [
        (name, VECTOR if one >= 0 else decode(prompt.ids[list(places)].tolist())) for (name, one), places in pieces
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


def coloured_prompt(parts: Sequence[tuple[str, str]], answer: str, meaning: str = "answer") -> Figure:
    """A prompt in monospace, its spans on colour and its vectors darker, and the ``answer`` that it asks for behind it.

    ``meaning``: what the legend says of the answer, e.g. that the loss is taken there.
    """
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
                alpha = 0.7 if text == VECTOR else 0.28
                axis.add_patch(Rectangle((column, row), len(text), 1, color=colours[name], alpha=alpha, lw=0))
            axis.text(column, row + 0.5, text, family="monospace", fontsize=SIZE, va="center", parse_math=False)
            column += len(text)
    here = {name for line in lines for name, _ in line}
    said = {name: meaning if name == "answer" else name for name in colours if name in here}
    marks = [Patch(color=colours[name], alpha=0.28, label=label) for name, label in said.items()]
    axis.legend(handles=marks, ncols=len(marks), frameon=False, fontsize=SIZE, loc="lower left", borderaxespad=0)
    return figure


def token_counts(counts: Mapping[str, np.ndarray]) -> Figure:
    """How long prompts are: for each kind, tokens of every prompt (B,), as a histogram with its median."""
    figure, axis = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
    every = np.concatenate(list(counts.values()))
    bins = np.linspace(every.min() - 0.5, every.max() + 0.5, 40)
    for (kind, found), colour in zip(counts.items(), PALETTE, strict=False):
        axis.hist(found, bins.tolist(), histtype="stepfilled", alpha=0.4, color=colour, label=kind)
        axis.axvline(np.median(found), color=colour, lw=1.5, ls="--")
    axis.set(xlabel="tokens of a prompt (dashed: median)", ylabel="prompts")
    axis.legend(frameon=False)
    return figure
