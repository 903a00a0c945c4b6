"""What a recipe of RSLLM refuses, and says."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox import ROOT

from recnb.errors import RecipeError
from recnb.rsllm.recipe import MAIN, RSLLM
from recnb.settings import Problem
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
        ("tune.stages=[{promt: text}]", r"'tune.stages.0.promt'; nearest valid key: tune.stages.prompt"),
        ("tune.stages=[{weights: {nap: 1}}]", "nearest valid key: tune.stages.weights.nip"),
        ("tune.stages=[{weights: {nip: 0, tt: 0, ut: 0}}]", "all 0"),
        ("tune.arms={text: {stages: [{promt: text}]}}", "nearest: 'prompt'"),
        ("tune.arms={text: {stages: [{weights: {nap: 1}}]}}", "nearest: 'nip'"),
        ("tune.arms={text: {rank: 4}, Text: {rank: 2}}", "more than capitals"),
        ("evaluate.elsewhere={'<b>artists': data/x}", "elsewhere"),
        ("tune.stages=[{candidates: 1}]", "tune.stages.0.candidates = 1"),
        ("tune.stages=[{candidates: 21}]", r"tune.stages\[0\].candidates: 21 in rsllm; expected at most candidates.size, 20"),
    ],
)
def test_a_recipe_says_what_it_does_not_take(change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(TOY, [change])


def test_a_stage_without_anything_to_train_is_refused_before_the_first_stage() -> None:
    for_real, none = "llm={kind: pretrained, model: here}", "tune.layers=0"
    with pytest.raises(RecipeError, match="0 in rsllm, and a stage of text"):
        load_recipe(TOY, [for_real, none])
    load_recipe(TOY, [for_real, none, "tune.stages=[{prompt: hybrid}]", "tune.arms={}"])  # the projector is trained


def test_a_user_s_slot_needs_a_recommender_that_has_states() -> None:
    load_recipe(TOY, ["prompts.slots=[history, user]"])
    with pytest.raises(RecipeError, match="expected slots.table sasrec, gru4rec, caser, found text"):
        load_recipe(TOY, ["prompts.slots=[history, user]", "slots.table=text"])


def test_what_is_not_here_is_named_by_its_key() -> None:
    lacking = {"llm={kind: pretrained, model: ~nobody-here/x}": "llm", "candidates.file=~nobody-here/x": "candidates"}
    for change, section in lacking.items():
        recipe = load_recipe(TOY, [change])
        problem, = getattr(recipe, section).problems(ROOT, recipe)
        assert problem.what.startswith(f"{section}.") and "~nobody-here/x: no such file" in problem.what


def test_another_catalogue_is_read_before_anything_starts(tmp_path: Path) -> None:
    """07 asks about it, an hour later."""

    def problem(events: str, title: str = "b") -> str:
        (tmp_path / "interactions.csv").write_text(events, encoding="utf-8")
        (tmp_path / "items.jsonl").write_text(
            f'{{"item_id": "1", "title": "a"}}\n{{"item_id": "2", "title": "{title}", "brand": "x"}}\n', encoding="utf-8"
        )
        recipe = load_recipe(TOY, [f"evaluate.elsewhere={{artists: {tmp_path}}}"])
        return "".join(one.what for one in recipe.evaluate.problems(ROOT, recipe))

    rows = "u,1,0,{0}\nu,2,1,{0}\nu,1,2,{0}\n"
    fine = "user_id,item_id,order,split\n" + rows.format("test")
    assert problem(fine) == ""
    assert "item '2' has no title" in problem(fine, " ")
    assert "no column 'split'" in problem("user_id,item_id,order\nu,1,0\nu,2,1\nu,1,2\n")
    assert "split 'tset'" in problem(fine.replace("test", "tset"))
    assert "no user whose split is test" in problem(fine.replace("test", "train"))
    assert "no such folder" in "".join(one.what for one in _elsewhere("nobody-here/x"))


def _elsewhere(folder: str) -> list[Problem]:
    recipe = load_recipe(TOY, [f"evaluate.elsewhere={{artists: {folder}}}"])
    return recipe.evaluate.problems(ROOT, recipe)


def test_an_arm_is_the_recipe_with_one_thing_changed() -> None:
    recipe = load_recipe(TOY, ["tune.arms={small: {rank: 4}}"])
    assert isinstance(recipe, RSLLM)
    own, small = recipe.tune.every_arm.values()
    assert small.rank == 4 and small.model_copy(update={"rank": own.rank}) == own
