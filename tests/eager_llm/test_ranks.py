"""The judge on a real run: its ranks are those of the run's own validation, and looking changes nothing."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from sandbox import TOY, ToyRun

from recnb.errors import ArtifactError
from recnb.evaluation.metrics import metrics
from recnb.workflow.recipe import load_recipe
from recnb.workflow.stage import Stage


def ranks(judged: str, recipe, root: Path, changed: dict | None = None, users: int = 0) -> np.ndarray:  # type: ignore[no-untyped-def]
    """As a comparison asks."""
    module, _, name = recipe.judged[judged].ranks.partition(":")
    stage = Stage.open(recipe.judged[judged].last, recipe, root=root, look=True)
    return getattr(importlib.import_module(module), name)(stage, recipe.model_copy(update=changed), judged, users)


@pytest.fixture
def recipe(toy_run: ToyRun):  # type: ignore[no-untyped-def]
    return load_recipe(toy_run.root / TOY)


@pytest.mark.e2e
def test_ranks_are_those_that_annealing_measured(toy_run: ToyRun, recipe) -> None:  # type: ignore[no-untyped-def]
    """05 validates the trained and the annealed model on all users of the toy; the judge must find the same."""
    before = {path: path.stat().st_mtime_ns for path in (toy_run.root / "runs").rglob("*")}
    ranking = json.loads(toy_run.artifact("05_anneal", "anneal.json").read_text(encoding="utf-8"))["ranking"]
    for state, judged in (("trained", "model"), ("annealed", "annealed")):
        found = metrics(ranks(judged, recipe, toy_run.root), [10])
        assert {m: pytest.approx(ranking[state][m]) for m in ("R@10", "N@10")} == found
    assert {path: path.stat().st_mtime_ns for path in (toy_run.root / "runs").rglob("*")} == before


@pytest.mark.e2e
def test_lists_may_be_made_in_another_way_than_the_run_did(toy_run: ToyRun, recipe) -> None:  # type: ignore[no-untyped-def]
    wider = recipe.decode.model_copy(update={"beam": recipe.decode.beam + 5, "normalisation": "trie"})
    own, other = (ranks("model", recipe, toy_run.root, {"decode": decode}) for decode in (recipe.decode, wider))
    assert own.max() == recipe.decode.beam < other.max() == wider.beam


@pytest.mark.e2e
def test_fewer_users_are_a_part_of_all_users(toy_run: ToyRun, recipe) -> None:  # type: ignore[no-untyped-def]
    everyone = ranks("popularity", recipe, toy_run.root)
    some = ranks("popularity", recipe, toy_run.root, users=30)
    chosen = np.sort(np.random.default_rng([0, 7]).permutation(len(everyone))[:30])
    assert np.array_equal(some, everyone[chosen])


@pytest.mark.e2e
def test_settings_of_a_baseline_reach_it(toy_run: ToyRun) -> None:
    recipes = [load_recipe(toy_run.root / TOY, [f"evaluate.sasrec.epochs={n}"]) for n in (1, 8)]
    assert not np.array_equal(*(ranks("sasrec", recipe, toy_run.root) for recipe in recipes))


@pytest.mark.e2e
def test_tiger_is_given_the_codes_of_the_run(toy_run: ToyRun, recipe) -> None:  # type: ignore[no-untyped-def]
    everyone = ranks("popularity", recipe, toy_run.root)
    assert ranks("tiger", recipe, toy_run.root).shape == everyone.shape


@pytest.mark.e2e
def test_a_run_that_is_not_there_is_named(toy_run: ToyRun) -> None:
    nobody = load_recipe(toy_run.root / TOY, ["name=nobody"])
    with pytest.raises(ArtifactError, match="04_train|01_data"):
        ranks("model", nobody, toy_run.root)
