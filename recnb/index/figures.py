"""Pictures of an item index: sizes, usage, tree, meaning (shown in 03_index)."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recnb.index.assignment import squared_distances
from recnb.index.build import ItemIndex
from recnb.style import PALETTE

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


def aligned_codebook(
    points: np.ndarray, cluster: np.ndarray, means: np.ndarray, codes: np.ndarray, codebook: np.ndarray
) -> Figure:
    """How the second level of an aligned index comes about, in the plane, in three panels.

    The clusters with their means; all residuals in one place, with the codebook that the clusters share; each residual
    tied to its word, dashed to a nearer one that another item of its cluster has.

    Args:
        points: (n, 2) items; cluster: (n,) their first code; means: (K, 2).
        codes: (n,) second codes (:func:`recnb.index.build.aligned_codes`); codebook: (K, 2), what they stand for.
    """
    figure, (first, middle, last) = plt.subplots(1, 3, figsize=(10.5, 3.6), layout="constrained")
    residual = points - means[cluster]
    nearest = squared_distances(residual, codebook).argmin(1)
    for axes, places, marks in ((first, points, means), (middle, residual, codebook), (last, residual, codebook)):
        for label, shape in zip(np.unique(cluster), "osD^v<>P", strict=False):
            axes.scatter(*places[cluster == label].T, s=60, marker=shape, color=PALETTE[label % len(PALETTE)])
        axes.scatter(*marks.T, s=250, marker="$×$" if axes is first else "*", facecolors="none", edgecolors="black")
        axes.set(xlabel="first dimension", aspect="equal")
        axes.margins(0.2)
    for place, code, near in zip(residual, codes, nearest, strict=True):
        last.plot(*np.stack([place, codebook[code]]).T, color="0.4", zorder=0)
        if near != code:
            last.plot(*np.stack([place, codebook[near]]).T, color=PALETTE[3], linestyle="--", zorder=0)
    for code, place in enumerate(codebook):
        for axes in (middle, last):
            axes.annotate(f"{code}", place, xytext=(8, 8), textcoords="offset points", weight="bold")
    first.set(title="clusters, their means (×)", ylabel="second dimension")
    middle.set_title("residuals, one codebook (☆)")
    last.set_title("the cheapest distinct words")
    return figure


def cluster_sizes(free: np.ndarray, ours: np.ndarray, capacity: int, made: str) -> Figure:
    """Sizes (K,) of first-level clusters, largest first: ordinary k-means against an index's, ``made`` as it says.

    ``capacity``: to how many items of a cluster the remaining levels can give codes.
    """
    figure, axes = plt.subplots(figsize=(6, 3.5))
    rank = np.arange(1, len(free) + 1)
    axes.bar(rank, np.sort(free)[::-1], width=1.0, color=PALETTE[7], label="ordinary k-means")
    axes.step(rank, np.sort(ours)[::-1], where="mid", color=PALETTE[0], linewidth=2.5, label=made)
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
    """The prefix tree from the root down, by :func:`recnb.index.health.branching` and the names of the L columns: how
    many nodes a level has, and how many children to choose from."""
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
    """What codes say, by :func:`recnb.index.health.index_health`: category purity and neighbours kept, per column, each
    against chance."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    _purity(left, health["columns"])
    _neighbours(right, health["neighbours"])
    figure.tight_layout()
    return figure


def _purity(axes: Axes, columns: dict[str, Any]) -> None:
    if all(column["purity"] is None for column in columns.values()):
        axes.axis("off")
        axes.text(0.5, 0.5, "no categories in this catalogue", ha="center", va="center")
        return
    axes.bar(range(len(columns)), [c["purity"] for c in columns.values()], color=[COLOURS[name[0]] for name in columns])
    _chance(axes, {name: column["purity_chance"] for name, column in columns.items()})
    axes.set(ylabel="category purity", ylim=(0, 1.05))
    axes.legend()


def _neighbours(axes: Axes, kept: dict[str, dict[str, Any]]) -> None:
    width = 0.8 / len(kept)
    for number, (source, columns) in enumerate(kept.items()):
        place = np.arange(len(columns)) + (number - (len(kept) - 1) / 2) * width
        axes.bar(place, [c["share"] for c in columns.values()], width, color=COLOURS[source[0]], label=source)
    _chance(axes, {name: column["chance"] for name, column in columns.items()})
    axes.set(ylabel="neighbours with the same code")
    axes.legend(title="neighbours by")


def _chance(axes: Axes, columns: dict[str, float]) -> None:
    place = np.arange(len(columns))
    axes.hlines(list(columns.values()), place - 0.45, place + 0.45, color="black", linewidth=2, label="chance")
    axes.set_xticks(place, columns)
    axes.set(xlabel="column")
