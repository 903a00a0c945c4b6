"""Pictures of an item index: sizes, usage, tree, meaning (shown in 03_index)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from recnb.style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from recnb.index.build import ItemIndex


COLOURS = {"s": PALETTE[0], "b": PALETTE[1], "r": PALETTE[7]}  # one colour per source, by a column's first letter


def points_with_codes(points: np.ndarray, codes: np.ndarray) -> Figure:
    """A toy: (n, 2) points with their codes (n, 2) written beside them; the first code is also the colour."""
    figure, axes = plt.subplots(figsize=(5, 3.2))
    axes.scatter(points[:, 0], points[:, 1], s=130, color=[PALETTE[code % len(PALETTE)] for code in codes[:, 0]])
    for (x, y), code in zip(points, codes, strict=True):
        axes.annotate(f"({code[0]}, {code[1]})", (x, y), xytext=(8, 6), textcoords="offset points")
    axes.set(xlabel="first dimension", ylabel="second dimension")
    axes.margins(0.2)
    return figure


def cluster_sizes(free: np.ndarray, balanced: np.ndarray, capacity: int) -> Figure:
    """Sizes of first-level clusters, largest first: ordinary against balanced k-means, and what a level can tell apart.

    Args:
        free: (K,) sizes of ordinary k-means.
        balanced: (K,) sizes of ours.
        capacity: items that the remaining levels can give codes to.
    """
    figure, axes = plt.subplots(figsize=(6, 3.5))
    rank = np.arange(1, len(free) + 1)
    axes.bar(rank, np.sort(free)[::-1], width=1.0, color=PALETTE[7], label="ordinary k-means")
    axes.step(rank, np.sort(balanced)[::-1], where="mid", color=PALETTE[0], linewidth=2.5, label="balanced k-means")
    axes.axhline(capacity, color=PALETTE[3], linestyle="--", label=f"room for {capacity} below")
    axes.set(xlabel="cluster, largest first", ylabel="items in the cluster")
    axes.legend()
    return figure


def code_usage(index: ItemIndex) -> Figure:
    """How often each code of each column is used, most used first; one line per column."""
    figure, axes = plt.subplots(figsize=(6, 3.5))
    rank = np.arange(1, index.codes_per_level + 1)
    for name in index.columns:
        counts = np.sort(np.bincount(index.column(name), minlength=index.codes_per_level))[::-1]
        style = ["-", "--", ":", "-."][(int(name[1:]) - 1) % 4]
        axes.step(rank, counts, where="mid", color=COLOURS[name[0]], linestyle=style, linewidth=2, label=name)
    axes.set(xlabel="code, most used first", ylabel="items that carry it")
    axes.set_ylim(bottom=0)
    axes.legend(title="column", ncols=2)
    return figure


def tree_widths(branching: list[dict[str, float]], columns: tuple[str, ...]) -> Figure:
    """The prefix tree from the root down: how many nodes a level has, and how many children to choose from.

    Args:
        branching: as :func:`recnb.index.health.branching` gives it.
        columns: names of the L columns.
    """
    figure, axes = plt.subplots(figsize=(6, 3.5))
    place = np.arange(len(columns))
    nodes = [level["nodes"] for level in branching]
    bars = axes.bar(place, nodes, color=[COLOURS[name[0]] for name in columns])
    axes.bar_label(bars, [f"{level['nodes']:,}\n× {level['mean']:.1f}" for level in branching], padding=2)
    axes.set_xticks(place, columns)
    axes.set(xlabel="column of the code", ylabel="distinct prefixes (log)", yscale="log")
    axes.set_ylim(0.8, 8 * max(nodes))
    return figure


def meaning(health: dict[str, Any]) -> Figure:
    """What codes say: category purity and neighbours kept, per column, each against chance.

    Args:
        health: as :func:`recnb.index.health.index_health` gives it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    columns = list(health["columns"])
    purity = [(health["columns"][name]["purity"] or 0.0) for name in columns]
    chance = [(health["columns"][name]["purity_chance"] or 0.0) for name in columns]
    _against_chance(left, columns, purity, chance, [COLOURS[name[0]] for name in columns])
    left.set(xlabel="column", ylabel="category purity", ylim=(0, 1.05))
    if all(health["columns"][name]["purity"] is None for name in columns):
        left.clear()
        left.axis("off")
        left.text(0.5, 0.5, "no categories in this catalogue", ha="center", va="center")
    sources = list(health["neighbours"])
    width = 0.8 / max(len(sources), 1)
    for number, source in enumerate(sources):
        share = [health["neighbours"][source][name]["share"] for name in columns]
        offset = (number - (len(sources) - 1) / 2) * width
        right.bar(np.arange(len(columns)) + offset, share, width, color=COLOURS[source[0]], label=source)
    kept = health["neighbours"][sources[0]]
    _chance_marks(right, [kept[name]["chance"] for name in columns])
    right.set_xticks(range(len(columns)), columns)
    right.set(xlabel="column", ylabel="neighbours with the same code")
    right.legend(title="neighbours by")
    figure.tight_layout()
    return figure


def _against_chance(axes: Axes, names: list[str], values: list[float], chance: list[float], colours: list[Any]) -> None:
    axes.bar(range(len(names)), values, color=colours)
    _chance_marks(axes, chance)
    axes.set_xticks(range(len(names)), names)
    axes.legend()


def _chance_marks(axes: Axes, chance: list[float]) -> None:
    for number, value in enumerate(chance):
        axes.plot([number - 0.45, number + 0.45], [value, value], color="black", linewidth=2,
                  label="chance" if number == 0 else None)  # fmt: skip
