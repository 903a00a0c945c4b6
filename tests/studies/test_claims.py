"""Claims: answered by intervals alone, looked up either way round, missing where nothing was measured."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from sandbox import ROOT

from recnb.evaluation import told
from recnb.studies import claims
from recnb.studies.comparisons import Comparison


def row(choice: str, value: float, minus: dict[str, tuple[float, float, float]]) -> dict[str, Any]:
    found = {o: {"R@10": {"diff": d, "low": low, "high": high, "over": "users"}} for o, (d, low, high) in minus.items()}
    return {"choice": choice, "R@10": value, "N@10": value / 2, "seeds": [1], "minus": found, "changed": []}


SMALL = {"rows": [
    row("base", 0.10, {}),
    row("good", 0.12, {"base": (0.02, 0.01, 0.03)}),
    row("same", 0.10, {"base": (0.0, -0.01, 0.01), "good": (-0.02, -0.03, -0.01)}),
]}  # fmt: skip
LARGE = {"rows": [row("base", 0.2, {}), row("good", 0.19, {"base": (-0.01, -0.02, 0.0)})]}


def test_a_pair_is_found_either_way_round() -> None:
    assert claims.pair(SMALL, "good", "base", "R@10") == {"diff": 0.02, "low": 0.01, "high": 0.03, "over": "users"}
    assert claims.pair(SMALL, "base", "good", "R@10") == {"diff": -0.02, "low": -0.03, "high": -0.01, "over": "users"}
    assert claims.pair(SMALL, "good", "unknown", "R@10") is None


@pytest.mark.parametrize(
    ("better", "worse", "said"),
    [("good", "base", claims.AS_CLAIMED), ("base", "good", claims.CONTRARY), ("same", "base", claims.OPEN),
     ("same", "good", claims.CONTRARY), ("none", "base", claims.MISSING)],
)  # fmt: skip
def test_only_an_interval_without_zero_decides(better: str, worse: str, said: str) -> None:
    claim = claims.Claim(claim="c", part="p", comparison="small", better=better, worse=worse)
    assert claims.answered([claim], {"small": SMALL}).verdict[0] == said
    assert claims.answered([claim], {}).verdict[0] == claims.MISSING


def test_only_an_interval_over_seeds_speaks_of_methods() -> None:
    found = {"diff": 0.02, "low": 0.01, "high": 0.03}
    assert claims.verdict(found | {"over": "users"}) == claims.AS_CLAIMED != claims.HOLDS
    assert claims.verdict(found | {"over": "users and seeds"}) == claims.HOLDS
    turned = {"diff": -0.02, "low": -0.03, "high": -0.01, "over": "users and seeds"}
    assert claims.verdict(turned) == claims.FAILS and "worse than" in told(turned, "a", "b")


def test_a_verdict_comes_with_the_two_values_and_what_must_be_known_beside_it() -> None:
    claim = claims.Claim(claim="c", part="p", comparison="small", better="good", worse="base", note="a toy")
    found = claims.answered([claim], {"small": SMALL}).iloc[0]
    assert (found.of_better, found.of_worse, found.note) == (0.12, 0.10, "a toy")
    assert claims.answered([claim], {})[["of_better", "of_worse"]].isna().all(axis=None)


def test_a_claim_may_be_asked_in_a_metric_of_its_own() -> None:
    claim = claims.Claim(claim="c", part="p", comparison="small", better="good", worse="base", metric="R@10")
    found = claims.answered([claim, claim.model_copy(update={"metric": ""})], {"small": SMALL}, "R@20")
    assert found.metric.tolist() == ["R@10", "R@20"] and found.comparison.tolist() == ["small", "small"]
    assert found.verdict.tolist() == [claims.AS_CLAIMED, claims.MISSING] and found.of_better[0] == 0.12


def test_each_system_has_its_own_comparisons() -> None:
    every = {"old": SMALL, "new": SMALL | {"system": "llm4sbr"}}
    assert [*claims.of_system(every, "llm4sbr")] == ["new"] and [*claims.of_system(every, "eager_llm")] == ["old"]


def test_the_systems_of_one_run_answer_claims_too() -> None:
    against = {"diff": 0.02, "low": 0.01, "high": 0.03, "p": 0.01, "over": "sessions"}
    minus = {"model": [{"against": "plain", "metric": "R@20", **against}]}
    run = claims.as_comparison({"model": {"R@20": 0.12}, "plain": {"R@20": 0.10}}, minus)
    asked = claims.Claim(claim="it helps", part="whole", comparison="run", better="model", worse="plain")
    back = asked.model_copy(update={"better": "plain", "worse": "model"})
    other = asked.model_copy(update={"worse": "nobody"})
    found = claims.answered([asked, back, other], {"run": run}, "R@20")
    assert found.verdict.tolist() == [claims.AS_CLAIMED, claims.CONTRARY, claims.MISSING]
    assert found.of_worse.tolist()[:2] == [0.10, 0.12] and found.high.tolist()[:2] == [0.03, -0.01]
    own_metric = asked.model_copy(update={"metric": "R@20"})
    assert claims.answered([asked, own_metric], {"run": run}).verdict.tolist() == [claims.MISSING, claims.AS_CLAIMED]
    over = {"run": claims.as_comparison({"model": {}}, {"model": [minus["model"][0] | {"over": "sessions and seeds"}]})}
    assert claims.answered([asked], over, "R@20").verdict.tolist() == [claims.HOLDS]


def test_effects_are_taken_from_the_first_row() -> None:
    table = claims.effects(SMALL)
    assert table.choice.tolist() == ["base", "good", "same"] and table["diff"].tolist()[1:] == [0.02, 0.0]
    assert table["diff"].isna().tolist() == [True, False, False]


def test_shared_effects_are_those_of_the_shared_choices() -> None:
    both = claims.shared_effects(SMALL, LARGE)
    assert both.choice.tolist() == ["good"] and both.same_sign.tolist() == [False]
    assert claims.shared_effects(SMALL, {"rows": [row("other", 0.1, {})]}).empty


def test_every_claim_asks_about_choices_that_a_comparison_has() -> None:
    systems = claims.read_claims("recnb.eager_llm"), claims.read_claims("recnb.llm4sbr")
    for claim in (claim for system in systems for claim in system if claim.comparison != "run"):
        comparison = Comparison.read(ROOT / "params" / "ablations" / f"{claim.comparison}.yaml")
        assert {claim.better, claim.worse} <= comparison.variants.keys(), claim.claim


def test_every_step_of_the_log_that_names_choices_names_real_ones() -> None:
    for entry in yaml.safe_load((ROOT / "reports" / "ablations" / "log.yaml").read_text(encoding="utf-8")):
        step = claims.Step.model_validate(entry)
        if step.comparison:
            comparison = Comparison.read(ROOT / "params" / "ablations" / f"{step.comparison}.yaml")
            assert {step.better, step.worse} <= comparison.variants.keys(), step.tried
        plain = step.said.replace("256", "").replace("GRU4Rec", "")
        assert not any(character.isdigit() for character in plain), "figures are looked up"


def test_the_log_looks_its_figures_up(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "ablations"
    folder.mkdir(parents=True)
    (folder / "log.yaml").write_text(
        "- {date: 2026-01-02, tried: one, comparison: small, better: good, worse: base, said: kept}\n"
        "- {date: 2026-01-03, tried: two, comparison: other, better: a, worse: b}\n"
    )
    lines = claims.read_log(tmp_path, {"small": SMALL})
    assert lines == ["2026-01-02: one → R@10 +0.0200 [+0.0100, +0.0300]; kept", "2026-01-03: two → not measured"]
    assert claims.read_log(tmp_path / "nowhere", {}) == []
    (folder / "log.yaml").write_text("- {date: 2026-01-02, tried: one, found: 0.3}\n")
    with pytest.raises(ValidationError, match="found"):
        claims.read_log(tmp_path, {})


def test_every_committed_comparison_can_be_read() -> None:
    """They come from many versions of recnb; what a page asks of them, all of them answer."""
    comparisons = claims.read_comparisons(ROOT)
    asked = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "params" / "ablations").glob("*.yaml")}
    assert comparisons.keys() == {name for name, text in asked.items() if "Not yet measured" not in text}
    for comparison in comparisons.values():
        table, choices = claims.effects(comparison), claims.choices(comparison)
        assert len(table) == len(comparison["rows"]) and table["diff"].notna().tolist() == [False] + [True] * (len(table) - 1)
        assert [row["diff"] for row in choices[1:]] == table["diff"].tolist()[1:] and "diff" not in choices[0]
    verdicts = claims.answered(claims.read_claims("recnb.eager_llm"), comparisons).verdict
    assert claims.MISSING not in set(verdicts) and len(verdicts) > 5


def test_docstrings_tell_the_truth() -> None:
    found = doctest.testmod(claims)
    assert found.attempted and not found.failed
