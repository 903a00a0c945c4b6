"""What a recipe of LLM4SBR may not say: refused when it is loaded, with the place, and the nearest valid choice."""

from __future__ import annotations

import pytest
from sandbox import ROOT

from recnb.errors import RecipeError
from recnb.llm4sbr.recipe import LLM4SBR
from recnb.studies.claims import read_claims
from recnb.workflow.recipe import load_recipe

TOY = ROOT / "params" / "llm4sbr" / "toy.yaml"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["evaluate.published=beautty"], "evaluate.published = 'beautty': expected beauty, ml-1m.*nearest: 'beauty'"),
        (["evaluate.published=beauty", "evaluate.cutoffs=[5, 20]"], r"cutoffs = \[5, 20\]: expected 10 among them"),
        (["evaluate.mixtures=[rules+wrods]"], "evaluate.mixtures: wrods: expected one of .*nearest: 'words'"),
        (["evaluate.mixtures=[rules+words+rules]"], r"evaluate.mixtures: rules\+words\+rules: expected each row at most once"),
        (["align.arms.no long={}"], "align.arms: 'no long': expected a name of letters"),
        (["align.arms={one: {view: [long]}}"], "align.arms.one: unknown key 'view'; nearest: 'views'"),
        (["align.arms={one: {views: [merged, long]}}"], "views: long, short or both, or merged alone"),
        (["align.arms={one: {source: llm}}"], "align.arms.one: texts of llm are not made where intents.source is retrieval"),
        (["align.arms={one: {}, two: {source: constnt}}"], r"align\.arms\.two: source = 'constnt': expected .*'constant'.* or .*'recipe'$"),
        (["align.arms={one: {weight: -1}}"], r"align\.arms\.one: weight = -1: expected greater"),
        (["intents.source=llm", "align.arms={one: {views: [merged]}}"], "align.arms.one.views: nobody is asked for merged"),
        (["intents.source=llm", "align.texts=merged"], "align.views: nobody is asked for merged"),
        (["cases.sessions=[3, -1]"], r"cases.sessions.* = -1: expected greater than or equal to 0"),
        (["localise.encoder=none"], "localise.encoder = 'none': expected 'sentence' or 'causal-lm'"),
        (["models.baselines=[tiger]"], "models.baselines: expected at least one, and not tiger"),
    ],
)  # fmt: skip
def test_refused_when_loaded(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(TOY, changes)


def test_published_rows_and_the_hub_are_asked_for_by_the_same_keys_in_every_system() -> None:
    found = load_recipe(TOY, ["evaluate.published=beauty", "data.download=false"])
    assert isinstance(found, LLM4SBR) and found.published == "beauty" and found.offline
    assert load_recipe(TOY).published == "" and not load_recipe(TOY).offline
    with pytest.raises(RecipeError, match="evaluate.published = 'beaty'.*nearest: 'beauty'"):
        load_recipe(ROOT / "params" / "toy.yaml", ["evaluate.published=beaty"])


def test_what_claims_are_asked_of_is_an_input_of_the_evaluation() -> None:
    recipe = load_recipe(TOY)
    named = {claim.comparison for claim in read_claims(recipe.wing)} - {"run"}
    assert {path.stem for path in recipe.evaluate.files(ROOT, recipe)} == named and named
