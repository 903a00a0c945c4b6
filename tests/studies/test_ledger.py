"""The ledger: what is published stays apart from what is measured."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from sandbox import ROOT

from recnb.errors import RecipeError
from recnb.recommenders.settings import BASELINES
from recnb.studies import figures, ledger
from recnb.studies.ledger import (
    METRICS,
    Published,
    PublishedRow,
    build_ledger,
    ledger_records,
    main_table,
    read_published,
    shortfall,
)
from recnb.workflow.recipe import load_recipe

WING = "recnb.eager_llm"
HERE = {"commit": "abc123", "hardware": "cpu"}
OURS = [
    {"system": "ours", "R@5": 0.05, "R@10": 0.0415, "N@5": 0.03, "N@10": 0.0459, "why": "smaller", **HERE},
    {"system": "popularity", **dict.fromkeys(METRICS, 0.01), "why": "", **HERE},
]


@pytest.mark.parametrize(("key", "scores"), [
    ("beauty", (0.0548, 0.0830, 0.0369, 0.0459)),
    ("sports", (0.0373, 0.0569, 0.0251, 0.0315)),
    ("instruments", (0.0991, 0.1224, 0.0851, 0.0926)),
])  # fmt: skip
def test_the_target_is_the_papers_row(key: str, scores: tuple[float, ...]) -> None:
    assert tuple(read_published(key, WING).target_scores().values()) == scores


def test_every_published_row_has_a_source_and_sane_numbers() -> None:
    tables = yaml.safe_load((ROOT / "recnb" / "eager_llm" / "published.yaml").read_text(encoding="utf-8"))
    for key in tables:
        for row in read_published(key, WING).rows:
            scores = row.scores()
            assert row.source and scores["R@10"] and scores["N@10"] < scores["R@10"]
            assert (scores["R@5"] or 0) <= scores["R@10"] and (scores["N@5"] or 0) <= scores["N@10"]
        systems = [row.system for row in read_published(key, WING).rows]
        assert len(set(systems)) == len(systems)


def test_the_derived_row_follows_from_the_stated_gains() -> None:
    rows = {row.system: row for row in read_published("beauty", WING).rows}
    derived = rows["LC-Rec (EAGER-LLM's run)"]
    assert derived.kind == "derived"
    gains = dict(zip(("R@5", "R@10", "N@5", "N@10"), (0.1369, 0.2188, 0.1284, 0.1222), strict=True))
    for metric, gain in gains.items():
        assert rows["EAGER-LLM"].scores()[metric] / (1 + gain) == pytest.approx(derived.scores()[metric], abs=6e-5)


def test_recipes_name_published_tables_that_exist() -> None:
    for path in [*(ROOT / "params").glob("*.yaml"), *(ROOT / "params" / "paper").glob("*.yaml")]:
        read_published(load_recipe(path).published, WING)


def test_an_unknown_table_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"'beuty'.*nearest: 'beauty'"):
        read_published("beuty", WING)


def test_a_row_cannot_be_unmarked_or_impossible() -> None:
    with pytest.raises(ValidationError):
        PublishedRow.model_validate({"system": "x", "R@10": 0.1, "source": "y"})
    with pytest.raises(ValidationError):
        PublishedRow.model_validate({"system": "x", "kind": "published", "R@10": 8.3, "source": "y"})
    with pytest.raises(ValidationError):
        PublishedRow.model_validate({"system": "x", "kind": "measured", "R@10": 0.1, "source": "y"})


def test_gaps_are_relative_to_the_target_and_only_ours_carry_a_commit() -> None:
    table = build_ledger(OURS, read_published("beauty", WING)).set_index("system")
    assert table.loc["EAGER-LLM", "gap R@10"] == 0
    assert table.loc["ours", "gap R@10"] == pytest.approx(-0.5)
    assert table.loc["ours", "gap N@10"] == pytest.approx(0)
    assert table.loc["ours", "why"] == "smaller" and table.loc["EAGER-LLM", "why"].startswith("EAGER-LLM, WWW 2025")
    measured = table.kind == "measured"
    assert set(table.index[measured]) == {"ours", "popularity"}
    assert (table.commit[measured] == "abc123").all() and (table.hardware[~measured] == "").all()


def test_a_baseline_says_how_far_it_lies_from_the_published_one() -> None:
    ours = {"system": "sasrec-sampled", "R@10": 0.0834, "N@10": 0.0509, "why": "3 seeds", **HERE}
    why = build_ledger([ours, *OURS], read_published("beauty", WING)).set_index("system").why
    assert why["sasrec-sampled"].startswith(
        "3 seeds; R@10 9.4 % below, N@10 4.1 % below the published SASRec (sampled softmax"
    )
    assert why["popularity"] == "" and why["ours"] == "smaller"
    both = shortfall("sasrec", {"R@10": 0.0851, "N@10": 0.0421}, read_published("beauty", WING))
    assert both.count("the published SASRec (full") == 2 and both.startswith("R@10 0.0 % above")
    assert shortfall("sasrec-sampled", ours, None) == "" == shortfall("gru4rec", ours, read_published("beauty", WING))


def test_published_rows_name_baselines_that_we_have() -> None:
    tables = yaml.safe_load((ROOT / "recnb" / "eager_llm" / "published.yaml").read_text(encoding="utf-8"))
    named = {row.same_as for key in tables for row in read_published(key, WING).rows} - {""}
    assert {"sasrec", "sasrec-sampled"} <= named <= set(BASELINES)


def test_metrics_that_a_source_does_not_give_stay_missing() -> None:
    table = build_ledger([], read_published("beauty", WING)).set_index("system")
    assert np.isnan(table.loc["TIGER", "R@5"]) and table.loc["TIGER", "R@10"] == 0.0648
    assert ledger_records(table.reset_index())[3]["R@5"] is None


def test_without_a_published_row_there_is_no_gap() -> None:
    table = build_ledger(OURS, read_published("", WING))
    assert table.system.tolist() == ["ours", "popularity"]
    assert table["gap R@10"].isna().all()


def test_other_cutoffs_are_kept() -> None:
    table = build_ledger([{"system": "ours", "R@3": 0.1, "N@3": 0.05}], read_published("beauty", WING))
    assert table["R@3"].tolist()[-1] == 0.1 and table["R@10"].isna().tolist()[-1]


def test_a_system_may_publish_other_metrics_and_they_stand_in_order() -> None:
    scores = {"M@20": 0.05, "R@20": 0.17, "R@10": 0.12, "mrr_release@10": 0.05}
    theirs = {"system": "theirs", "kind": "published", "source": "s", "same_as": "ours", **scores}
    reference = Published.model_validate({"dataset": "d", "target": "theirs", "rows": [theirs]})
    table = build_ledger([{"system": "ours", "R@10": 0.06, "M@5": 0.03}], reference)
    assert [name for name in table if "@" in name and "gap" not in name] == [
        "R@5", "R@10", "R@20", "M@5", "M@20", "N@5", "N@10", "mrr_release@10",
    ]  # fmt: skip
    assert table["R@20"].tolist()[0] == 0.17 and table["gap R@10"].tolist()[-1] == pytest.approx(-0.5)
    assert table.why.tolist()[-1] == "R@10 50.0 % below the published theirs"


@pytest.mark.parametrize("name", ["P@10", "R@0", "R@", "recall", "R10"])
def test_a_published_row_names_metrics_and_nothing_else(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"x: {name}: expected system, .* such as R@10"):
        PublishedRow.model_validate({"system": "x", "kind": "published", "source": "y", name: 0.1})


def test_hardware_is_named(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor: 0\n" + 2 * "model name\t: Some CPU @ 2 GHz\n", encoding="utf-8")
    assert ledger.hardware("cpu", 2, cpuinfo) == "Some CPU @ 2 GHz, 2 threads"
    assert ledger.hardware("cpu", 1, cpuinfo).endswith(", 1 thread")
    unnamed = ledger.hardware("cpu", 1, tmp_path / "none")
    assert unnamed.endswith(", 1 thread") and not unnamed.startswith(",")


def test_measured_and_published_rows_stand_in_one_table_and_say_which_they_are() -> None:
    scores = {"R@5": 0.04, "R@10": 0.06, "N@5": 0.02, "N@10": 0.03, "seeds": [1, 2]}
    result = {"recipe": "r", "seeds": [1, 2], "spread": {"a": {"R@10": 0.001}, "ours": {}},
              "systems": {"a": {"kept": scores}, "ours": {"kept": scores}}}  # fmt: skip
    theirs = PublishedRow.model_validate({"system": "theirs", "kind": "published", "source": "s", "N@10": 0.05})
    table = main_table([result], Published(dataset="d", target="theirs", rows=[theirs]))
    assert table.system.tolist() == ["theirs", "a"] and table.kind.tolist() == ["published", "measured"]
    assert json.loads(table.to_json(orient="records"))[1]["seeds"] == 2
    assert main_table([result], None, "removed").empty, "no system was asked to leave out seen items"


def test_the_ledger_is_drawn_in_order_with_its_kinds() -> None:
    measured = [{"system": "ours", "N@10": 0.05}, {"system": "worse", "N@10": 0.01}]
    axis = figures.standing(build_ledger(measured, read_published("sports", WING)), "N@10").axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names[0] == "worse" and names[-1] == "ours" and "EAGER-LLM" in names
    assert {text.get_text() for text in axis.get_legend().get_texts()} == {"published", "measured"}
    drawn = {label: [bar.get_width() for bar in bars] for label, bars in zip(*axis.get_legend_handles_labels()[::-1], strict=True)}
    assert drawn["measured"] == [0.01, 0.05]
    plt.close("all")
