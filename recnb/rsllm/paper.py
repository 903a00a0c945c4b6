"""What the papers or LLaRA's public code ran with, where a recipe departs from it: ``paper.yaml`` beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from recnb.evaluation.departures import Departure, departed
from recnb.settings import read_wing

published = partial(read_wing, "recnb.rsllm", "paper.yaml")


def departures(settings: Mapping[str, Any]) -> list[Departure]:
    """The settings in which a recipe departs from the published ones.

    Args:
        settings: dotted key -> value of a whole recipe (:func:`recnb.settings.flatten` of its plain form). Its stages
            are told as ``tune.prompts``, one after the other, ``tune.candidates``, the sizes of their lists where the
            test has others, and ``tune.examples`` of all together.
    """
    stages, asked = settings["tune.stages"], settings["candidates.size"]
    told = {
        "tune.prompts": [each["prompt"] for each in stages],
        "tune.candidates": [each["candidates"] for each in stages if each["candidates"] not in (None, asked)],
        "tune.examples": sum(each["examples"] for each in stages),
    }
    return departed({**settings, **told}, published()["settings"])
