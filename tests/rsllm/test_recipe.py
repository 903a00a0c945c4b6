"""What a recipe of RSLLM refuses, and says."""

from __future__ import annotations

import pytest
from sandbox import ROOT

from recnb.errors import RecipeError
from recnb.rsllm.recipe import MAIN, RSLLM
from recnb.workflow.recipe import load_recipe

TOY = ROOT / "params" / "rsllm" / "toy.yaml"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("tune.arms={../text: {rank: 4}}", "names a folder"),
        (f"tune.arms={{{MAIN}: {{rank: 4}}}}", "the recipe's own model"),
        ("tune.arms={text: {stage: []}}", "nearest: 'stages'"),
        ("tune.arms={text: {rank: 0}}", "rank = 0"),
        ("tune.arms={text: {stages: [{prompt: pictures}]}}", "pictures"),
        ("models.baselines=[sasrec]", "without popularity"),
        ("models.baselines=[popularity, sasrec, tiger]", "with tiger"),
        ("evaluate.readings=[]", "readings"),
    ],
)
def test_a_recipe_says_what_it_does_not_take(change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(TOY, [change])


def test_an_arm_is_the_recipe_with_one_thing_changed() -> None:
    recipe = load_recipe(TOY, ["tune.arms={small: {rank: 4}}"])
    assert isinstance(recipe, RSLLM)
    own, small = recipe.tune.every_arm.values()
    assert small.rank == 4 and small.model_copy(update={"rank": own.rank}) == own
