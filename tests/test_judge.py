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


def hits(found: int, users: int = 100) -> np.ndarray:
    return np.where(np.arange(users) < found, 0, 20)


def test_the_spread_is_pooled_over_choices_with_several_seeds() -> None:
    one, other, lonely = {1: hits(10), 2: hits(14), 3: hits(12)}, {1: hits(50), 2: hits(60)}, {1: hits(99)}
    found = judge.seed_spread(one, other, lonely)
    assert found.degrees == 3 and found.sd["R@10"] == pytest.approx(((2 * 0.02**2 + 0.005) / 3) ** 0.5)
    assert judge.seed_spread(one).sd["N@5"] == pytest.approx(0.02) and judge.seed_spread(lonely) == judge.UNKNOWN


def test_what_two_systems_share_is_no_part_of_their_difference() -> None:
    one, other = {1: hits(10), 2: hits(30)}, {1: hits(15), 2: hits(35)}
    assert judge.seed_spread(one).sd["R@10"] > 0.1
    assert judge.paired_spread(one, other).sd["R@10"] == pytest.approx(0.0, abs=1e-12)
    apart = judge.paired_spread(one, {1: hits(15), 2: hits(31)})
    assert apart.degrees == 1 and apart.sd["R@10"] == pytest.approx(np.std([0.05, 0.01], ddof=1) / 2**0.5)
    assert judge.paired_spread(one, {2: hits(15)}) == judge.UNKNOWN


def test_an_interval_is_fooled_as_often_as_it_says() -> None:
    """Equal recipes, three seeds each, whose luck is far larger than that of the users: 5 % may be told apart."""
    wrong = {"student": 0, "as if known": 0}
    for trial in range(300):
        rng = np.random.default_rng(trial)
        one, other = ({s: hits(round(500 + 60 * rng.standard_normal()), 1000) for s in range(3)} for _ in range(2))
        spread = judge.seed_spread(one)
        for name, used in (("student", spread), ("as if known", judge.Spread(spread.sd, np.inf))):
            found = judge.difference(one, other, used)["R@10"]
            wrong[name] += not found["low"] <= 0 <= found["high"]
    assert wrong["student"] <= 27 < 36 <= wrong["as if known"], "5 % of 300 and three standard deviations"


def test_a_spread_that_is_small_beside_the_users_needs_few_degrees() -> None:
    rng = np.random.default_rng(0)
    one, other = ({s: np.where(rng.random(4000) < p, 0, 20) for s in (1, 2)} for p in (0.10, 0.11))
    blind, seeing = (judge.difference(one, other, used)["R@10"] for used in (judge.UNKNOWN, judge.Spread({"R@10": 1e-5}, 1)))
    assert seeing["high"] - seeing["low"] == pytest.approx(blind["high"] - blind["low"], rel=1e-2)


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
