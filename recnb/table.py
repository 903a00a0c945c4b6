"""The main table: recipes run to the end with several seeds, their results kept small, tables rebuilt anywhere.

A table file (``params/tables/*.yaml``) names recipes and seeds. Each becomes ordinary runs up to ``06_evaluate``; what
a table needs of them is written to ``reports/<recipe>/results.json``, with its provenance.
``notebooks/09_ablations.ipynb`` builds the table from these files alone, so a reader without a GPU rebuilds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from recnb import store
from recnb.compare import Changes, in_time, read_request
from recnb.pipeline import make_plan, run
from recnb.recipe import Recipe, load_recipe, recipe_hash
from recnb.stages import STAGES

RESULTS = "results.json"
PROTOCOLS = ("kept", "removed")
_LAST = "06_evaluate"


class Entry(BaseModel):
    """One recipe of a table."""

    model_config = ConfigDict(extra="forbid")
    recipe: str = Field(description="relative to the project root")
    seeds: list[int] = Field([], description="none: the recipe's own")
    changes: Changes = Field([], description="key=value overrides; lists within it are laid side by side")


class Table(BaseModel):
    """A table file, validated."""

    model_config = ConfigDict(extra="forbid")
    about: str = Field("", description="one sentence for whoever runs it")
    entries: list[Entry] = Field(min_length=1)


@dataclass(frozen=True)
class Run:
    """One recipe with one seed."""

    recipe_path: str
    overrides: tuple[str, ...]
    recipe: Recipe
    name: str  # of the recipe, whatever the seed


def read_table(path: Path) -> Table:
    """Read a table file.

    Raises:
        RecipeError: not there, not YAML, or a key is wrong; names the file and key.
    """
    return read_request(path, Table, "table", "entries, each with recipe, seeds and changes")


def fill(
    path: Path, root: Path, overrides: tuple[str, ...] = (), say: Callable[[str], None] = print, minutes: float = 0.0
) -> list[Path]:
    """Run what a table asks for and write each recipe's ``results.json``.

    Killed or out of time, the same call goes on: a finished stage is not run again, a training goes on from its last
    checkpoint.

    Args:
        path: the table file.
        root: project root.
        overrides: for all entries, e.g. where the data lies.
        say: told one line per finished run.
        minutes: start no further run after this long; 0: no limit.

    Returns:
        the files written.

    Raises:
        RecipeError: the file or one of its recipes is not valid; nothing has run.
    """
    runs = list(_runs(read_table(path), root, overrides))  # all are checked before the first one runs
    written: dict[str, Path] = {}
    done: dict[str, list[Run]] = {}
    for each in in_time(runs, minutes, say):
        run(make_plan(each.recipe_path, each.overrides, last=_LAST, root=root))
        done.setdefault(each.name, []).append(each)
        written[each.name] = write_results(each.name, [one.recipe for one in done[each.name]], root)
        say(f"{each.name}, seed {each.recipe.seed}: {written[each.name].relative_to(root)}")
    return list(written.values())


def write_results(name: str, recipes: list[Recipe], root: Path) -> Path:
    """Write ``reports/<name>/results.json`` from finished runs that differ in their seed alone.

    Per system and protocol: means over users and seeds and each seed's own; "ours" is, seed by seed, what validation
    chose (with the adapter or without). Against the baseline with the highest N@10: the paired difference with an
    interval over users and seeds.

    Args:
        name: of the results; the recipe's name without its seed.
        recipes: one per seed.
        root: project root.
    """
    from recnb import judge

    ranks, runs = {}, []  # type: dict[tuple[str, str], dict[int, Any]], list[dict[str, Any]]
    for recipe in recipes:
        found, about = _read_run(recipe, root)
        runs.append(about)
        for key, own in found.items():
            ranks.setdefault(key, {})[recipe.seed] = own
    systems = list(dict.fromkeys(system for system, _ in ranks))
    scores = {s: {p: judge.summary(ranks[s, p]) for p in PROTOCOLS} for s in systems}
    baselines = [s for s in systems if not s.startswith("eager-llm") and s != "ours"]
    best = max(baselines, key=lambda s: scores[s]["kept"]["N@10"], default=None)
    content: dict[str, Any] = {
        "recipe": name,
        "title": recipes[0].title,
        "recipe_hash": recipe_hash(recipes[0].model_copy(update={"name": name, "seed": 0})),
        "published": recipes[0].evaluate.published,
        "seeds": [recipe.seed for recipe in recipes],
        "runs": runs,
        "systems": scores,
        "spread": {s: judge.seed_spread(ranks[s, "kept"]) for s in systems},
        "best_baseline": best,
    }
    if best is not None:
        own, other = ranks["ours", "kept"], ranks[best, "kept"]
        content["ours_minus_best"] = judge.difference(own, other, judge.seed_spread(own))
        mixtures = {system: ranks[system, "kept"] for run in runs for system in run["mixtures"]}
        content["mixtures_minus_best"] = {
            system: judge.difference(both, other, judge.seed_spread(both)) for system, both in mixtures.items()
        }
    content["rows"] = _rows(name, scores, content["spread"], runs, recipes[0])
    target = root / recipes[0].paths.reports / name / RESULTS
    store.write_json(target, content)
    return target


def read_results(root: Path, reports: str = "reports") -> list[dict[str, Any]]:
    """All ``results.json`` of a project, by recipe name."""
    files = sorted((root / reports).glob(f"*/{RESULTS}"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def _runs(table: Table, root: Path, overrides: tuple[str, ...]) -> Iterator[Run]:
    for entry in table.entries:
        path = str(root / entry.recipe)
        plain = load_recipe(path, (*entry.changes, *overrides))
        for seed in entry.seeds or [plain.seed]:
            name = plain.name if seed == plain.seed else f"{plain.name}--seed-{seed}"
            changes = (*entry.changes, *overrides, f"name={name}", f"seed={seed}")
            yield Run(path, changes, load_recipe(path, changes), plain.name)


def _read_run(recipe: Recipe, root: Path) -> tuple[dict[tuple[str, str], Any], dict[str, Any]]:
    """Ranks by (system, protocol) of one finished run, and where they come from."""
    import pandas as pd

    folder = store.stage_folder(recipe, _LAST, root)
    every = {spec.name: store.read_manifest(recipe, spec.name, root) for spec in STAGES if spec.name <= _LAST}
    made = {name: manifest for name, manifest in every.items() if manifest}
    metrics, ledger = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("metrics", "ledger"))
    users = pd.read_parquet(folder / "per_user.parquet")
    names = {"ours": metrics["ours"]} | {system: system for system in metrics["systems"]}
    ranks = {(s, p): users[f"rank_{own}_{p}"].to_numpy() for s, own in names.items() for p in PROTOCOLS}
    about = {
        "seed": recipe.seed,
        "ours": metrics["ours"],
        "mixtures": [mixed["system"] for mixed in metrics["fusion"]],
        "parameters": metrics["budget"]["parameters"],
        "minutes": round(sum(manifest["seconds"] for manifest in made.values()) / 60, 1),
        "commit": made[_LAST]["commit"],
        "hardware": next(row["hardware"] for row in ledger["rows"] if row["kind"] == "measured"),
        "dtype": made["04_train"]["dtype"],
        "data": store.artifact_hashes(made["01_data"]),
        "seconds_per_system": made[_LAST]["facts"].get("seconds_per_system", {}),
    }
    return ranks, about


def _rows(
    name: str, scores: dict[str, Any], spread: dict[str, Any], runs: list[dict[str, Any]], recipe: Recipe
) -> list[dict[str, Any]]:
    """Published rows, then measured ones as means over seeds, as the ledger has them (papers' protocol): for README."""
    from recnb import ledger

    names = {s: f"{s} ({name})" if s.startswith("eager-llm") else s for s in scores if s != "ours"}
    measured = {shown: {m: scores[s]["kept"][m] for m in ledger.METRICS} for s, shown in names.items()}
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    why = {n: seeds + (f", sd of R@10 {spread[s]['R@10']:.4f}" if spread[s] else "") for s, n in names.items()}
    commits, machines = (", ".join(sorted({run[key] for run in runs})) for key in ("commit", "hardware"))
    frame = ledger.build_ledger(measured, ledger.published(recipe.evaluate.published), why, commits, machines)
    return list(ledger.ledger_records(frame))
