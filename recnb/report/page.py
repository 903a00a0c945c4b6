"""The report of a recipe: ``reports/<recipe>/index.html``, one page that holds or links all that was done.

It is made from manifests, the ledger, figures and executed notebooks alone, so it can be made again at any time.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recnb.artifacts import hash_artifact, read_json, write_json, write_text
from recnb.report import result
from recnb.report.notebooks import render_page, templates, title_of
from recnb.settings import Recipe, StageSpec, reasons
from recnb.studies.claims import choices, read_comparisons, unfinished
from recnb.studies.ledger import read_published
from recnb.workflow import recipe_text
from recnb.workflow.manifest import artifact_hashes, read_manifest, report_folder, stage_folder
from recnb.workflow.plan import executed_path
from recnb.workflow.progress import duration, size
from recnb.workflow.recipe import settings_hash
from recnb.workflow.run import restore_page

_PICTURES = 5  # how many stand open on the page where the recipe names none


class StageView(NamedTuple):
    """What the page shows of one stage."""

    spec: StageSpec
    title: str
    made: Mapping[str, Any]  # its manifest; empty where it was not run
    seconds: float  # of the whole notebook where the runner measured it, else of the stage within it
    memory: int  # peak in bytes; on a GPU that of its tensors
    facts: list[tuple[str, str]]  # what it noted
    artifacts: list[tuple[str, str, str]]  # name, size and sha256 of what it handed on


def build_report(recipe: Recipe, root: Path, recipe_path: str = "", overrides: Sequence[str] = ()) -> Path:
    """Write the report page (returned), the notebooks' pages and ``metrics.json``; what is up to date is left alone.

    ``recipe_path`` and ``overrides``, as on the command line, are shown with the command that repeats the run.
    """
    folder = report_folder(recipe, root)
    manifests = {spec.name: read_manifest(recipe, spec.name, root) or {} for spec in recipe.stages}
    pages = _render_pages(recipe, root, manifests)
    history = read_json(root / recipe.paths.runs / recipe.name / "history.json")
    listed = [spec for spec in recipe.stages if manifests[spec.name] or spec.belongs_to(recipe)]
    views = [_view(spec, manifests[spec.name], history.get(spec.name, {}), root) for spec in listed]
    done = [view for view in views if view.made]
    ledger = _result(recipe, root, "ledger.json").get("rows", [])
    metrics = _result(recipe, root, "metrics.json")
    compared = read_comparisons(root)
    measured = choices(compared.get(recipe.name, {}))
    earlier, settings = read_json(folder / "results.json"), settings_hash(recipe)
    chosen, more = pictures(folder / "figures", recipe.pictures)
    text = templates().get_template("index.html.j2").render(
        recipe=recipe,
        command=" ".join(["recnb run", recipe_path, *(f"--set '{override}'" for override in overrides)]).strip(),
        stages=views, done=done, cost=_cost(done), pages=pages,
        pictures=chosen, more_pictures=more, alt=_alt, base64=lambda file: b64encode(file.read_bytes()).decode(),
        headline=result.headline(metrics, recipe.slug), result=result.result_table(metrics),
        said=metrics.get("said", []),
        verdicts=result.verdicts(metrics, read_published(recipe.published, recipe.wing)),
        seeds=result.seeds_table(earlier, ledger, metrics.get("ours", "")),
        seeds_said=result.seeds_said(earlier, settings),
        unfinished=unfinished(compared, recipe.name, metrics.get("systems", {})),
        budget=result.budget(metrics), ledger=result.ledger_table(ledger),
        choices=measured, choices_table=result.choices_table(measured), with_legend=result.with_legend,
        choices_said=result.choices_said(measured, metrics, settings, manifests.get(recipe.evaluation, {})),
        settings=_settings(recipe), recipe_yaml=recipe_text.as_yaml(recipe),
        environment=_environment([view.made for view in done]),
        duration=duration, size=size,
    )  # fmt: skip
    write_text(folder / "index.html", text + "\n")
    write_json(folder / "metrics.json", _metrics(recipe, done, ledger))
    return folder / "index.html"


def _result(recipe: Recipe, root: Path, name: str) -> dict[str, Any]:
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
    for name in filter(manifests.get, manifests):
        restore_page(recipe, name, root)
    kept = [spec for spec in recipe.stages if executed_path(recipe, spec.name, root).is_file()]
    links = {spec.notebook: spec.name for spec in kept}
    for name in links.values():
        render_page(executed_path(recipe, name, root), recipe.name, links)
    return {name: f"notebooks/{name}.html" for name in links.values()}


def _view(spec: StageSpec, made: Mapping[str, Any], measured: Mapping[str, Any], root: Path) -> StageView:
    seconds = (measured if measured.get("key") == made.get("key") else made).get("seconds", 0.0)
    title = title_of(read_json(spec.file(root)), spec.name).partition("·")[2].strip() or spec.name[3:]
    memory = made.get("peak_gpu_memory") or made.get("peak_memory") or 0
    facts = [(name.replace("_", " "), shown(value)) for name, value in made.get("facts", {}).items()]
    files = [(name, size(file["bytes"]), file["sha256"]) for name, file in made.get("artifacts", {}).items()]
    return StageView(spec, title, made, seconds, memory, facts, files)


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
    joined = {name: "; ".join(filter(None, values)) for name, values in found.items() if any(values)}
    return [(name, result.with_legend(values)) for name, values in joined.items()]


def _settings(recipe: Recipe) -> list[tuple[str, str, str, str]]:
    """(key, value, default, reason) of each setting that is not the default."""
    why, inline = reasons(type(recipe)), recipe_text.inline
    rows = recipe_text.differences(recipe, recipe_text.defaults(recipe))
    return [
        (key, inline(value), inline(default), why.get(key) or why.get(key.rpartition(".")[0], ""))
        for key, value, default in rows
    ]


def _metrics(recipe: Recipe, done: Sequence[StageView], ledger: list[dict[str, Any]]) -> dict[str, Any]:
    """The report's numbers for machines."""
    kept = ("key", "device", "dtype", "seed", "seconds", "peak_memory", "peak_gpu_memory", "commit", "facts")
    stages = {view.spec.name: {name: view.made.get(name) for name in kept} for view in done}
    about = {"recipe": recipe.name, "recipe_hash": settings_hash(recipe), "seed": recipe.seed}
    return about | {"stages": stages, "ledger": ledger}


def _alt(figure: Path) -> str:
    text, name = figure.with_suffix(".txt"), figure.stem.partition("-")[2]
    return text.read_text(encoding="utf-8").strip() if text.is_file() else name.replace("-", " ")
