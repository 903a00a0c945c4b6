"""What a recipe needs that is not here: source data, published indexes, texts, pretrained models.

``recnb run`` refuses with it before the first stage, so that a file wanted by the fourth is not missed after an hour;
``recnb doctor`` prints it. Nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from recnb.settings import Problem, Recipe, Section


def missing(recipe: Recipe, root: Path) -> list[Problem]:
    """What the recipe's sections name and this machine lacks, with the first stage that would miss it."""
    found: list[Problem] = []
    for name in type(recipe).model_fields:
        section = getattr(recipe, name)
        if isinstance(section, Section):
            first = next((spec.name for spec in recipe.stages if name in spec.sections), "")
            found += [replace(problem, stage=first) for problem in section.problems(root, recipe)]
    return found
