"""Recommenders added up: each one's scores made comparable, weighted and summed; weights chosen on validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recnb.evaluation.metrics import expected_per_user, rank_bounds
from recnb.index.health import query_rows
from recnb.recommenders.choice import SAMPLES, Choice, Setting, choose
from recnb.recommenders.interface import Scorer

WEIGHTS = (1.0, 0.0, 0.1, 0.2, 0.35, 0.7, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0)  # a search starts at the first
_ROWS = 256  # of scores (B, N) that a choice holds at once, for each member


@dataclass(frozen=True)
class Mixture:
    """score(j) = sum over members m of weight_m level(scores_m)(j), see :func:`level`.

    What a member excludes (-inf) is excluded, if its weight is not 0.

    Attributes:
        members: name -> recommender; each scores the same N items.
        weights: name -> weight, at least 0; a member of weight 0 is not asked.
    """

    members: Mapping[str, Scorer]
    weights: Mapping[str, float]

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) float32 for histories (B, T) padded with -1 on the left."""
        asked = {name: self.members[name] for name, weight in self.weights.items() if weight}
        return _sum({name: level(member.scores(histories)) for name, member in asked.items()}, self.weights)


def level(scores: np.ndarray) -> np.ndarray:
    """Scores (B, N) of any scale as (B, N) float32: each row minus its mean, over its standard deviation.

    Votes, cosines and logits become numbers of one kind: how far an item stands out from the rest. A row in which all
    are equal becomes 0; -inf stays and counts in neither.

    >>> level(np.array([[0.0, 2.0, 0.0, 2.0, -np.inf], [5.0, 5.0, 5.0, 5.0, 5.0]])).tolist()
    [[-1.0, 1.0, -1.0, 1.0, -inf], [0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    scores = np.array(scores, dtype=np.float32)
    excluded = np.isneginf(scores)
    counted = np.maximum(scores.shape[1] - excluded.sum(axis=1, keepdims=True), 1)
    scores[excluded] = 0.0
    mean = scores.sum(axis=1, keepdims=True, dtype=np.float64) / counted
    scores -= mean.astype(np.float32)
    scores[excluded] = 0.0
    deviation = np.sqrt(np.einsum("bn,bn->b", scores, scores)[:, None] / counted)
    scores *= deviation > 1e-6 * np.abs(mean)  # what is left of equal scores is rounding
    scores /= np.where(deviation > 0, deviation, 1.0).astype(np.float32)
    scores[excluded] = -np.inf
    return scores


def fit_mixture(
    members: Mapping[str, Scorer], histories: np.ndarray, targets: np.ndarray, grid: Sequence[float] = WEIGHTS,
    samples: int = SAMPLES,
) -> tuple[Mixture, Choice]:  # fmt: skip
    """The mixture with the best N@10 on validation, and what was chosen; the first member weighs 1, the others are
    chosen in turn.

    Args:
        members: name -> recommender fitted without the validation targets, the steadiest first.
        histories: (M, T); targets: (M,), at most ``samples`` of them, evenly spread, looked at a few hundred at a time.
        grid: candidates of each weight; 0 leaves a member out.

    Raises:
        ValueError: no member, or no sample.
    """
    if not members or not len(targets):
        raise ValueError(f"{len(members)} members and {len(targets)} samples: expected at least one of each")
    rows = query_rows(len(targets), samples)
    histories, targets = histories[rows], np.asarray(targets)[rows]
    first, *others = members
    choice = choose(
        {first: [1.0], **{name: list(grid) for name in others}},
        lambda tried: _judge(members, tried, histories, targets),
    )
    return Mixture(members, choice.setting), choice


def _judge(
    members: Mapping[str, Scorer], tried: Sequence[Setting], histories: np.ndarray, targets: np.ndarray
) -> list[float]:
    """Mean expected N@10 of each setting; every member scores each sample once."""
    total = np.zeros(len(tried))
    for start in range(0, len(targets), _ROWS):
        rows = slice(start, start + _ROWS)
        levelled = {name: level(member.scores(histories[rows])) for name, member in members.items()}
        bounds = [rank_bounds(_sum(levelled, weights), targets[rows]) for weights in tried]
        total += [expected_per_user(*both, 10)[1].sum() for both in bounds]
    return list(total / len(targets))


def _sum(levelled: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """(B, N) float32 weighted sum; members of weight 0 are left out (0 times -inf is not a number)."""
    parts = [np.float32(weights[name]) * scores for name, scores in levelled.items() if weights[name]]
    return np.sum(parts, axis=0)
