"""The report of a recipe: ``reports/<recipe>/index.html``, one page that holds or links all that was done.

It is made from manifests, the ledger, figures and executed notebooks alone, so it can be made again at any time.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recnb.artifacts import hash_artifact, write_atomic
from recnb.report.notebooks import TEMPLATES, render_page, title_of
from recnb.settings import Recipe, StageSpec
from recnb.studies.claims import read_choices
from recnb.workflow import recipe_text
from recnb.workflow.manifest import read_manifest, report_folder, stage_folder
from recnb.workflow.plan import executed_path
from recnb.workflow.progress import duration, size
from recnb.workflow.run import restore_page

_PICTURES = 5  # how many stand open on the page
_FACTS_ON_CARD = 5
_METRIC = re.compile(r"^[RN]@\d+")


@dataclass(frozen=True)
class StageView:
    """What the page shows of one stage; a stage without a manifest has ``done`` False and empty facts."""

    name: str
    number: str
    title: str
    page: str
    done: bool
    seconds: float
    memory: int
    device: str
    finished: str
    deterministic: bool
    facts: list[tuple[str, str]]
    artifacts: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Picture:
    """A figure of a stage, embedded."""

    stage: str
    page: str
    name: str
    alt: str
    data: str


def build_report(recipe: Recipe, root: Path, recipe_path: str = "", overrides: Sequence[str] = ()) -> Path:
    """Write the report page, the notebooks' pages and ``metrics.json``; what is up to date is left alone.

    Args:
        recipe: the recipe, overrides applied.
        root: project root.
        recipe_path: file of the recipe, shown with the command that repeats the run.
        overrides: ``key=value`` strings, shown there too.

    Returns:
        path of ``index.html``.
    """
    folder = report_folder(recipe, root)
    manifests = {spec.name: read_manifest(recipe, spec.name, root) for spec in recipe.stages}
    stages = [spec for spec in recipe.stages if spec.belongs_to(recipe) or manifests[spec.name]]
    pages = render_pages(recipe, root, manifests)
    views = [_view(spec, manifests[spec.name], pages, recipe, root) for spec in stages]
    ledger = _rows(read_result(recipe, root, "ledger.json"))
    metrics = read_result(recipe, root, "metrics.json") or {}
    figures = pictures(folder / "figures", pages, recipe.pictures)
    context = {
        "recipe": recipe,
        "command": _command(recipe_path, overrides),
        "stages": views,
        "pictures": figures[0],
        "more_pictures": figures[1],
        "ledger": ledger_table(ledger),
        "result": result_table(metrics),
        "verdicts": verdicts(metrics),
        "budget": budget(metrics),
        "choices": read_choices(recipe.name, root),
        "headline": headline(metrics, recipe.slug) or headline_of_ledger(ledger),
        "settings": _settings(recipe),
        "recipe_yaml": recipe_text.as_yaml(recipe),
        "environment": environment(manifests),
        "totals": _totals(views),
        "most": _largest(views),
        "css": "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("base.css", "index.css")),
    }
    _write_if_changed(folder / "index.html", _template().render(context))
    _write_if_changed(folder / "metrics.json", json.dumps(_metrics(recipe, manifests, ledger), indent=1) + "\n")
    return folder / "index.html"


def render_pages(recipe: Recipe, root: Path, manifests: dict[str, Any]) -> dict[str, str]:
    """Make a page of each executed notebook; stage name to the page's path relative to the report."""
    for name, manifest in manifests.items():
        if manifest:
            restore_page(recipe, name, root)
    made = [name for name in manifests if executed_path(recipe, name, root).is_file()]
    links = {spec.notebook.rpartition("/")[2]: spec.name for spec in recipe.stages}
    for place, name in enumerate(made):
        executed = executed_path(recipe, name, root)
        before, after = (made[place - 1] if place else ""), (made[place + 1] if place + 1 < len(made) else "")
        render_page(executed, executed.with_suffix(".html"), name, recipe.name, links, before, after)
    return {name: f"notebooks/{name}.html" for name in made}


def read_result(recipe: Recipe, root: Path, name: str) -> Any:
    """A JSON artifact of the evaluation; none if there is no such artifact or it does not match its manifest."""
    path = stage_folder(recipe, recipe.evaluation, root) / name
    entry = (read_manifest(recipe, recipe.evaluation, root) or {}).get("artifacts", {}).get(name)
    if not entry or not path.is_file() or hash_artifact(path) != entry["sha256"]:
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def result_table(metrics: dict[str, Any]) -> dict[str, Any]:
    """All systems under both protocols: metric names, protocols, and per system its values, the best ones marked.

    Args:
        metrics: an evaluation's ``metrics.json``: ``systems`` maps system to protocol to metric to value.
    """
    systems = metrics.get("systems", {})
    columns = list(dict.fromkeys((p, m) for both in systems.values() for p, scores in both.items() for m in scores))
    best = {c: max(both.get(c[0], {}).get(c[1], -1.0) for both in systems.values()) for c in columns}
    rows = [
        {
            "system": system,
            "ours": system == metrics.get("ours"),
            "cells": [_score(both.get(p, {}).get(m), best[p, m]) for p, m in columns],
        }
        for system, both in systems.items()
    ]
    protocols = {p: sum(1 for protocol, _ in columns if protocol == p) for p, _ in columns}
    return {"protocols": protocols, "metrics": [metric for _, metric in columns], "rows": rows}


def verdicts(metrics: dict[str, Any]) -> list[str]:
    """One sentence per opponent and metric, as far as the paired interval allows to speak; seen items kept."""
    top = f"@{max(metrics.get('cutoffs', [0]))}"
    rows = [row for row in metrics.get("ours_minus", {}).get("kept", []) if str(row.get("metric", "")).endswith(top)]
    sentences = []
    for row in rows:
        if row["low"] <= 0 <= row["high"]:
            said = "not clearly different from"
        else:
            said = "clearly better than" if row["low"] > 0 else "clearly worse than"
        interval = f"{row['diff']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        sentences.append(f"{row['metric']}: {metrics.get('ours', 'ours')} is {said} {row['against']}, {interval}")
    return sentences


def headline(metrics: dict[str, Any], slug: str) -> list[tuple[str, str]]:
    """Tiles on top of the page: ours, then the baselines by R@k, seen items kept; (value, label).

    Args:
        metrics: an evaluation's ``metrics.json``.
        slug: how names of the system's own rows begin; only the one that validation chose gets a tile.
    """
    metric = f"R@{max(metrics.get('cutoffs', [0]))}"
    scores = {name: both.get("kept", {}).get(metric) for name, both in metrics.get("systems", {}).items()}
    ours = metrics.get("ours", "")
    known = {name: value for name, value in scores.items() if value is not None}
    known = {name: value for name, value in known.items() if name == ours or not name.startswith(slug)}
    order = sorted(known, key=lambda name: (name != ours, -known[name]))
    return [(f"{known[name]:.4f}", f"{metric}, {name}") for name in order[:4]]


def budget(metrics: dict[str, Any]) -> list[str]:
    """What a small budget costs, in sentences: how small the model is, and whether it was still getting better."""
    spent = metrics.get("budget")
    if not spent:
        return []
    millions, papers, checks = spent["parameters"] / 1e6, 1 / spent["of_the_papers"], spent["validation"]
    lines = [f"The model has {millions:,.2f} million parameters, one for every {papers:,.0f} of the paper's, and was "
             f"trained for {spent['steps']:,} steps."]  # fmt: skip
    if len(checks) >= 2:
        gain = checks[-1] - checks[-2]
        state = "still getting better" if gain > 0 else "no longer getting better"
        lines.append("Validation R@10 over training: " + " → ".join(f"{value:.4f}" for value in checks)
                     + f"; it was {state} when training stopped ({gain:+.4f} from the last two checks).")  # fmt: skip
    systems, ours = metrics.get("systems", {}), metrics.get("ours")
    top = f"R@{max(metrics.get('cutoffs', [0]))}"
    kept = {name: both.get("kept", {}).get(top) for name, both in systems.items()}
    best = max((name for name in kept if kept[name] is not None), key=lambda name: kept[name], default=ours)
    if best != ours and kept.get(ours):
        lines.append(f"The best system on this page, {best}, reaches {kept[best] / kept[ours]:.2f} times our {top}.")
    return lines


def _score(value: float | None, best: float) -> dict[str, Any]:
    return {"text": "" if value is None else f"{value:.4f}", "best": value is not None and value >= best}


def _rows(content: Any) -> list[dict[str, Any]]:
    """Rows of a ledger: a list of them, or the list under ``rows``."""
    rows = content.get("rows", []) if isinstance(content, dict) else content or []
    return [row for row in rows if isinstance(row, dict)]


def ledger_table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ledger rows as the page shows them: columns with content, the best measured value of each metric marked."""
    hidden = {"commit", "hardware"}  # the same for all measured rows; said in the environment
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in hidden]
    names = [name for name in names if any(row.get(name) not in (None, "") for row in rows)]
    best = {name: max(_measured(rows, name), default=None) for name in names if _METRIC.match(name)}
    lines = [
        {
            "kind": str(row.get("kind", "")),
            "cells": [
                {"text": _ledger_cell(name, row.get(name)), "number": not isinstance(row.get(name), str),
                 "best": row.get("kind") == "measured" and best.get(name) is not None and row.get(name) == best[name]}
                for name in names
            ],
        }
        for row in rows
    ]  # fmt: skip
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    return {"columns": list(zip(names, numeric, strict=True)), "rows": lines}


def headline_of_ledger(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The best measured systems by R@10, best first: (value, label) for the tiles on top of the page."""
    measured = [row for row in rows if row.get("kind") == "measured" and isinstance(row.get("R@10"), int | float)]
    ranked = sorted(measured, key=lambda row: -row["R@10"])
    return [(f"{row['R@10']:.4f}", f"R@10, {row.get('system', '?')}") for row in ranked[:4]]


def pictures(
    folder: Path, pages: dict[str, str], wanted: Sequence[str] = ()
) -> tuple[list[Picture], list[Picture]]:
    """Figures of the recipe: the few that matter, and all others in the order of the stages.

    Where a wanted figure was not drawn, the first one of its stage stands in.
    """
    drawn = folder.glob("*.png")
    paths = sorted(drawn, key=lambda path: (path.stem.partition("-")[0], path.stat().st_mtime_ns, path.name))
    chosen: list[Path] = []
    for start in wanted:
        stage = start.partition("-")[0]
        found = [path for path in paths if path.name.startswith(start)]
        found = found or [path for path in paths if path.name.startswith(stage)]
        chosen += [path for path in found if path not in chosen][:1]
    chosen = chosen or paths[:_PICTURES]
    rest = [path for path in paths if path not in chosen]
    return [_picture(path, pages) for path in chosen], [_picture(path, pages) for path in rest]


def environment(manifests: dict[str, Any]) -> list[tuple[str, str]]:
    """What the stages ran on: platform, device, packages, commits; several values where stages differ."""
    known = [manifest for manifest in manifests.values() if manifest]
    rows = [
        ("system", _distinct(manifest.get("platform", "") for manifest in known)),
        ("device", _distinct(f"{m['device']} ({m['reasons'].get('device', '')})" for m in known)),
        ("dtype", _distinct(f"{m['dtype']} ({m['reasons'].get('dtype', '')})" for m in known)),
        ("threads", _distinct(f"{m['threads']} ({m['reasons'].get('threads', '')})" for m in known)),
        ("commit", _distinct(manifest.get("commit", "") for manifest in known)),
    ]
    packages = dict.fromkeys(name for manifest in known for name in manifest["versions"])
    rows += [(name, _distinct(manifest["versions"].get(name, "") for manifest in known)) for name in packages]
    return [(name, value) for name, value in rows if value]


def shown(value: Any) -> str:
    """A fact for people: four decimals at most, thousands apart, lists and dicts in one line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(inner)}" for key, inner in value.items())
    return ", ".join(shown(inner) for inner in value) if isinstance(value, list) else str(value)


def _view(
    spec: StageSpec, manifest: dict[str, Any] | None, pages: dict[str, str], recipe: Recipe, root: Path
) -> StageView:
    made = manifest or {}
    facts = [(name.replace("_", " "), shown(value)) for name, value in made.get("facts", {}).items()]
    artifacts = [(name, size(a["bytes"]), a["sha256"]) for name, a in made.get("artifacts", {}).items()]
    return StageView(
        name=spec.name,
        number=spec.name[:2],
        title=_title(spec, root).partition("·")[2].strip() or spec.name[3:],
        page=pages.get(spec.name, ""),
        done=manifest is not None,
        seconds=_seconds(spec.name, made, recipe, root),
        memory=made.get("peak_gpu_memory") or made.get("peak_memory") or 0,
        device=made.get("device", ""),
        finished=made.get("finished", "")[:16].replace("T", " "),
        deterministic=spec.deterministic,
        facts=facts,
        artifacts=artifacts,
    )


def _title(spec: StageSpec, root: Path) -> str:
    try:
        return title_of(json.loads(spec.file(root).read_text(encoding="utf-8")), spec.name)
    except (OSError, ValueError):
        return spec.name


def _seconds(stage: str, manifest: dict[str, Any], recipe: Recipe, root: Path) -> float:
    """Wall time of the whole notebook where the runner measured it, else from opening to closing the stage."""
    history = root / recipe.paths.runs / recipe.name / "history.json"
    try:
        entry = json.loads(history.read_text(encoding="utf-8")).get(stage, {})
    except (OSError, ValueError):
        entry = {}
    within = float(manifest.get("seconds", 0.0))
    return float(entry["seconds"]) if entry.get("key") == manifest.get("key") and "seconds" in entry else within


def _totals(views: list[StageView]) -> dict[str, str]:
    done = [view for view in views if view.done]
    return {
        "time": duration(sum(view.seconds for view in done)),
        "memory": size(max((view.memory for view in done), default=0)),
        "stages": f"{len(done)} of {len(views)}",
        "finished": max((view.finished for view in done), default=""),
    }


def _largest(views: list[StageView]) -> dict[str, float]:
    return {
        "seconds": max((view.seconds for view in views), default=0) or 1.0,
        "memory": max((view.memory for view in views), default=0) or 1,
    }


def _settings(recipe: Recipe) -> list[tuple[str, str, str, str]]:
    """(key, value, default, reason) of each setting that is not the default."""
    why = recipe_text.reasons(type(recipe))
    rows = recipe_text.differences(recipe, recipe_text.defaults(recipe))
    shown = recipe_text.inline
    return [(key, shown(value), shown(default), why.get(key, "")) for key, value, default in rows]


def _metrics(recipe: Recipe, manifests: dict[str, Any], ledger: list[dict[str, Any]]) -> dict[str, Any]:
    """The report's numbers for machines."""
    kept = ("key", "device", "dtype", "seed", "seconds", "peak_memory", "peak_gpu_memory", "commit", "facts")
    stages = {stage: {name: made.get(name) for name in kept} for stage, made in manifests.items() if made}
    return {"recipe": recipe.name, "seed": recipe.seed, "stages": stages, "ledger": ledger}


def _picture(path: Path, pages: dict[str, str]) -> Picture:
    stage, _, name = path.stem.partition("-")
    text = path.with_suffix(".txt")
    alt = text.read_text(encoding="utf-8").strip() if text.is_file() else name.replace("-", " ")
    return Picture(stage, pages.get(stage, ""), name, alt, base64.b64encode(path.read_bytes()).decode())


def _measured(rows: list[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row.get("kind") == "measured" and isinstance(row.get(name), int | float)]


def _ledger_cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.startswith("gap") and isinstance(value, float):
        return f"{100 * value:+.1f} %"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _distinct(values: Any) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))


def _command(recipe_path: str, overrides: Sequence[str]) -> str:
    return " ".join(["recnb run", recipe_path, *(f"--set '{override}'" for override in overrides)]).strip()


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"duration": duration, "size": size}
    environment.globals["facts_on_card"] = _FACTS_ON_CARD
    return environment.get_template("index.html.j2")


def _write_if_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomic(path, lambda file: file.write(text.encode()))
