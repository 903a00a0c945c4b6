"""Session models drawn: one session as a graph beside its two matrices, and how each model learned."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recnb.style import PALETTE, plain


def graph_and_matrices(names: Sequence[str], clicks: Sequence[int], inward: np.ndarray, outward: np.ndarray) -> Figure:
    """A session's graph, and the shares of its edges.

    Args:
        names: of the n nodes; clicks: (T,) node of each click, oldest first.
        inward, outward: (n, n), as of :class:`recnb.recommenders.SessionGraph`.
    """
    sizes: dict[str, list[float]] = {"width_ratios": [1.15, 1, 1]}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", gridspec_kw=sizes)
    _graph(axes[0], names, clicks, outward > 0)
    _matrix(axes[1], names, inward, "in: row v, what comes from u", PALETTE[0])
    _matrix(axes[2], names, outward, "out: row u, what goes to v", PALETTE[1])
    return figure


def _graph(axis: Axes, names: Sequence[str], clicks: Sequence[int], edges: np.ndarray) -> None:
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / len(names)
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for x, y in 1.45 * places[np.diag(edges)]:  # an item that follows itself
        axis.text(x, y, "↻", ha="center", va="center", fontsize=18, color="0.35")
    for u, v in np.argwhere(edges & ~np.eye(len(edges), dtype=bool)).tolist():
        line = {"arrowstyle": "-|>", "lw": 1.8, "color": "0.35", "shrinkA": 24, "shrinkB": 24,
                "connectionstyle": "arc3,rad=0.18"}  # fmt: skip
        axis.annotate("", places[v], places[u], arrowprops=line)
    colours = [PALETTE[2] if node == clicks[-1] else PALETTE[9] for node in range(len(names))]
    axis.scatter(places[:, 0], places[:, 1], s=1900, color=colours, zorder=3)
    for (x, y), name in zip(places.tolist(), names, strict=True):
        axis.text(x, y, plain(name, 12), ha="center", va="center", fontsize=10, zorder=4)
    order = " → ".join(plain(names[node], 12) for node in clicks)
    axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal", title=order)
    axis.axis("off")


def _matrix(axis: Axes, names: Sequence[str], shares: np.ndarray, title: str, colour: tuple[float, ...]) -> None:
    for (row, column), share in np.ndenumerate(shares):
        axis.scatter(column, row, s=900 * share, color=colour, alpha=0.45, marker="s")
        axis.text(column, row, f"{share:.2g}", ha="center", va="center", color="black" if share else "0.7", fontsize=10)
    places = range(len(names))
    axis.set(xticks=places, yticks=places, title=title, aspect="equal")
    axis.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    axis.set_xticklabels([plain(name, 12) for name in names], fontsize=9)
    axis.set_yticklabels([plain(name, 12) for name in names], fontsize=9)
    axis.grid(visible=False)


def learning_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training loss and R@10 on validation per epoch, a line per model; a ring around the epoch that is kept."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    markers = "os^Dv<>Pph"
    for number, (name, log) in enumerate(logs.items()):
        look = {"color": PALETTE[number % 10], "marker": markers[number % 10], "ms": 4}
        epochs, reached = ([row[column] for row in log] for column in ("epoch", "R@10"))
        axes[0].plot(epochs, [row["loss"] for row in log], **look, label=plain(name))
        axes[1].plot(epochs, reached, **look)
        best = int(np.argmax(reached))
        axes[1].plot(epochs[best], reached[best], "o", ms=11, mfc="none", mec=look["color"], mew=2)
    axes[0].set(xlabel="epoch", ylabel="training loss (nats per target)")
    axes[1].set(xlabel="epoch", ylabel="R@10 on validation (share of samples)")
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(frameon=False, loc="outside right center")
    return figure
