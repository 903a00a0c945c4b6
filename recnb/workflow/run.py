"""The stage graph, executed: which notebooks must run and why, then papermill, one after the other.

There is no second way to do a stage's work: ``recnb run`` executes the notebooks that a person opens in JupyterLab.
"""

from __future__ import annotations

import fcntl
import filecmp
import os
import shutil
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import IO, Any, TextIO

from recnb.artifacts import read_json, write_folder_atomic, write_json
from recnb.errors import ArtifactError, RecnbError, ResourceError
from recnb.settings import Recipe, StageSpec
from recnb.workflow import preflight
from recnb.workflow.execute import (
    Execution,
    StageFailedError,
    kernel_environment,
    partial_path,
    publish,
    run_notebook,
)
from recnb.workflow.manifest import PAGE, damaged_artifacts, read_manifest, report_folder, stage_folder
from recnb.workflow.plan import Decision, Plan, decide, executed_path, explain, shortened
from recnb.workflow.progress import Progress, duration, size
from recnb.workflow.warm import Parent

_HISTORY = "history.json"  # runs/<recipe>: how long each stage took


def run(plan: Plan, stream: TextIO | None = None) -> list[Decision]:
    """Run what must run, in order, each stage on the results of the one before, and tell ``stream`` (none: stdout).

    Returns:
        One decision per stage in range, as carried out.

    Raises:
        StageFailedError: a notebook failed; the message says where and how to go on.
        ResourceError: a stage that would run needs memory, a file or a model that is not here.
        RecnbError: the stages before the range are not usable, or another run is at work.
    """
    home = plan.root / plan.recipe.paths.runs / plan.recipe.name
    decisions: list[Decision] = []
    _check_machine(plan)
    with _only_run(home), closing(Parent(kernel_environment(plan.recipe))) as parent:
        _check_before_range(plan)
        progress = Progress(home / ".note", stream)
        for number, spec in enumerate(plan.stages, 1):
            decision = decide(spec, plan)
            decisions.append(decision)
            title = f"[{number}/{len(plan.stages)}] {spec.name}"
            if decision.run:
                progress.say(f"{title}: {decision.reason}")
                history = read_json(home / _HISTORY)
                last = [history.get(ahead.name, {}).get("seconds") for ahead in plan.stages[number - 1 :]]
                with progress.stage(title, last), parent.kernels() if _warm(plan) else nullcontext():
                    execution = _run_stage(spec, plan, home, progress)
                peak = size(execution.peak_memory)
                progress.say(f"        done in {duration(execution.seconds)}, peak memory {peak}")
            else:
                restored = restore_page(plan.recipe, spec.name, plan.root)
                progress.say(f"{title}: skipped, {decision.reason}{'; page restored' if restored else ''}")
    return decisions


def _warm(plan: Plan) -> bool:
    """Whether it pays, and is safe, to load the libraries once for all kernels (:mod:`recnb.workflow.warm`)."""
    return len(plan.stages) > 2 and plan.recipe.runtime.device == "cpu" and sys.platform == "linux"


def _run_stage(spec: StageSpec, plan: Plan, home: Path, progress: Progress) -> Execution:
    target = executed_path(plan.recipe, spec.name, plan.root)
    failed = target.with_suffix(".failed.ipynb")
    for old in (failed, *figures_of(plan.recipe, spec.name, plan.root)):  # a figure no longer drawn must not stay
        old.unlink(missing_ok=True)
    parameters = {"recipe": plan.recipe_path, "overrides": list(plan.overrides)}
    before = read_manifest(plan.recipe, spec.name, plan.root)
    try:
        execution = run_notebook(spec.file(plan.root), partial_path(target), parameters, plan.recipe, progress)
        manifest = _closed(spec, plan, before)
    except StageFailedError as error:
        os.replace(partial_path(target), failed)
        way = f"the notebook as far as it came: {failed}\nto go on from there: {plan.command}"
        raise StageFailedError(f"{error}\n{way}", error.by_user) from None
    execution.peak_memory = max(execution.peak_memory, manifest["peak_memory"])
    publish(execution.notebook, f"notebooks/{spec.notebook}.ipynb", target, measured_sentence(execution, manifest))
    _keep_page(spec, plan)
    seconds = {"seconds": round(execution.seconds, 2), "cells": execution.cell_seconds}
    write_json(home / _HISTORY, read_json(home / _HISTORY) | {spec.name: {"key": manifest["key"], **seconds}})
    return execution


def _closed(spec: StageSpec, plan: Plan, before: dict[str, Any] | None) -> dict[str, Any]:
    manifest = read_manifest(plan.recipe, spec.name, plan.root)
    if manifest is None or manifest == before:
        raise StageFailedError(f"{spec.name}.ipynb ran to its end without stage.close(): the stage has no new manifest")
    return manifest


def measured_sentence(execution: Execution, manifest: dict[str, Any]) -> str:
    """The card's measured line: time, memory and device of this very run."""
    gpu = f", {size(manifest['peak_gpu_memory'])} on the GPU" if manifest["peak_gpu_memory"] else ""
    threads = f" ({manifest['threads']} thread{'s' if manifest['threads'] != 1 else ''})"
    where = manifest["device"] + (threads if manifest["device"] == "cpu" else "")
    return (
        f"{duration(execution.seconds)}, peak memory {size(execution.peak_memory)}{gpu}, on {where}, recipe "
        f"`{manifest['recipe_name']}`, measured {manifest['finished'][:10]}"
    )


# --- pages, should reports/ be deleted -------------------------------------------------------------------------------


def restore_page(recipe: Recipe, stage: str, root: Path) -> bool:
    """Bring back a skipped stage's executed notebook and figures where ``reports/`` was deleted, or where a run that
    was broken off has drawn over them. True if it did."""
    target, kept = executed_path(recipe, stage, root), stage_folder(recipe, stage, root) / PAGE
    lost = False
    for file in kept.iterdir() if kept.is_dir() else ():
        place = target if file.name == target.name else report_folder(recipe, root) / "figures" / file.name
        if not place.is_file() or not filecmp.cmp(file, place, shallow=False):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)
            lost = True
    return lost


def _keep_page(spec: StageSpec, plan: Plan) -> None:
    def fill(folder: Path) -> None:
        executed = executed_path(plan.recipe, spec.name, plan.root)
        for file in (executed, *figures_of(plan.recipe, spec.name, plan.root)):
            shutil.copy2(file, folder / file.name)

    write_folder_atomic(stage_folder(plan.recipe, spec.name, plan.root) / PAGE, fill)


def figures_of(recipe: Recipe, stage: str, root: Path) -> list[Path]:
    """What a stage has drawn for the report page."""
    return list((report_folder(recipe, root) / "figures").glob(f"{stage}-*"))


# --- refused before anything starts ----------------------------------------------------------------------------------


def _check_machine(plan: Plan) -> None:
    """Refuse what a later stage would miss before the first one runs; only stages that would run count."""
    found = preflight.problems(plan.recipe, plan.root, preflight.machine_for(plan.recipe, plan.root))
    running = {decision.spec.name for decision in explain(plan) if decision.run} if found else set()
    refused = [f"{each.what}\n  -> {each.way}" for each in found if each.blocks and each.stage in running]
    if refused:
        raise ResourceError("\n".join(refused))


def _check_before_range(plan: Plan) -> None:
    """Inputs made by stages before the range must be complete and undamaged: they will not be run now."""
    outside = {name for spec in plan.stages for name in spec.inputs} - {spec.name for spec in plan.stages}
    for name in sorted(outside):
        manifest = read_manifest(plan.recipe, name, plan.root)
        if manifest is None:
            raise ArtifactError(f"{name} comes before the range and is not complete; run it first: --from {name}")
        if damaged := damaged_artifacts(plan.recipe, name, plan.root, manifest):
            said = f"is damaged ({shortened(damaged)}); rebuild it: --from {name}"
            raise ArtifactError(f"{name} comes before the range and {said}")


def _only_run(home: Path) -> IO[str]:
    """One run per recipe at a time: the open file is the lock, and goes with the process, however it ends."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / ".lock").open("a+")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = (home / ".lock").read_text() or "?"
        raise RecnbError(f"another run works on {home.name} (process {holder}); wait for it or end it") from None
    except OSError as error:
        raise ResourceError(f"{home}: cannot write there ({error.strerror})") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
