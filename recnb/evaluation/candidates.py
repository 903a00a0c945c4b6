"""Candidate sets: the target among others, drawn once and kept; ranks inside them. Shown in ``rsllm/03_candidates``.

LLaRA's release draws the nineteen others anew at every access, which on its 95 users moves the metric more than most
rows of its table differ. Here a set is drawn once from (seed, row, draw), and holds nothing else that its user has.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recnb.errors import DataError
from recnb.evaluation.metrics import per_user
from recnb.evaluation.settings import RULES, Rule

_CELLS = 4_000_000  # numbers in a dense chunk of keys: 32 MB of float64


@dataclass(frozen=True)
class CandidateSets:
    """D sets of C items for each of U users.

    Attributes:
        items: (U, D, C) int32, distinct inside a set, in the order in which they are shown.
        targets: (U,) int32.
        rule: how the others were drawn, or ``file``.
    """

    items: NDArray[np.int32]
    targets: NDArray[np.int32]
    rule: str

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """(U, D) where the target stands in its set, -1: it is not in it."""
        found = self.items == self.targets[:, None, None]
        return np.where(found.any(axis=-1), found.argmax(axis=-1), -1)


def draw_candidates(
    owned: sparse.csr_matrix, targets: NDArray[np.int32], size: int, draws: int, rule: Rule, seed: int,
    popularity: np.ndarray | None = None, scores: np.ndarray | None = None,
) -> CandidateSets:  # fmt: skip
    """Draw every set, in random order.

    Args:
        owned: (U, N) bool, all that a user ever has: none of the others is among it; targets: (U,).
        size: C; draws: D.
        rule: ``uniform``: C - 1 others at random; ``popularity``: one after the other with a probability in proportion
            to ``popularity`` (N,); ``retrieved``: the best C of ``scores`` (U, N) among the target and what the user
            never has, the same in all draws but for their order.
        seed: of the sets; the set of a row and a draw does not hang on how many rows or draws follow.

    Raises:
        DataError: a user has not enough other items.
    """
    targets = np.asarray(targets, dtype=np.int32)
    if rule == "retrieved":
        best = _best(_retrieved(owned, targets, np.asarray(scores)), size, rule)
        items = np.repeat(best[:, None], draws, axis=1)
    else:
        weights = np.ones(owned.shape[1]) if rule == "uniform" else np.asarray(popularity, dtype=np.float64)
        rngs = [_rng(seed, rule, draw) for draw in range(draws)]
        others = [_best(_keys(owned, targets, weights, rng), size - 1, rule) for rng in rngs]
        same = np.broadcast_to(targets[:, None, None], (len(targets), draws, 1))
        items = np.concatenate([same, np.stack(others, axis=1)], axis=2)
    shown = [_rng(seed, rule, draw, 1).permuted(items[:, draw], axis=1) for draw in range(draws)]
    return CandidateSets(np.stack(shown, axis=1).astype(np.int32), targets, rule)


def _rng(seed: int, rule: Rule, draw: int, of: int = 0) -> np.random.Generator:
    """A stream of its own for each draw of a rule: 0 draws the items, 1 their order."""
    return np.random.default_rng([seed, 31, RULES.index(rule), draw, of])


def _keys(
    owned: sparse.csr_matrix, targets: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Chunks (B, N) whose largest k are k draws without replacement, in proportion to ``weights`` (N,).

    Log weight plus Gumbel noise (Vieira 2014, the Gumbel-top-k trick); -inf for what a user has and for the
    target.
    """
    with np.errstate(divide="ignore"):
        logits = np.log(weights)
    for rows in _chunks(owned.shape):
        keys = logits + rng.gumbel(size=(rows.stop - rows.start, len(logits)))
        keys[owned[rows].nonzero()] = -np.inf
        keys[np.arange(len(keys)), targets[rows]] = -np.inf
        yield keys


def _retrieved(owned: sparse.csr_matrix, targets: np.ndarray, scores: np.ndarray) -> Iterator[np.ndarray]:
    """Chunks (B, N) of scores, -inf for what a user has but the target."""
    for rows in _chunks(owned.shape):
        keys = np.array(scores[rows], dtype=np.float64)
        own = keys[np.arange(len(keys)), targets[rows]]
        keys[owned[rows].nonzero()] = -np.inf
        keys[np.arange(len(keys)), targets[rows]] = own
        yield keys


def _chunks(shape: tuple[int, int]) -> list[slice]:
    step = max(1, _CELLS // shape[1])
    return [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def _best(chunks: Iterable[np.ndarray], k: int, rule: Rule) -> np.ndarray:
    """(U, k) the columns with the largest keys."""
    found: list[np.ndarray] = []
    for keys in chunks:
        left = (keys > -np.inf).sum(axis=1)
        if (left < k).any():
            row = int(left.argmin())
            raise DataError(
                f"candidates.size is too large for rule {rule}: the user in row {sum(map(len, found)) + row} of the "
                f"test needs {k} items, and {left[row]} of N = {keys.shape[1]} are left without those that this user "
                f"has{' or nobody met in training' * (rule == 'popularity')}; a size smaller by {k - left[row]} fits"
            )
        found.append(np.argpartition(-keys, k - 1, axis=1)[:, :k])
    return np.concatenate(found)


def ranks_of(scores: np.ndarray, sets: CandidateSets) -> np.ndarray:
    """(U, D) rank of each target in its set by ``scores`` (U, D, C): 1 is best, an equal score counts half, C + 1 where
    the target is not in the set.

    Raises:
        ValueError: the shapes differ, or a score is not a number.

    >>> sets = CandidateSets(np.array([[[4, 7, 2]], [[1, 5, 3]]], np.int32), np.array([7, 9], np.int32), "file")
    >>> ranks_of(np.array([[[0.1, 0.3, 0.3]], [[3.0, 2.0, 1.0]]]), sets).tolist()
    [[1.5], [4.0]]
    """
    scores = np.asarray(scores)
    if scores.shape != sets.items.shape or np.isnan(scores).any():
        raise ValueError(f"expected scores {sets.items.shape} without nan, found {scores.shape}")
    own = np.take_along_axis(scores, np.maximum(sets.place, 0)[..., None], axis=-1)
    rank = 0.5 + (scores > own).sum(axis=-1) + 0.5 * (scores == own).sum(axis=-1)  # its own equal is itself
    return np.where(sets.place < 0, scores.shape[-1] + 1.0, rank)


def candidate_metrics(ranks: np.ndarray, cutoffs: Iterable[int]) -> dict[str, np.ndarray]:
    """Per-user means over the D sets of ``ranks`` (U, D): ``HR@1``, ``N@k`` of each cutoff, ``MRR``, each (U,).

    A rank r counts what :func:`recnb.evaluation.metrics.per_user` says, a rank between two places (a tie) half of each:
    two that share the first place have HR@1 1/2, and one that gives all the same score has 0. MRR is 1/r up to the
    longest cutoff and 0 behind it.

    >>> {name: values.round(3).tolist() for name, values in candidate_metrics(np.array([[1.0, 1.5]]), [5]).items()}
    {'HR@1': [0.75], 'N@5': [0.908], 'MRR': [0.833]}
    """
    cutoffs, ranks = list(cutoffs), np.asarray(ranks, dtype=np.float64)
    both = np.stack([np.floor(ranks), np.ceil(ranks)]) - 1  # (2, U, D) from 0
    gains = {"HR@1": per_user(both, 1)[0]} | {f"N@{k}": per_user(both, k)[1] for k in cutoffs}
    found = {name: gain.mean(axis=(0, 2)) for name, gain in gains.items()}
    return found | {"MRR": np.where(ranks <= max(cutoffs), 1 / ranks, 0.0).mean(axis=1)}
