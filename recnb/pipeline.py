"""The stage graph, executed: which notebooks must run and why, then papermill, one after the other.

There is no second way to do a stage's work: ``recnb run`` executes the notebooks that a person opens in JupyterLab.
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recnb import forecast, keys, needs, store
from recnb.errors import ArtifactError, RecipeError, RecnbError, ResourceError
from recnb.execute import (
    Execution,
    StageFailedError,
    check_notebook,
    fill_measured,
    note_path,
    partial_path,
    run_notebook,
)
from recnb.progress import Progress, duration, size
from recnb.recipe import Recipe
from recnb.stages import STAGES, StageSpec

_PAGE = "page"  # runs/<recipe>/<stage>/page: the executed notebook and its figures, should reports/ be deleted


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
    graph: Sequence[StageSpec] = STAGES,
) -> Plan:
    """Check everything that can be checked before any work: recipe, stage names, notebooks and their parameters.

    Raises:
        RecnbError: what is wrong, where, and the nearest valid choice.
    """
    root = root or store.find_root(recipe)
    loaded = store.resolve_recipe(recipe, overrides, root)
    named = {_stage_name(name, [spec.name for spec in graph]) for name in (first, last) if name}
    stages = tuple(s for s in _range(first, last, graph) if s.belongs_to(loaded) or s.name in named)
    for spec in stages:
        check_notebook(root / "notebooks" / f"{spec.name}.ipynb")
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
    manifest = store.read_manifest(recipe, spec.name, root)
    if manifest is None:
        begun = store.stage_folder(recipe, spec.name, root).exists()
        return Decision(spec, True, "not complete: an earlier run was broken off" if begun else "no result yet")
    if partial_path(executed_path(recipe, spec.name, root)).exists():
        return Decision(spec, True, "its notebook was interrupted before the last cell")
    missing = [name for name in spec.inputs if store.read_manifest(recipe, name, root) is None]
    if missing:
        return Decision(spec, True, f"its input {', '.join(missing)} has to be made first")
    changes = _changes(manifest, store.stage_parts(spec, recipe, root), keys.recipe_part(spec, recipe))
    if changes:
        return Decision(spec, True, "changed: " + _shortened(changes))
    damaged = store.damaged_artifacts(recipe, spec.name, root, manifest)
    if damaged:
        return Decision(spec, True, f"damaged or gone, not used: {_shortened(damaged)}")
    return Decision(spec, False, f"unchanged since {manifest['finished'][:16].replace('T', ' ')} UTC")


def run(plan: Plan, progress: Progress | None = None) -> list[Decision]:
    """Run what must run, in order, each stage on the results of the one before.

    Returns:
        One decision per stage in range, as carried out.

    Raises:
        StageFailedError: a notebook failed; the message says where and how to go on.
        ResourceError: a stage that would run does not fit in memory, the message names the settings that would; or it
            needs a file or model that is not here.
        RecnbError: the stages before the range are not usable, or another run is at work.
    """
    home = plan.root / plan.recipe.paths.runs / plan.recipe.name
    decisions: list[Decision] = []
    _check_needs(plan)
    _check_memory(plan, plan.stages)
    with _only_run(home), _terminate_as_interrupt():
        _check_before_range(plan)
        history = _history(home)
        progress = progress or Progress()
        progress.expect({name: entry["seconds"] for name, entry in history.items()})
        for number, spec in enumerate(plan.stages, 1):
            decision = decide(spec, plan)
            decisions.append(decision)
            title = f"[{number}/{len(plan.stages)}] {spec.name}"
            if decision.run:
                _check_memory(plan, [spec])  # again: by now the catalogue has been counted
                progress.say(f"{title}: {decision.reason}")
                ahead = [other.name for other in plan.stages[number:]]
                progress.stage(spec.name, number, len(plan.stages), ahead, _note(spec, plan))
                _run_stage(spec, plan, progress, history, home)
            else:
                restored = restore_page(plan.recipe, spec.name, plan.root)
                progress.say(f"{title}: skipped, {decision.reason}{'; page restored' if restored else ''}")
    return decisions


def executed_path(recipe: Recipe, stage: str, root: Path) -> Path:
    """``reports/<recipe>/notebooks/<stage>.ipynb``."""
    return store.report_folder(recipe, root) / "notebooks" / f"{stage}.ipynb"


def restore_page(recipe: Recipe, stage: str, root: Path) -> bool:
    """Bring back a skipped stage's executed notebook and figures if ``reports/`` was deleted. True if it did."""
    target = executed_path(recipe, stage, root)
    kept = store.stage_folder(recipe, stage, root) / _PAGE
    if target.is_file() or not (kept / target.name).is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(kept / target.name, target)
    figures = store.report_folder(recipe, root) / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for figure in kept.glob(f"{stage}-*"):
        shutil.copy2(figure, figures / figure.name)
    return True


def _note(spec: StageSpec, plan: Plan) -> Path:
    return note_path(executed_path(plan.recipe, spec.name, plan.root))


def _run_stage(spec: StageSpec, plan: Plan, progress: Progress, history: dict[str, Any], home: Path) -> None:
    target = executed_path(plan.recipe, spec.name, plan.root)
    source = plan.root / "notebooks" / f"{spec.name}.ipynb"
    _forget_figures(plan, spec.name)
    parameters = {"recipe": plan.recipe_path, "overrides": list(plan.overrides)}
    try:
        execution = run_notebook(source, target, parameters, plan.recipe, progress.cell)
    except StageFailedError as error:
        progress.finish()
        raise StageFailedError(f"{error}\nto go on from there: {plan.command}", error.by_user) from None
    except BaseException:
        progress.finish()
        raise
    manifest = _closed(spec, plan)
    fill_measured(target, measured_sentence(execution, manifest))
    _keep_page(plan, spec.name, target)
    history[spec.name] = {
        "key": manifest["key"], "seconds": round(execution.seconds, 2), "cells": execution.cell_seconds
    }  # fmt: skip
    store.write_atomic(home / "history.json", lambda file: file.write(json.dumps(history, indent=1).encode()))
    peak = max(execution.peak_memory, manifest["peak_memory"])
    progress.finish(f"        done in {duration(execution.seconds)}, peak memory {size(peak)}")


def measured_sentence(execution: Execution, manifest: dict[str, Any]) -> str:
    """The card's measured line: time, memory and device of this very run."""
    peak = max(execution.peak_memory, manifest["peak_memory"])
    gpu = f", {size(manifest['peak_gpu_memory'])} on the GPU" if manifest["peak_gpu_memory"] else ""
    threads = f" ({manifest['threads']} thread{'s' if manifest['threads'] != 1 else ''})"
    where = manifest["device"] + (threads if manifest["device"] == "cpu" else "")
    return (
        f"{duration(execution.seconds)}, peak memory {size(peak)}{gpu}, on {where}, recipe "
        f"`{manifest['recipe_name']}`, measured {manifest['finished'][:10]}"
    )


def _closed(spec: StageSpec, plan: Plan) -> dict[str, Any]:
    manifest = store.read_manifest(plan.recipe, spec.name, plan.root)
    if manifest is None:
        raise StageFailedError(f"{spec.name}.ipynb ran to its end without stage.close(): the stage has no manifest")
    return manifest


def _keep_page(plan: Plan, stage: str, executed: Path) -> None:
    figures = store.report_folder(plan.recipe, plan.root) / "figures"

    def fill(folder: Path) -> None:
        for file in [executed, *figures.glob(f"{stage}-*")]:
            shutil.copy2(file, folder / file.name)

    store.write_folder_atomic(store.stage_folder(plan.recipe, stage, plan.root) / _PAGE, fill)


def _forget_figures(plan: Plan, stage: str) -> None:
    """A figure that the new notebook no longer draws must not stay in the report."""
    for figure in (store.report_folder(plan.recipe, plan.root) / "figures").glob(f"{stage}-*"):
        figure.unlink()


def _check_before_range(plan: Plan) -> None:
    """Inputs made by stages before the range must be complete and undamaged: they will not be run now."""
    inside = {spec.name for spec in plan.stages}
    outside = sorted({name for spec in plan.stages for name in spec.inputs if name not in inside})
    for name in outside:
        manifest = store.read_manifest(plan.recipe, name, plan.root)
        if manifest is None:
            raise ArtifactError(f"{name} comes before the range and is not complete; run it first: --from {name}")
        damaged = store.damaged_artifacts(plan.recipe, name, plan.root, manifest)
        if damaged:
            raise ArtifactError(
                f"{name} comes before the range and is damaged ({_shortened(damaged)}); rebuild it: --from {name}"
            )


def _check_needs(plan: Plan) -> None:
    """Refuse what a later stage would miss before the first one runs; only stages that would run count."""
    lacking = [each for each in needs.missing(plan.recipe, plan.root) if each.blocks]
    _refuse(plan, [(each.stage, each.what, each.way) for each in lacking])


def _check_memory(plan: Plan, stages: Sequence[StageSpec]) -> None:
    """Refuse what cannot fit, before hours are spent on the stages ahead of it; only stages that would run count."""
    room = forecast.room_here(plan.recipe)
    tight = forecast.misfits(plan.recipe, plan.root, room, [spec.name for spec in stages])
    _refuse(plan, [(each.forecast.stage, each.what, each.way) for each in tight])


def _refuse(plan: Plan, found: Sequence[tuple[str, str, str]]) -> None:
    """Raise over what stands in the way, (stage, what, way) each, of stages that would run; the others are done."""
    running = {decision.spec.name for decision in explain(plan) if decision.run} if found else set()
    refused = [f"{what}\n  -> {way}" for stage, what, way in found if stage in running]
    if refused:
        raise ResourceError("\n".join(refused))


def _changes(manifest: dict[str, Any], parts: dict[str, str], recipe_now: dict[str, Any]) -> list[str]:
    """What differs between a manifest and now, most telling first."""
    old = manifest.get("parts", {})
    changed = [name for name in sorted({*old, *parts}) if old.get(name) != parts.get(name)]
    said = []
    for name in changed:
        kind, _, rest = name.partition(" ")
        if kind == "recipe":
            said += _recipe_changes(manifest["recipe"], recipe_now, rest)
        elif kind == "package":
            said.append(f"{rest} {old.get(name, 'absent')} to {parts.get(name, 'absent')}")
        else:
            said.append("the notebook" if kind == "notebook" else name)
    return said


def _recipe_changes(before: dict[str, Any], now: dict[str, Any], section: str) -> list[str]:
    old = store.flatten({section: before.get(section)})
    new = store.flatten({section: now.get(section)})
    differing = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return [f"{key} {old.get(key)!r} to {new.get(key)!r}" for key in differing]


def _shortened(items: list[str], most: int = 3) -> str:
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + rest


def _range(first: str | None, last: str | None, graph: Sequence[StageSpec]) -> tuple[StageSpec, ...]:
    names = [spec.name for spec in graph]
    start = names.index(_stage_name(first, names)) if first else 0
    stop = names.index(_stage_name(last, names)) if last else len(names) - 1
    if start > stop:
        raise RecipeError(f"--from {names[start]} comes after --to {names[stop]}: nothing to run")
    return tuple(graph[start : stop + 1])


def _stage_name(asked: str, names: list[str]) -> str:
    """The stage called this, or uniquely abbreviated so (``03``, ``index``)."""
    matches = [name for name in names if asked in (name, name[:2], name[3:])]
    if len(matches) == 1:
        return matches[0]
    ends = {candidate: name for name in names for candidate in (name, name[3:])}
    close = difflib.get_close_matches(asked, ends, n=1, cutoff=0.4)
    hint = f"; nearest: {ends[close[0]]}" if close else ""
    raise RecipeError(f"no stage '{asked}'{hint}; stages: {', '.join(names)}")


def _portable(recipe: Path, root: Path) -> str:
    """The recipe's path as notebooks get it: relative to the root if it lies there, so that no run names a machine."""
    path = recipe if recipe.is_file() else root / recipe
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return str(path.resolve())


def _history(home: Path) -> dict[str, Any]:
    try:
        return json.loads((home / "history.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


@contextmanager
def _only_run(home: Path) -> Iterator[None]:
    """One run per recipe at a time; the lock goes with the process, however it ends."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ResourceError(f"{home}: cannot write there ({error.strerror})") from None
    try:
        _lock(descriptor, home.name)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, recipe: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode() or "?"
        raise RecnbError(f"another run works on {recipe} (process {holder}); wait for it or end it") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: the kernel is stopped and the notebook so far is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
