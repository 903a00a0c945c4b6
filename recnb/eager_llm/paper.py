"""What the paper or its release ran with, and where a recipe departs from it: ``paper.yaml`` beside this file."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from recnb.evaluation.departures import MARKS, Departure, departed
from recnb.settings import read_wing

published = partial(read_wing, "recnb.eager_llm", "paper.yaml")
PAPER_PARAMETERS = 6.7e9  # Llama-7B (arXiv 2302.13971, table 2), the backbone of EAGER-LLM


def departures(settings: Mapping[str, Any], processes: int = 1) -> list[Departure]:
    """The settings in which a recipe departs from the published ones.

    Args:
        settings: dotted key -> value of a whole recipe (:func:`recnb.settings.flatten` of its plain form); a task that
            its mixture leaves out is missing.
        processes: GPUs that trained together, each on ``train.batch_size`` samples at a time.
    """
    return departed(_as_it_runs(settings, processes), published()["settings"])


def departures_by_design(settings: Mapping[str, Any]) -> list[Departure]:
    """What recnb does otherwise whatever the recipe says, in words, as far as this recipe has the part concerned."""
    return [
        Departure(told["part"], told["here"], told["published"], MARKS[told["mark"]])
        for told in published()["by_design"]
        if all((bool(settings.get(key)) if wanted is True else settings.get(key) == wanted)
               for key, wanted in told.get("where", {}).items())
    ]  # fmt: skip


def _as_it_runs(settings: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """Settings as others let them be: the batch in all, what an empty order means, dropout of models from scratch."""
    return {
        **settings,
        "train.batch_size": settings["train.batch_size"] * settings["train.accumulate"] * processes,
        "index.order": settings["index.order"] or published()["settings"]["index.order"]["R"],  # source by source
        "backbone.dropout": settings["backbone.dropout"] * (settings["backbone.kind"] == "scratch"),
    }
