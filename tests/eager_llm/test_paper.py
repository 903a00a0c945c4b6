"""What the paper ran with, and where recipes depart from it."""

from __future__ import annotations

import doctest

from sandbox import ROOT

from recnb.eager_llm import paper
from recnb.eager_llm.paper import PAPER_SETTINGS, departures
from recnb.settings import flatten
from recnb.workflow.recipe import load_recipe, valid_keys


def settings(name: str) -> dict:
    return flatten(load_recipe(ROOT / "params" / f"{name}.yaml").model_dump(mode="json"))


def test_the_paper_recipes_do_not_depart() -> None:
    for name in ("beauty", "sports", "instruments"):
        assert departures(settings(f"paper/llama7b-{name}")) == []


def test_the_quickstart_says_where_it_departs() -> None:
    lines = departures(settings("quickstart"))
    assert "backbone.model none (paper: Llama-7B)" in lines
    assert any(line.startswith("train.expand dense") for line in lines)
    assert not any(line.startswith("decode.beam") for line in lines)


def test_paper_settings_are_recipe_keys() -> None:
    assert set(PAPER_SETTINGS) <= set(valid_keys())


def test_docstrings_tell_the_truth() -> None:
    found = doctest.testmod(paper)
    assert found.attempted and not found.failed
