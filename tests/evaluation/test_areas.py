"""Areas under the curve against plain loops over pairs."""

from __future__ import annotations

import numpy as np
import pytest

from recnb.evaluation.areas import areas, liked_area

RNG = np.random.default_rng(0)
SCORES = RNG.integers(0, 5, (12, 2, 4)).astype(float)  # with ties
PLACE = RNG.integers(-1, 4, (12, 2))
LIKED = RNG.random(12) < 0.5


def above(one: float, others: list[float]) -> list[float]:
    return [1.0 if one > other else 0.5 if one == other else 0.0 for other in others]


def test_areas_are_shares_of_pairs_in_the_right_order() -> None:
    inside = [(SCORES[u, d], PLACE[u, d]) for u in range(12) for d in range(2) if PLACE[u, d] >= 0]
    chosen = [row[place] for row, place in inside]
    others = [row[column] for row, place in inside for column in range(4) if column != place]
    pooled = np.mean([above(one, others) for one in chosen])
    by_set = np.mean([above(row[place], list(np.delete(row, place))) for row, place in inside])
    assert areas(SCORES, PLACE) == {"AUC": pytest.approx(pooled), "UAUC": pytest.approx(by_set)}


def test_the_area_of_likes_compares_targets_alone() -> None:
    own = [(SCORES[u, d, PLACE[u, d]], LIKED[u]) for u in range(12) for d in range(2) if PLACE[u, d] >= 0]
    yes, no = ([score for score, liked in own if liked == wanted] for wanted in (True, False))
    assert yes and no and liked_area(SCORES, PLACE, LIKED) == pytest.approx(np.mean([above(one, no) for one in yes]))
    assert np.isnan(liked_area(SCORES, PLACE, np.ones(12, bool)))
