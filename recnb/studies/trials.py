"""Files that ask for several runs: how they are read, and how their runs are carried out, one after the other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from recnb.errors import RecipeError, ResourceError
from recnb.settings import Recipe
from recnb.workflow.manifest import artifact_hashes, needed, recipe_part, stage_folder
from recnb.workflow.plan import Plan, decide
from recnb.workflow.recipe import parse_yaml
from recnb.workflow.run import run


def _flat(value: list[Any]) -> list[Any]:
    """Lists within a list laid side by side, so that a YAML alias can stand for several changes."""
    return [each for part in value for each in (_flat(part) if isinstance(part, list) else [part])]


Changes = Annotated[list[str], BeforeValidator(lambda value: _flat(value) if isinstance(value, list) else value)]


class Variant(BaseModel):
    """What is changed, and the seeds it is run with; a list alone is what is changed."""

    model_config = ConfigDict(extra="forbid")
    changes: Changes = Field([], description="key=value overrides; lists within it are laid side by side")
    seeds: list[int] = Field([], description="none: the recipe's own")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"changes": value} if isinstance(value, list) else value


class Request(BaseModel):
    """A file that asks for several runs."""

    model_config = ConfigDict(extra="forbid")
    about: str = Field("", description="one sentence for the reader of the result")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read such a file."""
        try:
            return cls.model_validate(parse_yaml(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such {cls.__name__.lower()} file") from None
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
            raise RecipeError(f"{path}: {problems}; its keys: {', '.join(cls.model_fields)}") from None
        except ValueError as error:
            raise RecipeError(f"{path}: not YAML: {error}") from None


@dataclass(frozen=True)
class Trial:
    """One recipe with one seed: an ordinary run under a name of its own."""

    group: str  # under what its seeds add up: a choice of a comparison, a recipe of a table
    plan: Plan  # what has to be run
    recipe: Recipe  # that of the plan, with the settings that only its ranks depend on

    def __str__(self) -> str:
        return f"{self.group}, seed {self.recipe.seed}"


def run_trials(path: Path, trials: Sequence[Trial], minutes: float, say: Callable[[str], None]) -> Iterator[Trial]:
    """Run the trials of a file in order; each is handed out when it has run. Any may copy from those before it.

    Args:
        minutes: none is started after this long; 0: no limit.
        say: told what is left then, and which trial does not fit into this machine and is left out.
    """
    started = monotonic()
    done: list[Recipe] = []
    refused: list[str] = []
    for number, trial in enumerate(trials):
        if minutes and monotonic() - started > 60 * minutes:
            say(f"out of time: {len(trials) - number} of {len(trials)} runs are left; the same command goes on")
            break
        for other in done:
            take_over(trial.plan, other)
        try:
            run(trial.plan)
        except ResourceError as error:  # the others may fit
            say(f"{trial}: left out: {error}")
            refused.append(trial.group)
            continue
        done.append(trial.plan.recipe)
        yield trial
    if refused and not done:
        raise ResourceError(f"{path}: nothing of it can run on this machine: {', '.join(dict.fromkeys(refused))}")


def take_over(plan: Plan, other: Recipe) -> None:
    """Copy from another run the stages before the last one that would come out the same, behind one that would not too
    if they do not read it; hashes decide."""
    for spec in plan.stages[:-1]:
        source, target = (stage_folder(recipe, spec.name, plan.root) for recipe in (other, plan.recipe))
        if target.exists():
            continue
        if not source.exists() or recipe_part(spec, other) != recipe_part(spec, plan.recipe):
            continue
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("scratch-*"))
        if decide(spec, plan).run:
            shutil.rmtree(target)


def manifests(plan: Plan) -> list[dict[str, Any]]:
    """Those of a finished run's stages, in order."""
    return [needed("its result", spec.name, plan.recipe, plan.root) for spec in plan.stages]


def origin(made: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where ranks come from, by the :func:`manifests` of their run: commit, device, dtype, threads, sha256 of data."""
    facts = {name: made[-1][name] for name in ("commit", "device", "dtype", "threads")}
    return facts | {"data": artifact_hashes(made[0])}
