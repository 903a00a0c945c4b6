"""What a ranker is trained on: cases of training users, and the examples that prompts make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recnb.data.schema import left_padded
from recnb.errors import DataError
from recnb.evaluation.candidates import draw_candidates
from recnb.llm.tuning import Example, Examples, Kind

if TYPE_CHECKING:
    from recnb.data.held_out import HeldOut
    from recnb.data.schema import Sequences
    from recnb.llm.ranking_prompts import RankingPrompts
    from recnb.llm.settings import TuneConfig


@dataclass(frozen=True)
class TrainingCases:
    """What was chosen after which items, among what.

    Attributes:
        histories: (n, T) int32, -1 on the left.
        targets: (n,) int32.
        candidates: (n, C) int32, the target among them, the others nothing that training knows the user has.
    """

    histories: NDArray[np.int32]
    targets: NDArray[np.int32]
    candidates: NDArray[np.int32]


def training_cases(held: HeldOut, count: int, length: int, size: int, seed: int) -> TrainingCases:
    """Draw cases from the training sequences: users one after the other in random order, nobody twice before everybody
    was once, and of each any event but the first as the target.

    Args:
        held: whose training part is used.
        count: n; length: T; size: C.
        seed: of users, targets and candidates.

    Raises:
        DataError: no training user has two events, and not too many: whoever leaves less than C - 1 other items takes
            no part.
    """
    owned = held.owned_by("train")
    users = np.flatnonzero((held.train.lengths > 1) & (owned.shape[1] - owned.getnnz(axis=1) >= size - 1))
    if not len(users):
        said = f"two events or more, and {size - 1} items that they do not have"
        raise DataError(f"tuning needs training users with {said}; there is none")
    rng = np.random.default_rng([seed, 51])
    chosen = np.concatenate([rng.permutation(users) for _ in range(-(-count // len(users)))])[:count]
    starts = held.train.offsets[chosen]
    place = starts + 1 + rng.integers(held.train.lengths[chosen] - 1)
    targets = held.train.items[place]
    sets = draw_candidates(owned[chosen], targets, size, 1, "uniform", seed + 53)
    return TrainingCases(left_padded(held.train.items, starts, place, length), targets, sets.items[:, 0])


def rated_cases(
    train: Sequences, ratings: NDArray[Any] | None, above: float, count: int, length: int, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Draw events, in turn one that was rated above a bound and one that was not; each once while there are any left.

    Args:
        train: sequences, and ``ratings`` of their events, nan: unknown; count: n; length: T.

    Returns:
        (n, T) what its user had before each event, never nothing; (n,) its item; (n,) whether it was rated above.

    Raises:
        DataError: no ratings, or none on one side of the bound.
    """
    stars = np.array([] if ratings is None else ratings, np.float32)
    starts = np.repeat(train.offsets[:-1], train.lengths)
    first = starts == np.arange(len(starts))
    sides = [np.flatnonzero(side & ~first[: len(stars)]) for side in (stars > above, stars <= above)]
    if not all(map(len, sides)):
        said = f"ratings above {above:g} and not above it, found {len(sides[0])} and {len(sides[1])}"
        raise DataError(f"to learn what is liked takes {said}")
    rng = np.random.default_rng([seed, 57])
    both = [np.resize(rng.permutation(side), -(-count // 2)) for side in sides]
    events = np.stack(both, axis=1).ravel()[:count]
    return left_padded(train.items, starts[events], events, length), train.items[events], stars[events] > above


def ranking_examples(
    prompts: RankingPrompts, held: HeldOut, config: TuneConfig, length: int, size: int, seed: int
) -> Examples:
    """For :func:`recnb.llm.tuning.tune`: a stage's cases as list-wise prompts that are answered with a title.

    The cases of a stage follow from (seed, its number): in every kind of prompt, and in every arm, they are the same.
    """

    def examples_of(number: int, kind: Kind) -> list[Example]:
        stage = config.stages[number]
        cases = training_cases(held, stage.examples, length, stage.candidates or size, seed + 1000 * number)
        return titled(prompts, cases, kind)

    return examples_of


def titled(prompts: RankingPrompts, cases: TrainingCases, kind: Kind, listed: bool = True) -> list[Example]:
    """Cases answered with a title behind the list of candidates; not ``listed``: without it."""
    shown = cases.candidates if listed else [None] * len(cases.targets)
    return [
        Example(prompts.build(history, own, kind), prompts.answers[item], item, prompts.alone(item, kind))
        for history, own, item in zip(cases.histories, shown, cases.targets.tolist(), strict=True)
    ]
