"""Maps of the catalogue and the prefix tree as a picture (shown in 08_prefix_map).

A map is two numbers per item, found by UMAP; it bends distances, so every claim rests on numbers taken in the original
space (:mod:`recnb.index.health`), and :func:`trustworthiness` says how far the picture itself may be believed.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.spatial.distance import cdist
from transformers import PreTrainedModel

from recnb.eager_llm.recipe import MapConfig
from recnb.index.health import category_table, nearest_neighbours
from recnb.index.kmeans import principal_components
from recnb.llm.backbone import device_of
from recnb.style import PALETTE

OTHER = (0.82, 0.82, 0.82)  # items of no named category
COMPONENTS = 50  # UMAP sees so many principal components: its own neighbour search grows with the width
EPOCHS = 200  # UMAP's optimisation; its default of 500 for small sets looks the same here


def learned_embeddings(backbone: PreTrainedModel, item_tokens: np.ndarray) -> np.ndarray:
    """What the language model has made of the items: the embeddings of an item's tokens (N, L), side by side. Returns
    (N, L * d_model) float32. Squared distances are the sum of those of the L tokens.
    """
    table, device = backbone.get_input_embeddings(), device_of(backbone)
    with torch.no_grad():
        vectors = table(torch.as_tensor(item_tokens, device=device)).float().cpu().numpy()  # (N, L, d_model)
    return vectors.reshape(len(vectors), -1)


def project(x: np.ndarray, config: MapConfig, seed: int) -> np.ndarray:
    """UMAP: x (n, d) -> (n, 2) coordinates.

    One thread and a fixed seed give the same map on the same machine; another machine's arithmetic gives another map
    of the same neighbourhoods. Fewer than four items are laid out by their principal components.
    """
    reduced = principal_components(x, COMPONENTS, seed)
    if len(x) < 4:
        return np.pad(reduced, ((0, 0), (0, 2)))[:, :2]
    from umap import UMAP

    umap = UMAP(n_neighbors=min(config.neighbours, len(x) - 1), min_dist=config.min_dist, n_epochs=EPOCHS, init="pca",
                random_state=seed, n_jobs=1)  # fmt: skip
    return np.asarray(umap.fit_transform(reduced), np.float32)


def trustworthiness(x: np.ndarray, flat: np.ndarray, k: int, rows: np.ndarray) -> float:
    """Are neighbours on the map neighbours in truth? 1: all are; about 0.5: as in a random map.

    1 - (2 / (q k (2n - 3k - 1))) * sum over map neighbours of how far beyond k they rank in the original space
    (Venna and Kaski), over q query items instead of all n.

    Args:
        x: (n, d) original space. flat: (n, 2) its map.
        k: neighbours; more than n / 2 count as that.
        rows: (q,) query items.
    """
    n = len(x)
    k = min(k, (n - 1) // 2)
    near = nearest_neighbours(flat, k, rows)[1]
    everyone = cdist(x[rows], x).argsort(axis=1, kind="stable").argsort(axis=1)  # (q, n) ranks, 0 is the item itself
    beyond = np.maximum(np.take_along_axis(everyone, near, axis=1) - k, 0)
    return float(1 - 2 * beyond.sum() / (len(rows) * k * (2 * n - 3 * k - 1)))


def main_category(categories: Sequence[Sequence[str]], most: int = 7) -> tuple[np.ndarray, list[str]]:
    """One category per item, for colours: the rarest that it has among the ``most`` common ones. Returns (N,) numbers
    and their names, common first; the last is "other". Categories that more than half of the items carry do not count.
    """
    table, names = category_table(categories)
    counts = np.asarray(table.sum(axis=0)).ravel()
    top = np.argsort(-counts, kind="stable")[:most]
    has = table[:, top].toarray() > 0  # (N, most), common first
    last = has.shape[1] - 1 - has[:, ::-1].argmax(axis=1) if has.shape[1] else np.zeros(len(has), np.int64)
    return np.where(has.any(axis=1), last, len(top)).astype(np.int64), [*(names[i] for i in top), "other"]


def code_colours(codes: np.ndarray, k: int) -> np.ndarray:
    """Colours (n, 3) of codes (n, 1) or (n, 2) in [0, k): the first is the hue, the second the lightness."""
    hue = colormaps["viridis"](codes[:, 0] / max(k - 1, 1))[:, :3]
    if codes.shape[1] == 1:
        return hue
    light = 0.75 * codes[:, 1:2] / max(k - 1, 1)
    return hue * (1 - light) + light


def category_colours(labels: np.ndarray, names: list[str]) -> np.ndarray:
    """(n,) numbers of :func:`main_category` -> (n, 3) RGB; the last name, "other", is grey."""
    return to_rgba_array(_palette(names))[labels, :3]


def _palette(names: list[str]) -> list[Any]:
    return [*PALETTE[: len(names) - 1], OTHER]


def _legend(figure: Figure, names: list[str]) -> None:
    handles = [Patch(color=colour, label=name) for colour, name in zip(_palette(names), names, strict=True)]
    figure.legend(handles=handles, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0), frameon=False)


def map_grid(
    maps: dict[str, np.ndarray], colours: dict[str, np.ndarray],
    labels: dict[str, np.ndarray] | None = None, legend: list[str] | None = None,
) -> Figure:  # fmt: skip
    """Maps side by side: one column per space, one row per colouring.

    Args:
        maps: space -> (n, 2); colours: what the colour shows -> (n, 3) RGB.
        labels: what the colour shows -> (n,) codes to write at the middle of their items, if there are at most 50.
        legend: names for categories, in the order of their colours.
    """
    size = (3.6 * len(maps), 3.3 * len(colours))
    figure, grid = plt.subplots(len(colours), len(maps), figsize=size, squeeze=False, layout="tight")
    for number, (row, (what, rgb)) in enumerate(zip(grid, colours.items(), strict=True)):
        for axes, (space, flat) in zip(row, maps.items(), strict=True):
            axes.scatter(flat[:, 0], flat[:, 1], c=rgb, s=max(2.0, min(30.0, 8000 / len(flat))), linewidths=0)
            axes.set(xticks=[], yticks=[], title="" if number else space)
            if labels and what in labels:
                _write_codes(axes, flat, labels[what])
        row[0].set_ylabel(what)
    if legend:
        _legend(figure, legend)
    return figure


def followed(maps: dict[str, np.ndarray], item: int, near: dict[str, np.ndarray]) -> Figure:
    """One item (a star) and its neighbours by each space, in the maps of all spaces.

    Args:
        maps: space -> (n, 2); item: its row; near: space -> (k,) rows of its neighbours in that space.
    """
    figure, grid = plt.subplots(1, len(maps), figsize=(3.6 * len(maps), 3.7), squeeze=False, layout="tight")
    for axes, (space, flat) in zip(grid[0], maps.items(), strict=True):
        axes.scatter(flat[:, 0], flat[:, 1], color=OTHER, s=2, linewidths=0)
        for number, (other, rows) in enumerate(near.items()):
            axes.scatter(*flat[rows].T, s=70 - 22 * number, facecolors="none", edgecolors=[PALETTE[number]],
                         linewidths=1.8, label=f"neighbours by {other}")  # fmt: skip
        axes.scatter(*flat[item], marker="*", s=170, color="black", label="the item", zorder=3)
        axes.set(xticks=[], yticks=[], title=space)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0),
                  frameon=False)  # fmt: skip
    return figure


def _write_codes(axes: Axes, flat: np.ndarray, codes: np.ndarray, most: int = 50) -> None:
    present = np.unique(codes)
    for code in present if len(present) <= most else []:
        x, y = np.median(flat[codes == code], axis=0)
        axes.text(x, y, str(code), fontsize=7, ha="center", va="center",
                  bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.7, "linewidth": 0})  # fmt: skip


def prefix_trees(codes: dict[str, np.ndarray], labels: np.ndarray, names: list[str]) -> Figure:
    """The first two levels of prefix trees as pictures, one under the other.

    The upper strip of each has a box per first code, as wide as its share of the items, filled from below by the mix of
    its items' categories; the lower strip has a line per item, in the order of the second code.

    Args:
        codes: title -> (N, 2) codes of one source; labels: (N,) numbers of :func:`main_category`.
        names: their names.
    """
    figure, grid = plt.subplots(2 * len(codes), 1, figsize=(9, 2.6 * len(codes) + 0.6), squeeze=False,
                                height_ratios=[3, 1] * len(codes), layout="tight")  # fmt: skip
    for number, (title, own) in enumerate(codes.items()):
        _category_mix(grid[2 * number, 0], own[:, 0], labels, _palette(names))
        _leaves(grid[2 * number + 1, 0], own, category_colours(labels, names))
        grid[2 * number, 0].set(title=title, ylabel="mix")
    _legend(figure, names)
    return figure


def _category_mix(axes: Axes, first: np.ndarray, labels: np.ndarray, colours: list[Any]) -> None:
    groups, inverse = np.unique(first, return_inverse=True)
    counts = np.zeros((len(groups), len(colours)))
    np.add.at(counts, (inverse, labels), 1)
    width = counts.sum(1)
    left, height = np.r_[0, np.cumsum(width)[:-1]], counts / width[:, None]
    bottom = np.zeros(len(groups))
    for colour, share in zip(colours, height.T, strict=True):
        axes.bar(left, share, width, bottom, align="edge", color=colour, edgecolor="white", linewidth=0.5)
        bottom += share
    if len(groups) <= 50:
        axes.set_xticks(left + width / 2, [str(code) for code in groups], fontsize=7)
    axes.set(xlim=(0, width.sum()), ylim=(0, 1), yticks=[0, 1])
    axes.grid(visible=False)


def _leaves(axes: Axes, codes: np.ndarray, colours: np.ndarray) -> None:
    order = np.lexsort((codes[:, 1], codes[:, 0]))
    axes.imshow(colours[order][None], aspect="auto", extent=(0, len(codes), 0, 1), interpolation="nearest")
    for edge in np.flatnonzero(np.diff(codes[order, 0])) + 1:
        axes.axvline(float(edge), color="white", linewidth=0.7)
    axes.set(xlim=(0, len(codes)), xticks=[], yticks=[], ylabel="items")
