"""Leave-one-out: the last item of a user is the test target, the one before the validation target, the rest training.

Everything a model is fitted on comes from :func:`training_sequences`. Shown in ``notebooks/01_data.ipynb``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recnb.data.schema import Dataset, Sequences, left_padded, spans

Split = Literal["valid", "test"]
_FROM_END = {"valid": 2, "test": 1}


def training_sequences(dataset: Dataset) -> Sequences:
    """Everything but the last two items of each user, U rows of length >= 1."""
    last = np.repeat(dataset.offsets[1:], dataset.lengths)
    keep = np.arange(dataset.n_interactions) < last - 2
    return Sequences(dataset.offsets - 2 * np.arange(dataset.n_users + 1), dataset.sequence[keep])


def histories(dataset: Dataset, split: Split, max_history: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """What a model is shown, and what it should then recommend. Returns the latest T = ``max_history`` items before
    each target, (U, T) int32 with -1 on the left; and the targets, (U,) int32: a user's last item (``test``) or last
    but one (``valid``).
    """
    target = _target_positions(dataset, split)
    return left_padded(dataset.sequence, dataset.offsets[:-1], target, max_history), dataset.sequence[target]


def seen_items(dataset: Dataset, split: Split) -> sparse.csr_matrix:
    """(U, N) bool: all items a user met before the target, however long ago."""
    before = spans(dataset.sequence, dataset.offsets[:-1], _target_positions(dataset, split))
    return before.had(dataset.n_items)


def replace_heldout(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """The leakage probe: the same data with random items in place of every validation and test item.

    Whatever is fitted on training interactions alone comes out identical, bit for bit, on both.
    """
    ends = dataset.offsets[1:]
    heldout = np.concatenate([ends - 2, ends - 1])
    sequence = dataset.sequence.copy()
    # adding 1..N-1 modulo N never gives the item itself
    sequence[heldout] = (sequence[heldout] + rng.integers(1, dataset.n_items, len(heldout))) % dataset.n_items
    return dataclasses.replace(dataset, sequence=sequence)


def _target_positions(dataset: Dataset, split: Split) -> NDArray[np.int64]:
    """(U,) where in ``sequence`` each user's target stands."""
    if split not in _FROM_END:
        raise ValueError(f"split '{split}': expected valid or test")
    return dataset.offsets[1:] - _FROM_END[split]


@dataclass(frozen=True)
class Validation:
    """What validation needs: each user's history and the held-out validation item.

    Attributes:
        histories: (U, T) items, -1 on the left.
        targets: (U,) items.
    """

    histories: np.ndarray
    targets: np.ndarray

    def sample(self, users: int, seed: int) -> Validation:
        """At most ``users`` users, drawn once; 0 keeps all."""
        if not users or users >= len(self.targets):
            return self
        chosen = np.sort(np.random.default_rng([seed, 7]).permutation(len(self.targets))[:users])
        return Validation(self.histories[chosen], self.targets[chosen])
