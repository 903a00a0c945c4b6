"""The main table: recipes run to the end with several seeds, their results kept small, tables rebuilt anywhere.

A table file (``params/tables/*.yaml``) names recipes and seeds. Each becomes ordinary runs up to the evaluation; what
a table needs of them is written to ``reports/<recipe>/results.json``, with its provenance.
``09_ablations`` builds the table from these files alone, so a reader without a GPU rebuilds it. Beside
them lie each seed's ranks, user by user (``ranks-<seed>.parquet``): seeds measured on several machines add up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from recnb.artifacts import hash_artifact, write_atomic, write_json
from recnb.errors import ResourceError
from recnb.settings import Recipe
from recnb.studies.requests import Changes, in_time, read_request, take_over
from recnb.workflow.graph import stages_between
from recnb.workflow.manifest import artifact_hashes, read_manifest, stage_folder
from recnb.workflow.plan import make_plan
from recnb.workflow.recipe import load_recipe, recipe_hash
from recnb.workflow.run import run

if TYPE_CHECKING:
    import pandas as pd


RESULTS = "results.json"
RANKS = "ranks-{seed}.parquet"
PROTOCOLS = ("kept", "removed")
_MOST = 255  # ranks are kept in a byte; every metric of a table ends long before


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


@dataclass(frozen=True)
class Measured:
    """One recipe with one seed, measured.

    Attributes:
        ranks: (U users) one uint8 column ``<system>/<protocol>`` each: rank of the target from 0; 255: so or worse.
        about: where they come from; which system is ours, which are mixtures.
    """

    ranks: pd.DataFrame
    about: dict[str, Any]


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
    checkpoint; stages that would come out as in a run before (the data, the embeddings) are copied from there. A seed
    that was measured on another machine, with the same settings, is taken from the results as it is.

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
        ResourceError: none of the runs fits into this machine; where some do, the others are said and left out.
    """
    runs = list(_runs(read_table(path), root, overrides))  # all are checked before the first one runs
    written: dict[str, Path] = {}
    before: list[Recipe] = []
    refused: list[str] = []
    for each in in_time(runs, minutes, say):
        earlier = read_measured(each.name, each.recipe, root, say)
        seed = each.recipe.seed
        if seed in earlier and read_manifest(each.recipe, each.recipe.evaluation, root) is None:
            say(f"{each.name}, seed {seed}: measured elsewhere, commit {earlier[seed].about['commit']}; taken as it is")
            continue
        plan = make_plan(each.recipe_path, each.overrides, last=each.recipe.evaluation, root=root)
        for other in before:
            take_over(plan, other)
        try:
            run(plan)
        except ResourceError as error:  # the others may fit
            say(f"{each.name}, seed {seed}: left out: {error}")
            refused.append(each.name)
            continue
        before.append(each.recipe)
        found = read_run(each.recipe, root)
        same = {s: one for s, one in earlier.items() if one.about["data"] == found.about["data"]}
        if same.keys() != earlier.keys():
            say(f"{each.name}: seeds {sorted(earlier.keys() - same.keys())} were measured on other data; left out")
        written[each.name] = write_results(each.name, each.recipe, same | {seed: found}, root)
        say(f"{each.name}, seed {seed}: {written[each.name].relative_to(root)}")
    if refused and not written:
        raise ResourceError(f"{path}: nothing of it can run on this machine: {', '.join(dict.fromkeys(refused))}")
    return list(written.values())


def write_results(name: str, recipe: Recipe, measured: Mapping[int, Measured], root: Path) -> Path:
    """Write ``reports/<name>/results.json``, and the ranks it was made of, from runs that differ in their seed alone.

    Per system and protocol: means over users and seeds and each seed's own; "ours" is, seed by seed, what validation
    chose (with the adapter or without). Against the baseline with the highest N@10: the paired difference with an
    interval over users and seeds.

    Args:
        name: of the results; the recipe's name without its seed.
        recipe: of any of the runs.
        measured: seed -> what was measured; all with the same systems and users.
        root: project root.
    """
    from recnb.evaluation.intervals import seed_spread, summary

    measured = dict(sorted(measured.items()))
    folder = root / recipe.paths.reports / name
    ranks: dict[tuple[str, str], dict[int, Any]] = {}
    for seed, one in measured.items():
        own = {system: system for system in dict.fromkeys(c.rpartition("/")[0] for c in one.ranks)}
        for shown, system in ({"ours": one.about["ours"]} | own).items():
            for protocol in PROTOCOLS:
                ranks.setdefault((shown, protocol), {})[seed] = one.ranks[f"{system}/{protocol}"].to_numpy()
    runs = [one.about | {"ranks": _write_ranks(folder, seed, one.ranks)} for seed, one in measured.items()]
    systems = list(dict.fromkeys(system for system, _ in ranks))
    scores = {s: {p: summary(ranks[s, p]) for p in PROTOCOLS} for s in systems}
    baselines = [s for s in systems if not s.startswith(recipe.slug) and s != "ours"]
    best = max(baselines, key=lambda s: scores[s]["kept"]["N@10"], default=None)
    content: dict[str, Any] = {
        "recipe": name,
        "title": recipe.title,
        "recipe_hash": _settings(recipe),
        "published": recipe.published,
        "seeds": list(measured),
        "runs": runs,
        "systems": scores,
        "spread": {s: seed_spread(ranks[s, "kept"]).sd for s in systems},
        "best_baseline": best,
    }
    if best is not None:
        mixtures = list(dict.fromkeys(system for run in runs for system in run["mixtures"]))
        content["ours_minus_best"] = _minus(ranks["ours", "kept"], ranks[best, "kept"])
        content["mixtures_minus_best"] = {m: _minus(ranks[m, "kept"], ranks[best, "kept"]) for m in mixtures}
    content["rows"] = _rows(name, scores, content["spread"], runs, recipe)
    write_json(folder / RESULTS, content)
    for path in folder.glob(RANKS.format(seed="*")):
        if path.name not in {RANKS.format(seed=seed) for seed in measured}:
            path.unlink()
    return folder / RESULTS


def read_measured(
    name: str, recipe: Recipe, root: Path, say: Callable[[str], None] = lambda line: None
) -> dict[int, Measured]:
    """What was measured before with the same settings, on whatever machine, seed by seed.

    Args:
        name: of the results.
        recipe: as it would run now; results of other settings are not its own.
        root: project root.
        say: told what could not be used, and why.

    Returns:
        seed -> what was measured; without the seeds whose ranks are missing or are not those of the results.
    """
    import pandas as pd

    folder = root / recipe.paths.reports / name
    if not (folder / RESULTS).is_file():
        return {}
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    if results["recipe_hash"] != _settings(recipe):
        say(f"{name}: its results are of other settings, or of an earlier recnb, and will be replaced")
        return {}
    found = {}
    for about in results["runs"]:
        path = folder / RANKS.format(seed=about["seed"])
        if path.is_file() and hash_artifact(path) == about.get("ranks"):
            found[about["seed"]] = Measured(pd.read_parquet(path), about)
        else:
            say(f"{name}: the ranks of seed {about['seed']} are not those of its results; that seed is left out")
    return found


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


def _minus(one: Mapping[int, Any], other: Mapping[int, Any]) -> dict[str, dict[str, float]]:
    """The difference of two systems of the same runs."""
    from recnb.evaluation.intervals import difference, paired_spread

    return difference(one, other, paired_spread(one, other))


def _settings(recipe: Recipe) -> str:
    """Hash of what a recipe asks for, whatever its seed, and wherever it runs: a run names its machine and its data."""
    tree = recipe.model_dump(mode="json", exclude={"system", "name", "title", "seed", "runtime", "paths"})
    tree.get("data", {}).pop("path", None)
    return recipe_hash(tree)


def _write_ranks(folder: Path, seed: int, ranks: pd.DataFrame) -> str:
    """Write one seed's ranks; returns the file's hash."""
    path = folder / RANKS.format(seed=seed)
    write_atomic(path, lambda file: ranks.to_parquet(file, compression="zstd", index=False))
    return hash_artifact(path)


def read_run(recipe: Recipe, root: Path) -> Measured:
    """Ranks of one finished run, and where they come from."""
    import pandas as pd

    last = recipe.evaluation
    folder, stages = stage_folder(recipe, last, root), stages_between(None, last, recipe.stages)
    made = {spec.name: made for spec in stages if (made := read_manifest(recipe, spec.name, root))}
    metrics, ledger = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("metrics", "ledger"))
    users = pd.read_parquet(folder / "per_user.parquet")
    columns = {f"{s}/{p}": users[f"rank_{s}_{p}"].clip(upper=_MOST) for s in metrics["systems"] for p in PROTOCOLS}
    about = {
        "seed": recipe.seed,
        "ours": metrics["ours"],
        "mixtures": [mixed["system"] for mixed in metrics.get("fusion", [])],
        "parameters": metrics.get("budget", {}).get("parameters"),
        "minutes": round(sum(manifest["seconds"] for manifest in made.values()) / 60, 1),
        "commit": made[last]["commit"],
        "hardware": next(row["hardware"] for row in ledger["rows"] if row["kind"] == "measured"),
        "dtype": made[last]["dtype"],
        "data": artifact_hashes(made[stages[0].name]),
        "seconds_per_system": made[last]["facts"].get("seconds_per_system", {}),
    }
    return Measured(pd.DataFrame(columns).astype("uint8"), about)


def _rows(
    name: str, scores: dict[str, Any], spread: dict[str, Any], runs: list[dict[str, Any]], recipe: Recipe
) -> list[dict[str, Any]]:
    """Published rows, then measured ones as means over seeds, as the ledger has them (papers' protocol): for README."""
    from recnb.studies import ledger

    names = {s: f"{s} ({name})" if s.startswith(recipe.slug) else s for s in scores if s != "ours"}
    measured = {shown: {m: scores[s]["kept"][m] for m in ledger.METRICS} for s, shown in names.items()}
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    why = {n: seeds + (f", sd of R@10 {spread[s]['R@10']:.4f}" if spread[s] else "") for s, n in names.items()}
    commits, machines = (", ".join(sorted({run[key] for run in runs})) for key in ("commit", "hardware"))
    frame = ledger.build_ledger(measured, ledger.published(recipe.published, recipe.wing), why, commits, machines)
    return list(ledger.ledger_records(frame))
