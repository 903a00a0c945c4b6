"""What texts recommend by themselves (LLM-Infer), and recommenders that are asked sample by sample.

A recommender of the house is asked with windows (B, T). Texts belong to samples, and two samples of equal window may
have different ones (another session's, on purpose). So here a question is a row (1 + T): the sample's number, then its
window. :class:`ByWindow` lets every recommender be asked in this way; lists, ties and mixtures then know no difference.
Shown in ``08_evaluate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from recnb.data.sessions import Samples
    from recnb.recommenders.interface import Scorer


def questions(samples: Samples, length: int) -> NDArray[np.int64]:
    """(M, 1 + T) each sample's :attr:`Samples.number`, then its window of the latest T = ``length`` items."""
    return np.concatenate([samples.number[:, None], samples.inputs(length)], axis=1).astype(np.int64)


@dataclass(frozen=True)
class ByWindow:
    """A recommender that looks at the window of a question alone."""

    recommender: Scorer

    def scores(self, asked: np.ndarray) -> np.ndarray:
        """(B, N) of questions (B, 1 + T)."""
        return self.recommender.scores(asked[:, 1:])


@dataclass(frozen=True)
class LLMInfer:
    """The texts of a sample, without any session model (w/o SBR of LLM4SBR's Table 4).

    Attributes:
        vectors: (A, d) localised texts; rows: (M, V) which of them are a sample's, by its number; -1 for a view that it
            has not.
        items: (N, d) text vectors of the catalogue.
    """

    vectors: np.ndarray
    rows: np.ndarray
    items: np.ndarray

    def scores(self, asked: np.ndarray) -> np.ndarray:
        """(B, N) :func:`infer_scores` of questions (B, 1 + T)."""
        rows = self.rows[asked[:, 0]]
        views = [np.where(one[:, None] >= 0, self.vectors[one], 0) for one in rows.T]
        return infer_scores(views, self.items)


def infer_scores(views: Sequence[np.ndarray], items: np.ndarray) -> NDArray[np.float32]:
    """score(v) = sum over views of cos(t', e_v): for the long and the short view cos(t'_L, e_v) + cos(t'_S, e_v).

    Args:
        views: one (M, d) per view; a row of zeros has no text there and adds nothing. items: (N, d), likewise.

    Returns:
        (M, N).

    >>> infer_scores([np.eye(2), np.array([[3.0, 0.0], [0.0, 0.0]])], np.eye(2)).tolist()
    [[2.0, 0.0], [0.0, 1.0]]
    """
    direction = np.sum([unit(view) for view in views], axis=0)
    return np.asarray(direction @ unit(items).T, np.float32)


def unit(vectors: np.ndarray) -> NDArray[np.float32]:
    """(n, d) of length 1; a row of zeros stays one."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
