"""The main table: checked before it starts, ordinary runs per seed, results with provenance and intervals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sandbox import ROOT, TOY, ToyRun, manifest

from recnb.eager_llm.recipe import STAGES
from recnb.errors import RecipeError, ResourceError
from recnb.evaluation.metrics import PROTOCOLS
from recnb.settings import flatten
from recnb.studies import tables as module, trials
from recnb.workflow.manifest import stage_folder
from recnb.workflow.plan import make_plan
from recnb.workflow.recipe import load_recipe

FOUND = {"eager-llm + sasrec": 44, "eager-llm": 30, "eager-llm-no-adapter": 25, "popularity": 5, "sasrec": 20}


def write(project: Path, text: str) -> Path:
    path = project / "params" / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_committed_table_is_valid() -> None:
    paths = list((ROOT / "params" / "tables").glob("*.yaml"))
    for path in paths:
        asked = module.Table.read(path).trials(ROOT)
        assert len({trial.recipe.name for trial in asked}) == len(asked)
    assert paths


def test_mistakes_stop_it_before_the_first_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "run", lambda plan: pytest.fail("something ran"))
    good, bad = "{recipe: params/toy.yaml}", "{recipe: params/toy.yaml, changes: [train.epocs=1]}"
    with pytest.raises(RecipeError, match="no such table"):
        module.run_table(project / "none.yaml", project)
    with pytest.raises(RecipeError, match="not YAML"):
        module.run_table(write(project, "entries: ["), project)
    with pytest.raises(RecipeError, match=r"entries\.0\.recipe: Field required"):
        module.run_table(write(project, "entries: [{seeds: [1]}]"), project)
    with pytest.raises(RecipeError, match="nearest valid key: train.epochs"):
        module.run_table(write(project, f"entries: [{good}, {bad}]"), project)
    with pytest.raises(RecipeError, match="nearest valid key: data.path"):
        module.run_table(write(project, f"entries: [{good}]"), project, ("data.pth=x",))


@pytest.fixture
def ran(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of running: 200 users, of whom each system finds FOUND at rank 0; with another seed 4 more."""
    names: list[str] = []

    def run(plan) -> None:  # type: ignore[no-untyped-def]
        names.append(plan.recipe.name)
        more = 4 * (plan.recipe.seed - 7)
        for spec in STAGES[:6]:
            folder = stage_folder(plan.recipe, spec.name, project)
            folder.mkdir(parents=True, exist_ok=True)
            data = {"items.parquet": {"sha256": "d" * 8, "bytes": 1}}
            made = manifest(spec.name, plan.recipe.name, artifacts=data, seconds=60.0)
            (folder / "manifest.json").write_text(json.dumps(made))
        metrics = {"ours": "eager-llm", "systems": dict.fromkeys(FOUND, {}), "budget": {"parameters": 5}}
        metrics["fusion"] = [{"system": "eager-llm + sasrec"}]
        (folder / "metrics.json").write_text(json.dumps(metrics))
        rows = [{"kind": "published"}, {"kind": "measured", "hardware": "a machine"}]
        (folder / "ledger.json").write_text(json.dumps({"rows": rows}))
        ranks = {s: np.where(np.arange(200) < found + more, 0, 20) for s, found in FOUND.items()}
        columns = {f"rank_{s}_{p}": r for s, r in ranks.items() for p in ("kept", "removed")}
        pd.DataFrame(columns).to_parquet(folder / "per_user.parquet")

    monkeypatch.setattr(trials, "run", run)
    monkeypatch.setattr(trials, "take_over", lambda plan, other: None)  # nothing here has a real key
    return names


def test_results_come_from_the_runs(project: Path, ran: list[str]) -> None:
    path = write(project, "entries: [{recipe: params/toy.yaml, seeds: [7, 8, 9]}]")
    (written,) = module.run_table(path, project, say=lambda line: None)
    assert ran == ["toy", "toy--seed-8", "toy--seed-9"] and written == project / "reports" / "toy" / "results.json"
    (result,) = module.read_results(project)
    assert result["systems"]["ours"] == result["systems"]["eager-llm"]
    assert result["systems"]["sasrec"]["kept"]["per_seed"]["8"]["R@10"] == pytest.approx(0.12)
    assert result["systems"]["sasrec"]["kept"]["R@10"] == pytest.approx(0.12)
    assert result["spread"]["sasrec"]["R@10"] == pytest.approx(0.02)
    assert result["best_baseline"] == "sasrec" and result["seeds"] == [7, 8, 9]
    against = result["ours_minus_best"]["N@10"]
    assert against["diff"] == pytest.approx(0.05) and against["low"] > 0 and against["over"] == "users and seeds"
    assert [run["minutes"] for run in result["runs"]] == [6.0] * 3
    shown = [f"{s} (toy)" if s.startswith("eager") else s for s in FOUND]
    assert [row["system"] for row in result["rows"]] == shown and result["rows"][0]["kind"] == "measured"
    assert result["rows"][4]["R@10"] == pytest.approx(0.12) and "sd of R@10 0.0200" in result["rows"][4]["why"]
    mixed = result["mixtures_minus_best"]
    assert list(mixed) == ["eager-llm + sasrec"]
    assert mixed["eager-llm + sasrec"]["R@10"]["diff"] == pytest.approx(0.12)
    first = result["runs"][0]
    assert first["hardware"] == "a machine" and first["commit"] == "abc" and first["data"] == {"items.parquet": "d" * 8}


def test_the_recipe_hash_does_not_depend_on_the_seed_or_the_name(project: Path, ran: list[str]) -> None:
    hashes = []
    for seeds in ("[7]", "[8]"):
        path = write(project, f"entries: [{{recipe: params/toy.yaml, seeds: {seeds}}}]")
        hashes.append(json.loads(module.run_table(path, project, say=lambda line: None)[0].read_text())["recipe_hash"])
    assert len(set(hashes)) == 1


def test_out_of_time_keeps_what_is_done(project: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 1e6])  # start, before the first run, before the second
    monkeypatch.setattr("recnb.studies.trials.monotonic", lambda: next(clock))
    said: list[str] = []
    path = write(project, "entries: [{recipe: params/toy.yaml, seeds: [7, 8]}]")
    (written,) = module.run_table(path, project, say=said.append, minutes=9)
    assert ran == ["toy"] and json.loads(written.read_text())["seeds"] == [7]
    assert said[-1] == "out of time: 1 of 2 runs are left; the same command goes on"


ENTRY = "entries: [{recipe: params/toy.yaml, seeds: %s}]"


def fill(project: Path, seeds: str, *overrides: str) -> tuple[dict, list[str]]:  # type: ignore[type-arg]
    """Results after a call, and what it said."""
    said: list[str] = []
    module.run_table(write(project, ENTRY % seeds), project, overrides, said.append)
    return module.read_results(project)[0], said


def another_machine(project: Path) -> None:
    """What is committed is there, what the machine keeps is not."""
    shutil.rmtree(project / "runs")


def test_seeds_of_several_machines_add_up(project: Path, ran: list[str]) -> None:
    together, _ = fill(project, "[7, 8]")
    another_machine(project)
    shutil.rmtree(project / "reports" / "toy")
    fill(project, "[8]")
    another_machine(project)
    ran.clear()
    apart, said = fill(project, "[7, 8]", "runtime.threads=3")
    assert ran == ["toy"] and said[0] == "toy, seed 8: measured elsewhere, commit abc; taken as it is"
    assert apart == together and apart["ours_minus_best"]["R@10"]["over"] == "users and seeds"
    ranks = pd.read_parquet(project / "reports" / "toy" / "ranks-8.parquet")
    assert set(ranks) == {f"{s}/{p}" for s in FOUND for p in PROTOCOLS} and set(ranks.dtypes) == {np.dtype("uint8")}


def test_what_was_run_here_is_for_the_pipeline_to_judge(project: Path, ran: list[str]) -> None:
    fill(project, "[7]")
    fill(project, "[7]")
    assert ran == ["toy", "toy"]


def test_results_of_other_settings_are_replaced(project: Path, ran: list[str]) -> None:
    fill(project, "[7, 8]")
    another_machine(project)
    found, said = fill(project, "[7]", "train.epochs=2")
    assert found["seeds"] == [7] and "other settings" in said[0]
    assert [path.name for path in (project / "reports" / "toy").glob("ranks*")] == ["ranks-7.parquet"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no parquet")])
def test_ranks_that_are_not_those_of_the_results_are_measured_anew(project: Path, ran: list[str], damage) -> None:  # type: ignore[no-untyped-def]
    before, _ = fill(project, "[7, 8]")
    another_machine(project)
    ran.clear()
    damage(project / "reports" / "toy" / "ranks-8.parquet")
    after, said = fill(project, "[7, 8]")
    assert ran == ["toy--seed-8"] and after == before
    assert said[0] == "toy: the ranks of seed 8 are not those of its results; that seed is left out"


def test_seeds_of_other_data_do_not_mix(project: Path, ran: list[str]) -> None:
    fill(project, "[7]")
    another_machine(project)
    path = project / "reports" / "toy" / "results.json"
    path.write_text(path.read_text(encoding="utf-8").replace("d" * 8, "e" * 8), encoding="utf-8")
    found, said = fill(project, "[8]")
    assert found["seeds"] == [8] and "toy: seeds [7] were measured on other data; left out" in said


def test_a_rank_fits_into_a_byte(project: Path, ran: list[str]) -> None:
    fill(project, "[7]")
    per_user = project / "runs" / "toy" / "06_evaluate" / "per_user.parquet"
    users = pd.read_parquet(per_user)
    users["rank_sasrec_kept"] = 3000
    users.to_parquet(per_user)
    (trial,) = module.Table.read(write(project, ENTRY % "[7]")).trials(project)
    assert set(module.read_run(trial.plan).ranks["sasrec/kept"]) == {255}


def test_every_run_may_copy_from_those_before_it(project: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[tuple[str, str]] = []
    monkeypatch.setattr(trials, "take_over", lambda plan, other: offered.append((plan.recipe.name, other.name)))
    changed = "{recipe: params/toy.yaml, changes: [name=wide, train.epochs=2]}"
    path = write(project, f"entries: [{{recipe: params/toy.yaml, seeds: [7, 8]}}, {changed}]")
    module.run_table(path, project, say=lambda line: None)
    assert offered == [("toy--seed-8", "toy"), ("wide", "toy"), ("wide", "toy--seed-8")]


def test_what_does_not_fit_is_said_and_the_others_run(project: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    inner = trials.run

    def run(plan) -> None:  # type: ignore[no-untyped-def]
        if plan.recipe.name == "wide":
            raise ResourceError("too large; try --set train.batch_size=8")
        inner(plan)

    monkeypatch.setattr(trials, "run", run)
    wide = "{recipe: params/toy.yaml, changes: [name=wide, train.epochs=2]}"
    said: list[str] = []
    path = write(project, f"entries: [{wide}, {{recipe: params/toy.yaml, seeds: [7]}}]")
    assert [file.parent.name for file in module.run_table(path, project, say=said.append)] == ["toy"]
    assert said[0] == "wide, seed 7: left out: too large; try --set train.batch_size=8"
    with pytest.raises(ResourceError, match="nothing of it can run on this machine: wide"):
        module.run_table(write(project, f"entries: [{wide}]"), project, say=said.append)


@pytest.mark.parametrize(("name", "seeds"), [("beauty-cpu-head", [42, 43, 44]), ("sports-cpu", [42])])
def test_committed_results_are_taken_as_those_of_their_recipes(name: str, seeds: list[int]) -> None:
    """Hours of computing each: a new key, or another default, must not make them those of other settings."""
    said: list[str] = []
    found = module.read_measured(name, load_recipe(ROOT / "params" / f"{name}.yaml"), ROOT, said.append)
    assert list(found) == seeds and not said


def test_committed_ranks_say_what_the_committed_results_say(tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "params" / "beauty-cpu-head.yaml")
    measured = module.read_measured("beauty-cpu-head", recipe, ROOT)
    written = json.loads(module.write_results("beauty-cpu-head", recipe, measured, tmp_path).read_text(encoding="utf-8"))
    committed = json.loads((ROOT / "reports" / "beauty-cpu-head" / "results.json").read_text(encoding="utf-8"))
    numbers, kept = flatten(numbered(written)), flatten(numbered(committed))
    assert len(kept) > 500 and numbers.keys() == kept.keys()
    assert {key: pytest.approx(each, rel=1e-9) if isinstance(each, float) else each for key, each in kept.items()} == numbers


def numbered(tree: object) -> dict:  # type: ignore[type-arg]
    """A tree of dicts alone: the entries of a list by their number."""
    pairs = enumerate(tree) if isinstance(tree, list) else tree.items()  # type: ignore[attr-defined]
    return {str(key): numbered(value) if isinstance(value, dict | list) else value for key, value in pairs}


def test_an_evaluation_need_not_say_more_than_its_systems_and_which_is_ours(project: Path, ran: list[str]) -> None:
    (trial,) = module.Table.read(write(project, ENTRY % "[7]")).trials(project)
    trials.run(trial.plan)
    folder = stage_folder(trial.recipe, "06_evaluate", project)
    (folder / "metrics.json").write_text(json.dumps({"systems": {"popularity": {}, "sasrec": {}}, "ours": "sasrec"}))
    (folder / "ledger.json").unlink()
    users = pd.read_parquet(folder / "per_user.parquet", columns=["rank_popularity_kept", "rank_sasrec_kept"])
    users.to_parquet(folder / "per_user.parquet")
    found = module.read_run(trial.plan)
    written = json.loads(module.write_results("mine", trial.recipe, {7: found}, project).read_text(encoding="utf-8"))
    assert list(found.ranks) == ["popularity/kept", "sasrec/kept"] and found.about["hardware"] == "cpu"
    assert written["systems"]["ours"]["kept"]["R@10"] == 0.1 and list(written["systems"]["ours"]) == ["kept"]
    assert [row["system"] for row in written["rows"]] == ["popularity", "sasrec"]


def test_among_candidates_first_places_are_judged_over_sets_and_users(
    project: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sets a user: HR@1 0, 1/2 or 1; another rule beside it, and a control that was asked about one rule alone."""
    (trial,) = module.Table.read(write(project, ENTRY % "[7]")).trials(project)
    trials.run(trial.plan)
    folder = stage_folder(trial.recipe, "06_evaluate", project)
    hits = {"eager-llm": {"hard": [1, 0.5, 0, 0], "easy": [1, 1, 1, 1]}, "sasrec": {"hard": [1, 1, 1, 0], "easy": [0, 0, 0, 0]},
            "sasrec/none": {"hard": [0, 0.5, 0, 0]}}  # fmt: skip
    rules = {s: {rule: {"HR@1": np.mean(own)} for rule, own in each.items()} for s, each in hits.items()}
    chief = {"protocol": "hard", "metric": "HR@1"}
    page = {"systems": rules, "ours": "eager-llm", "chief": chief}
    (folder / "metrics.json").write_text(json.dumps(page))
    users = pd.DataFrame({f"hit_{s}_{rule}": own for s, each in hits.items() for rule, own in each.items()})
    users.assign(rank_sasrec_kept=[9, 9, 9, 9]).to_parquet(folder / "per_user.parquet")
    found = module.read_run(trial.plan)
    module.write_results("mine", trial.recipe, {7: found}, project)
    (written,) = module.read_results(project)
    for system, each in rules.items():
        assert {rule: own["R@1"] for rule, own in written["systems"][system].items()} == {r: m["HR@1"] for r, m in each.items()}
    assert written["best_baseline"] == "sasrec" and list(written["ours_minus_best"]) == ["R@1"]
    against = written["ours_minus_best"]["R@1"]
    assert against["diff"] == -0.375 and against["over"] == "users"
    assert against["high"] - against["low"] == pytest.approx(2 * 1.96 * 0.4145 / 2, rel=0.1), "of four users"
    assert [row["R@1"] for row in written["rows"]] == [0.375, 0.75, 0.125] and written["rows"][0]["R@10"] is None
    again = module.read_measured("mine", trial.recipe, project)
    assert again[7].ranks["sasrec/hard"].tolist() == [1, 1, 1, 0] and again[7].about["protocol"] == "hard"


@pytest.mark.e2e
def test_results_of_a_real_run(toy_copy: ToyRun) -> None:
    plan = make_plan(toy_copy.root / TOY, last="06_evaluate", root=toy_copy.root)
    recipe = plan.recipe
    measured = {recipe.seed: module.read_run(plan)}
    written = json.loads(module.write_results("judged", recipe, measured, toy_copy.root).read_text(encoding="utf-8"))
    scores = json.loads(toy_copy.artifact("06_evaluate", "metrics.json").read_text(encoding="utf-8"))
    for system, both in scores["systems"].items():
        for protocol, values in both.items():
            assert {m: pytest.approx(v) for m, v in values.items()} == {
                m: written["systems"][system][protocol][m] for m in values
            }
    assert written["systems"]["ours"] == written["systems"][scores["ours"]]
    assert list(written["mixtures_minus_best"]) == [mixed["system"] for mixed in scores["fusion"]] != []
    assert set(written["mixtures_minus_best"]) <= set(written["systems"]) and not written["best_baseline"].startswith("eager")
