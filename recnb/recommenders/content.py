"""Items whose vectors point the same way as a history's: no table, no training (LLMSeqSim, Harte et al., 2023)."""

from dataclasses import dataclass

import numpy as np

from recnb.recommenders.recency import recency_weights


@dataclass(frozen=True)
class VectorSimilarity:
    """Cosine of each item's vector with the history's: score(j) = cos(sum over k of decay^k v_(h_k), v_j), |v| = 1.

    The original takes items of the history out of its lists: :class:`recnb.recommenders.recency.NeverTwice` does that.

    Attributes:
        vectors: (N, d), of texts for example; a zero row (no text) scores 0 and adds nothing.
        decay: 0: the newest item alone; 1: the mean of the history.
    """

    vectors: np.ndarray
    decay: float

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) float32 for histories (B, T) padded with -1 on the left; 0 for an empty one."""
        vectors = unit(self.vectors)
        return unit(recency_weights(histories, len(vectors), self.decay) @ vectors) @ vectors.T


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., d) of length 1, float32; zeros stay zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
