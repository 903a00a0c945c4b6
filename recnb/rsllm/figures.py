"""RSLLM drawn: rows with intervals under each rule, readings of one model, hits by the target's place in the list."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from recnb.evaluation.figures import reach, row_panels
from recnb.style import PALETTE, plain


def rows_by_rule(intervals: pd.DataFrame, metric: str, ours: str, bar: str) -> Figure:
    """Each system's mean with its interval over users, a panel per rule, the best of the first one on top.

    ``intervals``: columns system, rule, mean, low, high; ``ours`` is blue, ``bar`` orange with a dashed line.
    """
    panels = {str(rule): rows.set_index("system") for rule, rows in intervals.groupby("rule", sort=False)}
    figure = row_panels(panels, ours, bar, 3.2, 1.2)
    for axis, rule in zip(figure.axes, panels, strict=True):
        axis.set(title=f"others: {rule}", xlabel=f"{metric} (95 % interval)", xlim=(0, None))
    return figure


def readings(table: pd.DataFrame, chance: float) -> Figure:
    """HR@1 of the readings of one model over the same users, and the share of answers that name one candidate.

    ``table``: a row per reading with mean, low, high, valid; ``chance``: what drawing lots would give.
    """
    figure, axis = plt.subplots(figsize=(6.4, 0.5 * len(table) + 1.6), layout="constrained")
    places = np.arange(len(table))
    axis.barh(places + 0.18, table["valid"], 0.34, color="0.85", label="names one candidate")
    axis.barh(places - 0.18, table["mean"], 0.34, xerr=reach(table), color=PALETTE[0], label="HR@1 (95 % interval)",
              error_kw={"elinewidth": 1.2, "ecolor": "0.2"})  # fmt: skip
    axis.axvline(chance, color=PALETTE[3], ls="--", lw=1.2, label="drawing lots")
    axis.set(yticks=places, yticklabels=table.index, ylim=(len(table) - 0.5, -0.5), xlim=(0, 1.02), xlabel="share")
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9)
    return figure


def hits_by_place(tables: Mapping[str, pd.DataFrame], cured: float, size: int) -> Figure:
    """HR@1 by the place at which the target is printed, a line per model; LLMRank's test of order bias.

    ``tables``: model -> rows with place (from 0), mean, low, high; ``cured``: HR@1 of the first with all orders
    averaged; ``size``: C.
    """
    figure, axis = plt.subplots(figsize=(6.6, 3.4), layout="constrained")
    for number, (name, table) in enumerate(tables.items()):
        axis.errorbar(table["place"] + 1 + 0.1 * number, table["mean"], yerr=reach(table), marker="os^D"[number % 4],
                      capsize=3, color=PALETTE[number % len(PALETTE)], label=plain(name))  # fmt: skip
    axis.axhline(cured, color=PALETTE[0], ls="--", lw=1.2, label="all orders averaged")
    axis.axhline(1 / size, color="0.5", ls=":", lw=1.2, label="drawing lots")
    axis.set(xlabel="place of the target in the printed list", ylabel="HR@1 (95 % interval)", ylim=(0, None))
    axis.set_xticks(next(iter(tables.values()))["place"] + 1)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def ranked_case(history: list[str], items: list[str], scores: Mapping[str, list[float]], target: str) -> Figure:
    """One user: the history, and beside each other the candidates in the order of each model, the target framed.

    ``scores``: model -> score of each of the ``items``.
    """
    figure, axes = plt.subplots(
        1, len(scores) + 1, figsize=(2.9 * (len(scores) + 1), 0.25 * len(items) + 0.9), layout="constrained"
    )
    orders = {name: [items[i] for i in np.argsort(-np.asarray(own), kind="stable")] for name, own in scores.items()}
    for axis, (title, shown) in zip(axes, {"history, oldest first": history, **orders}.items(), strict=True):
        for place, text in enumerate(shown):
            frame = {"boxstyle": "round,pad=0.2", "fc": "#fff3d6", "ec": PALETTE[1]} if text == target else None
            said = f"{place + 1}  {plain(text, 30)}"
            axis.text(0.0, place, said, va="center", fontsize=9, bbox=frame, parse_math=False)
        axis.set(xlim=(-0.02, 1), ylim=(len(items) - 0.4, -0.6))
        axis.set_title(plain(title), fontsize=10, loc="left")
        axis.axis("off")
    return figure


def history_weights(titles: list[str], changes: np.ndarray, label: str) -> Figure:
    """What each item of a history does for the target: bars of ``changes`` (n,), the oldest item on top."""
    figure, axis = plt.subplots(figsize=(6.6, 0.3 * len(titles) + 1.0), layout="constrained")
    axis.barh(range(len(titles)), changes, color=[PALETTE[2] if change > 0 else PALETTE[3] for change in changes])
    axis.axvline(0, color="0.3", lw=1)
    axis.set(yticks=range(len(titles)), ylim=(len(titles) - 0.5, -0.5), xlabel=label)
    axis.set_yticklabels([plain(title, 40) for title in titles], parse_math=False)
    axis.locator_params(axis="x", nbins=5)
    return figure


def slots_met(titles: np.ndarray, before: np.ndarray, after: np.ndarray) -> Figure:
    """Slots of a toy in two dimensions, before and after the warm-up, a line from each to its title; all (N, 2)."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.4), sharex=True, sharey=True, layout="constrained")
    for axis, slots, name in zip(axes, (before, after), ("before", "after the warm-up"), strict=True):
        axis.plot(*np.stack([titles, slots]).transpose(2, 0, 1), color="0.8", lw=1, zorder=1)
        axis.scatter(*titles.T, color=PALETTE[1], marker="s", label="title", zorder=2)
        axis.scatter(*slots.T, color=PALETTE[0], label="slot", zorder=3)
        axis.set(title=name, aspect="equal", xlabel="first direction")
    axes[0].set(ylabel="second direction")
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside right center")
    return figure


def found_titles(ranks: Mapping[str, np.ndarray], n_items: int) -> Figure:
    """Share of items whose own title is among the k nearest to their slot, for every k, a line per item table.

    ``ranks``: table -> (n,) ranks from 1 among ``n_items``; the dotted line is chance.
    """
    figure, axis = plt.subplots(figsize=(6.0, 3.4), layout="constrained")
    cutoffs = np.arange(1, n_items + 1)
    for (name, found), colour, style in zip(ranks.items(), PALETTE, ("-", "--", "-.", ":"), strict=False):
        share = np.searchsorted(np.sort(found), cutoffs, side="right") / len(found)
        axis.plot(cutoffs, share, color=colour, ls=style, lw=2, label=plain(name))
    axis.plot(cutoffs, cutoffs / n_items, color="0.5", ls=":", lw=1.2, label="chance")
    axis.set(xscale="log", xlabel="k nearest titles", ylabel="items whose title is among them", ylim=(0, 1.02))
    axis.legend(frameon=False, fontsize=9)
    return figure


def shares_of_vectors(shares: Mapping[str, np.ndarray]) -> Figure:
    """Probability that a step shows vectors, by share of the training done; a line per schedule (steps,)."""
    figure, axis = plt.subplots(figsize=(6.6, 2.8), layout="constrained")
    for number, (name, values) in enumerate(shares.items()):
        done = np.arange(len(values)) / len(values)
        axis.plot(done, values, lw=2, ls=("-", "--", ":")[number % 3], color=PALETTE[number], label=plain(name))
    axis.set(xlabel="share of the training done", ylabel="share of hybrid steps", ylim=(-0.03, 1.03))
    axis.legend(frameon=False)
    return figure


def likeness(panels: Mapping[str, np.ndarray]) -> Figure:
    """Cosines (B, B) of each target alone (row) with each vector in context (column), a panel each, one scale."""
    size = (3.2 * len(panels) + 0.6, 3.3)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    every = np.concatenate([values.ravel() for values in panels.values()])
    for axis, (name, values) in zip(axes[0], panels.items(), strict=True):
        image = axis.imshow(values, cmap="cividis", vmin=every.min(), vmax=every.max())
        axis.set(xticks=[], yticks=[], xlabel="in context", ylabel="target alone")
        axis.set_title(name, fontsize=10)
    figure.colorbar(image, ax=list(axes[0]), label="cosine", shrink=0.8)
    return figure


def losses_by_step(logs: Mapping[str, pd.DataFrame], names: Mapping[str, str]) -> Figure:
    """Each part of the loss over the steps of each arm, means of about thirty pieces, a panel per part; a line ends
    where a stage does.

    ``logs``: arm -> rows with ``stage`` and the parts; ``names``: part -> its title.
    """
    figure, axes = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3.0), squeeze=False, layout="constrained")
    for axis, (part, title) in zip(axes[0], names.items(), strict=True):
        for number, (arm, log) in enumerate(logs.items()):
            colour = PALETTE[number % len(PALETTE)]
            for stage, rows in log.groupby("stage") if part in log else ():
                piece = np.arange(len(rows)) // max(1, -(-len(log) // 30))
                means = rows[part].groupby(piece).mean()
                steps = pd.Series(rows.index + 1).groupby(piece).mean()
                axis.plot(steps, means, color=colour, lw=1.8, label=plain(arm) if stage == 1 else None)
        axis.set(xlabel="step", ylim=(0, None))
        axis.set_title(title, fontsize=10)
    axes[0][0].set_ylabel("nats")
    axes[0][-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
