"""What a recipe of the gallery refuses before its first stage."""

from __future__ import annotations

import pytest
from sandbox import ROOT

from recnb.errors import RecipeError
from recnb.gallery.recipe import Gallery
from recnb.workflow.recipe import load_recipe

TOY = ROOT / "params" / "gallery" / "toy.yaml"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("models.baselines=[popularity]", "expected sasrec"),
        ("models.baselines=[sasrec, tiger]", "no tiger"),
        ("slots.table=gru4rec", "expected table sasrec"),
        ("slots.warmup=3", "warmup 0"),
        ("prompts.slots=[user]", "collm alone"),
    ],
)
def test_a_recipe_says_what_it_does_not_take(change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(TOY, [change])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("candidates.size=27", "candidates.size = 27: llamarec has 26 letters"),
        ("gallery.systems=[llmrnk]", "nearest: 'llmrank'"),
        ("gallery.exports=[~nobody-here/x]", "~nobody-here/x: no such folder"),
        ("gallery.labels=liked", "liked learns from ratings, and data.source: toy has none"),
    ],
)
def test_what_stands_in_the_way_is_said_before_anything_starts(change: str, said: str) -> None:
    recipe = load_recipe(TOY, [change])
    assert isinstance(recipe, Gallery)
    assert any(said in problem.what for problem in recipe.gallery.problems(ROOT, recipe))
    fine = load_recipe(TOY, ["candidates.size=26"])
    assert isinstance(fine, Gallery) and not fine.gallery.problems(ROOT, fine)
