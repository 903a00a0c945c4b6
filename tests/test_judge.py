"""The judge on a real run: its ranks are those of the run's own validation, and looking changes nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import TOY, ToyRun

from recnb import judge, table
from recnb.errors import ArtifactError
from recnb.evaluate import metrics
from recnb.recipe import load_recipe


@pytest.fixture
def recipe(toy_run: ToyRun):  # type: ignore[no-untyped-def]
    return load_recipe(toy_run.root / TOY)


@pytest.mark.e2e
def test_ranks_are_those_that_annealing_measured(toy_run: ToyRun, recipe) -> None:  # type: ignore[no-untyped-def]
    """05 validates the trained and the annealed model on all users of the toy; the judge must find the same."""
    before = {path: path.stat().st_mtime_ns for path in (toy_run.root / "runs").rglob("*")}
    ranking = json.loads(toy_run.artifact("05_anneal", "anneal.json").read_text(encoding="utf-8"))["ranking"]
    for state, adapter in (("trained", False), ("annealed", True)):
        found = metrics(judge.model_ranks(recipe, toy_run.root, adapter=adapter), [10])
        assert {m: pytest.approx(ranking[state][m]) for m in ("R@10", "N@10")} == found
    assert {path: path.stat().st_mtime_ns for path in (toy_run.root / "runs").rglob("*")} == before


@pytest.mark.e2e
def test_lists_may_be_made_in_another_way_than_the_run_did(toy_run: ToyRun, recipe) -> None:  # type: ignore[no-untyped-def]
    wider = recipe.decode.model_copy(update={"beam": recipe.decode.beam + 5, "normalisation": "trie"})
    own, other = (judge.model_ranks(recipe, toy_run.root, decode=decode) for decode in (None, wider))
    assert own.max() == recipe.decode.beam < other.max() == wider.beam


@pytest.mark.e2e
def test_fewer_users_are_a_part_of_all_users(toy_run: ToyRun, recipe) -> None:  # type: ignore[no-untyped-def]
    everyone = judge.baseline_ranks("popularity", recipe, toy_run.root)
    some = judge.baseline_ranks("popularity", recipe, toy_run.root, users=30)
    chosen = np.sort(np.random.default_rng([0, 7]).permutation(len(everyone))[:30])
    assert np.array_equal(some, everyone[chosen])


@pytest.mark.e2e
def test_settings_of_a_baseline_reach_it(toy_run: ToyRun) -> None:
    ranks = [
        judge.baseline_ranks("sasrec", load_recipe(toy_run.root / TOY, [f"evaluate.sasrec.epochs={n}"]), toy_run.root)
        for n in (1, 8)
    ]
    assert not np.array_equal(*ranks)


@pytest.mark.e2e
def test_tiger_is_given_the_codes_of_the_run(toy_run: ToyRun, recipe) -> None:  # type: ignore[no-untyped-def]
    everyone = judge.baseline_ranks("popularity", recipe, toy_run.root)
    assert judge.baseline_ranks("tiger", recipe, toy_run.root).shape == everyone.shape


@pytest.mark.e2e
def test_results_of_a_real_run(toy_copy: ToyRun, recipe) -> None:  # type: ignore[no-untyped-def]
    measured = {recipe.seed: table.read_run(recipe, toy_copy.root)}
    written = json.loads(table.write_results("judged", recipe, measured, toy_copy.root).read_text(encoding="utf-8"))
    scores = json.loads(toy_copy.artifact("06_evaluate", "metrics.json").read_text(encoding="utf-8"))
    for system, both in scores["systems"].items():
        for protocol, values in both.items():
            assert {m: pytest.approx(v) for m, v in values.items()} == {
                m: written["systems"][system][protocol][m] for m in values
            }
    assert written["systems"]["ours"] == written["systems"][scores["ours"]]
    assert list(written["mixtures_minus_best"]) == [mixed["system"] for mixed in scores["fusion"]] != []
    assert set(written["mixtures_minus_best"]) <= set(written["systems"]) and not written["best_baseline"].startswith("eager")


@pytest.mark.e2e
def test_a_run_that_is_not_there_is_named(toy_run: ToyRun) -> None:
    nobody = load_recipe(toy_run.root / TOY, ["name=nobody"])
    with pytest.raises(ArtifactError, match="04_train|01_data"):
        judge.model_ranks(nobody, toy_run.root)
