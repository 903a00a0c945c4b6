"""What each choice bought: the same recipe with one thing changed at a time, side by side on validation.

A comparison is a small file (``params/ablations/*.yaml``): a base recipe, what is judged, and named variants, each a
list of overrides. The result is a JSON with its provenance; notebooks build their tables from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from pkgutil import resolve_name
from time import monotonic
from typing import Any

import numpy as np
from pydantic import Field

from recnb.artifacts import hash_json, write_artifact, write_json
from recnb.errors import RecipeError, nearest
from recnb.evaluation.intervals import UNKNOWN, difference, seed_spread, summary
from recnb.evaluation.verdicts import judged_in
from recnb.settings import Judged
from recnb.studies.trials import Request, Trial, Variant, manifests, origin, run_trials
from recnb.workflow.plan import make_plan
from recnb.workflow.recipe import load_recipe, settings_hash
from recnb.workflow.sources import sources_of
from recnb.workflow.stage import Stage


class Comparison(Request):
    """A comparison file, validated."""

    base: str = Field(description="the recipe every variant starts from, relative to the project root")
    judged: str = Field("model", description="what is judged: model (as trained), or another that the system names")
    users: int = Field(0, ge=0, description="validation users to judge on, drawn once; 0: all")
    variants: dict[str, Variant] = Field(
        min_length=2, description="what a reader calls it -> key=value overrides, or {changes, seeds}"
    )

    def trials(self, stem: str, root: Path, overrides: Sequence[str] = ()) -> list[Trial]:
        """All runs, checked, variant by variant and seed by seed; names of runs contain the file's ``stem``."""
        base = str(root / self.base)
        plain = load_recipe(base, overrides)
        if (judged := plain.judged.get(self.judged)) is None:
            known = f"expected one of {', '.join(plain.judged)}{nearest(self.judged, plain.judged)}"
            raise RecipeError(f"{stem}: judged = '{self.judged}': {known}")
        labels: dict[tuple[str, ...], str] = {}
        trials = []
        for choice, variant in self.variants.items():
            label = re.sub(r"[^a-z0-9]+", "-", choice.lower()).strip("-")
            label = labels.setdefault(_of_run(variant.changes, judged), label)  # a run of two choices is made once
            for seed in variant.seeds or [plain.seed]:
                own = f"-{seed}" if seed != plain.seed else ""
                changes = (*overrides, f"name={plain.name}--{stem}-{label}{own}", f"seed={seed}", *variant.changes)
                plan = make_plan(base, _of_run(changes, judged), last=judged.last, root=root)
                trials.append(Trial(choice, plan, load_recipe(base, changes)))
        return trials


def _of_run(changes: Sequence[str], judged: Judged) -> tuple[str, ...]:
    """The changes that concern more than the ranks."""
    return tuple(change for change in changes if change.partition(".")[0] not in judged.settings)


def run_comparison(
    path: Path, root: Path, overrides: tuple[str, ...] = (), say: Callable[[str], None] = print, minutes: float = 0.0
) -> Path:
    """Run all variants and write what validation says of them, anew after each run, to
    ``reports/ablations/<file>.json``, which is returned; the test set is not touched.

    Ranks are kept beside each run, so a comparison that was killed or ran out of time goes on where it stopped.
    ``overrides`` are for all variants, e.g. where the data lies; a variant's own change wins. ``say`` and ``minutes``
    are as of :func:`recnb.studies.trials.run_trials`.

    Raises:
        RecipeError: the file or one of its variants is not valid; nothing has run.
        ResourceError: none of the runs fits into this machine; where some do, the others are said and left out.
    """
    comparison = Comparison.read(path)
    trials = comparison.trials(path.stem, root, overrides)  # all are checked before the first one runs
    base = load_recipe(root / comparison.base, overrides)
    asked: dict[str, Any] = {"base": comparison.base, "recipe_hash": settings_hash(base), "overrides": list(overrides)}
    asked |= base.shown() | {"system": base.system, "about": comparison.about, "judged": comparison.judged}
    target = root / "reports" / "ablations" / f"{path.stem}.json"
    ranks: dict[str, dict[int, np.ndarray]] = {}
    sessions = None
    before = monotonic()
    for trial in run_trials(path, trials, minutes, say):
        found = ranks.setdefault(trial.group, {})[trial.recipe.seed] = _ranks(trial, comparison)
        sessions = _sessions(trial, comparison) if sessions is None else sessions
        missing = [str(one) for one in trials if one.recipe.seed not in ranks.get(one.group, {})]
        write_json(target, asked | {"missing": missing} | _result(comparison, trials, ranks, sessions))
        reached = summary({0: found})
        metric = judged_in(reached)
        say(f"{trial}: validation {metric} {reached[metric]:.4f} ({monotonic() - before:.0f} s)")
        before = monotonic()
    return target


def _ranks(trial: Trial, comparison: Comparison) -> np.ndarray:
    """(U,) ranks of a trial that has run, or HR@1 as floats; made once."""
    plan, judged = trial.plan, trial.recipe.judged[comparison.judged]
    made, used = manifests(plan)[-1], {"seed", *plan.stages[-1].sections, *judged.settings}
    depends = [made["key"], comparison.judged, comparison.users, trial.recipe.model_dump(mode="json", include=used)]
    key = hash_json([*depends, sources_of(judged.ranks)])
    path = plan.root / plan.recipe.paths.runs / plan.recipe.name / f"ranks-{key[:16]}.npy"
    if not path.is_file():
        stage = Stage.open(judged.last, plan.recipe, root=plan.root, look=True)
        ranks = resolve_name(judged.ranks)(stage, trial.recipe, comparison.judged, comparison.users)
        write_artifact(path, ranks.astype(np.float32 if ranks.dtype.kind == "f" else np.int32))
    return np.load(path)


def _sessions(trial: Trial, comparison: Comparison) -> np.ndarray | None:
    """(U,) which rows of its ranks belong together; none where each stands alone."""
    plan, judged = trial.plan, trial.recipe.judged[comparison.judged]
    if not judged.sessions:
        return None
    stage = Stage.open(judged.last, plan.recipe, root=plan.root, look=True)
    return np.asarray(resolve_name(judged.sessions)(stage, trial.recipe, comparison.judged, comparison.users))


def _result(
    comparison: Comparison, trials: Sequence[Trial], ranks: dict[str, dict[int, np.ndarray]],
    sessions: np.ndarray | None,
) -> dict[str, Any]:  # fmt: skip
    """What is known of the choices that have run: a row each, with its differences from those before it."""
    runs = {c: [t for t in trials if t.group == c and t.recipe.seed in own] for c, own in ranks.items()}
    names = {choice: frozenset(trial.plan.recipe.name for trial in own) for choice, own in runs.items()}
    trained = {names[choice]: own for choice, own in reversed(ranks.items())}  # lists of one model count once
    spread = seed_spread(*trained.values())
    rows: list[dict[str, Any]] = []
    for choice, own in ranks.items():
        minus = {}
        for other in (row["choice"] for row in rows):
            # lists of one trained model, made in two ways, owe nothing to the seed of its training
            luck = spread if names[choice].isdisjoint(names[other]) else UNKNOWN
            minus[other] = difference(own, ranks[other], luck, sessions)
        row = {"choice": choice, "changed": comparison.variants[choice].changes} | summary(own)
        rows.append(row | {"minus": minus} | _provenance([manifests(trial.plan) for trial in runs[choice]]))
    return {"seed_spread": asdict(spread), "rows": rows}


def _provenance(runs: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Where a row comes from, by the manifests of its runs, and, if they trained, how much for how long in all."""
    last = [made[-1] for made in runs]
    facts = {name: last[0]["facts"][name] for name in ("steps", "parameters") if name in last[0]["facts"]}
    return origin(runs[0]) | ({"seconds": sum(made["seconds"] for made in last)} | facts if "steps" in facts else {})
