"""Recommenders that count: popularity, and item-to-item neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recnb.data.schema import Sequences
from recnb.evaluation.metrics import per_user
from recnb.recommenders.interface import CELLS, top_items


@dataclass(frozen=True)
class Popularity:
    """Everyone is shown what most training interactions went to: ``counts`` (N,)."""

    counts: np.ndarray

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(U, N) read-only view: the same row for everyone."""
        return np.broadcast_to(self.counts, (len(histories), len(self.counts)))


class ItemKNN:
    """Item-to-item cosine neighbours (Deshpande and Karypis, 2004).

    With X the binary training matrix, cos(i, j) = |users of i and j| / sqrt(|users of i| |users of j|). Each item keeps
    its ``neighbours`` nearest others, and every *distinct* item of the history votes for its neighbours with that
    cosine: score(u, j) = sum over i in history(u) of cos(i, j) [j among the neighbours of i]. Items that no one in the
    history votes for score 0 and come last, by item number. The history is the latest T items, as for our model: with
    all of a long history, old tastes would outvote recent ones, and the comparison would not be of the same input.

    Attributes:
        window: how many of the latest items vote; 0: all.
    """

    def __init__(self, train: Sequences, n_items: int, neighbours: int, window: int = 0) -> None:
        self.similarity = item_neighbours(interaction_matrix(train.offsets, train.items, n_items), neighbours)
        self.window = window

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(U, N) float32 for histories (U, T) padded with -1."""
        return self._votes(histories).toarray()

    def ranks(self, histories: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """(U,) int64 place of each target among all items in the order of :func:`top_items`, counted from 0.

        Reads the votes alone: few items get one, and (U, N) numbers are not needed to count those before a target.
        """
        votes, targets = self._votes(histories), np.asarray(targets, dtype=np.int64)
        users = np.repeat(np.arange(len(targets)), np.diff(votes.indptr))
        own, lower = np.asarray(votes[np.arange(len(targets)), targets]).ravel(), votes.indices < targets[users]
        ahead = (votes.data > own[users]) | ((votes.data == own[users]) & lower)
        before = np.bincount(users[ahead], minlength=len(targets))
        unvoted = targets - np.bincount(users[lower], minlength=len(targets))  # items of lower number without a vote
        return before + np.where(own == 0, unvoted, 0)

    def choose_window(self, histories: np.ndarray, targets: np.ndarray, windows: Sequence[int], k: int = 10) -> None:
        """Let the window vote that gives the highest N@k; to be called on validation.

        ItemKNN knows no order, so a shorter history is the one way it can prefer recent items.

        Args:
            histories: (U, T); targets: (U,), both of the validation split.
            windows: candidates; those longer than T count as T. Ties: the first.
        """
        reached = []
        for window in windows:
            self.window = window
            reached.append(per_user(self.ranks(histories, targets), k)[1].mean())
        self.window = windows[int(np.argmax(reached))]

    def _votes(self, histories: np.ndarray) -> sparse.csr_matrix:
        histories = histories[:, -self.window :]
        present = histories >= 0
        offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        return interaction_matrix(offsets, histories[present], self.similarity.shape[0]) @ self.similarity


def interaction_matrix(offsets: np.ndarray, items: np.ndarray, n_items: int) -> sparse.csr_matrix:
    """(U, N) float32, 1 where the user has the item, however often."""
    return Sequences(offsets, items).had(n_items).astype(np.float32)


def item_neighbours(matrix: sparse.csr_matrix, neighbours: int) -> sparse.csr_matrix:
    """(N, N) float32: row i holds the cosines of item i's nearest other items, the rest is zero.

    Args:
        matrix: (U, N) binary.
        neighbours: how many each row keeps; equal cosines: the lower item number. Zero cosines are never kept.
    """
    n_items = matrix.shape[1]
    norms = np.sqrt(np.asarray(matrix.sum(axis=0)).ravel())
    unit = (matrix @ sparse.diags(1.0 / np.maximum(norms, 1.0))).tocsc()
    step = max(1, CELLS // n_items)
    parts = [_neighbour_rows(unit, start, min(start + step, n_items), neighbours) for start in range(0, n_items, step)]
    return sparse.vstack(parts, format="csr", dtype=np.float32)


def _neighbour_rows(unit: sparse.csc_matrix, start: int, stop: int, neighbours: int) -> sparse.csr_matrix:
    cosines = np.asarray((unit[:, start:stop].T @ unit).todense(), dtype=np.float64)  # (B, N)
    cosines[np.arange(stop - start), np.arange(start, stop)] = 0.0
    best = top_items(cosines, min(neighbours, cosines.shape[1]))
    rows = np.repeat(np.arange(stop - start), best.shape[1])
    values = np.take_along_axis(cosines, best, axis=1).ravel()
    block = sparse.csr_matrix((values, (rows, best.ravel())), shape=cosines.shape)
    block.eliminate_zeros()
    return block


def fit_itemknn(
    train: Sequences, n_items: int, neighbours: int, length: int, validation: tuple[np.ndarray, np.ndarray]
) -> tuple[ItemKNN, str]:
    """ItemKNN with the window that validation prefers, and which that is, in words."""
    knn = ItemKNN(train, n_items, neighbours)
    windows = sorted({length, max(1, length // 2), max(1, length // 4), 1}, reverse=True)
    knn.choose_window(*validation, windows)
    return knn, f"the latest {knn.window} items vote (of {', '.join(map(str, windows))})"
