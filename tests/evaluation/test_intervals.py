"""Spreads over seeds, and intervals that know of them."""

from __future__ import annotations

import numpy as np
import pytest

from recnb.evaluation.intervals import UNKNOWN, Spread, difference, paired_spread, seed_spread


def hits(found: int, users: int = 100) -> np.ndarray:
    return np.where(np.arange(users) < found, 0, 20)


def test_the_spread_is_pooled_over_choices_with_several_seeds() -> None:
    one, other, lonely = {1: hits(10), 2: hits(14), 3: hits(12)}, {1: hits(50), 2: hits(60)}, {1: hits(99)}
    found = seed_spread(one, other, lonely)
    assert found.degrees == 3 and found.sd["R@10"] == pytest.approx(((2 * 0.02**2 + 0.005) / 3) ** 0.5)
    assert seed_spread(one).sd["N@5"] == pytest.approx(0.02) and seed_spread(lonely) == UNKNOWN


def test_what_two_systems_share_is_no_part_of_their_difference() -> None:
    one, other = {1: hits(10), 2: hits(30)}, {1: hits(15), 2: hits(35)}
    assert seed_spread(one).sd["R@10"] > 0.1
    assert paired_spread(one, other).sd["R@10"] == pytest.approx(0.0, abs=1e-12)
    apart = paired_spread(one, {1: hits(15), 2: hits(31)})
    assert apart.degrees == 1 and apart.sd["R@10"] == pytest.approx(np.std([0.05, 0.01], ddof=1) / 2**0.5)
    assert paired_spread(one, {2: hits(15)}) == UNKNOWN


def test_an_interval_is_fooled_as_often_as_it_says() -> None:
    """Equal recipes, three seeds each, whose luck is far larger than that of the users: 5 % may be told apart."""
    wrong = {"student": 0, "as if known": 0}
    for trial in range(300):
        rng = np.random.default_rng(trial)
        one, other = ({s: hits(round(500 + 60 * rng.standard_normal()), 1000) for s in range(3)} for _ in range(2))
        spread = seed_spread(one)
        for name, used in (("student", spread), ("as if known", Spread(spread.sd, np.inf))):
            found = difference(one, other, used)["R@10"]
            wrong[name] += not found["low"] <= 0 <= found["high"]
    assert wrong["student"] <= 27 < 36 <= wrong["as if known"], "5 % of 300 and three standard deviations"


def test_a_spread_that_is_small_beside_the_users_needs_few_degrees() -> None:
    rng = np.random.default_rng(0)
    one, other = ({s: np.where(rng.random(4000) < p, 0, 20) for s in (1, 2)} for p in (0.10, 0.11))
    blind, seeing = (difference(one, other, used)["R@10"] for used in (UNKNOWN, Spread({"R@10": 1e-5}, 1)))
    assert seeing["high"] - seeing["low"] == pytest.approx(blind["high"] - blind["low"], rel=1e-2)
