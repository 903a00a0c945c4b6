"""How cost grows, and what a catalogue of any size would take: measured constants, multiplied out.

Nothing here is a measurement of its own. :func:`projection` takes constants that ``10_speed`` has just
measured and says what they come to, with the rule by which each grows written beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from recnb.index.build import codes_per_level
from recnb.index.settings import IndexConfig
from recnb.speed.measure import growth, median_seconds


@dataclass(frozen=True)
class Constants:
    """What one machine measured.

    Attributes:
        trie_bytes: of the trie, per item.
        trie_build: seconds to build it, per item.
        text_seconds: to embed one item's text.
        assignment_seconds: of the index build, per item and code (each of K codes is compared with each item, a fixed
            number of times).
        target_seconds: of training, per target.
        user_seconds: to make one user's list.
        metric_seconds: to rank and count one user's list.
        embedding_width: d_model, for the tables of index tokens and of item embeddings.
    """

    trie_bytes: float
    trie_build: float
    text_seconds: float
    assignment_seconds: float
    target_seconds: float
    user_seconds: float
    metric_seconds: float
    embedding_width: int


def curve(make: Callable[[int], Callable[[], object]], sizes: Sequence[int], rounds: int, name: str) -> pd.DataFrame:
    """Median seconds at each size; ``make(size)`` prepares, unmeasured, what is then timed.

    Returns:
        one row per size: what, size, seconds, slope (of log seconds against log size, over all sizes).
    """
    seconds = [median_seconds(make(size), rounds) for size in sizes]
    return pd.DataFrame({"what": name, "size": list(sizes), "seconds": seconds, "slope": growth(sizes, seconds)})


def projection(measured: Constants, items: int, users: int, targets_per_user: float, epochs: float) -> pd.DataFrame:
    """What a catalogue of ``items`` and ``users`` would take on machines like the one measured.

    Returns:
        one row per cost: what, amount, unit, and the rule it was computed by.
    """
    m, k = measured, codes_per_level(items, IndexConfig())
    rows = [
        ("trie", m.trie_bytes * items / 2**30, "GiB", "bytes per item x N, shared by all that decode"),
        ("trie, build", m.trie_build * items / 60, "minutes", "seconds per item x N, one process"),
        ("tables of index tokens", 4 * k * m.embedding_width * 4 / 2**30, "GiB", f"4 columns x K = {k:,} x d_model"),
        ("item embeddings, two sources", 2 * items * m.embedding_width * 4 / 2**30, "GiB", "2 x N x d x 4 bytes"),
        ("embedding all texts", m.text_seconds * items / 3600, "machine-hours", "seconds per text x N, sharded"),
        ("index, both sources", 2 * m.assignment_seconds * items * k / 3600, "machine-hours", "2 x seconds x N x K"),
        ("training", m.target_seconds * users * targets_per_user * epochs / 3600, "machine-hours",
         "seconds per target x targets x epochs"),
        ("nightly lists for all", m.user_seconds * users / 3600, "machine-hours", "seconds per user x U, sharded"),
        ("metrics", m.metric_seconds * users / 3600, "machine-hours", "seconds per user x U"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["what", "amount", "unit", "rule"])
