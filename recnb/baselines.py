"""Baselines on the same split, as dense scores (U, N) or through :func:`top_items` as lists (U, W).

Each one sees training interactions only, and at test time the same history of T items as our model. Shown in
``06_evaluate``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from recnb.evaluate import NO_ITEM

if TYPE_CHECKING:
    from recnb.data import Sequences
    from recnb.recipe import SasrecConfig

_CELLS = 8_000_000  # numbers in a dense chunk of scores: 64 MB of float64


# --- from scores to lists -----------------------------------------------------------------------------------------------


def top_items(scores: np.ndarray, width: int, exclude: sparse.csr_matrix | None = None) -> np.ndarray:
    """The best ``width`` items of each user.

    Equal scores are ordered by item number, so that the same scores give the same lists on every machine; see
    :func:`recnb.evaluate.rank_bounds` for what this could hide.

    Args:
        scores: (U, N), larger is better; -inf: never listed. A broadcast view is not copied as a whole.
        width: W, at most N.
        exclude: (U, N) items to leave out of each user's list (e.g. those already seen); None: none.

    Returns:
        (U, W) int64, best first; -1 at the end where a user has fewer than W items left.

    Raises:
        ValueError: W is not in 1..N, or a score is not a number.

    >>> top_items(np.array([[0.1, 0.9, 0.9, 0.2]]), 3).tolist()
    [[1, 2, 3]]
    """
    users, n_items = scores.shape
    if not 1 <= width <= n_items:
        raise ValueError(f"width {width}: lists hold between 1 and N = {n_items} items")
    if exclude is not None and exclude.shape != scores.shape:
        raise ValueError(f"exclude has shape {exclude.shape}, scores {scores.shape}")
    step = max(1, _CELLS // n_items)
    chunks = (slice(start, min(start + step, users)) for start in range(0, users, step))
    parts = [_top_chunk(scores[rows], width, None if exclude is None else exclude[rows]) for rows in chunks]
    return np.concatenate(parts) if parts else np.empty((0, width), dtype=np.int64)


def _top_chunk(scores: np.ndarray, width: int, exclude: sparse.csr_matrix | None) -> np.ndarray:
    scores = np.array(scores, dtype=np.float64)
    if np.isnan(scores).any():
        raise ValueError("a score is not a number (nan)")
    if exclude is not None:
        scores[exclude.nonzero()] = -np.inf
    worst = scores.shape[1] - width
    threshold = np.partition(scores, worst, axis=1)[:, worst, None]  # (B, 1) the score in place W
    above, tied = scores > threshold, scores == threshold
    room = width - above.sum(axis=1, keepdims=True)
    kept = above | (tied & (np.cumsum(tied, axis=1, dtype=np.int32) <= room))  # exactly W per row
    items = np.nonzero(kept)[1].reshape(-1, width)
    order = np.argsort(-np.take_along_axis(scores, items, axis=1), axis=1, kind="stable")
    items = np.take_along_axis(items, order, axis=1)
    items[np.isneginf(np.take_along_axis(scores, items, axis=1))] = NO_ITEM
    return items


# --- counting -------------------------------------------------------------------------------------------------------------


def popularity_counts(train: Sequences, n_items: int) -> np.ndarray:
    """(N,) training interactions of each item."""
    return np.bincount(train.items, minlength=n_items)


def popularity_scores(train: Sequences, n_items: int, users: int) -> np.ndarray:
    """The same list for everyone: (U, N) read-only view of the training counts."""
    return np.broadcast_to(popularity_counts(train, n_items), (users, n_items))


def interaction_matrix(offsets: np.ndarray, items: np.ndarray, n_items: int) -> sparse.csr_matrix:
    """(U, N) float32, 1 where the user has the item, however often."""
    matrix = sparse.csr_matrix((np.ones(len(items), np.float32), items, offsets), shape=(len(offsets) - 1, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


class ItemKNN:
    """Item-to-item cosine neighbours (Deshpande and Karypis, 2004).

    With X the binary training matrix, cos(i, j) = |users of i and j| / sqrt(|users of i| |users of j|). Each item keeps
    its ``neighbours`` nearest others, and every *distinct* item of the history votes for its neighbours with that
    cosine: score(u, j) = sum over i in history(u) of cos(i, j) [j among the neighbours of i]. Items that no one in the
    history votes for score 0 and come last, by item number. The history is the latest T items, as for our model: with
    all of a long history, old tastes would outvote recent ones, and the comparison would not be of the same input.
    """

    def __init__(self, train: Sequences, n_items: int, neighbours: int) -> None:
        self.similarity = nearest_neighbours(interaction_matrix(train.offsets, train.items, n_items), neighbours)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(U, N) float32 for histories (U, T) padded with -1."""
        present = histories >= 0
        offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        votes = interaction_matrix(offsets, histories[present], self.similarity.shape[0])
        return (votes @ self.similarity).toarray()


def nearest_neighbours(matrix: sparse.csr_matrix, neighbours: int) -> sparse.csr_matrix:
    """(N, N) float32: row i holds the cosines of item i's nearest other items, the rest is zero.

    Args:
        matrix: (U, N) binary.
        neighbours: how many each row keeps; equal cosines: the lower item number. Zero cosines are never kept.
    """
    n_items = matrix.shape[1]
    norms = np.sqrt(np.asarray(matrix.sum(axis=0)).ravel())
    unit = (matrix @ sparse.diags(1.0 / np.maximum(norms, 1.0))).tocsc()
    step = max(1, _CELLS // n_items)
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
