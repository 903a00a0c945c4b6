"""Which stages would run, and why: decided from manifests, before and without any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recnb.artifacts import find_root
from recnb.settings import Recipe, StageSpec, flatten
from recnb.workflow.execute import check_notebook, partial_path
from recnb.workflow.graph import stage_named, stages_between
from recnb.workflow.manifest import (
    damaged_artifacts,
    read_manifest,
    recipe_part,
    report_folder,
    stage_folder,
    stage_parts,
)
from recnb.workflow.recipe import resolve_recipe


@dataclass(frozen=True)
class Decision:
    """Whether a stage runs, and why.

    Attributes:
        spec: the stage.
        run: True if its notebook is executed.
        reason: one line for people.
    """

    spec: StageSpec
    run: bool
    reason: str


@dataclass(frozen=True)
class Plan:
    """What `recnb run` was asked to do, checked.

    Attributes:
        recipe: validated, with overrides applied.
        recipe_path: as notebooks get it: relative to the root where possible.
        overrides: ``key=value`` strings, passed on to every notebook.
        root: project root.
        stages: the stages in range, in order.
        force: run them even if unchanged.
    """

    recipe: Recipe
    recipe_path: str
    overrides: tuple[str, ...]
    root: Path
    stages: tuple[StageSpec, ...]
    force: bool = False

    @property
    def command(self) -> str:
        """The command line that resumes this run."""
        settings = "".join(f" --set '{override}'" for override in self.overrides)
        return f"recnb run {self.recipe_path}{settings}"


def make_plan(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    first: str | None = None,
    last: str | None = None,
    force: bool = False,
    root: Path | None = None,
) -> Plan:
    """Check everything that can be checked before any work: recipe, stage names, notebooks and their parameters.

    Raises:
        RecnbError: what is wrong, where, and the nearest valid choice.
    """
    root = root or find_root(recipe)
    loaded = resolve_recipe(recipe, overrides, root)
    named = [stage_named(name, loaded.stages) for name in (first, last) if name]
    between = stages_between(first, last, loaded.stages)
    stages = tuple(spec for spec in between if spec.belongs_to(loaded) or spec in named)
    for spec in stages:
        check_notebook(spec.file(root))
    return Plan(loaded, _portable(Path(recipe), root), tuple(overrides), root, stages, force)


def explain(plan: Plan) -> list[Decision]:
    """Say for each stage whether it would run, and why, without running anything."""
    decisions: list[Decision] = []
    for spec in plan.stages:
        running = [d.spec.name for d in decisions if d.run and d.spec.name in spec.inputs]
        decision = decide(spec, plan)
        if not decision.run and running:
            decision = Decision(spec, True, f"if {' or '.join(running)} comes out different; else skipped")
        decisions.append(decision)
    return decisions


def decide(spec: StageSpec, plan: Plan) -> Decision:
    """Whether this stage must run, given what its inputs are now."""
    recipe, root = plan.recipe, plan.root
    if plan.force:
        return Decision(spec, True, "asked for by --force")
    manifest = read_manifest(recipe, spec.name, root)
    if manifest is None:
        begun = stage_folder(recipe, spec.name, root).exists()
        return Decision(spec, True, "not complete: an earlier run was broken off" if begun else "no result yet")
    if partial_path(executed_path(recipe, spec.name, root)).exists():
        return Decision(spec, True, "its notebook was interrupted before the last cell")
    missing = [name for name in spec.inputs if read_manifest(recipe, name, root) is None]
    if missing:
        return Decision(spec, True, f"its input {', '.join(missing)} has to be made first")
    changes = _changes(manifest, stage_parts(spec, recipe, root), recipe_part(spec, recipe))
    if changes:
        return Decision(spec, True, "changed: " + shortened(changes))
    damaged = damaged_artifacts(recipe, spec.name, root, manifest)
    if damaged:
        return Decision(spec, True, f"damaged or gone, not used: {shortened(damaged)}")
    return Decision(spec, False, f"unchanged since {manifest['finished'][:16].replace('T', ' ')} UTC")


def executed_path(recipe: Recipe, stage: str, root: Path) -> Path:
    """``reports/<recipe>/notebooks/<stage>.ipynb``."""
    return report_folder(recipe, root) / "notebooks" / f"{stage}.ipynb"


def _changes(manifest: dict[str, Any], parts: dict[str, str], recipe_now: dict[str, Any]) -> list[str]:
    """What differs between a manifest and now, in words."""
    old = manifest.get("parts", {})
    if "notebook" not in old or "source recnb.store" in old:
        return ["its code, which an earlier recnb counted by files"]
    said: list[str] = []
    for name in sorted(name for name in {*old, *parts} if old.get(name) != parts.get(name)):
        kind, _, rest = name.partition(" ")
        if kind == "recipe":
            before, now = (flatten({rest: tree.get(rest)}) for tree in (manifest["recipe"], recipe_now))
            keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
            said += [f"{key} {before.get(key)!r} to {now.get(key)!r}" for key in keys]
        elif kind == "package":
            said.append(f"{rest} {old.get(name, 'absent')} to {parts.get(name, 'absent')}")
        else:
            said.append("the notebook" if kind == "notebook" else name)
    return said


def shortened(items: list[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + rest


def _portable(recipe: Path, root: Path) -> str:
    """The recipe's path as notebooks get it: relative to the root if it lies there, so that no run names a machine."""
    path = recipe if recipe.is_file() else root / recipe
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return str(path.resolve())
