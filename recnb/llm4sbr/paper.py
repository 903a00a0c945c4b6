"""What the paper or its public code ran with, where a recipe departs from it, and what it cost: ``paper.yaml`` beside
this file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from recnb.evaluation.departures import Departure, departed
from recnb.settings import read_wing

if TYPE_CHECKING:
    import pandas as pd

published = partial(read_wing, "recnb.llm4sbr", "paper.yaml")


def departures(settings: Mapping[str, Any]) -> list[Departure]:
    """The settings in which a recipe departs from the published ones.

    Args:
        settings: dotted key -> value of a whole recipe (:func:`recnb.settings.flatten` of its plain form);
            settings that its backbone has not are passed over.
    """
    own = f"models.{settings['align.backbone'].replace('-', '_')}."
    told = published()["settings"] | {own + key: mark for key, mark in published()["backbone"].items()}
    return departed(settings, {key: said for key, said in told.items() if key in settings})


def published_costs() -> pd.DataFrame:
    """Table 5: what SR-GNN and LLM4SBR took, and how many times as much the latter."""
    import pandas as pd

    rows = {
        (data, what): {"SR-GNN": plain, "LLM4SBR": aligned, "times": round(aligned / plain, 2)}
        for data, measured in published()["costs"].items()
        for what, (plain, aligned) in measured.items()
    }
    return pd.DataFrame(rows).T
