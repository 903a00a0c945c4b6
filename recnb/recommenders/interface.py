"""What every recommender is to the others: scores (U, N), or lists (U, W) of its own; scores become lists here."""

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from scipy import sparse

from recnb.errors import RecnbError
from recnb.evaluation.metrics import NO_ITEM, rank_bounds

CELLS = 8_000_000  # numbers in a dense chunk of scores: 64 MB of float64


def top_items(scores: np.ndarray, width: int, exclude: sparse.csr_matrix | None = None) -> np.ndarray:
    """The best W = ``width`` items of each user: (U, W) int64, best first; -1 at the end where fewer are left.

    Equal scores are ordered by item number, so that the same scores give the same lists on every machine; see
    :func:`recnb.evaluation.metrics.rank_bounds` for what this could hide.

    Args:
        scores: (U, N), larger is better; -inf: never listed. A broadcast view is not copied as a whole.
        exclude: (U, N) items to leave out of each user's list (e.g. those already seen); None: none.

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
    workers = torch.get_num_threads()  # numpy sorts without Python's lock
    step = max(1, CELLS // n_items // workers)
    chunks = [slice(start, min(start + step, users)) for start in range(0, users, step)]

    def listed(rows: slice) -> np.ndarray:
        return _top_chunk(scores[rows], width, None if exclude is None else exclude[rows])

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(listed, chunks))
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


class Scorer(Protocol):
    """A fitted baseline that scores every item."""

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(U, N), larger is better, for histories (U, T) padded with -1."""


@runtime_checkable
class Lister(Protocol):
    """A fitted baseline that makes lists and has no score for what it does not list."""

    def lists(self, histories: np.ndarray, width: int, exclude: sparse.csr_matrix | None = None) -> np.ndarray:
        """(U, W) int64, best first, -1 at the end, for histories (U, T) padded with -1; see :func:`top_items`."""


Fitted = Scorer | Lister


def ranked_lists(
    baseline: Fitted, histories: np.ndarray, width: int, exclude: sparse.csr_matrix | None = None, users: int = 1024
) -> np.ndarray:
    """A baseline's own lists, or :func:`top_items` of its scores, ``users`` at a time: (U, N) is never held at once."""
    if isinstance(baseline, Lister):
        return baseline.lists(histories, width, exclude)
    rows = [slice(start, start + users) for start in range(0, len(histories), users)]
    parts = [top_items(baseline.scores(histories[r]), width, None if exclude is None else exclude[r]) for r in rows]
    return np.concatenate(parts)


def tied_ranks(
    baseline: Scorer, histories: np.ndarray, targets: np.ndarray, users: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`recnb.evaluation.metrics.rank_bounds` of a baseline, ``users`` at a time."""
    rows = [slice(start, start + users) for start in range(0, len(histories), users)]
    best, worst = zip(*(rank_bounds(baseline.scores(histories[r]), targets[r]) for r in rows), strict=True)
    return np.concatenate(best), np.concatenate(worst)


def scores_among(baseline: Fitted, histories: np.ndarray, items: np.ndarray, users: int = 1024) -> np.ndarray:
    """(U, D, C) a baseline's scores of candidates (U, D, C), ``users`` at a time: (U, N) is never held at once.

    Raises:
        RecnbError: it makes lists, and has no score for what it does not list.
    """
    if isinstance(baseline, Lister):
        raise RecnbError(f"{type(baseline).__name__} has lists and no scores of candidates: leave it out of these rows")
    rows = [slice(start, start + users) for start in range(0, len(histories), users)]
    parts = [np.take_along_axis(np.asarray(baseline.scores(histories[r]))[:, None], items[r], axis=2) for r in rows]
    return np.concatenate(parts)
