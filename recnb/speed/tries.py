"""The prefix tree at any size: what it takes to build, to hold and to ask, against dicts and dense tables."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recnb.index.trie import Trie
from recnb.speed.decoding import DictTrie
from recnb.speed.measure import contest

FAN_OUT = 32  # children of every prefix that is asked, at every size: only the size differs


def equal_fan_out_codes(n_items: int, seed: int) -> np.ndarray:
    """(N, 4) tokens: the first level grows with N; below it every prefix has 32 children, then 32, then one.

    N is rounded down to a multiple of 1,024.
    """
    shape = max(1, n_items // FAN_OUT**2), FAN_OUT, FAN_OUT
    number = np.random.default_rng(seed).permutation(np.prod(shape))
    first, second, third = np.unravel_index(number, shape)
    return np.stack([first, second, third, third], axis=1) + np.cumsum([0, *shape])


def trie_costs(n_items: int, beams: int, seed: int, dicts: bool, rounds: int = 5) -> pd.DataFrame:
    """What tries over N items cost: arrays, a dense table (a bit per vocabulary entry and prefix; computed, not built),
    and ``dicts`` if asked for (some hundred bytes an item, twice while that is measured).

    One step looks up W ``beams``; a step takes twenty times as many ``rounds`` as building. Returns one row per trie:
    trie, items, build (s), bytes (per item), step (s), and ``same``: whether dicts allow the same tokens as arrays.
    """
    rows = equal_fan_out_codes(n_items, seed)
    kinds = ["arrays", "dicts"] if dicts else ["arrays"]
    make: dict[str, Callable[[], Any]] = {"arrays": lambda: Trie.from_tokens(rows), "dicts": lambda: DictTrie(rows)}
    built = contest({kind: make[kind] for kind in kinds}, rounds, memory=dicts)
    trie: Trie = built.results["arrays"]
    tree: Any = built.results.get("dicts")

    some = np.random.default_rng(seed).integers(len(rows), size=beams)
    nodes, prefixes = trie.path(some)[:, 1][None], rows[some].tolist()  # (1, W) on depth 1: 32 children each
    ask: dict[str, Callable[[], Any]] = {
        "arrays": lambda: trie.branches(1, nodes),
        "dicts": lambda: [tree.allowed(row[:1]) for row in prefixes],
    }
    asked = contest({kind: ask[kind] for kind in kinds}, rounds * 20)

    held = {name: peak / len(rows) for name, peak in built.memory.items()} | {"arrays": trie.nbytes / len(rows)}
    held["dense table (computed)"] = (1 + sum(trie.nodes_per_level()[:-1])) * len(trie.vocabulary) / 8 / len(rows)
    found = pd.DataFrame({"build": built.seconds.median(), "bytes": held, "step": asked.seconds.median()})
    same = same_allowed(trie, tree, prefixes) if dicts else None
    return found.rename_axis("trie").reset_index().assign(items=len(rows), same=same)


def same_allowed(trie: Trie, tree: DictTrie, rows: Sequence[Sequence[int]]) -> bool:
    """Whether both tries allow the same tokens after every prefix of some rows."""
    prefixes = [row[:depth] for row in rows for depth in range(len(row) + 1)]
    return all(sorted(tree.allowed(prefix)) == trie.allowed(prefix) for prefix in prefixes)
