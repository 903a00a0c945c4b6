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

from recnb import listing, store
from recnb.pages import TEMPLATES, render_page, title_of
from recnb.pipeline import executed_path, restore_page
from recnb.progress import duration, size
from recnb.recipe import Recipe
from recnb.stages import STAGES, StageSpec

# The pictures that matter most, best first; each is `<stage>-<name>` or the beginning of it.
PICTURES = ("06_evaluate", "08_prefix_map", "04_train", "03_index", "02_embeddings", "05_anneal", "07_case", "01_data")
HEADLINE_PICTURES = 5
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
    folder = store.report_folder(recipe, root)
    manifests = {spec.name: store.read_manifest(recipe, spec.name, root) for spec in STAGES}
    pages = render_pages(recipe, root, manifests)
    views = [_view(spec, manifests[spec.name], pages, recipe, root) for spec in STAGES]
    ledger = read_ledger(recipe, root, manifests["06_evaluate"])
    context = {
        "recipe": recipe,
        "command": _command(recipe_path, overrides),
        "stages": views,
        "pictures": pictures(folder / "figures", pages),
        "ledger": ledger_table(ledger),
        "headline": headline(ledger),
        "settings": _settings(recipe),
        "recipe_yaml": listing.as_yaml(recipe),
        "environment": environment(manifests),
        "totals": _totals(views),
        "most": _largest(views),
        "css": "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("base.css", "index.css")),
        "headline_pictures": HEADLINE_PICTURES,
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
    for place, name in enumerate(made):
        executed = executed_path(recipe, name, root)
        before, after = (made[place - 1] if place else ""), (made[place + 1] if place + 1 < len(made) else "")
        render_page(executed, executed.with_suffix(".html"), name, recipe.name, before, after)
    return {name: f"notebooks/{name}.html" for name in made}


def read_ledger(recipe: Recipe, root: Path, manifest: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Rows of 06_evaluate's ``ledger.json``; none if there is no such artifact or it is damaged."""
    path = store.stage_folder(recipe, "06_evaluate", root) / "ledger.json"
    entry = (manifest or {}).get("artifacts", {}).get("ledger.json")
    if not entry or not path.is_file() or store.hash_artifact(path) != entry["sha256"]:
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    rows = content.get("rows", []) if isinstance(content, dict) else content
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


def headline(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The best measured systems by R@10, best first: (value, label) for the tiles on top of the page."""
    measured = [row for row in rows if row.get("kind") == "measured" and isinstance(row.get("R@10"), int | float)]
    ranked = sorted(measured, key=lambda row: -row["R@10"])
    return [(f"{row['R@10']:.4f}", f"R@10, {row.get('system', '?')}") for row in ranked[:4]]


def pictures(folder: Path, pages: dict[str, str]) -> list[Picture]:
    """All figures of the recipe, those that matter most first, one of each stage before the second of any."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.png"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        found.setdefault(path.stem.partition("-")[0], []).append(path)
    order = [(turn, _rank(stage), path) for stage, paths in found.items() for turn, path in enumerate(reversed(paths))]
    return [_picture(path, pages) for _, _, path in sorted(order, key=lambda entry: entry[:2])]


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
    path = root / "notebooks" / f"{spec.name}.ipynb"
    try:
        return title_of(json.loads(path.read_text(encoding="utf-8")), spec.name)
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
    why = listing.reasons()
    rows = listing.differences(recipe, listing.defaults(recipe))
    return [(key, listing.inline(value), listing.inline(default), why.get(key, "")) for key, value, default in rows]


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


def _rank(stage: str) -> int:
    return next((place for place, prefix in enumerate(PICTURES) if stage.startswith(prefix)), len(PICTURES))


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
        store.write_atomic(path, lambda file: file.write(text.encode()))
