"""Which stages would run, and why: decided from manifests, before and without any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recnb.artifacts import find_root, read_json
from recnb.settings import Recipe, StageSpec, differing
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
    """Whether a stage's notebook is executed, and why, in one line for people."""

    spec: StageSpec
    run: bool
    reason: str


@dataclass(frozen=True)
class Plan:
    """What `recnb run` was asked to do, checked."""

    recipe: Recipe  # validated, with overrides applied
    recipe_path: str  # as notebooks get it: relative to the root where possible
    overrides: tuple[str, ...]  # key=value, passed on to every notebook
    root: Path
    stages: tuple[StageSpec, ...]  # those in range, in order
    force: bool = False  # run them even if unchanged

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
    if _cut_short(partial_path(executed_path(recipe, spec.name, root)), manifest):
        return Decision(spec, True, "its notebook was interrupted before the last cell")
    if missing := [name for name in spec.inputs if read_manifest(recipe, name, root) is None]:
        return Decision(spec, True, f"its input {', '.join(missing)} has to be made first")
    if changes := _changes(spec, plan, manifest):
        return Decision(spec, True, "changed: " + shortened(changes))
    if damaged := damaged_artifacts(recipe, spec.name, root, manifest):
        return Decision(spec, True, f"damaged or gone, not used: {shortened(damaged)}")
    where = f", made elsewhere on {manifest['device']}" if manifest.get("elsewhere") else ""
    return Decision(spec, False, f"unchanged since {manifest['finished'][:16].replace('T', ' ')} UTC{where}")


def _cut_short(partial: Path, manifest: dict[str, Any]) -> bool:
    """Whether the run that left this notebook made the result before it was interrupted. A run that did not come to its
    ``stage.close()``, perhaps with other settings, left the result of an earlier one as it was."""
    if not partial.exists():
        return False
    began = read_json(partial).get("metadata", {}).get("papermill", {}).get("start_time") or ""
    last_cell = datetime.fromtimestamp(partial.stat().st_mtime, UTC).isoformat()
    return bool(began[:19] < manifest["finished"][:19] <= last_cell[:19])


def executed_path(recipe: Recipe, stage: str, root: Path) -> Path:
    """``reports/<recipe>/notebooks/<stage>.ipynb``."""
    return report_folder(recipe, root) / "notebooks" / f"{stage}.ipynb"


def _changes(spec: StageSpec, plan: Plan, manifest: dict[str, Any]) -> list[str]:
    """What differs between a manifest and now, in words: settings by their keys, then the other parts of the key."""
    now, old = stage_parts(spec, plan.recipe, plan.root), manifest["parts"] | manifest.get("elsewhere", {})
    if "source recnb.store" in old:  # from before the wings
        return ["its code, which an earlier recnb counted by files"]
    settings = sorted(differing(manifest["recipe"], recipe_part(spec, plan.recipe)))
    said = [f"{key} {made!r} to {asked!r}" for key, made, asked in settings]
    for name in sorted(name for name in {*old, *now} if old.get(name) != now.get(name)):
        kind, _, rest = name.partition(" ")
        if kind == "package":
            said.append(f"{rest} {old.get(name, 'absent')} to {now.get(name, 'absent')}")
        elif kind != "recipe":
            said.append("the notebook" if kind == "notebook" else name)
    return said


def shortened(items: list[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + rest


def _portable(recipe: Path, root: Path) -> str:
    """The recipe's path as notebooks get it: relative to the root if it lies there, so that no run names a machine."""
    path, home = (recipe if recipe.is_file() else root / recipe).resolve(), root.resolve()
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)
