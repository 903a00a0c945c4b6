"""Sessions of a small catalogue with repeats, for the tests of session models."""

from __future__ import annotations

import numpy as np
import torch

from recnb.data.schema import Sequences
from recnb.data.sessions import Samples, every_prefix
from recnb.recommenders.reversed_readout import ReversedReadout

N, T = 12, 7


def sessions(count: int = 40, seed: int = 0, n_items: int = N) -> Sequences:
    """Sessions of 2 to 9 clicks; item n_items - 1 never occurs."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 10, count)
    items = rng.integers(0, n_items - 1, lengths.sum()).astype(np.int32)
    return Sequences(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items)


def samples(count: int = 40, seed: int = 0) -> Samples:
    """Every prefix of them."""
    return every_prefix(sessions(count, seed))


def windows(count: int = 6, seed: int = 1) -> torch.Tensor:
    """(B, T) sessions of 1 to T clicks, one of them of one click, with repeats."""
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.integers(0, N, (count, T)))
    for row, length in enumerate([1, T, *rng.integers(1, T + 1, count - 2)]):
        rows[row, : T - length] = -1
    return rows


def filled(rows: torch.Tensor) -> list[list[int]]:
    """The clicks of windows, without what they are filled with."""
    return [[item for item in row if item >= 0] for row in rows.tolist()]


def slow_readout(readout: ReversedReadout, states: list[torch.Tensor]) -> torch.Tensor:
    """The readout of one session, the newest click at place 0."""
    mean, total = sum(states) / len(states), 0.0
    for place, h in enumerate(reversed(states)):
        z = torch.tanh(readout.placed(torch.cat([readout.places.weight[place], h])))
        total = total + readout.weight(torch.sigmoid(readout.each(z) + readout.whole(mean)))[0] * h
    return total
