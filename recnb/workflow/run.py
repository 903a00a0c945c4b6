"""The stage graph, executed: which notebooks must run and why, then papermill, one after the other.

There is no second way to do a stage's work: ``recnb run`` executes the notebooks that a person opens in JupyterLab.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recnb.artifacts import write_folder_atomic, write_json
from recnb.errors import ArtifactError, RecnbError, ResourceError
from recnb.settings import Recipe, StageSpec
from recnb.workflow import memory, preflight
from recnb.workflow.execute import (
    Execution,
    StageFailedError,
    fill_measured,
    note_path,
    run_notebook,
)
from recnb.workflow.manifest import damaged_artifacts, read_manifest, report_folder, stage_folder
from recnb.workflow.plan import Decision, Plan, decide, executed_path, explain, shortened
from recnb.workflow.progress import Progress, duration, size

_PAGE = "page"  # runs/<recipe>/<stage>/page: the executed notebook and its figures, should reports/ be deleted


def run(plan: Plan, progress: Progress | None = None) -> list[Decision]:
    """Run what must run, in order, each stage on the results of the one before.

    Returns:
        One decision per stage in range, as carried out.

    Raises:
        StageFailedError: a notebook failed; the message says where and how to go on.
        ResourceError: a stage that would run does not fit in memory, the message names keys that lower it; or it
            needs a file or model that is not here.
        RecnbError: the stages before the range are not usable, or another run is at work.
    """
    home = plan.root / plan.recipe.paths.runs / plan.recipe.name
    decisions: list[Decision] = []
    _check_needs(plan)
    _check_memory(plan)
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
                progress.say(f"{title}: {decision.reason}")
                ahead = [other.name for other in plan.stages[number:]]
                progress.stage(spec.name, number, len(plan.stages), ahead, _note(spec, plan))
                _run_stage(spec, plan, progress, history, home)
            else:
                restored = restore_page(plan.recipe, spec.name, plan.root)
                progress.say(f"{title}: skipped, {decision.reason}{'; page restored' if restored else ''}")
    return decisions


def restore_page(recipe: Recipe, stage: str, root: Path) -> bool:
    """Bring back a skipped stage's executed notebook and figures if ``reports/`` was deleted. True if it did."""
    target = executed_path(recipe, stage, root)
    kept = stage_folder(recipe, stage, root) / _PAGE
    if target.is_file() or not (kept / target.name).is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(kept / target.name, target)
    figures = report_folder(recipe, root) / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for figure in kept.glob(f"{stage}-*"):
        shutil.copy2(figure, figures / figure.name)
    return True


def _note(spec: StageSpec, plan: Plan) -> Path:
    return note_path(executed_path(plan.recipe, spec.name, plan.root))


def _run_stage(spec: StageSpec, plan: Plan, progress: Progress, history: dict[str, Any], home: Path) -> None:
    target = executed_path(plan.recipe, spec.name, plan.root)
    _forget_figures(plan, spec.name)
    parameters = {"recipe": plan.recipe_path, "overrides": list(plan.overrides)}
    try:
        execution = run_notebook(spec.file(plan.root), target, parameters, plan.recipe, progress.cell)
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
    write_json(home / "history.json", history)
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
    manifest = read_manifest(plan.recipe, spec.name, plan.root)
    if manifest is None:
        raise StageFailedError(f"{spec.name}.ipynb ran to its end without stage.close(): the stage has no manifest")
    return manifest


def _keep_page(plan: Plan, stage: str, executed: Path) -> None:
    figures = report_folder(plan.recipe, plan.root) / "figures"

    def fill(folder: Path) -> None:
        for file in [executed, *figures.glob(f"{stage}-*")]:
            shutil.copy2(file, folder / file.name)

    write_folder_atomic(stage_folder(plan.recipe, stage, plan.root) / _PAGE, fill)


def _forget_figures(plan: Plan, stage: str) -> None:
    """A figure that the new notebook no longer draws must not stay in the report."""
    for figure in (report_folder(plan.recipe, plan.root) / "figures").glob(f"{stage}-*"):
        figure.unlink()


def _check_before_range(plan: Plan) -> None:
    """Inputs made by stages before the range must be complete and undamaged: they will not be run now."""
    inside = {spec.name for spec in plan.stages}
    outside = sorted({name for spec in plan.stages for name in spec.inputs if name not in inside})
    for name in outside:
        manifest = read_manifest(plan.recipe, name, plan.root)
        if manifest is None:
            raise ArtifactError(f"{name} comes before the range and is not complete; run it first: --from {name}")
        damaged = damaged_artifacts(plan.recipe, name, plan.root, manifest)
        if damaged:
            raise ArtifactError(
                f"{name} comes before the range and is damaged ({shortened(damaged)}); rebuild it: --from {name}"
            )


def _check_needs(plan: Plan) -> None:
    """Refuse what a later stage would miss before the first one runs; only stages that would run count."""
    lacking = [each for each in preflight.missing(plan.recipe, plan.root) if each.blocks]
    _refuse(plan, [(each.stage, each.what, each.way) for each in lacking])


def _check_memory(plan: Plan) -> None:
    """Refuse what cannot fit, before hours are spent on the stages ahead of it; only stages that would run count."""
    room = memory.room_here(plan.recipe)
    tight = memory.misfits(plan.recipe, plan.root, room, plan.stages)
    _refuse(plan, [(need.spec.name, *need.refusal(room)) for need in tight])


def _refuse(plan: Plan, found: Sequence[tuple[str, str, str]]) -> None:
    """Raise over what stands in the way, (stage, what, way) each, of stages that would run; the others are done."""
    running = {decision.spec.name for decision in explain(plan) if decision.run} if found else set()
    refused = [f"{what}\n  -> {way}" for stage, what, way in found if stage in running]
    if refused:
        raise ResourceError("\n".join(refused))


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
