"""What each choice bought: the same recipe with one thing changed at a time, side by side on validation.

A comparison is a small file (``params/ablations/*.yaml``): a base recipe, what is judged, and named variants, each a
list of overrides. The result is a JSON with its provenance; notebooks build their tables from it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from recnb import keys, store
from recnb.errors import RecipeError
from recnb.pipeline import Plan, decide, make_plan, run
from recnb.recipe import Baseline, Recipe, load_recipe, recipe_hash

Request = TypeVar("Request", bound=BaseModel)
Asked = TypeVar("Asked")
MODEL, ADAPTED = "model", "annealed"
_LAST = {MODEL: "04_train", ADAPTED: "05_anneal"}
_FITTED_ON = {"tiger": "03_index"}  # its semantic codes; the other baselines need the data alone


def _flat(value: list[Any]) -> list[Any]:
    """Lists within a list laid side by side, so that a YAML alias can stand for several changes."""
    return [each for part in value for each in (_flat(part) if isinstance(part, list) else [part])]


Changes = Annotated[list[str], BeforeValidator(lambda value: _flat(value) if isinstance(value, list) else value)]


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
    judged: str = Field(MODEL, description="model (as trained), annealed (with its adapter), or a baseline's name")
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


def _trials(comparison: Comparison, stem: str, root: Path, common: tuple[str, ...] = ()) -> Iterator[Trial]:
    """All runs, the variants in order and within each its seeds."""
    base = str(root / comparison.base)
    known = [*_LAST, *get_args(Baseline)]
    if comparison.judged not in known:
        close = difflib.get_close_matches(comparison.judged, known, n=1, cutoff=0.0)
        raise RecipeError(
            f"{stem}: judged = '{comparison.judged}': expected one of {', '.join(known)} (nearest: {close[0]})"
        )
    plain, names = load_recipe(base, common), {}  # type: Recipe, dict[tuple[str, ...], str]
    for choice, variant in comparison.variants.items():
        made = tuple(change for change in variant.changes if comparison.judged in _LAST and not _only_judged(change))
        label = names.setdefault(made, re.sub(r"[^a-z0-9]+", "-", choice.lower()).strip("-"))
        for seed in variant.seeds or [plain.seed]:
            own = f"-{seed}" if seed != plain.seed else ""
            overrides = (*common, f"name={plain.name}--{stem}-{label}{own}", f"seed={seed}", *variant.changes)
            yield Trial(choice, overrides, load_recipe(base, overrides))


def _only_judged(change: str) -> bool:
    """Whether a change concerns the lists alone: the model trained without it serves."""
    return change.startswith("decode.")


def _ranks(trial: Trial, first: Recipe, comparison: Comparison, root: Path) -> Any:
    """(U,) ranks of a trial, from what an earlier call left or by running it."""
    import numpy as np

    plan = _plan(trial, comparison, root)
    take_over(plan, first)
    run(plan)
    path = root / plan.recipe.paths.runs / plan.recipe.name / f"ranks-{_ranks_key(trial, comparison, plan)[:16]}.npy"
    if not path.is_file():
        from recnb import judge

        if comparison.judged in _LAST:
            adapter, decode = comparison.judged == ADAPTED, trial.recipe.decode
            ranks = judge.model_ranks(plan.recipe, root, comparison.users, adapter, decode)
        else:
            ranks = judge.baseline_ranks(comparison.judged, trial.recipe, root, comparison.users)
        store.write_atomic(path, lambda file: np.save(file, ranks.astype(np.int32)))
    return np.load(path)


def _plan(trial: Trial, comparison: Comparison, root: Path) -> Plan:
    """What has to be run for a trial; settings that only concern the lists are left to the judge."""
    made = [change for change in trial.overrides if not _only_judged(change)]
    return make_plan(str(root / comparison.base), made, last=_last(comparison.judged), root=root)


def _last(judged: str) -> str:
    """The stage up to which a trial is run."""
    return _LAST.get(judged) or _FITTED_ON.get(judged, "01_data")


def _ranks_key(trial: Trial, comparison: Comparison, plan: Plan) -> str:
    """Hash of what a trial's ranks depend on."""
    manifest = store.read_manifest(plan.recipe, plan.stages[-1].name, plan.root) or {}
    sections = trial.recipe.model_dump(mode="json", include={"seed", "decode", "evaluate", "data", "tasks"})
    if comparison.judged in _LAST:
        sections.pop("evaluate")
    source = keys.source_hashes(frozenset({"recnb.judge"}))
    content = [manifest.get("key"), comparison.judged, comparison.users, sections, source]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(
    target: Path,
    comparison: Comparison,
    overrides: tuple[str, ...],
    done: dict[str, dict[int, tuple[Trial, Any]]],
    root: Path,
) -> None:
    """Write the result as far as it is known."""
    from recnb import judge

    ranks = {choice: {seed: found for seed, (_, found) in runs.items()} for choice, runs in done.items()}
    names = {choice: frozenset(trial.recipe.name for trial, _ in runs.values()) for choice, runs in done.items()}
    trained = {names[choice]: found for choice, found in reversed(ranks.items())}  # lists of one model count once
    spread = judge.seed_spread(*trained.values())
    rows: list[dict[str, Any]] = []

    def apart(one: str, other: str) -> dict[str, dict[str, float]]:
        # lists of one trained model, made in two ways, owe nothing to the seed of its training
        luck = spread if names[one].isdisjoint(names[other]) else judge.UNKNOWN
        return judge.difference(ranks[one], ranks[other], luck)

    for choice, runs in done.items():
        earlier = [row["choice"] for row in rows]
        rows.append(
            {"choice": choice, "changed": comparison.variants[choice].changes}
            | judge.summary(ranks[choice])
            | {"minus": {other: apart(choice, other) for other in earlier}}
            | _provenance([trial for trial, _ in runs.values()], comparison, root)
        )
    base = load_recipe(root / comparison.base, overrides)
    about: dict[str, Any] = {"base": comparison.base, "recipe_hash": recipe_hash(base), "overrides": list(overrides)}
    about |= {"index": base.index.model_dump(mode="json", include={"source", "levels"})}
    about |= {"about": comparison.about, "judged": comparison.judged, "missing": _missing(comparison, done)}
    store.write_json(target, about | {"seed_spread": asdict(spread), "rows": rows})


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
    made = [store.read_manifest(plan.recipe, plan.stages[-1].name, root) or {} for plan in plans]
    data = store.read_manifest(plans[0].recipe, "01_data", root) or {"artifacts": {}}
    facts = {name: made[0].get(name) for name in ("commit", "device", "dtype", "threads")}
    facts |= {"data": store.artifact_hashes(data)}
    if comparison.judged in _LAST:
        facts["seconds"] = sum(manifest.get("seconds", 0.0) for manifest in made)
        facts["steps"] = made[0].get("facts", {}).get("steps")
    return facts
