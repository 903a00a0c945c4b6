"""What the paper or its public code ran with, where a recipe departs from it, and what it cost: ``paper.yaml`` beside
this file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    import pandas as pd

MARKS = {"P": "paper", "R": "release", "ours": "not in the paper"}


class Departure(NamedTuple):
    """One setting that is not as published.

    >>> str(Departure("localise.k", "3", "5", "release"))
    'localise.k 3 (release: 5)'
    """

    setting: str
    here: str
    published: str
    source: str  # who says so, a value of MARKS

    def __str__(self) -> str:
        return f"{self.setting} {self.here} ({self.source}: {self.published})"


def departures(settings: Mapping[str, Any]) -> list[Departure]:
    """The settings in which a recipe departs from the published ones.

    Args:
        settings: dotted key -> value of a whole recipe (:func:`recnb.settings.flatten` of its plain form);
            settings that its backbone has not are passed over.
    """
    own = f"models.{settings['align.backbone'].replace('-', '_')}."
    told = published()["settings"] | {own + key: mark for key, mark in published()["backbone"].items()}
    return [
        Departure(key, _plain(settings[key]), said.get("words") or _plain(said[mark]), MARKS[mark])
        for key, said in told.items()
        if key in settings and settings[key] != said[mark := next(iter(said))]
    ]


def published_costs() -> pd.DataFrame:
    """Table 5: what SR-GNN and LLM4SBR took, and how many times as much the latter."""
    import pandas as pd

    rows = {
        (data, what): {"SR-GNN": plain, "LLM4SBR": aligned, "times": round(aligned / plain, 2)}
        for data, measured in published()["costs"].items()
        for what, (plain, aligned) in measured.items()
    }
    return pd.DataFrame(rows).T


@cache
def published() -> dict[str, Any]:
    """The tree of ``paper.yaml``."""
    return yaml.safe_load(resources.files("recnb.llm4sbr").joinpath("paper.yaml").read_text(encoding="utf-8"))


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
