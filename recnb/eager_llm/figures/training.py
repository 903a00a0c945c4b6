"""Figures of 04_train and 05_anneal."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recnb.style import PALETTE

PARTS = {"response": "response (cross-entropy)", "semantic": "InfoNCE semantic", "behaviour": "InfoNCE behaviour",
         "next": "InfoNCE next item"}  # fmt: skip


def loss_parts(log: pd.DataFrame, validations: pd.DataFrame, chance: Mapping[str, float]) -> Figure:
    """The parts of the loss apart, and validation R@10, over optimizer steps.

    Args:
        log: columns ``step`` and any of response, semantic, behaviour, next.
        validations: columns ``step`` and ``eval_R@10`` (or ``eval_loss``).
        chance: part -> its value for a model that knows nothing (dashed).
    """
    parts = [p for p in PARTS if p in log]
    figure, axes = plt.subplots(1, len(parts) + 1, figsize=(4.2 * (len(parts) + 1), 3.4), layout="tight")
    for number, (axis, part) in enumerate(zip(axes[:-1], parts, strict=True)):
        axis.plot(log["step"], log[part], color=PALETTE[number], alpha=0.3)
        axis.plot(log["step"], log[part].rolling(5, min_periods=1, center=True).mean(), color=PALETTE[number])
        if part in chance:
            axis.axhline(chance[part], ls="--", color="0.5", label="knowing nothing")
            axis.legend(frameon=False)
        axis.set(title=PARTS[part], xlabel="optimizer step", ylabel="nats")
    score = "eval_R@10" if "eval_R@10" in validations else "eval_loss"
    axes[-1].plot(validations["step"], validations[score], marker="o", color=PALETTE[3])
    axes[-1].set(title="validation", xlabel="optimizer step", ylabel=score.removeprefix("eval_"))
    axes[-1].set_ylim(bottom=0)
    return figure


def sample_strip(tokens: Sequence[str], labels: Sequence[bool], limit: int = 48) -> Figure:
    """The first tokens of a training sample as a strip, those that are predicted (``labels``) coloured."""
    shown, per_row = list(zip(tokens, labels, strict=True))[:limit], 12
    rows = -(-len(shown) // per_row)
    figure, axis = plt.subplots(figsize=(12, 0.55 * rows + 0.3))
    for place, (token, is_label) in enumerate(shown):
        x, y = place % per_row, -(place // per_row)
        colour = PALETTE[1] if is_label else "0.92"
        axis.add_patch(plt.Rectangle((x, y), 0.96, 0.8, color=colour, alpha=0.75 if is_label else 1))
        axis.text(x + 0.48, y + 0.4, token[:14].replace("$", r"\$"), ha="center", va="center", fontsize=8)
    axis.set(xlim=(0, per_row), ylim=(-rows + 0.9, 0.9))
    axis.axis("off")
    return figure


def comprehension_bars(table: pd.DataFrame) -> Figure:
    """Perplexity (log scale) and next-token accuracy of each model state on each kind of text.

    Args:
        table: columns ``state``, ``text``, ``perplexity``, ``accuracy``.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="tight")
    for axis, value, log in ((axes[0], "perplexity", True), (axes[1], "accuracy", False)):
        wide = table.pivot(index="text", columns="state", values=value)[list(dict.fromkeys(table["state"]))]
        wide.plot.bar(ax=axis, rot=0, logy=log, color=PALETTE[: wide.shape[1]], width=0.8)
        axis.set(xlabel="", ylabel=value + (" (log, lower is better)" if log else " (share of next tokens)"))
        axis.legend(frameon=False, fontsize=8)
    return figure


def low_rank(shapes: Mapping[str, tuple[int, int]], rank: int) -> Figure:
    """LoRA to scale: W (out, in) grey, frozen; in colour what is trained, A (r, in) above it and B (out, r) beside it.

    Args:
        shapes: name of a matrix -> (out, in); rank: r.
    """
    most, outs = max(max(shape) for shape in shapes.values()), [out for out, _ in shapes.values()]
    tall = [max(outs[start : start + 4]) + most / 5 + rank for start in range(0, len(outs), 4)]  # of each row
    figure, grid = plt.subplots(len(tall), 4, figsize=(10, 0.8 * len(tall) + 1.9 * sum(tall) / most), squeeze=False,
                                sharex=True, height_ratios=tall, layout="tight")  # fmt: skip
    for axis, (name, (out, wide)) in zip(grid.flat, shapes.items(), strict=False):
        gap = most / 20
        parts = (("W", 0.0, -out, wide, out, "0.85"), ("A", 0.0, gap, wide, rank, PALETTE[0]),
                 ("B", wide + gap, -out, rank, out, PALETTE[1]))  # fmt: skip
        for label, left, bottom, width, height, colour in parts:
            axis.add_patch(plt.Rectangle((left, bottom), width, height, facecolor=colour, edgecolor="0.4", lw=0.5))
            x, y = (left + width + gap / 2, bottom + height / 2) if label != "W" else (wide / 2, -out / 2)
            axis.text(x, y, label, ha="center" if label == "W" else "left", va="center", fontsize=9)
        size = f"W {out} × {wide} = {out * wide:,}\nB, A {rank} × ({out} + {wide}) = {rank * (out + wide):,}"
        axis.set_title(f"{name}\n{size}", fontsize=8)
    for axis, height in zip(grid.flat, np.repeat(tall, 4), strict=True):
        axis.set(xlim=(0, 1.2 * most + rank), ylim=(rank + most / 10 - height, rank + most / 10), aspect="equal")
        axis.axis("off")
    return figure


def choices(table: pd.DataFrame) -> Figure:
    """Validation R@10 of a recipe (first row) and of its variants, as bars with the loss against the first.

    Args:
        table: columns ``choice``, ``R@10`` and ``margin`` (half of its 95 % interval over users).
    """
    figure, axis = plt.subplots(figsize=(8, 0.45 * len(table) + 1), layout="tight")
    colours = [PALETTE[0]] + [PALETTE[7]] * (len(table) - 1)
    axis.barh(table["choice"], table["R@10"], xerr=table["margin"], color=colours, error_kw={"alpha": 0.4})
    for place, value in enumerate(table["R@10"]):
        change = "" if place == 0 else f"  ({value / table['R@10'].iloc[0] - 1:+.0%})"
        axis.text(value + table["margin"].iloc[place], place, f" {value:.3f}{change}", va="center", fontsize=9)
    axis.invert_yaxis()
    axis.set(xlabel="validation R@10", xlim=(0, 1.25 * (table["R@10"] + table["margin"]).max()))
    return figure


def shown_and_asked(panels: Mapping[str, np.ndarray]) -> Figure:
    """Forward passes over one user's sequence, a row each: which items it shows, which of them are targets.

    Args:
        panels: title -> (M, 3) places first shown, first target, end.
    """
    length = max(int(rows[:, 2].max()) for rows in panels.values())
    tall = max(map(len, panels.values()))
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 0.24 * tall + 1.4), layout="tight", sharey=True)
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        for number, (first, begin, stop) in enumerate(rows):
            axis.barh(number, begin - first, left=first, color="0.85", edgecolor="white", label="shown")
            axis.barh(number, stop - begin, left=begin, color=PALETTE[1], edgecolor="white", label="target")
        axis.vlines(np.arange(1, length), -0.5, tall - 0.5, color="white", lw=1)
        axis.set(title=title, xlabel="item of the sequence", xlim=(0, length), ylim=(tall - 0.5, -0.5), yticks=[])
        axis.grid(False)
    axes[0].set_ylabel("forward passes")
    axes[-1].legend(*_once(axes[-1]), frameon=False, loc="lower left")
    return figure


def _once(axis: Axes) -> tuple[list[Artist], list[str]]:
    """Handles and labels of a legend, each label once."""
    found = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    return list(found.values()), list(found)


def con_sees(rows: Mapping[str, Sequence[str]], target: str, summary: str = "[CON]") -> Figure:
    """Sequences as blocks, and over each of them what its summary token attends to.

    Args:
        rows: name -> its blocks, in order; target: the block whose embedding the summary is to point at.
        summary: the block that summarises.
    """
    figure, axis = plt.subplots(figsize=(12, 1.1 * len(rows)), layout="tight")
    for number, (name, blocks) in enumerate(rows.items()):
        last = blocks.index(summary)
        axis.text(-0.15, -number, name, ha="right", va="center")
        for place, block in enumerate(blocks):
            colour = PALETTE[1] if block == target else PALETTE[0] if block == summary else "0.88"
            axis.barh(-number, 0.94, left=place, height=0.5, color=colour)
            axis.text(place + 0.47, -number, block, ha="center", va="center", color="0" if colour == "0.88" else "1")
        over = -number + 0.36
        axis.annotate("", (0, over), (last + 0.9, over), arrowprops={"arrowstyle": "<->", "color": "0.4"})
        said = "the target is in sight: to reconstruct" if target in blocks[:last] else "not yet in sight: to predict"
        axis.text(len(blocks) + 0.1, -number, said, va="center")
    axis.set(xlim=(-2.6, max(map(len, rows.values())) + 3.6), ylim=(-len(rows) + 0.5, 0.6))
    axis.axis("off")
    return figure


def histories_seen(seen: Mapping[str, np.ndarray]) -> Figure:
    """Share of targets that see at least so many items, a line for each way of training and for evaluation.

    Args:
        seen: name -> (targets,) number of items shown before each.
    """
    figure, axis = plt.subplots(figsize=(8, 3.4), layout="tight")
    for number, (name, counts) in enumerate(seen.items()):
        edges = np.arange(int(counts.max()) + 2)
        share = (counts[None, :] >= edges[:, None]).mean(1)
        axis.step(edges, share, where="post", color=PALETTE[number], label=name)
    axis.set(xlabel="items shown before the target", ylabel="share of targets with as many", ylim=(0, 1.02))
    axis.legend(frameon=False)
    return figure
