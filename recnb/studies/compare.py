"""What each choice bought: the same recipe with one thing changed at a time, side by side on validation.

A comparison is a small file (``params/ablations/*.yaml``): a base recipe, what is judged, and named variants, each a
list of overrides. The result is a JSON with its provenance; notebooks build their tables from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from recnb.artifacts import write_atomic, write_json
from recnb.errors import RecipeError, nearest
from recnb.settings import Judged, Recipe
from recnb.studies.requests import Changes, in_time, read_request, take_over
from recnb.workflow.manifest import artifact_hashes, read_manifest
from recnb.workflow.plan import Plan, make_plan
from recnb.workflow.recipe import load_recipe, recipe_hash
from recnb.workflow.run import run
from recnb.workflow.sources import sources_of
from recnb.workflow.stage import Stage


class Variant(BaseModel):
    """One choice: what it changes, and the seeds it is run with (none: the recipe's)."""

    model_config = ConfigDict(extra="forbid")
    changes: Changes = []
    seeds: list[int] = []

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"changes": value} if isinstance(value, list) else value


class Comparison(BaseModel):
    """A comparison file, validated."""

    model_config = ConfigDict(extra="forbid")
    base: str = Field(description="the recipe every variant starts from, relative to the project root")
    judged: str = Field("model", description="what is judged: model (as trained), or another that the system names")
    users: int = Field(0, ge=0, description="validation users to judge on, drawn once; 0: all")
    about: str = Field("", description="one sentence for the reader of the result")
    variants: dict[str, Variant] = Field(
        min_length=2, description="what a reader calls it -> key=value overrides, or {changes, seeds}"
    )


@dataclass(frozen=True)
class Trial:
    """One variant with one seed: an ordinary run under a name of its own.

    Attributes:
        choice: the variant's name.
        overrides: all of them, the run's name and seed included.
        recipe: what they make of the base.
    """

    choice: str
    overrides: tuple[str, ...]
    recipe: Recipe


def read_comparison(path: Path) -> Comparison:
    """Read a comparison file.

    Raises:
        RecipeError: not there, not YAML, or a key is wrong; names the file and key.
    """
    return read_request(path, Comparison, "comparison", "base and variants")


def compare(
    path: Path, root: Path, overrides: tuple[str, ...] = (), say: Callable[[str], None] = print, minutes: float = 0.0
) -> Path:
    """Run all variants and write what validation says of them.

    Every variant is an ordinary run under its own name, and its ranks are kept beside it, so a comparison that was
    killed or ran out of time goes on where it stopped. The test set is not touched.

    Args:
        path: the comparison file.
        root: project root.
        overrides: for all variants, e.g. where the data lies; a variant's own change wins.
        say: told one line per finished variant.
        minutes: start nothing more after this long; 0: no limit.

    Returns:
        ``reports/ablations/<name of the file>.json``; written anew after each variant.

    Raises:
        RecipeError: the file or one of its variants is not valid; nothing has run.
    """
    comparison = read_comparison(path)
    trials = list(_trials(comparison, path.stem, root, overrides))  # all are checked before the first one runs
    target = root / "reports" / "ablations" / f"{path.stem}.json"
    done: dict[str, dict[int, tuple[Trial, Any]]] = {}
    for trial in in_time(trials, minutes, say):
        before = monotonic()
        ranks = _ranks(trial, trials[0].recipe, comparison, root)
        done.setdefault(trial.choice, {})[trial.recipe.seed] = (trial, ranks)
        _write(target, comparison, overrides, done, root)
        hits = float((ranks < 10).mean())
        say(f"{trial.choice}, seed {trial.recipe.seed}: validation R@10 {hits:.4f} ({monotonic() - before:.0f} s)")
    return target


def read_choices(name: str, root: Path) -> list[dict[str, Any]]:
    """Measured choices of a recipe, the recipe itself first; empty if no comparison of this name was run.

    Args:
        name: of the comparison; the quickstart's is ``quickstart``.
        root: project root.

    Returns:
        The rows of ``reports/ablations/<name>.json``. ``minus`` holds the paired differences from the rows before it;
        ``change`` is that of R@10 from the first row, ``clear`` says that its 95 % interval does not hold zero.
    """
    path = root / "reports" / "ablations" / f"{name}.json"
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    for row in rows:
        none = {"diff": 0.0, "low": 0.0, "high": 0.0}
        against = row["minus"].get(rows[0]["choice"], {}).get("R@10", none)
        row |= {"change": against["diff"], "clear": against["low"] > 0 or against["high"] < 0}
    return rows


def _trials(comparison: Comparison, stem: str, root: Path, common: tuple[str, ...] = ()) -> Iterator[Trial]:
    """All runs, the variants in order and within each its seeds."""
    base = str(root / comparison.base)
    plain, names = load_recipe(base, common), {}  # type: Recipe, dict[tuple[str, ...], str]
    known, asked = plain.judged, comparison.judged
    if asked not in known:
        raise RecipeError(f"{stem}: judged = '{asked}': expected one of {', '.join(known)}{nearest(asked, known)}")
    for choice, variant in comparison.variants.items():
        made = tuple(change for change in variant.changes if not _only_judged(change, known[asked]))
        label = names.setdefault(made, re.sub(r"[^a-z0-9]+", "-", choice.lower()).strip("-"))
        for seed in variant.seeds or [plain.seed]:
            own = f"-{seed}" if seed != plain.seed else ""
            overrides = (*common, f"name={plain.name}--{stem}-{label}{own}", f"seed={seed}", *variant.changes)
            yield Trial(choice, overrides, load_recipe(base, overrides))


def _only_judged(change: str, judged: Judged) -> bool:
    """Whether a change concerns the ranks alone: what was run without it serves."""
    return change.partition(".")[0] in judged.settings


def _ranks(trial: Trial, first: Recipe, comparison: Comparison, root: Path) -> Any:
    """(U,) ranks of a trial, from what an earlier call left or by running it."""
    plan, judged = _plan(trial, comparison, root), trial.recipe.judged[comparison.judged]
    take_over(plan, first)
    run(plan)
    path = root / plan.recipe.paths.runs / plan.recipe.name / f"ranks-{_ranks_key(trial, comparison, plan)[:16]}.npy"
    if not path.is_file():
        module, _, name = judged.ranks.partition(":")
        stage = Stage.open(judged.last, plan.recipe, root=root, look=True)
        ranks = getattr(import_module(module), name)(stage, trial.recipe, comparison.judged, comparison.users)
        write_atomic(path, lambda file: np.save(file, ranks.astype(np.int32)))
    return np.load(path)


def _plan(trial: Trial, comparison: Comparison, root: Path) -> Plan:
    """What has to be run for a trial; settings that only concern the ranks are left to the judge."""
    judged = trial.recipe.judged[comparison.judged]
    made = [change for change in trial.overrides if not _only_judged(change, judged)]
    return make_plan(str(root / comparison.base), made, last=judged.last, root=root)


def _ranks_key(trial: Trial, comparison: Comparison, plan: Plan) -> str:
    """Hash of what a trial's ranks depend on."""
    judged = trial.recipe.judged[comparison.judged]
    made = read_manifest(plan.recipe, judged.last, plan.root) or {}
    settings = trial.recipe.model_dump(mode="json", include={"seed", *plan.stages[-1].sections, *judged.settings})
    content = [made.get("key"), comparison.judged, comparison.users, settings, sources_of(judged.ranks)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(
    target: Path,
    comparison: Comparison,
    overrides: tuple[str, ...],
    done: dict[str, dict[int, tuple[Trial, Any]]],
    root: Path,
) -> None:
    """Write the result as far as it is known."""
    from recnb.evaluation.intervals import (  # scipy: the report needs none of it
        UNKNOWN,
        difference,
        seed_spread,
        summary,
    )

    ranks = {choice: {seed: found for seed, (_, found) in runs.items()} for choice, runs in done.items()}
    names = {choice: frozenset(trial.recipe.name for trial, _ in runs.values()) for choice, runs in done.items()}
    trained = {names[choice]: found for choice, found in reversed(ranks.items())}  # lists of one model count once
    spread = seed_spread(*trained.values())
    rows: list[dict[str, Any]] = []

    def apart(one: str, other: str) -> dict[str, dict[str, float]]:
        # lists of one trained model, made in two ways, owe nothing to the seed of its training
        luck = spread if names[one].isdisjoint(names[other]) else UNKNOWN
        return difference(ranks[one], ranks[other], luck)

    for choice, runs in done.items():
        earlier = [row["choice"] for row in rows]
        rows.append(
            {"choice": choice, "changed": comparison.variants[choice].changes}
            | summary(ranks[choice])
            | {"minus": {other: apart(choice, other) for other in earlier}}
            | _provenance([trial for trial, _ in runs.values()], comparison, root)
        )
    base = load_recipe(root / comparison.base, overrides)
    about: dict[str, Any] = {"base": comparison.base, "recipe_hash": recipe_hash(base), "overrides": list(overrides)}
    about |= base.shown() | {"about": comparison.about, "judged": comparison.judged}
    about |= {"missing": _missing(comparison, done)}
    write_json(target, about | {"seed_spread": asdict(spread), "rows": rows})


def _missing(comparison: Comparison, done: dict[str, dict[int, Any]]) -> list[str]:
    """Choices, and seeds of choices, that the file asks for and nobody has run."""
    found = []
    for choice, variant in comparison.variants.items():
        seeds = [seed for seed in variant.seeds if seed not in done.get(choice, {})]
        if choice not in done:
            found.append(choice)
        elif seeds:
            found.append(f"{choice}: seeds {', '.join(map(str, seeds))}")
    return found


def _provenance(trials: list[Trial], comparison: Comparison, root: Path) -> dict[str, Any]:
    """Where a row comes from: the manifests of its runs, and how long they took in all."""
    plans = [_plan(trial, comparison, root) for trial in trials]
    made = [read_manifest(plan.recipe, plan.stages[-1].name, root) or {} for plan in plans]
    data = read_manifest(plans[0].recipe, plans[0].recipe.stages[0].name, root) or {"artifacts": {}}
    facts = {name: made[0].get(name) for name in ("commit", "device", "dtype", "threads")}
    facts |= {"data": artifact_hashes(data)}
    if steps := made[0].get("facts", {}).get("steps"):  # something was trained
        facts |= {"seconds": sum(manifest.get("seconds", 0.0) for manifest in made), "steps": steps}
    return facts
