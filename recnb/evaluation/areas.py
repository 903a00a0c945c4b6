"""Areas under the curve: how often what was chosen stands above what was not. Metrics of point-wise rankers."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score


def areas(scores: np.ndarray, place: np.ndarray) -> dict[str, float]:
    """AUC over all pairs of user and candidate at once, and UAUC, its mean over sets. Sets without their target do not
    count.

    AUC alone rewards knowing who says yes to everything; popularity has a high one (CoLLM reports both).

    Args:
        scores: (U, D, C), larger is better; place: (U, D) of the target, -1: not in the set.

    >>> areas(np.array([[[3.0, 1.0, 3.0]], [[0.0, 2.0, 1.0]]]), np.array([[0], [2]]))
    {'AUC': 0.625, 'UAUC': 0.625}
    """
    inside, chosen = scores[place >= 0], place[place >= 0][:, None]
    own = np.take_along_axis(inside, chosen, axis=1)
    below = (inside < own).sum(1) + ((inside == own).sum(1) - 1) / 2
    is_chosen = np.arange(scores.shape[-1]) == chosen
    return {"AUC": float(roc_auc_score(is_chosen.ravel(), inside.ravel())),
            "UAUC": float(below.mean() / (scores.shape[-1] - 1))}  # fmt: skip


def liked_area(scores: np.ndarray, place: np.ndarray, liked: np.ndarray) -> float:
    """AUC of who likes what is asked about: how often a target that its user liked scores above one that its did not.

    Args:
        scores, place: as of :func:`areas`.
        liked: (U,) bool; all alike: nan.

    >>> liked_area(np.array([[[3.0, 1.0]], [[0.0, 2.0]]]), np.array([[0], [1]]), np.array([True, False]))
    1.0
    """
    inside = place >= 0
    own = np.take_along_axis(scores, np.maximum(place, 0)[..., None], axis=-1)[..., 0][inside]
    wanted = np.broadcast_to(liked[:, None], place.shape)[inside]
    return float(roc_auc_score(wanted, own)) if 0 < wanted.sum() < len(wanted) else float("nan")
