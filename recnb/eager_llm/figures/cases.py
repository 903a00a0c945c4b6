"""Pictures of single searches: the tree that a beam walked, what its tokens cost, and how popular its items are.

Shown in ``07_case_studies``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recnb.eager_llm.explain import Prefix
from recnb.llm.beam import Level
from recnb.style import PALETTE, plain

KEPT, DROPPED, TARGET = PALETTE[0], "0.75", PALETTE[3]


def prefix_tree(tree: Sequence[Prefix], labels: Mapping[tuple[int, int], str], columns: Sequence[str]) -> Figure:
    """The tree a search walked, left to right; depths without a choice are not drawn.

    Thick lines are probable prefixes; what the colours mean, the legend says.

    Args:
        tree: from :func:`recnb.eager_llm.explain.walked_tree`.
        labels: (depth, node) -> what to write at a prefix; columns: names of the L columns of a code.
    """
    depths = drawn_depths(tree)
    lines = _lines(tree, depths)
    most = max(line for line, _ in lines.values())
    figure, axes = plt.subplots(figsize=(10, max(2.5, 0.27 * most + 1.1)))
    for prefix in tree:
        key = (prefix.depth, prefix.node)
        if key in lines:
            x = depths.index(prefix.depth) + 1
            _branch(axes, prefix, x, lines[key], labels.get(key, ""), last=x == len(depths))
    axes.set(xlim=(-0.1, len(depths) + 1.1), ylim=(most + 0.8, -0.9), yticks=[])
    axes.set_xticks(range(len(depths) + 1), ["prompt", *(f"token {columns[depth - 1]}" for depth in depths)])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    kinds: dict[str, dict[str, Any]] = {
        "leads to a returned item": {"color": KEPT}, "kept for a while only": {"color": DROPPED},
        "the way to the true item": {"color": TARGET}, "where the beam lost it": {"color": TARGET, "linestyle": ":"},
        "a thick line: probable": {"color": "0.3", "linewidth": 5},
    }  # fmt: skip
    handles = [Line2D([], [], label=label, **look) for label, look in kinds.items()]
    axes.legend(handles=handles, ncols=5, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return figure


def shared_cache(prompt: int, trace: Sequence[Level], token_name: Callable[[int], str]) -> Figure:
    """What one search reads: the prompt once, and behind it the tokens of each beam, forced ones together.

    Args:
        prompt: S, its tokens; trace: of :func:`recnb.llm.beam.beam_search` for one prompt.
        token_name: token id -> name.
    """
    width = max(level.nodes.shape[1] for level in trace)
    figure, axes = plt.subplots(figsize=(10, 0.36 * width + 1.4))
    _box(axes, -2.6, 0, width, 1.9, "0.85", f"prompt\n{prompt} tokens\nread once,\nkeys and values\nkept for all")
    places = np.full(1, (width - 1) / 2)  # of the level before: one root amid the prompt
    for x, level in enumerate(trace):
        for row, (parent, token) in enumerate(zip(level.parents[0], level.tokens[0], strict=True)):
            axes.plot([x - 0.7, x], [places[parent] + 0.45, row + 0.45], color="0.6", lw=0.8)
            name = token_name(int(token)).strip("<>")
            _box(axes, x, row, 0.9, 0.3, PALETTE[1] if level.forced else PALETTE[9], name)
        places = np.arange(level.nodes.shape[1], dtype=float)
        kind = "forced: one pass" if level.forced else f"choice: {int(level.legal[0]):,} ways on"
        axes.text(x + 0.15, -0.25, f"token {x + 1}\n{kind}", ha="center", fontsize=8)
    axes.set(xlim=(-2.7, len(trace) - 0.5), ylim=(width, -1.2))
    axes.axis("off")
    return figure


def _box(axes: Axes, x: float, y: float, height: float, width: float, colour: Any, text: str) -> None:
    axes.add_patch(plt.Rectangle((x, y), width, height, facecolor=colour, alpha=0.8, linewidth=0))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)


def drawn_depths(tree: Sequence[Prefix]) -> list[int]:
    """Depths at which some beam had a choice; the last depth if none had."""
    return sorted({prefix.depth for prefix in tree if not prefix.forced}) or [max(prefix.depth for prefix in tree)]


def bits_per_token(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """What each token cost, for the first returned item and the true item: case -> table of
    :func:`recnb.eager_llm.explain.decisions`."""
    bars = {f"{plain(case, 18)} · {kind}": table[f"bits, {kind}"]
            for case, table in tables.items() for kind in ("first item", "true item")}  # fmt: skip
    size = (7, 0.7 * len(tables) + 1.2)
    axes = pd.DataFrame(bars).T.plot.barh(stacked=True, color=PALETTE, figsize=size, width=0.8, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("bits the model needed (fewer = more expected)")
    axes.legend(title="token", ncols=4, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
    return axes.figure


def popularity_strip(cases: Mapping[str, tuple[np.ndarray, int]], n_items: int, width: int) -> Figure:
    """How popular the recommended items are: one line of points per case over the popularity rank.

    Args:
        cases: case name -> (popularity ranks of its list, 1 = most popular; popularity rank of the true item).
        n_items: N.
        width: W; the shaded ranks are what the popularity baseline recommends.
    """
    figure, axes = plt.subplots(figsize=(7, 0.4 * len(cases) + 1.2))
    axes.axvspan(0.8, width + 0.5, color="0.92", label=f"the {width} most popular")
    for row, (ranks, target) in enumerate(cases.values()):
        first = row == 0
        axes.plot(ranks, np.full(len(ranks), row), "|", color=KEPT, markersize=11, markeredgewidth=2,
                  label="recommended" if first else None)  # fmt: skip
        axes.plot(target, row, "D", color=TARGET, markersize=6, label="true item" if first else None)
    axes.set_yticks(range(len(cases)), [plain(case, 24) for case in cases])
    axes.set(xscale="log", xlim=(0.8, n_items * 1.2), xlabel="popularity rank in training (1 = most popular)")
    axes.invert_yaxis()
    axes.legend(ncols=3, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def _lines(tree: Sequence[Prefix], depths: Sequence[int]) -> dict[tuple[int, int], tuple[float, float]]:
    """(depth, node) -> its line and its parent's: prefixes without drawn children have a line each, in trie order.

    The others stand amid their children. In trie order a node's descendants are neighbours, so no two edges cross.
    """
    whole: dict[tuple[int, int], tuple[int, ...]] = {(0, 0): ()}  # nodes on the way to each prefix
    for prefix in tree:
        whole[prefix.depth, prefix.node] = (*whole[prefix.depth - 1, prefix.parent], prefix.node)
    drawn = {key: tuple(path[d - 1] for d in depths if d <= key[0]) for key, path in whole.items() if key[0] in depths}
    inner = {path[:length] for path in drawn.values() for length in range(len(path))}
    leaves = sorted(set(drawn.values()) - inner)

    def line(path: tuple[int, ...]) -> float:
        return float(np.mean([number for number, leaf in enumerate(leaves) if leaf[: len(path)] == path]))

    return {key: (line(path), line(path[:-1])) for key, path in drawn.items()}


def _branch(axes: Axes, prefix: Prefix, x: int, lines: tuple[float, float], label: str, last: bool) -> None:
    y, above = lines
    colour = TARGET if prefix.on_target else (KEPT if prefix.survives else DROPPED)
    axes.plot(
        [x - 1, x - 0.75, x], [above, y, y], color=colour, linestyle="-" if prefix.kept else ":",
        linewidth=0.8 + 5 * prefix.probability**0.5, alpha=0.85, solid_joinstyle="round",
    )  # fmt: skip
    axes.plot(x, y, "o", color=colour, markersize=3)
    axes.annotate(
        label.replace("$", r"\$"), (x, y), xytext=(6 if last else -4, 0 if last else 4), textcoords="offset points",
        va="center" if last else "bottom", ha="left" if last else "right", fontsize=8,
        color=TARGET if prefix.on_target else ("0.15" if prefix.survives else "0.5"),
    )  # fmt: skip
