"""What the papers ran with and claim, against the recipe's keys and names."""

from __future__ import annotations

from recnb.evaluation.departures import MARKS
from recnb.rsllm import paper
from recnb.rsllm.recipe import MAIN, RSLLM
from recnb.settings import flatten
from recnb.studies.claims import read_claims


def settings(**changes: object) -> dict[str, object]:
    return flatten(RSLLM(name="x").model_dump(mode="json")) | changes


def test_every_setting_that_a_paper_fixes_is_a_key_of_recipes() -> None:
    told = paper.published()["settings"]
    assert {key for key in told if key not in settings()} == {"tune.prompts", "tune.candidates", "tune.examples"}
    assert all(set(marks) - {"words"} <= set(MARKS) for marks in told.values())


def test_a_departure_is_what_differs_and_nothing_else() -> None:
    same = {key: said[next(iter(said))] for key, said in paper.published()["settings"].items()}
    two = [{"prompt": "text", "candidates": None, "examples": 1}, {"prompt": "hybrid", "candidates": 20, "examples": 330634}]
    assert paper.departures(settings() | same | {"tune.stages": two}) == []
    swapped = {"tune.stages": two[::-1], "candidates.size": 10}
    found = [str(one) for one in paper.departures(settings() | same | swapped)]
    assert found == [
        "candidates.size 10 (paper: 20)", "tune.prompts hybrid, text (paper: text, hybrid)",
        "tune.candidates 20 (release: as many as in the test)",
    ]  # fmt: skip


def test_claims_ask_about_systems_that_a_run_may_have() -> None:
    for claim in read_claims("recnb.rsllm"):
        if claim.comparison == "run":
            assert claim.better == MAIN and (claim.worse.startswith(MAIN) or claim.worse in ("sasrec", "rules+words"))
        assert not any(character.isdigit() for character in claim.note), "figures are looked up"
