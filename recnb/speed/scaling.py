"""What a catalogue of any size would take: measured constants, multiplied out. Nothing here is a measurement."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from recnb.index.build import codes_per_level
from recnb.index.settings import IndexConfig


@dataclass(frozen=True)
class Constants:
    """What one machine measured."""

    trie_bytes: float  # per item
    trie_build: float  # seconds per item
    text_seconds: float  # to embed one item's text
    assignment_seconds: float  # of the index build, per item and code: each item is compared with each of K codes
    target_seconds: float  # of training, per target
    user_seconds: float  # to make one user's list
    metric_seconds: float  # to rank and count one user's list
    embedding_width: int  # d_model, for the tables of index tokens and of item embeddings


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
