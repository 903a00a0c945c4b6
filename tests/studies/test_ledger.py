"""The ledger: what is published stays apart from what is measured."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from sandbox import ROOT

from recnb.eager_llm import published as published_settings
from recnb.eager_llm.published import PAPER_SETTINGS, departures
from recnb.errors import RecipeError
from recnb.settings import flatten
from recnb.studies import ledger as module
from recnb.studies.ledger import METRICS, PublishedRow, build_ledger, ledger_records, published
from recnb.workflow.recipe import load_recipe, valid_keys

WING = "recnb.eager_llm"
OURS = {"ours": {"R@5": 0.05, "R@10": 0.0415, "N@5": 0.03, "N@10": 0.0459}, "popularity": dict.fromkeys(METRICS, 0.01)}


@pytest.mark.parametrize(("key", "scores"), [
    ("beauty", (0.0548, 0.0830, 0.0369, 0.0459)),
    ("sports", (0.0373, 0.0569, 0.0251, 0.0315)),
    ("instruments", (0.0991, 0.1224, 0.0851, 0.0926)),
])  # fmt: skip
def test_the_target_is_the_papers_row(key: str, scores: tuple[float, ...]) -> None:
    assert tuple(published(key, WING).target_scores().values()) == scores


def test_every_published_row_has_a_source_and_sane_numbers() -> None:
    tables = yaml.safe_load((ROOT / "recnb" / "eager_llm" / "published.yaml").read_text(encoding="utf-8"))
    for key in tables:
        for row in published(key, WING).rows:
            scores = row.scores()
            assert row.source and scores["R@10"] and scores["N@10"] < scores["R@10"]
            assert (scores["R@5"] or 0) <= scores["R@10"] and (scores["N@5"] or 0) <= scores["N@10"]
        systems = [row.system for row in published(key, WING).rows]
        assert len(set(systems)) == len(systems)


def test_the_derived_row_follows_from_the_stated_gains() -> None:
    rows = {row.system: row for row in published("beauty", WING).rows}
    derived = rows["LC-Rec (EAGER-LLM's run)"]
    assert derived.kind == "derived"
    gains = dict(zip(("R@5", "R@10", "N@5", "N@10"), (0.1369, 0.2188, 0.1284, 0.1222), strict=True))
    for metric, gain in gains.items():
        assert rows["EAGER-LLM"].scores()[metric] / (1 + gain) == pytest.approx(derived.scores()[metric], abs=6e-5)


def test_recipes_name_published_tables_that_exist() -> None:
    for path in [*(ROOT / "params").glob("*.yaml"), *(ROOT / "params" / "paper").glob("*.yaml")]:
        published(load_recipe(path).published, WING)


def test_an_unknown_table_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"'beuty'.*nearest: 'beauty'"):
        published("beuty", WING)


def test_a_row_cannot_be_unmarked_or_impossible() -> None:
    with pytest.raises(ValidationError):
        PublishedRow.model_validate({"system": "x", "R@10": 0.1, "source": "y"})
    with pytest.raises(ValidationError):
        PublishedRow.model_validate({"system": "x", "kind": "published", "R@10": 8.3, "source": "y"})
    with pytest.raises(ValidationError):
        PublishedRow.model_validate({"system": "x", "kind": "measured", "R@10": 0.1, "source": "y"})


def test_gaps_are_relative_to_the_target_and_only_ours_carry_a_commit() -> None:
    table = build_ledger(OURS, published("beauty", WING), {"ours": "smaller"}, "abc123", "cpu").set_index("system")
    assert table.loc["EAGER-LLM", "gap R@10"] == 0
    assert table.loc["ours", "gap R@10"] == pytest.approx(-0.5)
    assert table.loc["ours", "gap N@10"] == pytest.approx(0)
    assert table.loc["ours", "why"] == "smaller" and table.loc["EAGER-LLM", "why"].startswith("EAGER-LLM, WWW 2025")
    measured = table.kind == "measured"
    assert set(table.index[measured]) == set(OURS)
    assert (table.commit[measured] == "abc123").all() and (table.hardware[~measured] == "").all()


def test_metrics_that_a_source_does_not_give_stay_missing() -> None:
    table = build_ledger({}, published("beauty", WING), {}, "", "").set_index("system")
    assert np.isnan(table.loc["TIGER", "R@5"]) and table.loc["TIGER", "R@10"] == 0.0648
    assert ledger_records(table.reset_index())[3]["R@5"] is None


def test_without_a_published_row_there_is_no_gap() -> None:
    table = build_ledger(OURS, published("", WING), {}, "", "")
    assert table.system.tolist() == list(OURS)
    assert table["gap R@10"].isna().all()


def test_other_cutoffs_are_kept() -> None:
    table = build_ledger({"ours": {"R@3": 0.1, "N@3": 0.05}}, published("beauty", WING), {}, "", "")
    assert table["R@3"].tolist()[-1] == 0.1 and table["R@10"].isna().tolist()[-1]


# --- departures -------------------------------------------------------------------------------------------------------


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
    assert doctest.testmod(module).failed == 0 and doctest.testmod(published_settings).attempted


def test_hardware_is_named(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor: 0\n" + 2 * "model name\t: Some CPU @ 2 GHz\n", encoding="utf-8")
    assert module._processor(cpuinfo) == "Some CPU @ 2 GHz"
    assert module._processor(tmp_path / "none")
    assert module.hardware("cpu", 2).endswith(", 2 threads") and module.hardware("cpu", 1).endswith(", 1 thread")
