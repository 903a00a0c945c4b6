"""Where the time of one call goes: its parts by function, their sum and what is left."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from recnb.index.trie import Trie
from recnb.llm.beam import TokenScorer, best_columns
from recnb.llm.token_tree import TokenTree

# Parts of a beam search; no function of one part calls one of another.
SEARCH_PARTS: dict[str, tuple[Callable[..., Any], ...]] = {
    "prefill": (TokenTree.__init__,),
    "reading chosen tokens": (TokenTree.read, TokenTree.follow),
    "head and softmax": (TokenScorer.__call__,),
    "trie and top-k": (Trie.branches, Trie.remaining, best_columns),
}


def parts_of(run: Callable[[], Any], parts: Mapping[str, Sequence[Callable[..., Any]]]) -> pd.Series:
    """Seconds of each part of one call, and of the rest.

    Args:
        run: what to call; once before, unmeasured.
        parts: name -> functions whose whole time counts for it. They must not call each other.

    Returns:
        seconds by part, with ``rest``: everything else. The profiler's own cost falls mostly on the rest.
    """
    run()
    profiler = cProfile.Profile()
    profiler.enable()
    run()
    profiler.disable()
    stats: Any = pstats.Stats(profiler)
    found = {name: sum(_cumulative(stats, function) for function in functions) for name, functions in parts.items()}
    return pd.Series(found | {"rest": max(0.0, stats.total_tt - sum(found.values()))})


def _cumulative(stats: Any, function: Callable[..., Any]) -> float:
    code = function.__code__
    entry = stats.stats.get((code.co_filename, code.co_firstlineno, code.co_name))
    return 0.0 if entry is None else entry[3]
