"""Alignment drawn: views and texts on the circle, the parts of the loss, and the gates."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recnb.style import PALETTE

TERMS = {"entropy": "cross-entropy (nats)", "align": "alignment", "uniform": "uniformity"}


def circles(panels: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Sessions (n, 2) and their texts (n, 2) on the circle, a line from each session to its text; a panel per title."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.5 * len(panels), 3.7), layout="constrained", squeeze=False)
    turn = np.linspace(0, 2 * np.pi, 200)
    for axis, (title, (views, texts)) in zip(axes[0], panels.items(), strict=True):
        axis.plot(np.cos(turn), np.sin(turn), color="0.85", zorder=1)
        for view, text in zip(views, texts, strict=True):
            axis.plot(*np.stack([view, text]).T, color="0.6", linewidth=1, zorder=2)
        axis.scatter(views[:, 0], views[:, 1], s=80, color=PALETTE[0], zorder=3, label="sessions")
        axis.scatter(texts[:, 0], texts[:, 1], s=80, marker="s", color=PALETTE[1], zorder=3, label="their texts")
        axis.set(title=title, aspect="equal", xlim=(-1.25, 1.25), ylim=(-1.25, 1.25))
        axis.axis("off")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def loss_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """The parts of the loss by epoch, a panel each, a line per arm; alignment and uniformity are means of the views."""
    figure, axes = plt.subplots(1, len(TERMS), figsize=(12, 3.6), layout="constrained")
    for number, (arm, log) in enumerate(logs.items()):
        for axis, term in zip(axes, TERMS, strict=True):
            _line(axis, log, term, arm, number)
    for axis, words in zip(axes, TERMS.values(), strict=True):
        axis.set(xlabel="epoch", ylabel=words)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _line(axis: Axes, log: Sequence[Mapping[str, float]], term: str, arm: str, number: int) -> None:
    """One part of the loss of one arm, where it has it."""
    means = [[value for name, value in row.items() if name.split()[0] == term] for row in log]
    if means and means[0]:
        look: dict[str, Any] = {"color": PALETTE[number % 10], "marker": "osD^vPX"[number % 7], "label": arm}
        axis.plot([row["epoch"] for row in log], [np.mean(values) for values in means], markersize=5, **look)


def gate_bands(gates: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """The middle half of the gates of each arm and view, and their median; 1 (dashed) leaves a view as it is."""
    rows = [(f"{arm}: {view}", values[~np.isnan(values)]) for arm, of in gates.items() for view, values in of.items()]
    figure, axes = plt.subplots(figsize=(6.5, 0.36 * len(rows) + 1.2), layout="constrained")
    for place, (_, values) in enumerate(rows):
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        axes.plot([low, high], [place, place], color=PALETTE[0], linewidth=5, solid_capstyle="butt")
        axes.scatter(middle, place, color="black", marker="|", s=130, zorder=3)
    axes.axvline(1, color="0.4", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(xlabel="gate (middle half of the samples, median)", ylim=(len(rows) - 0.5, -0.5))
    return figure
