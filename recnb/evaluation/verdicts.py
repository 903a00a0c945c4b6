"""What the interval of a difference allows to say: one wording for notebooks, reports and model cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

USERS, SESSIONS, SEEDS = "users", "sessions", " and seeds"  # what an interval is over; seeds besides one of the others


def judged_in(scores: Mapping[str, Any]) -> str:
    """The metric that a comparison speaks of: R@10, or R@1 where rows are judged among candidates.

    >>> judged_in({"R@5": 0.1, "R@10": 0.2}), judged_in({"R@1": 0.2})
    ('R@10', 'R@1')
    """
    return "R@1" if "R@1" in scores else "R@10"


def side(found: Mapping[str, Any]) -> int:
    """Where an interval lies: 1 above zero, -1 below it, 0 around it.

    >>> side({"low": 0.001, "high": 0.003}), side({"low": -0.001, "high": 0.003})
    (1, 0)
    """
    return int(found["low"] > 0) - int(found["high"] < 0)


def over_seeds(found: Mapping[str, Any]) -> bool:
    """Whether an interval speaks of methods, not of two trained models alone."""
    return str(found.get("over", USERS)).endswith(SEEDS)


def with_interval(found: Mapping[str, Any], digits: int = 4, value: str = "diff") -> str:
    """A difference and its interval.

    >>> with_interval({"diff": 0.02, "low": -0.01, "high": 0.03}, 2)
    '+0.02 [-0.01, +0.03]'
    """
    middle, low, high = (f"{found[key]:+.{digits}f}" for key in (value, "low", "high"))
    return f"{middle} [{low}, {high}]"


def told(found: Mapping[str, Any], one: str, other: str) -> str:
    """The difference ``one`` minus ``other`` (diff, low, high, and ``over``: users alone if it is missing) in words.

    An interval over users alone compares two trainings; another seed may turn them round, so neither method is called
    better.

    >>> told({"diff": 0.02, "low": 0.01, "high": 0.03}, "a", "b")
    'a is above b, +0.0200 [+0.0100, +0.0300]: these two trained models differ'
    >>> told({"diff": 0.02, "low": 0.01, "high": 0.03, "over": "users and seeds"}, "a", "b")
    'a is better than b, +0.0200 [+0.0100, +0.0300] over users and seeds'
    """
    interval, over, where = with_interval(found), found.get("over", USERS), side(found)
    if not where:
        return f"{one} and {other} cannot be told apart, {interval} over {over}"
    if over_seeds(found):
        return f"{one} is {'better' if where > 0 else 'worse'} than {other}, {interval} over {over}"
    return f"{one} is {'above' if where > 0 else 'below'} {other}, {interval}: these two trained models differ"
