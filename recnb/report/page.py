"""The report of a recipe: ``reports/<recipe>/index.html``, one page that holds or links all that was done.

It is made from manifests, the ledger, figures and executed notebooks alone, so it can be made again at any time.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recnb.artifacts import hash_artifact, read_json, write_text
from recnb.report import result
from recnb.report.notebooks import render_page, templates, title_of
from recnb.settings import Recipe, StageSpec, reasons
from recnb.studies.claims import read_choices
from recnb.workflow import recipe_text
from recnb.workflow.manifest import artifact_hashes, read_manifest, report_folder, stage_folder
from recnb.workflow.plan import executed_path
from recnb.workflow.progress import duration, size
from recnb.workflow.run import restore_page

_PICTURES = 5  # how many stand open on the page where the recipe names none


@dataclass(frozen=True)
class StageView:
    """What the page shows of one stage."""

    spec: StageSpec
    title: str
    made: Mapping[str, Any]  # its manifest; empty where it was not run
    seconds: float  # of the whole notebook where the runner measured it, else of the stage within it

    @property
    def memory(self) -> int:
        """Peak in bytes; on a GPU that of its tensors."""
        return self.made.get("peak_gpu_memory") or self.made.get("peak_memory") or 0

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What the stage noted."""
        return [(name.replace("_", " "), shown(value)) for name, value in self.made.get("facts", {}).items()]

    @property
    def artifacts(self) -> list[tuple[str, str, str]]:
        """(name, size, sha256) of what it handed on."""
        return [(name, size(file["bytes"]), file["sha256"]) for name, file in self.made["artifacts"].items()]


def build_report(recipe: Recipe, root: Path, recipe_path: str = "", overrides: Sequence[str] = ()) -> Path:
    """Write the report page, the notebooks' pages and ``metrics.json``; what is up to date is left alone.

    Args:
        recipe: the recipe, overrides applied.
        root: project root.
        recipe_path, overrides: as on the command line, shown with the command that repeats the run.

    Returns:
        path of ``index.html``.
    """
    folder = report_folder(recipe, root)
    manifests = {spec.name: read_manifest(recipe, spec.name, root) or {} for spec in recipe.stages}
    pages = _render_pages(recipe, root, manifests)
    views = _views(recipe, root, manifests)
    done = [view for view in views if view.made]
    ledger = read_result(recipe, root, "ledger.json").get("rows", [])
    metrics = read_result(recipe, root, "metrics.json")
    choices = read_choices(recipe.name, root)
    chosen, more = pictures(folder / "figures", recipe.pictures)
    text = templates().get_template("index.html.j2").render(
        recipe=recipe,
        command=" ".join(["recnb run", recipe_path, *(f"--set '{override}'" for override in overrides)]).strip(),
        stages=views, done=done, cost=_cost(done), pages=pages,
        pictures=chosen, more_pictures=more, alt=_alt, base64=lambda file: b64encode(file.read_bytes()).decode(),
        headline=result.headline(metrics, recipe.slug), result=result.result_table(metrics),
        verdicts=result.verdicts(metrics), budget=result.budget(metrics), ledger=result.ledger_table(ledger),
        choices=choices, choices_table=result.choices_table(choices),
        settings=_settings(recipe), recipe_yaml=recipe_text.as_yaml(recipe),
        environment=_environment([view.made for view in done]),
        duration=duration, size=size,
    )  # fmt: skip
    write_text(folder / "index.html", text + "\n")
    write_text(folder / "metrics.json", json.dumps(_metrics(recipe, manifests, ledger), indent=1) + "\n")
    return folder / "index.html"


def read_result(recipe: Recipe, root: Path, name: str) -> dict[str, Any]:
    """A JSON artifact of the evaluation; empty if there is none or it does not match its manifest."""
    path = stage_folder(recipe, recipe.evaluation, root) / name
    made = read_manifest(recipe, recipe.evaluation, root) or {"artifacts": {}}
    sha = artifact_hashes(made).get(name)
    return read_json(path) if sha and hash_artifact(path) == sha else {}


def pictures(folder: Path, wanted: Sequence[str] = ()) -> tuple[list[Path], list[Path]]:
    """Figures of the recipe: the few that matter, and all others in the order of the stages.

    Where a wanted figure was not drawn, the first one of its stage stands in.
    """
    drawn = folder.glob("*.png")
    paths = sorted(drawn, key=lambda path: (path.stem.partition("-")[0], path.stat().st_mtime_ns, path.name))
    chosen: list[Path] = []
    for start in wanted:
        found = [path for path in paths if path.name.startswith(start)]
        found = found or [path for path in paths if path.name.startswith(start.partition("-")[0])]
        chosen += [path for path in found if path not in chosen][:1]
    chosen = chosen or paths[:_PICTURES]
    return chosen, [path for path in paths if path not in chosen]


def shown(value: Any) -> str:
    """A fact for people: four digits, thousands apart, lists and dicts in one line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(inner)}" for key, inner in value.items())
    return ", ".join(shown(inner) for inner in value) if isinstance(value, list) else str(value)


def _render_pages(recipe: Recipe, root: Path, manifests: Mapping[str, Any]) -> dict[str, str]:
    """Make a page of each executed notebook; stage name to the page's path relative to the report."""
    for name, made in manifests.items():
        if made:
            restore_page(recipe, name, root)
    kept = [spec for spec in recipe.stages if executed_path(recipe, spec.name, root).is_file()]
    names = ["", *(spec.name for spec in kept), ""]
    links = {spec.notebook: spec.name for spec in kept}
    for spec, previous, following in zip(kept, names, names[2:], strict=False):
        render_page(executed_path(recipe, spec.name, root), spec.notebook, recipe.name, links, previous, following)
    return {spec.name: f"notebooks/{spec.name}.html" for spec in kept}


def _views(recipe: Recipe, root: Path, manifests: Mapping[str, Any]) -> list[StageView]:
    history = read_json(root / recipe.paths.runs / recipe.name / "history.json")
    views = []
    for spec in recipe.stages:
        made, measured = manifests[spec.name], history.get(spec.name, {})
        seconds = (measured if measured.get("key") == made.get("key") else made).get("seconds", 0.0)
        title = title_of(read_json(spec.file(root)), spec.name).partition("·")[2].strip() or spec.name[3:]
        if made or spec.belongs_to(recipe):
            views.append(StageView(spec, title, made, seconds))
    return views


def _cost(done: Sequence[StageView]) -> result.Table:
    """Time and memory of each stage, with bars in per cent of the longest, and of all."""
    longest = max((view.seconds for view in done), default=0) or 1
    largest = max((view.memory for view in done), default=0) or 1
    rows = [
        [view.spec.name, duration(view.seconds), f"{100 * view.seconds / longest:.1f}",
         size(view.memory), f"{100 * view.memory / largest:.1f}"]
        for view in done
    ]  # fmt: skip
    rows.append(["all", duration(sum(view.seconds for view in done)), "", size(largest if done else 0), ""])
    columns = [("stage", ""), ("time", "n"), ("", "bar"), ("memory", "n"), ("", "bar memory")]
    return result.Table(columns, rows, [*([""] * len(done)), "total"])


def _environment(manifests: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What the stages ran on: platform, device, packages, commits; several values where stages differ."""
    found: dict[str, dict[str, None]] = {}
    for made in manifests:
        chosen = {name: f"{made[name]} ({made['reasons'].get(name, '')})" for name in ("device", "dtype", "threads")}
        told = {"system": made.get("platform")} | chosen | {"commit": made.get("commit")} | made["versions"]
        for name, value in told.items():
            found.setdefault(name, {})[value] = None
    return [(name, "; ".join(filter(None, values))) for name, values in found.items() if any(values)]


def _settings(recipe: Recipe) -> list[tuple[str, str, str, str]]:
    """(key, value, default, reason) of each setting that is not the default."""
    why, inline = reasons(type(recipe)), recipe_text.inline
    rows = recipe_text.differences(recipe, recipe_text.defaults(recipe))
    return [
        (key, inline(value), inline(default), why.get(key) or why.get(key.rpartition(".")[0], ""))
        for key, value, default in rows
    ]


def _metrics(recipe: Recipe, manifests: Mapping[str, Any], ledger: list[dict[str, Any]]) -> dict[str, Any]:
    """The report's numbers for machines."""
    kept = ("key", "device", "dtype", "seed", "seconds", "peak_memory", "peak_gpu_memory", "commit", "facts")
    stages = {stage: {name: made.get(name) for name in kept} for stage, made in manifests.items() if made}
    return {"recipe": recipe.name, "seed": recipe.seed, "stages": stages, "ledger": ledger}


def _alt(figure: Path) -> str:
    text, name = figure.with_suffix(".txt"), figure.stem.partition("-")[2]
    return text.read_text(encoding="utf-8").strip() if text.is_file() else name.replace("-", " ")
