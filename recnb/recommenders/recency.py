"""Histories as weights: how much each item of a history counts, the newest most; and what was had before."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recnb.data.schema import Sequences
from recnb.recommenders.interface import Scorer


def recency_weights(histories: np.ndarray, n_items: int, decay: float) -> sparse.csr_matrix:
    """(B, N) float32: item h_k of a history, newest first at k = 0, counts ``decay ** k``; a repeated item adds up.

    Args:
        histories: (B, T), -1 where there is no item; n_items: N.
        decay: 0: the newest item alone; 1: all items alike.

    >>> recency_weights(np.array([[-1, 2, 0]]), 3, 0.5).toarray().tolist()
    [[1.0, 0.0, 0.5]]
    """
    histories = np.asarray(histories)
    rows, columns = np.nonzero(histories >= 0)
    weights = np.power(decay, histories.shape[1] - 1.0 - columns).astype(np.float32)
    matrix = sparse.csr_matrix((weights, (rows, histories[rows, columns])), shape=(len(histories), n_items))
    matrix.eliminate_zeros()
    return matrix


@dataclass(frozen=True)
class Repeats:
    """How often the next item of a training sequence is one that was had before.

    Attributes:
        share: of the items after the first, those that stand earlier in the same sequence.
        chance: the share to expect if each next item were drawn by its popularity alone.
    """

    share: float
    chance: float

    @property
    def avoided(self) -> bool:
        """Repetitions are rarer than chance: what was had is not taken again."""
        return self.share < self.chance


def count_repeats(train: Sequences, n_items: int) -> Repeats:
    """:class:`Repeats` of training sequences (U rows, n items); both 0 where no sequence has a second item."""
    rows = np.repeat(np.arange(len(train)), train.lengths)
    first = np.zeros(len(rows), dtype=bool)  # (n,) the first time that its row has the item
    first[np.unique(rows * n_items + train.items, return_index=True)[1]] = True
    popularity = np.bincount(train.items, minlength=n_items) / max(len(rows), 1)
    mass = np.concatenate([[0.0], np.cumsum(np.where(first, popularity[train.items], 0.0))])
    had = mass[:-1] - mass[train.offsets[rows]]  # (n,) popularity of all that the row had before
    later = np.arange(len(rows)) > train.offsets[rows]
    return Repeats(float((~first)[later].mean()), float(had[later].mean())) if later.any() else Repeats(0.0, 0.0)


@dataclass(frozen=True)
class NeverTwice:
    """Another recommender's scores, -inf for every item of the history."""

    scorer: Scorer

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) float32 for histories (B, T) padded with -1."""
        scores = np.array(self.scorer.scores(histories), dtype=np.float32)
        rows, columns = np.nonzero(histories >= 0)
        scores[rows, histories[rows, columns]] = -np.inf
        return scores


@dataclass(frozen=True)
class Seen:
    """What becomes of the items of a history, settled once for a training set.

    Attributes:
        masked: they are never recommended.
        told: that in words, with the reason.
    """

    masked: bool
    told: str

    def apply(self, scorer: Scorer) -> Scorer:
        """The recommender, with what was had masked or kept."""
        return NeverTwice(scorer) if self.masked else scorer


def settle_seen(seen: str, train: Sequences, n_items: int) -> Seen:
    """``kept``, ``masked``, or ``learned``: masked where training sequences avoid repetitions (:class:`Repeats`)."""
    if seen != "learned":
        return Seen(seen == "masked", f"seen items {seen}")
    found = count_repeats(train, n_items)
    why = f"{found.share:.2%} of training items repeat an earlier one, by chance {found.chance:.2%}"
    return Seen(found.avoided, f"seen items {'masked' if found.avoided else 'kept'} ({why})")
