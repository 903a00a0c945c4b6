"""Figures of ``notebooks/02_embeddings.ipynb``: DIN drawn, and where text and behaviour agree about what is alike."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import hypergeom

from recnb.style import PALETTE, use_style

Point = tuple[float, float]
INTERVAL = ("se", 1.96)  # 95 % over items


def agreement_figure(shared: np.ndarray, k: int, popularity: np.ndarray) -> Figure:
    """Two panels: how many neighbours the embeddings share, against chance; and the same by item popularity.

    Args:
        shared: (N,) neighbours in common per item, 0..k; k: neighbours compared.
        popularity: (N,) training interactions per item.
    """
    use_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    _shared_bars(left, shared, k)
    _by_popularity(right, shared / k, popularity)
    right.axhline(k / max(1, len(shared) - 1), color=PALETTE[3], linestyle="--", label="chance")
    right.legend(frameon=False)
    return figure


def labels_figure(values: dict[str, np.ndarray], what: str, k: int) -> Figure:
    """One bar per embedding: how alike the labels of neighbours are, with a 95 % interval over items.

    Args:
        values: name of the embedding -> (N,) of :func:`recnb.embeddings.agreement.label_agreement`.
        what: the labels, for the axis, e.g. ``categories``.
        k: neighbours compared.
    """
    use_style()
    figure, axis = plt.subplots(figsize=(6, 0.7 * len(values) + 1.2), layout="constrained")
    sns.barplot(values, orient="h", errorbar=INTERVAL, saturation=1, ax=axis)
    axis.set(xlabel=f"{what} shared with the {k} nearest (mean Jaccard)", xlim=(0, None))
    return figure


def din_diagram(weights: np.ndarray, logits: np.ndarray) -> Figure:
    """One target through DIN: behaviours, their weights, the pooled user vector, the score; right, the softmax.

    Args:
        weights: (m,) of the behaviours for this target, which are also the widths of their arrows.
        logits: (1 + M,) score of the target, then those of M negatives with their log-q correction.
    """
    use_style()
    figure, (axis, right) = plt.subplots(1, 2, figsize=(10.5, 4), width_ratios=[3, 1], layout="constrained")
    places = np.linspace(4, 1.4, len(weights))
    middle = places.mean()
    for number, (place, weight) in enumerate(zip(places, weights, strict=True), start=1):
        _box(axis, (0.5, place), f"$b_{number}$", PALETTE[0])
        _box(axis, (2.6, place), f"$r_{number}\\,a(b_{number}, t)$ = {weight:.2f}", PALETTE[1])
        _arrow(axis, (0.8, place), (1.65, place))
        _arrow(axis, (1.0, 0.2), (1.75, place - 0.25), "--")
        _arrow(axis, (3.55, place), (4.55, middle), width=1 + 4 * abs(weight) / np.abs(weights).max())
    _box(axis, (0.5, 0.2), "target $t$", PALETTE[3])
    _box(axis, (5.3, middle), "user vector\n$u$ = weighted\nsum of $b_j$", PALETTE[2])
    _box(axis, (7.6, middle), f"$\\langle u, t\\rangle + \\beta_t$\n= {logits[0]:.2f}", PALETTE[3])
    _arrow(axis, (6.1, middle), (6.9, middle))
    _arrow(axis, (1.0, 0.2), (7.2, middle - 0.5), "--")
    axis.set(xlim=(0, 8.2), ylim=(-0.2, 4.4))
    axis.axis("off")
    _softmax_bars(right, logits)
    return figure


def clouds_figure(clouds: dict[str, np.ndarray]) -> Figure:
    """Point clouds (n, 2) of the same n items side by side, by title; an item has the colour of its first place."""
    use_style()
    figure, axes = plt.subplots(1, len(clouds), figsize=(3.4 * len(clouds), 3.4), layout="constrained", squeeze=False)
    first, reach = next(iter(clouds.values())), 1.1 * max(np.abs(points).max() for points in clouds.values())
    for axis, (title, points) in zip(axes[0], clouds.items(), strict=True):
        axis.scatter(points[:, 0], points[:, 1], c=first[:, 0], cmap="viridis", s=30)
        axis.set(title=title, xlabel="first dimension", xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes[0, 0].set_ylabel("second dimension")
    return figure


def losses_figure(log: list[dict[str, float]], name: str) -> Figure:
    """Training loss per epoch, from rows with ``epoch`` and ``loss``, of the encoder that is named."""
    use_style()
    figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    axis.plot([row["epoch"] for row in log], [row["loss"] for row in log], marker="o")
    axis.set(xlabel="epoch", ylabel="loss per target (nats)", title=f"{name}: training loss")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _shared_bars(axis: Axes, shared: np.ndarray, k: int) -> None:
    counts = np.arange(k + 1)
    axis.bar(counts, np.bincount(shared, minlength=k + 1) / len(shared), color=PALETTE[0], label="these embeddings")
    chance = hypergeom(max(k, len(shared) - 1), k, k).pmf(counts)
    axis.plot(counts, chance, color=PALETTE[3], marker="o", linestyle="--", label="unrelated embeddings")
    axis.set(xlabel=f"of {k} nearest neighbours, how many both name", ylabel="share of items", xticks=counts)
    axis.legend(frameon=False)


def _by_popularity(axis: Axes, share: np.ndarray, popularity: np.ndarray) -> None:
    fifths = np.array_split(np.argsort(popularity, kind="stable"), min(5, len(share)))
    sns.pointplot([share[items] for items in fifths], errorbar=INTERVAL, capsize=0.1, color=PALETTE[0], ax=axis)
    names = [f"{popularity[items].min()}–{popularity[items].max()}" for items in fifths]
    axis.set_xticks(range(len(fifths)), names)
    axis.set(xlabel="training interactions of the item (fifths)", ylabel="share of neighbours in common")
    axis.set_ylim(bottom=0)


def _box(axis: Axes, place: Point, text: str, colour: tuple[float, ...]) -> None:
    look = {"boxstyle": "round,pad=0.4", "facecolor": (*colour, 0.3), "edgecolor": colour}
    axis.text(*place, text, ha="center", va="center", bbox=look)


def _arrow(axis: Axes, start: Point, end: Point, style: str = "-", width: float = 1) -> None:
    look = {"arrowstyle": "-|>", "linewidth": width, "linestyle": style, "color": "0.5", "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", xy=end, xytext=start, arrowprops=look)


def _softmax_bars(axis: Axes, logits: np.ndarray) -> None:
    names = ["target", *(f"negative {number}" for number in range(1, len(logits)))]
    axis.barh(names, np.exp(logits - np.logaddexp.reduce(logits)), color=[PALETTE[3]] + [PALETTE[7]] * len(logits[1:]))
    axis.set(title="softmax of $s_+$ and\n$s_j - \\log(M q_j)$", xlabel="probability", xlim=(0, 1))
    axis.invert_yaxis()
