"""Where a recipe departs from what a paper or its public code ran with, as a system's ``paper.yaml`` gives it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

MARKS = {"P": "paper", "R": "release", "ours": "not in the paper"}


class Departure(NamedTuple):
    """One thing that is not as published.

    >>> str(Departure("decode.beam", "10", "20", "paper"))
    'decode.beam 10 (paper: 20)'
    """

    setting: str  # a key of the recipe, or a part of the method
    here: str
    published: str
    source: str  # who says so, a value of MARKS

    def __str__(self) -> str:
        return f"{self.setting} {self.here} ({self.source}: {self.published})"


def departed(here: Mapping[str, Any], published: Mapping[str, Mapping[str, Any]]) -> list[Departure]:
    """The published settings that are otherwise here.

    Args:
        here: dotted key -> value; a missing one is None.
        published: dotted key -> what was published under its mark, and perhaps that in ``words``.

    >>> [str(found) for found in departed({"k": 3, "l": 1}, {"k": {"R": 5}, "l": {"P": 1}})]
    ['k 3 (release: 5)']
    """
    return [
        Departure(key, _plain(here.get(key)), told.get("words") or _plain(told[mark]), MARKS[mark])
        for key, told in published.items()
        if here.get(key) != told[mark := next(iter(told))]
    ]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return (value if value == value.strip() else f'"{value}"') or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else f"{value:g}"
