"""What texts recommend by themselves (LLM-Infer), and recommenders that are asked sample by sample.

A recommender of the house is asked with windows (B, T). Texts belong to samples, and two samples of equal window may
have different ones (another session's, on purpose). So here a question is a row (1 + T): the sample's number, then its
window. :class:`ByWindow` lets every recommender be asked in this way; lists, ties and mixtures then know no difference.
Shown in ``08_evaluate``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recnb.data.sessions import Samples
from recnb.llm4sbr.align import Aligned
from recnb.llm4sbr.settings import VIEWS
from recnb.llm4sbr.sources import Texts
from recnb.recommenders.content import unit
from recnb.recommenders.interface import Scorer
from recnb.recommenders.session_model import trimmed


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
class WithTexts:
    """An aligned session model, asked with the texts of each question's sample."""

    model: Aligned
    texts: Texts

    @cached_property
    def table(self) -> Tensor:
        """(N, d) the model's item vectors, made once."""
        with torch.no_grad():
            return self.model.backbone.table()

    @torch.no_grad()
    def scores(self, asked: np.ndarray) -> np.ndarray:
        """(B, N) of questions (B, 1 + T)."""
        windows = trimmed(torch.from_numpy(asked[:, 1:]).to(self.model.device))
        read = self.model.read(windows, self.model.texts(self.texts, asked[:, 0]), self.table)
        return self.model.score(windows, read).float().cpu().numpy()


@dataclass(frozen=True)
class LLMInfer:
    """The texts of a sample in some views, without any session model (w/o SBR of LLM4SBR's Table 4); ``items``: (N, d)
    text vectors of the catalogue. A view without a text adds nothing."""

    texts: Texts
    items: np.ndarray
    views: Sequence[str] = VIEWS[:2]

    def scores(self, asked: np.ndarray) -> np.ndarray:
        """(B, N) :func:`infer_scores` of questions (B, 1 + T)."""
        rows = [self.texts.rows[asked[:, 0], VIEWS.index(view)] for view in self.views]
        views = [np.where(row[:, None] >= 0, self.texts.vectors[row], 0) for row in rows]
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
