"""The main table: checked before it starts, ordinary runs per seed, results with provenance and intervals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sandbox import ROOT, TOY, ToyRun

from recnb.eager_llm.recipe import STAGES
from recnb.errors import RecipeError, ResourceError
from recnb.studies import table as module
from recnb.workflow.manifest import stage_folder
from recnb.workflow.recipe import load_recipe

FOUND = {"eager-llm + sasrec": 44, "eager-llm": 30, "eager-llm-no-adapter": 25, "popularity": 5, "sasrec": 20}


def write(project: Path, text: str) -> Path:
    path = project / "params" / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_committed_table_is_valid() -> None:
    paths = list((ROOT / "params" / "tables").glob("*.yaml"))
    for path in paths:
        runs = list(module._runs(module.read_table(path), ROOT, ()))
        assert len({run.recipe.name for run in runs}) == len(runs)
    assert paths


def test_mistakes_stop_it_before_the_first_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run", lambda plan: pytest.fail("something ran"))
    good, bad = "{recipe: params/toy.yaml}", "{recipe: params/toy.yaml, changes: [train.epocs=1]}"
    with pytest.raises(RecipeError, match="no such table"):
        module.fill(project / "none.yaml", project)
    with pytest.raises(RecipeError, match="not YAML"):
        module.fill(write(project, "entries: ["), project)
    with pytest.raises(RecipeError, match=r"entries\.0\.recipe: Field required"):
        module.fill(write(project, "entries: [{seeds: [1]}]"), project)
    with pytest.raises(RecipeError, match="nearest valid key: train.epochs"):
        module.fill(write(project, f"entries: [{good}, {bad}]"), project)
    with pytest.raises(RecipeError, match="nearest valid key: data.path"):
        module.fill(write(project, f"entries: [{good}]"), project, ("data.pth=x",))


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
            made = {"key": "k", "artifacts": {"items.parquet": {"sha256": "d" * 8}}, "facts": {}, "seconds": 60.0}
            made |= {"commit": "abc", "device": "cpu", "dtype": "float32"}
            (folder / "manifest.json").write_text(json.dumps(made))
        metrics = {"ours": "eager-llm", "systems": dict.fromkeys(FOUND, {}), "budget": {"parameters": 5}}
        metrics["fusion"] = [{"system": "eager-llm + sasrec"}]
        (folder / "metrics.json").write_text(json.dumps(metrics))
        rows = [{"kind": "published"}, {"kind": "measured", "hardware": "a machine"}]
        (folder / "ledger.json").write_text(json.dumps({"rows": rows}))
        ranks = {s: np.where(np.arange(200) < found + more, 0, 20) for s, found in FOUND.items()}
        columns = {f"rank_{s}_{p}": r for s, r in ranks.items() for p in ("kept", "removed")}
        pd.DataFrame(columns).to_parquet(folder / "per_user.parquet")

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "take_over", lambda plan, other: None)  # nothing here has a real key
    return names


def test_results_come_from_the_runs(project: Path, ran: list[str]) -> None:
    path = write(project, "entries: [{recipe: params/toy.yaml, seeds: [7, 8, 9]}]")
    (written,) = module.fill(path, project, say=lambda line: None)
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
        hashes.append(json.loads(module.fill(path, project, say=lambda line: None)[0].read_text())["recipe_hash"])
    assert len(set(hashes)) == 1


def test_out_of_time_keeps_what_is_done(project: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 1e6])  # start, before the first run, before the second
    monkeypatch.setattr("recnb.studies.requests.monotonic", lambda: next(clock))
    said: list[str] = []
    path = write(project, "entries: [{recipe: params/toy.yaml, seeds: [7, 8]}]")
    (written,) = module.fill(path, project, say=said.append, minutes=9)
    assert ran == ["toy"] and json.loads(written.read_text())["seeds"] == [7]
    assert said[-1] == "out of time: 1 of 2 runs are left; the same command goes on"


ENTRY = "entries: [{recipe: params/toy.yaml, seeds: %s}]"


def fill(project: Path, seeds: str, *overrides: str) -> tuple[dict, list[str]]:  # type: ignore[type-arg]
    """Results after a call, and what it said."""
    said: list[str] = []
    module.fill(write(project, ENTRY % seeds), project, overrides, said.append)
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
    assert ran == ["toy"] and said[-1] == "toy, seed 8: measured elsewhere, commit abc; taken as it is"
    assert apart == together and apart["ours_minus_best"]["R@10"]["over"] == "users and seeds"
    ranks = pd.read_parquet(project / "reports" / "toy" / "ranks-8.parquet")
    assert set(ranks) == {f"{s}/{p}" for s in FOUND for p in module.PROTOCOLS} and set(ranks.dtypes) == {np.dtype("uint8")}


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
    recipe = next(module._runs(module.read_table(write(project, ENTRY % "[7]")), project, ())).recipe
    assert set(module.read_run(recipe, project).ranks["sasrec/kept"]) == {255}


def test_every_run_may_copy_from_those_before_it(project: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[tuple[str, str]] = []
    monkeypatch.setattr(module, "take_over", lambda plan, other: offered.append((plan.recipe.name, other.name)))
    changed = "{recipe: params/toy.yaml, changes: [name=wide, train.epochs=2]}"
    path = write(project, f"entries: [{{recipe: params/toy.yaml, seeds: [7, 8]}}, {changed}]")
    module.fill(path, project, say=lambda line: None)
    assert offered == [("toy--seed-8", "toy"), ("wide", "toy"), ("wide", "toy--seed-8")]


def test_what_does_not_fit_is_said_and_the_others_run(project: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    inner = module.run

    def run(plan) -> None:  # type: ignore[no-untyped-def]
        if plan.recipe.name == "wide":
            raise ResourceError("too large; try --set train.batch_size=8")
        inner(plan)

    monkeypatch.setattr(module, "run", run)
    wide = "{recipe: params/toy.yaml, changes: [name=wide, train.epochs=2]}"
    said: list[str] = []
    path = write(project, f"entries: [{wide}, {{recipe: params/toy.yaml, seeds: [7]}}]")
    assert [file.parent.name for file in module.fill(path, project, say=said.append)] == ["toy"]
    assert said[0] == "wide, seed 7: left out: too large; try --set train.batch_size=8"
    with pytest.raises(ResourceError, match="nothing of it can run on this machine: wide"):
        module.fill(write(project, f"entries: [{wide}]"), project, say=said.append)


@pytest.mark.e2e
def test_results_of_a_real_run(toy_copy: ToyRun) -> None:
    recipe = load_recipe(toy_copy.root / TOY)
    measured = {recipe.seed: module.read_run(recipe, toy_copy.root)}
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
