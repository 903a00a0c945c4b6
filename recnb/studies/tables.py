"""The main table: recipes run to the end with several seeds, their results kept small, tables rebuilt anywhere.

A table file (``params/tables/*.yaml``) names recipes and seeds. Each becomes ordinary runs up to its evaluation; what a
table needs of them goes to ``reports/<recipe>/results.json``, with its provenance, so that a reader without a GPU
rebuilds the table. Beside it lie each seed's ranks, user by user (``ranks-<seed>.parquet``): seeds measured on several
machines add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import Field

from recnb.artifacts import hash_artifact, read_artifact, write_atomic, write_json
from recnb.evaluation.intervals import SeedRanks, difference, paired_spread, seed_spread, summary
from recnb.evaluation.metrics import PROTOCOLS
from recnb.evaluation.verdicts import judged_in
from recnb.settings import Recipe
from recnb.studies import ledger
from recnb.studies.trials import Request, Trial, Variant, manifests, origin, run_trials
from recnb.workflow.manifest import read_manifest, stage_folder
from recnb.workflow.plan import Plan, make_plan
from recnb.workflow.recipe import load_recipe, settings_hash

RESULTS = "results.json"
RANKS = "ranks-{seed}.parquet"
_MOST = 255  # ranks are kept in a byte; every metric of a table ends long before


class Entry(Variant):
    """One recipe of a table."""

    recipe: str = Field(description="relative to the project root")


class Table(Request):
    """A table file, validated."""

    entries: list[Entry] = Field(min_length=1)

    def trials(self, root: Path, overrides: Sequence[str] = ()) -> list[Trial]:
        """All runs, checked, entry by entry and seed by seed; ``overrides`` are for all entries."""
        trials = []
        for entry in self.entries:
            path, changes = str(root / entry.recipe), (*entry.changes, *overrides)
            plain = load_recipe(path, changes)
            for seed in entry.seeds or [plain.seed]:
                name = plain.name if seed == plain.seed else f"{plain.name}--seed-{seed}"
                own = (*changes, f"name={name}", f"seed={seed}")
                plan = make_plan(path, own, last=plain.evaluation, root=root)
                trials.append(Trial(plain.name, plan, plan.recipe))
        return trials


class Measured(NamedTuple):
    """One recipe with one seed, measured: (U,) ranks of the target from 0 in a uint8 column ``<system>/<protocol>``
    each (255: so or worse), or floats, HR@1 among candidates, and the protocol a rule; for rows that belong together a
    column ``session``; and where they come from, which system is ours, which are mixtures, by which rule they are
    judged (``protocol``, if not ``kept``)."""

    ranks: pd.DataFrame
    about: dict[str, Any]


def run_table(
    path: Path, root: Path, overrides: tuple[str, ...] = (), say: Callable[[str], None] = print, minutes: float = 0.0
) -> list[Path]:
    """Run what a table asks for and write each recipe's ``results.json``.

    Killed or out of time, the same call goes on: a finished stage is not run again, a training goes on from its last
    checkpoint. A seed that was measured on another machine, with the same settings, is taken from the results as it is.
    Arguments and errors as of :func:`recnb.studies.comparisons.run_comparison`; the files written are returned.
    """
    trials = Table.read(path).trials(root, overrides)  # all are checked before the first one runs
    written: dict[str, Path] = {}
    for trial in run_trials(path, [each for each in trials if not _elsewhere(each, say)], minutes, say):
        name, recipe = trial.group, trial.recipe
        earlier, found = read_measured(name, recipe, root), read_run(trial.plan)
        same = {seed: one for seed, one in earlier.items() if one.about["data"] == found.about["data"]}
        if same.keys() != earlier.keys():
            say(f"{name}: seeds {sorted(earlier.keys() - same.keys())} were measured on other data; left out")
        written[name] = write_results(name, recipe, same | {recipe.seed: found}, root)
        say(f"{trial}: {written[name].relative_to(root)}")
    return list(written.values())


def _elsewhere(trial: Trial, say: Callable[[str], None]) -> bool:
    """Whether a trial was measured on another machine."""
    recipe, root = trial.recipe, trial.plan.root
    earlier = read_measured(trial.group, recipe, root, say).get(recipe.seed)
    if earlier is None or read_manifest(recipe, recipe.evaluation, root) is not None:
        return False
    say(f"{trial}: measured elsewhere, commit {earlier.about['commit']}; taken as it is")
    return True


def write_results(name: str, recipe: Recipe, measured: Mapping[int, Measured], root: Path) -> Path:
    """Write ``reports/<name>/results.json``, and the ranks it was made of, from runs that differ in their seed alone.

    Per system and protocol: means over users and seeds and each seed's own; "ours" is, seed by seed, what validation
    chose. Against the baseline with the highest N@10, or R@1: the paired difference with an interval over users and
    seeds.
    ``recipe`` is that of any run, ``name`` its own without a seed; systems and users of all seeds are the same.
    """
    measured = dict(sorted(measured.items()))
    folder = root / recipe.paths.reports / name
    ranks = _by_system(measured)
    content: dict[str, Any] = {
        "recipe": name,
        "title": recipe.title,
        "recipe_hash": settings_hash(recipe),
        "published": recipe.published,
        "seeds": list(measured),
        "runs": [one.about | {"ranks": _write_ranks(folder, seed, one.ranks)} for seed, one in measured.items()],
        "systems": {system: {p: summary(found) for p, found in both.items()} for system, both in ranks.items()},
    }
    judged = {system: both[protocol_of(content)] for system, both in ranks.items()}
    content["spread"] = {system: seed_spread(own).sd for system, own in judged.items()}
    together = next(iter(measured.values())).ranks.get("session")
    content |= _against_best(judged, content, recipe.slug, together)
    write_json(folder / RESULTS, content | {"rows": _ledger_rows(content, recipe)})
    for path in {*folder.glob(RANKS.format(seed="*"))} - {folder / RANKS.format(seed=seed) for seed in measured}:
        path.unlink()
    return folder / RESULTS


def _by_system(measured: Mapping[int, Measured]) -> dict[str, dict[str, dict[int, Any]]]:
    """System -> protocol -> seed -> (U,) ranks; "ours" first, seed by seed the system that validation chose."""
    found: dict[str, dict[str, dict[int, Any]]] = {"ours": {}}
    for seed, one in measured.items():
        for column in one.ranks.columns.drop("session", errors="ignore"):
            system, _, protocol = column.rpartition("/")
            for shown in (system, "ours") if system == one.about["ours"] else (system,):
                found.setdefault(shown, {}).setdefault(protocol, {})[seed] = one.ranks[column].to_numpy()
    return found


def _against_best(
    kept: Mapping[str, SeedRanks], content: Mapping[str, Any], slug: str, sessions: pd.Series | None
) -> dict[str, Any]:
    """The best baseline by N@10 or R@1, and how far from it ours and the mixtures are, paired run by run."""
    baselines = [system for system in kept if system != "ours" and not system.startswith(slug)]
    scores = {system: content["systems"][system][protocol_of(content)] for system in baselines}
    best = max(baselines, key=lambda system: scores[system].get("N@10", scores[system].get("R@1")), default=None)
    if best is None:
        return {"best_baseline": None}
    mixtures = dict.fromkeys(system for run in content["runs"] for system in run["mixtures"])
    minus = {
        s: difference(kept[s], kept[best], paired_spread(kept[s], kept[best]), sessions) for s in ("ours", *mixtures)
    }
    return {"best_baseline": best, "ours_minus_best": minus.pop("ours"), "mixtures_minus_best": minus}


def protocol_of(results: Mapping[str, Any]) -> str:
    """By which of its protocols results are judged: ``kept``, or a rule of candidates."""
    return str(results["runs"][0].get("protocol", "kept")) if results.get("runs") else "kept"


def _ledger_rows(content: Mapping[str, Any], recipe: Recipe) -> list[dict[str, Any]]:
    """Published rows, then measured ones as means over seeds, as a ledger has them."""
    rows, runs = ledger.measured_rows(content, protocol_of(content)), content["runs"]
    said = {key: ", ".join(sorted({run[key] for run in runs})) for key in ("commit", "hardware")}
    for row in rows:
        row["system"] += f" ({row['recipe']})" if row["system"].startswith(recipe.slug) else ""
        row["why"] = f"{len(runs)} seed{'s' if len(runs) > 1 else ''} of {row['recipe']}"
        row["why"] += "" if row["sd"] is None else f", sd of {judged_in(row)} {row['sd']:.4f}"
    frame = ledger.build_ledger([row | said for row in rows], ledger.read_published(recipe.published, recipe.wing))
    return ledger.ledger_records(frame)


def read_measured(
    name: str, recipe: Recipe, root: Path, say: Callable[[str], None] = lambda line: None
) -> dict[int, Measured]:
    """Seed -> what results of this name say was measured with the recipe's settings, on whatever machine.

    Results of other settings are not its own, nor are seeds whose ranks are missing or are not those of the results;
    ``say`` is told so.
    """
    folder = root / recipe.paths.reports / name
    if not (folder / RESULTS).is_file():
        return {}
    results = read_artifact(folder / RESULTS)
    if results["recipe_hash"] != settings_hash(recipe):
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
    return [read_artifact(path) for path in sorted((root / reports).glob(f"*/{RESULTS}"))]


def read_run(plan: Plan) -> Measured:
    """Ranks of a finished run, and where they come from.

    Its evaluation wrote ``per_user.parquet`` with a column ``rank_<system>_<protocol>`` each (``kept`` at least) and,
    where rows belong together, ``session``; and ``metrics.json`` with ``systems`` and ``ours``; ``fusion``, ``budget``
    and a ``ledger.json`` may be absent. Where the ``chief`` metric is HR@1, columns are ``hit_<system>_<rule>``, each a
    user's mean over sets.
    """
    made, folder = manifests(plan), stage_folder(plan.recipe, plan.recipe.evaluation, plan.root)
    metrics, users = read_artifact(folder / "metrics.json"), pd.read_parquet(folder / "per_user.parquet")
    chief = metrics.get("chief", {})
    if among := chief.get("metric") == "HR@1":
        columns = {f"{s}/{rule}": f"hit_{s}_{rule}" for s, own in metrics["systems"].items() for rule in own}
    else:
        columns = {f"{s}/{p}": f"rank_{s}_{p}" for s in metrics["systems"] for p in PROTOCOLS}
    known = users[[column for column in columns.values() if column in users]]
    found = known.astype("float32") if among else known.clip(upper=_MOST).astype("uint8")
    found = found.rename(columns={column: name for name, column in columns.items()})
    book = folder / "ledger.json"
    rows = read_artifact(book)["rows"] if book.is_file() else []
    about = {
        "seed": plan.recipe.seed,
        "ours": metrics["ours"],
        "mixtures": [mixed["system"] for mixed in metrics.get("fusion", [])],
        "parameters": metrics.get("budget", {}).get("parameters"),
        "minutes": round(sum(manifest["seconds"] for manifest in made) / 60, 1),
        "hardware": next((row["hardware"] for row in rows if row["kind"] == "measured"), made[-1]["device"]),
        "seconds_per_system": made[-1]["facts"].get("seconds_per_system", {}),
    }
    about |= {"protocol": chief["protocol"]} if among else {}
    return Measured(found.assign(**users.filter(["session"])), about | origin(made))


def _write_ranks(folder: Path, seed: int, ranks: pd.DataFrame) -> str:
    path = folder / RANKS.format(seed=seed)
    write_atomic(path, lambda file: ranks.to_parquet(file, compression="zstd", index=False))
    return hash_artifact(path)
