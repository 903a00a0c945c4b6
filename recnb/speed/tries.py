"""The prefix tree at any size: what it takes to build, to hold and to ask, against dicts and dense tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from recnb.index.trie import Trie
from recnb.speed.decoding import DictTrie
from recnb.speed.measure import median_seconds, peak_memory, timed

FAN_OUT = 32  # children of every prefix that is asked, at every size: only the size differs


def equal_fan_out_codes(n_items: int, seed: int) -> np.ndarray:
    """(N, 4) tokens: the first level grows with N; below it every prefix has 32 children, then 32, then one.

    N is rounded down to a multiple of 1,024.
    """
    groups = max(1, n_items // FAN_OUT**2)
    n = groups * FAN_OUT**2
    number = np.random.default_rng(seed).permutation(n)
    columns = [number // FAN_OUT**2, number // FAN_OUT % FAN_OUT, number % FAN_OUT, number % FAN_OUT]
    return np.stack(columns, axis=1) + np.array([0, groups, groups + FAN_OUT, groups + 2 * FAN_OUT])


def trie_costs(n_items: int, beams: int, seed: int, dicts: bool, rounds: int = 5) -> dict[str, Any]:
    """Seconds to build, bytes per item and seconds per step of the trie over N items, and of dicts where asked for.

    Args:
        n_items: N.
        beams: W prefixes that one step looks up, the same number at every N.
        seed: of the codes.
        dicts: build the trie of dicts too (some hundred bytes an item).
        rounds: of each step.

    Returns:
        one row for a table: items, build, bytes, step, dict build, dict bytes, dict step, dense bytes (a bit per
        vocabulary entry and prefix, computed, not built), and ``same``: both allow the same tokens (None: not asked).
    """
    rows = equal_fan_out_codes(n_items, seed)
    seconds, trie = median_seconds(lambda: Trie.from_tokens(rows), rounds), Trie.from_tokens(rows)
    some = np.random.default_rng(seed).integers(len(rows), size=beams)
    nodes = trie.path(some)[:, 1][None]  # (1, W) on depth 1: 32 children each
    row = {
        "items": len(rows), "build": seconds, "bytes": trie.nbytes / len(rows),
        "step": median_seconds(lambda: trie.branches(1, nodes), rounds * 20),
        "dense bytes": (1 + sum(trie.nodes_per_level()[:-1])) * len(trie.vocabulary) / 8 / len(rows),
        "dict build": np.nan, "dict bytes": np.nan, "dict step": np.nan, "same": None,
    }  # fmt: skip
    return row | _dict_costs(rows, some, trie, rounds) if dicts else row


def _dict_costs(rows: np.ndarray, some: np.ndarray, trie: Trie, rounds: int) -> dict[str, Any]:
    kept: list[tuple[float, DictTrie]] = []
    held = peak_memory(lambda: kept.append(timed(lambda: DictTrie(rows))))
    seconds, tree = kept[0]
    prefixes = rows[some].tolist()
    step = median_seconds(lambda: [tree.allowed(prefix[:1]) for prefix in prefixes], rounds * 20)
    same = all(
        sorted(tree.allowed(prefix[:depth])) == trie.allowed(prefix[:depth])
        for prefix in prefixes for depth in range(rows.shape[1] + 1)
    )  # fmt: skip
    return {"dict build": seconds, "dict bytes": held / len(rows), "dict step": step, "same": same}
