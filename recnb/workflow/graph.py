"""Stages by what a person calls them: a name, a number, a notebook's path."""

from __future__ import annotations

from collections.abc import Sequence

from recnb.errors import RecipeError, nearest
from recnb.settings import StageSpec


def stage_named(asked: str, stages: Sequence[StageSpec]) -> StageSpec:
    """The stage of this name, or of a name that it abbreviates (``03``, ``index``), or whose notebook it is.

    Raises:
        RecipeError: no such stage; says the nearest, or where a notebook has moved to.
    """
    path = asked.removesuffix(".ipynb")
    for spec in stages:
        name = spec.name
        if asked in (name, name[:2], name[3:], spec.notebook) or path.endswith(f"notebooks/{spec.notebook}"):
            return spec
    known = {call: spec for spec in stages for call in (spec.name, spec.name[3:])}
    if path != asked and (moved := known.get(path.rpartition("/")[2])):
        raise RecipeError(f"{asked}: has moved to notebooks/{moved.notebook}.ipynb; as a stage it is {moved.name}")
    names = ", ".join(spec.name for spec in stages)
    raise RecipeError(f"no stage '{asked}'{nearest(asked, [spec.name for spec in stages])}; stages: {names}")


def stages_between(first: str | None, last: str | None, stages: Sequence[StageSpec]) -> tuple[StageSpec, ...]:
    """The stages from one to another, both included; none given: from the start, to the end.

    Raises:
        RecipeError: as :func:`stage_named`; or the first comes after the last.
    """
    start = stages.index(stage_named(first, stages)) if first else 0
    stop = stages.index(stage_named(last, stages)) if last else len(stages) - 1
    if start > stop:
        raise RecipeError(f"--from {stages[start].name} comes after --to {stages[stop].name}: nothing to run")
    return tuple(stages[start : stop + 1])
