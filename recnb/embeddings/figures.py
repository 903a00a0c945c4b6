"""Figures of ``notebooks/02_embeddings.ipynb``: where text and behaviour agree about what is alike."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import hypergeom

from recnb.style import PALETTE, use_style

INTERVAL = ("se", 1.96)  # 95 % over items


def agreement_figure(shared: np.ndarray, k: int, popularity: np.ndarray) -> Figure:
    """Two panels: how many neighbours the embeddings share, against chance; and the same by item popularity.

    Args:
        shared: (N,) neighbours in common per item, 0..k.
        k: neighbours compared.
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
