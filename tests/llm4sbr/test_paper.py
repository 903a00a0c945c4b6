"""What the paper ran with, what it cost, and what it claims, against the recipe's keys and names."""

from __future__ import annotations

import doctest

import pytest

from recnb.evaluation import departures
from recnb.llm4sbr import paper
from recnb.llm4sbr.recipe import LLM4SBR, MAIN
from recnb.recommenders.session_models import SESSION_MODELS
from recnb.recommenders.settings import SrgnnConfig
from recnb.settings import flatten
from recnb.studies.claims import read_claims


def settings(**changes: object) -> dict[str, object]:
    return flatten(LLM4SBR(name="x").model_dump(mode="json")) | changes


def test_docstrings_tell_the_truth() -> None:
    found = doctest.testmod(departures)
    assert found.attempted and not found.failed


def test_every_setting_that_the_paper_fixes_is_a_key_of_recipes() -> None:
    known, told = settings(), paper.published()
    assert not [key for key in told["settings"] if key not in known]
    assert set(told["backbone"]) <= set(SrgnnConfig.model_fields)
    assert all(set(mark) - {"words"} <= set(departures.MARKS) for part in ("settings", "backbone") for mark in told[part].values())


def test_a_departure_is_what_differs_and_nothing_else() -> None:
    published = {key: said[next(iter(said))] for key, said in paper.published()["settings"].items()}
    published |= {f"models.srgnn.{key}": said[next(iter(said))] for key, said in paper.published()["backbone"].items()}
    assert paper.departures(settings() | published) == []
    found = paper.departures(settings() | published | {"localise.k": 3, "models.srgnn.width": 64})
    assert [str(one) for one in found] == ["localise.k 3 (release: 5)", "models.srgnn.width 64 (release: 100)"]


@pytest.mark.parametrize("backbone", SESSION_MODELS)
def test_departures_of_any_backbone_can_be_told(backbone: str) -> None:
    found = paper.departures(settings(**{"align.backbone": backbone}))
    own = f"models.{backbone.replace('-', '_')}."
    assert {one.setting for one in found if one.setting.startswith("models.")} <= {k for k in settings() if k.startswith(own)}
    assert any(one.setting == own + "width" for one in found) or settings().get(own + "width", 100) == 100


def test_table_5_as_printed() -> None:
    table = paper.published_costs()
    assert table.loc[("Beauty", "seconds per epoch")].tolist() == [398, 1490, 3.74]
    assert table.loc[("MovieLens-1M", "memory (MB)")].tolist() == [1290, 1324, 1.03]


def test_claims_ask_about_systems_that_a_run_may_have() -> None:
    plain = {"plain", "llm-infer", "llmseqsim", "rules", "words"}
    for claim in read_claims("recnb.llm4sbr"):
        if claim.comparison == "run":
            names = f"{claim.better}+{claim.worse}".split("+")
            assert all(name in plain or name == MAIN or name.startswith(f"{MAIN}-") for name in names)
        assert not any(character.isdigit() for character in claim.note), "figures are looked up"
