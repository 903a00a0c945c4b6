"""Comparisons: checked before they start, ordinary runs under names of their own, results with provenance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sandbox import ROOT, manifest

from recnb.errors import RecipeError
from recnb.evaluation.intervals import difference, seed_spread
from recnb.studies import comparisons as module, trials
from recnb.workflow.manifest import stage_folder

METRICS = ("R@5", "R@10", "N@5", "N@10")


def write(project: Path, text: str) -> Path:
    path = project / "params" / "ablations" / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_committed_comparison_is_valid() -> None:
    for path in (ROOT / "params" / "ablations").rglob("*.yaml"):
        asked = module.Comparison.read(path).trials(path.stem, ROOT)
        assert len({trial.recipe.model_dump_json() for trial in asked}) == len(asked)


def test_mistakes_stop_it_before_the_first_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "run", lambda plan: pytest.fail("something ran"))
    with pytest.raises(RecipeError, match="no such comparison"):
        module.run_comparison(project / "none.yaml", project)
    with pytest.raises(RecipeError, match="variants"):
        module.run_comparison(write(project, "base: params/toy.yaml\n"), project)
    with pytest.raises(RecipeError, match="nearest valid key: train.epochs"):
        module.run_comparison(write(project, "base: params/toy.yaml\nvariants: {a: [], b: [train.epocs=1]}\n"), project)
    with pytest.raises(RecipeError, match="judged = 'sasrek': expected one of .*nearest: 'sasrec'"):
        module.run_comparison(write(project, "base: params/toy.yaml\njudged: sasrek\nvariants: {a: [], b: []}\n"), project)
    with pytest.raises(RecipeError, match="not YAML"):
        module.run_comparison(write(project, "base: [\n"), project)
    with pytest.raises(RecipeError, match="key 'base' is given twice"):
        module.run_comparison(write(project, "base: params/toy.yaml\nbase: x\n"), project)
    with pytest.raises(RecipeError, match="recursive"):
        module.run_comparison(write(project, "base: params/toy.yaml\nvariants: {a: &a [*a], b: []}\n"), project)


@pytest.fixture
def asked(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str]]:
    """Runs and judgements replaced by a rule: of 100 users `centroid` finds 10 + (seed - 7), `mean` 5, at rank 0."""
    calls: list[tuple[str, int, str]] = []

    def run(plan) -> None:  # type: ignore[no-untyped-def]
        calls.append((plan.recipe.name, plan.recipe.seed, plan.stages[-1].name))
        data = {"items.parquet": {"sha256": "d" * 8, "bytes": 1}}
        for spec in plan.stages:
            folder = stage_folder(plan.recipe, spec.name, project)
            folder.mkdir(parents=True, exist_ok=True)
            made = manifest(spec.name, plan.recipe.name, artifacts=data, facts={"steps": 7})
            (folder / "manifest.json").write_text(json.dumps(made))

    def model_ranks(stage, recipe, judged, users):  # type: ignore[no-untyped-def]
        assert stage.decode.beam == 10, "it is opened with the run's own recipe: another would be refused"
        calls.append(("judged", recipe.decode.beam, judged))
        found = 10 + recipe.seed - 7 if recipe.train.initialisation == "centroid" else 5
        return np.where(np.arange(100) < found, 0, 20)

    monkeypatch.setattr(trials, "run", run)
    monkeypatch.setattr(trials, "take_over", lambda plan, other: None)  # nothing here has a real key
    monkeypatch.setattr(module.Stage, "open", lambda last, recipe, root, look: recipe)
    monkeypatch.setattr("recnb.eager_llm.ranks.model_ranks", model_ranks)
    return calls


TWO = 'base: params/toy.yaml\nvariants: {as it is: {seeds: [7, 9]}, "Mean start!": [train.initialisation=mean]}\n'


def test_rows_come_from_the_runs(project: Path, asked: list[tuple[str, int, str]]) -> None:
    said: list[str] = []
    result = json.loads(module.run_comparison(write(project, TWO), project, say=said.append).read_text())
    runs = [call for call in asked if call[0] != "judged"]
    assert runs == [
        ("toy--mine-as-it-is", 7, "04_train"),
        ("toy--mine-as-it-is-9", 9, "04_train"),
        ("toy--mine-mean-start", 7, "04_train"),
    ]
    first, second = result["rows"]
    assert first["per_seed"] == {"7": dict.fromkeys(METRICS, 0.1), "9": dict.fromkeys(METRICS, 0.12)}
    assert first["R@10"] == pytest.approx(0.11) and first["margin"] == pytest.approx(1.96 * (0.11 * 0.89 / 100) ** 0.5)
    assert result["seed_spread"]["sd"]["R@10"] == pytest.approx(0.02 / 2**0.5) and result["seed_spread"]["degrees"] == 1
    against = second["minus"]["as it is"]["R@10"]  # paired with seed 7 alone, the one they share
    assert against["diff"] == pytest.approx(-0.05) and against["low"] < -0.05 < against["high"]
    assert second["changed"] == ["train.initialisation=mean"] and second["commit"] == "abc" and second["steps"] == 7
    assert second["data"] == {"items.parquet": "d" * 8} and (first["seconds"], second["seconds"]) == (7.0, 3.5)
    assert result["recipe_hash"] and result["missing"] == [] and result["system"] == "eager_llm"
    assert [line.partition(" (")[0] for line in said] == [
        "as it is, seed 7: validation R@10 0.1000",
        "as it is, seed 9: validation R@10 0.1200",
        "Mean start!, seed 7: validation R@10 0.0500",
    ]


def test_ranks_are_kept_and_used_again(project: Path, asked: list[tuple[str, int, str]]) -> None:
    path = write(project, TWO)
    before = module.run_comparison(path, project, say=lambda line: None).read_text()
    assert sum(call[0] == "judged" for call in asked) == 3
    assert module.run_comparison(path, project, say=lambda line: None).read_text() == before
    assert sum(call[0] == "judged" for call in asked) == 3
    module.run_comparison(write(project, "users: 50\n" + TWO), project, say=lambda line: None)  # other users: other ranks
    assert sum(call[0] == "judged" for call in asked) == 6


def test_a_change_of_decoding_uses_the_trained_model_again(project: Path, asked: list[tuple[str, int, str]]) -> None:
    text = "base: params/toy.yaml\njudged: annealed\nvariants: {wide: [], narrow: [decode.beam=12]}\n"
    module.run_comparison(write(project, text), project, say=lambda line: None)
    assert [call[0] for call in asked if call[0] != "judged"] == ["toy--mine-wide"] * 2
    assert [call for call in asked if call[0] == "judged"] == [("judged", 10, "annealed"), ("judged", 12, "annealed")]


def test_the_seed_of_training_is_no_part_of_two_ways_to_decode(
    project: Path, asked: list[tuple[str, int, str]]
) -> None:
    text = "base: params/toy.yaml\nvariants: {wide: {seeds: [7, 9]}, narrow: {changes: [decode.beam=12], seeds: [7, 9]}, other: [train.epochs=2]}\n"
    result = json.loads(module.run_comparison(write(project, text), project, say=lambda line: None).read_text())
    narrow, other = (row["minus"]["wide"]["R@10"] for row in result["rows"][1:])
    assert result["seed_spread"]["degrees"] == 1, "two ways to list two models are two models"
    assert narrow["over"] == "users" and narrow["low"] == narrow["high"] == 0.0
    assert other["over"] == "users and seeds" and other["low"] < 0.0 < other["high"]


def test_settings_for_all_variants(project: Path, asked: list[tuple[str, int, str]]) -> None:
    common = ("train.initialisation=mean", "seed=9", "index.levels=3")
    written = module.run_comparison(write(project, TWO.replace("Mean start!", "b")), project, common, lambda line: None)
    result = json.loads(written.read_text())
    assert result["overrides"] == list(common) and result["index"] == {"source": "both", "levels": 3}
    assert [row["R@10"] for row in result["rows"]] == [0.05, 0.05]
    assert [call[:2] for call in asked if call[0] != "judged"] == [
        ("toy--mine-as-it-is-7", 7), ("toy--mine-as-it-is", 9), ("toy--mine-b", 9),
    ]  # fmt: skip
    with pytest.raises(RecipeError, match="nearest valid key: train.epochs"):
        module.run_comparison(write(project, TWO), project, ("train.epocs=1",), lambda line: None)


def test_changes_may_be_shared_within_a_file(project: Path) -> None:
    text = "base: params/toy.yaml\nvariants: {a: &a [seed=3, train.epochs=1], b: [*a, [data.k_core=0]]}\n"
    found = module.Comparison.read(write(project, text)).variants
    assert found["b"].changes == ["seed=3", "train.epochs=1", "data.k_core=0"]
    with pytest.raises(RecipeError, match="variants.b.changes"):
        module.Comparison.read(write(project, "base: params/toy.yaml\nvariants: {a: [], b: [{x: 1}]}\n"))


def test_out_of_time_says_what_is_left_and_goes_on(
    project: Path, asked: list[tuple[str, int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0] + [1000.0] * 20)  # start, the first run's check
    monkeypatch.setattr(trials, "monotonic", lambda: next(clock))
    said: list[str] = []
    path = write(project, TWO)
    result = json.loads(module.run_comparison(path, project, say=said.append, minutes=9).read_text())
    assert said[-1] == "out of time: 2 of 3 runs are left; the same command goes on"
    assert [row["choice"] for row in result["rows"]] == ["as it is"]
    assert result["missing"] == ["as it is, seed 9", "Mean start!, seed 7"]


def test_the_interval_knows_of_seeds() -> None:
    """Two choices that differ by less than two seeds of one choice do must not be told apart."""
    hits = lambda found: np.where(np.arange(1000) < found, 0, 20)  # noqa: E731
    one, other = {1: hits(100), 2: hits(160)}, {1: hits(120), 2: hits(160)}
    blind = difference(other, one)["R@10"]
    seeing = difference(other, one, seed_spread(one))["R@10"]
    assert blind["low"] > 0 and blind["over"] == "users"
    assert seeing["low"] < 0 < seeing["high"] and seeing["over"] == "users and seeds"
    assert blind["diff"] == seeing["diff"] == pytest.approx(0.01)
