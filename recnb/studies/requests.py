"""Files that ask for several runs: how they are read, how long they may take, what their runs can share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError

from recnb.errors import RecipeError
from recnb.settings import Recipe
from recnb.workflow.manifest import stage_folder
from recnb.workflow.plan import Plan, decide

Request = TypeVar("Request", bound=BaseModel)
Asked = TypeVar("Asked")


def _flat(value: list[Any]) -> list[Any]:
    """Lists within a list laid side by side, so that a YAML alias can stand for several changes."""
    return [each for part in value for each in (_flat(part) if isinstance(part, list) else [part])]


Changes = Annotated[list[str], BeforeValidator(lambda value: _flat(value) if isinstance(value, list) else value)]


def read_request(path: Path, model: type[Request], what: str, expected: str) -> Request:
    """Read a YAML file that asks for several runs.

    Args:
        path: the file.
        model: what it must be.
        what: the kind of file, for messages. expected: its keys, for messages.

    Raises:
        RecipeError: as :func:`read_comparison`.
    """
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such {what} file") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise RecipeError(f"{path}: {problems}; expected {expected}") from None


def in_time(trials: Sequence[Asked], minutes: float, say: Callable[[str], None]) -> Iterator[Asked]:
    """The trials one by one, none any more once ``minutes`` are over (0: no limit); says how many are left."""
    started = monotonic()
    for number, trial in enumerate(trials):
        if minutes and monotonic() - started > 60 * minutes:
            say(f"out of time: {len(trials) - number} of {len(trials)} runs are left; the same command goes on")
            return
        yield trial


def take_over(plan: Plan, first: Recipe) -> None:
    """Copy from the first variant the stages before the last one that would come out the same; hashes decide."""
    for spec in plan.stages[:-1]:
        source, target = (stage_folder(recipe, spec.name, plan.root) for recipe in (first, plan.recipe))
        if target.exists():
            continue
        if not source.exists():
            return
        shutil.copytree(source, target)
        if decide(spec, plan).run:
            shutil.rmtree(target)
            return
