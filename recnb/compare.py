"""What each choice bought: the same recipe with one thing changed at a time, side by side on validation.

A comparison is a small file (``params/ablations/*.yaml``): a base recipe, the last stage to run, and named variants,
each a list of overrides. The result is a JSON with its provenance; notebooks build their tables from it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recnb import store
from recnb.errors import RecipeError
from recnb.pipeline import Plan, decide, make_plan, run
from recnb.recipe import Recipe, load_recipe, recipe_hash


class Comparison(BaseModel):
    """A comparison file, validated."""

    model_config = ConfigDict(extra="forbid")
    base: str = Field(description="the recipe every variant starts from, relative to the project root")
    variants: dict[str, list[str]] = Field(min_length=2, description="what a reader calls it -> key=value overrides")


def read_comparison(path: Path) -> Comparison:
    """Read a comparison file.

    Raises:
        RecipeError: not there, not YAML, or a key is wrong; names the file and key.
    """
    try:
        return Comparison.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such comparison file") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise RecipeError(f"{path}: {problems}; expected base and variants") from None


def compare(path: Path, root: Path, say: Callable[[str], None] = print) -> Path:
    """Run all variants up to training and write what validation says.

    Every variant is an ordinary run under its own name, so a killed comparison goes on where it stopped. The test set
    is not touched.

    Args:
        path: the comparison file.
        root: project root.
        say: told one line per finished variant.

    Returns:
        ``reports/ablations/<name of the file>.json``.
    """
    comparison = read_comparison(path)
    base = str(root / comparison.base)
    every = {name: _overrides(base, path.stem, name, changes) for name, changes in comparison.variants.items()}
    for overrides in every.values():  # all are checked before the first one runs
        load_recipe(base, overrides)
    rows: list[dict[str, Any]] = []
    target = root / "reports" / "ablations" / f"{path.stem}.json"
    first: Recipe | None = None
    for name, overrides in every.items():
        plan = make_plan(base, overrides, last="04_train", root=root)
        first = first or plan.recipe
        take_over(plan, first)
        run(plan)
        rows.append(_row(name, comparison.variants[name], plan.recipe, root))
        say(f"{name}: validation R@10 {rows[-1]['R@10']:.4f} after {rows[-1]['seconds']:.0f} s")
        target.parent.mkdir(parents=True, exist_ok=True)
        content = {"base": comparison.base, "recipe_hash": recipe_hash(load_recipe(base)), "rows": rows}
        store.write_atomic(target, partial(_write_json, content))
    return target


def read_choices(name: str, root: Path) -> list[dict[str, Any]]:
    """Measured choices of a recipe, the recipe itself first; empty if no comparison of this name was run.

    Args:
        name: of the comparison; the quickstart's is ``quickstart``.
        root: project root.

    Returns:
        The rows of ``reports/ablations/<name>.json``, with ``change`` (of R@10 against the first row) and ``clear``
        (the change is outside the 95 % interval of a difference of two independent proportions; the users are the
        same, so this asks for more than it must).
    """
    path = root / "reports" / "ablations" / f"{name}.json"
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    for row in rows:
        change = row["R@10"] - rows[0]["R@10"]
        row |= {"change": change, "clear": abs(change) > (row["margin"] ** 2 + rows[0]["margin"] ** 2) ** 0.5}
    return rows


def take_over(plan: Plan, first: Recipe) -> None:
    """Copy from the first variant the stages before the last one that would come out the same; hashes decide."""
    for spec in plan.stages[:-1]:
        source, target = (store.stage_folder(recipe, spec.name, plan.root) for recipe in (first, plan.recipe))
        if target.exists():
            continue
        if not source.exists():
            return
        shutil.copytree(source, target)
        if decide(spec, plan).run:
            shutil.rmtree(target)
            return


def _write_json(content: dict[str, Any], file: IO[bytes]) -> None:
    file.write(json.dumps(content, indent=1).encode())


def _overrides(base: str, stem: str, name: str, changes: list[str]) -> list[str]:
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return [f"name={load_recipe(base).name}--{stem}-{label}", *changes]


def _row(name: str, changes: list[str], recipe: Any, root: Path) -> dict[str, Any]:
    manifest = store.read_manifest(recipe, "04_train", root)
    assert manifest is not None  # run() raises when the stage does not complete
    log = json.loads((store.stage_folder(recipe, "04_train", root) / "train.json").read_text(encoding="utf-8"))
    recall, users = log["best_validation"]["R@10"], log["validation_users"]
    return {
        "choice": name,
        "changed": changes,
        **log["best_validation"],
        "users": users,
        "margin": 1.96 * (recall * (1 - recall) / users) ** 0.5,  # half the 95 % interval of a proportion
        "steps": log["steps"],
        "seconds": manifest["seconds"],
        "commit": manifest["commit"],
        "device": manifest["device"],
        "threads": manifest["threads"],
        "seed": manifest["seed"],
    }
