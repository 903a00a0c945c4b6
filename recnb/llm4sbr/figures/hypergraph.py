"""What session models learn from all training sessions together: hyperedges, their line graph, an item's neighbours.

Shown in ``06_session_models``.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recnb.style import PALETTE, drawn

_LINE = 24  # characters of a title


def hypergraph(sessions: Sequence[Sequence[int]], labels: Sequence[str]) -> Figure:
    """Sessions as hyperedges, their incidence matrix H, and the line graph with the share of items that two have in
    common (Jaccard).

    Args:
        sessions: item numbers, at most ten sessions; labels: (N,) what to call each item.
    """
    items = sorted(set().union(*sessions))
    incidence = np.array([[item in session for session in sessions] for item in items])  # (n, S)
    names = [drawn(labels[item], _LINE) for item in items]
    figure, (edges, matrix, lines) = plt.subplots(
        1, 3, figsize=(11, 3.4), width_ratios=[1.7, 1, 0.9], layout="constrained"
    )  # fmt: skip
    _hyperedges(edges, incidence, names)
    _matrix(matrix, incidence, names)
    _line_graph(lines, incidence)
    return figure


def neighbour_counts(item: str, neighbours: Sequence[str], counts: Sequence[float], reach: int) -> Figure:
    """One item's global neighbours, most frequent first, and how often each stood at most ``reach`` clicks away."""
    figure, axis = plt.subplots(figsize=(6.4, 0.3 * len(neighbours) + 1.2), layout="constrained")
    bars = axis.barh(range(len(neighbours)), counts, color=PALETTE[0])
    axis.bar_label(bars, padding=3, fontsize=9)
    axis.set_yticks(range(len(neighbours)), [drawn(name, _LINE) for name in neighbours], fontsize=9)
    axis.set(xlabel=f"times at most {reach} clicks from {drawn(item, _LINE)}", ylim=(len(neighbours) - 0.4, -0.6))
    axis.grid(visible=False, axis="y")
    return figure


def _hyperedges(axis: Axes, incidence: NDArray[np.bool_], names: Sequence[str]) -> None:
    """Items on a circle; a session is the area between its items, in which no other item can lie."""
    places = _circle(len(names))
    for session, column in enumerate(incidence.T):
        colour = PALETTE[session]
        axis.fill(*places[column].T, facecolor=(*colour, 0.2), edgecolor=colour, lw=2.5, zorder=1)
        _node(axis, places[column].mean(axis=0), _name(session), colour)
    for place, name in zip(places, names, strict=True):
        axis.plot(*place, "o", color="0.2", zorder=2)
        axis.annotate(name, 1.12 * place, ha=_side(place[0]), va="center", fontsize=9)
    _bare(axis, "hyperedges", 2.1)


def _matrix(axis: Axes, incidence: NDArray[np.bool_], names: Sequence[str]) -> None:
    """H as a table of 0 and 1, the ones in their session's colour."""
    for (row, column), member in np.ndenumerate(incidence):
        colour = PALETTE[column] if member else "white"
        axis.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="0.7"))
        axis.text(column, row, str(int(member)), ha="center", va="center", color="white" if member else "0.5")
    axis.set(title="incidence H", xlim=(-0.5, incidence.shape[1] - 0.5), ylim=(len(names) - 0.5, -0.5))
    axis.set_xticks(range(incidence.shape[1]), [_name(session) for session in range(incidence.shape[1])])
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set_aspect("equal")
    axis.grid(visible=False)


def _line_graph(axis: Axes, incidence: NDArray[np.bool_]) -> None:
    """Sessions as nodes; those that share items are joined, with |shared| / |in either| on the edge."""
    count = incidence.shape[1]
    places = _circle(count)
    for one, other in zip(*np.triu_indices(count, 1), strict=True):
        shared = (incidence[:, one] & incidence[:, other]).sum()
        if not shared:
            continue
        either = (incidence[:, one] | incidence[:, other]).sum()
        ends = places[[one, other]]
        axis.plot(*ends.T, color="0.6", lw=1 + 6 * shared / either, zorder=1)
        middle = ends.mean(axis=0)
        axis.text(middle[0], middle[1], f"{shared}/{either}", ha="center", va="center",
                  bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none"})  # fmt: skip
    for session, place in enumerate(places):
        _node(axis, place, _name(session), PALETTE[session])
    _bare(axis, "line graph", 1.2)


def _circle(count: int) -> NDArray[np.float64]:
    """(count, 2) places on the unit circle, from the top, clockwise."""
    angle = 2 * np.pi * np.arange(count) / count
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _node(axis: Axes, place: NDArray[np.float64], name: str, colour: tuple[float, float, float]) -> None:
    axis.text(place[0], place[1], name, ha="center", va="center", color="white", weight="bold", zorder=3,
              bbox={"boxstyle": "square,pad=0.35", "fc": colour, "ec": "white"})  # fmt: skip


def _bare(axis: Axes, title: str, reach: float) -> None:
    axis.set(title=title, xlim=(-reach, reach), ylim=(-1.25, 1.25), aspect="equal")
    axis.axis("off")


def _side(x: float) -> str:
    return "center" if abs(x) < 0.1 else "left" if x > 0 else "right"


def _name(session: int) -> str:
    return f"s{session + 1}"
