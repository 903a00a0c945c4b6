"""What an evaluation found, for people: the best values in bold, and no more said than the intervals allow."""

from __future__ import annotations

import doctest

from pages import EARLIER, LEDGER, METRICS

from recnb.evaluation import verdicts
from recnb.report import result
from recnb.studies.ledger import Published


def test_the_ledger_marks_the_best_measured_value_of_each_metric() -> None:
    table = result.ledger_table(LEDGER)
    assert [name for name, _ in table.columns] == ["system", "R@5", "R@10", "kind", "gap R@10", "why"]
    best = {(row[0], name) for row in table.rows
            for (name, _), cell in zip(table.columns, row, strict=True) if isinstance(cell, result.Best)}  # fmt: skip
    assert best == {("ours", "R@10"), ("popularity", "R@5")}, "a published row is never the best measured"
    assert [look for _, look in table.columns] == ["", "n", "n", "kind", "n", ""]
    assert list(table.looks) == ["published", "measured", "measured", "published"]
    assert table.rows[1][2] == "0.0812" and table.rows[1][4] == "-2.2 %" and table.rows[3][1] == ""
    assert result.ledger_table([]).rows == []


def test_the_result_gives_both_protocols_and_marks_the_best() -> None:
    table = result.result_table(METRICS)
    assert table.groups == {"": 1, "seen items kept": 2, "seen items removed": 2}
    assert table.columns == [("system", ""), *[("R@10", "n"), ("N@10", "n")] * 2]
    best = {row[0]: [isinstance(cell, result.Best) for cell in row[1:]] for row in table.rows}
    assert best["eager"] == [False, True, True, True] and best["sasrec"] == [True, True, False, False]
    assert list(table.looks) == ["ours", "", ""] and table.rows[2] == ["sasrec", "0.0900", "0.0500", "", ""]
    assert result.headline(METRICS, "eager-llm") == [
        ("0.0800", "R@10, eager"), ("0.0900", "R@10, sasrec"), ("0.0400", "R@10, popularity")]  # fmt: skip


def test_columns_of_one_protocol_stand_together() -> None:
    late = {"a": {"kept": {"R@5": 0.1}, "removed": {"R@5": 0.2}}, "b": {"kept": {"MRR": 0.3}}}
    table = result.result_table({"systems": late})
    assert [name for name, _ in table.columns] == ["system", "R@5", "MRR", "R@5"]
    assert table.rows[1] == ["b", "", "0.3000", ""] and list(table.groups.values()) == [1, 2, 1]


def test_where_rows_are_judged_otherwise_tiles_and_verdicts_follow() -> None:
    systems = {"ours": {"uniform": {"HR@1": 0.3, "MRR": 0.4}}, "sasrec": {"uniform": {"HR@1": 0.2}, "kept": {"R@10": 0.9}}}
    row = {"against": "sasrec", "diff": 0.1, "low": 0.05, "high": 0.15}
    rows = [row | {"metric": "HR@1"}, row | {"metric": "N@10"}]
    metrics = {"systems": systems, "ours": "ours", "cutoffs": [5, 10], "ours_minus": {"uniform": rows}}
    judged = metrics | {"chief": {"protocol": "uniform", "metric": "HR@1"}}
    assert result.headline(judged, "rsllm") == [("0.3000", "HR@1, ours"), ("0.2000", "HR@1, sasrec")]
    assert [said.partition(":")[0] for said in result.verdicts(judged)] == ["HR@1"]
    assert result.verdicts(metrics) == [] and result.headline(metrics, "rsllm") == [("0.9000", "R@10, sasrec")]


def test_a_system_of_ours_that_validation_did_not_choose_has_no_tile() -> None:
    systems = METRICS["systems"] | {"eager-llm-no-adapter": {"kept": {"R@10": 0.2}}}
    assert [label for _, label in result.headline(METRICS | {"systems": systems}, "eager-llm")] == [
        "R@10, eager", "R@10, sasrec", "R@10, popularity"]  # fmt: skip


def test_the_best_values_stand_in_bold_and_hold_no_markup() -> None:
    assert result.Best("<i>").__html__() == "<b>&lt;i&gt;</b>"
    odd = result.result_table({"systems": {"<i>": {"kept": {"R@10": 0.1, "N@10": None}}}})
    assert odd.rows == [["<i>", "0.1000", ""]] and [type(cell) for cell in odd.rows[0]] == [str, result.Best, str]


def test_verdicts_say_no_more_than_their_intervals() -> None:
    said = result.verdicts(METRICS)
    once = ": these two trained models differ"
    assert said[0] == "R@10: eager is above popularity, +0.0400 [+0.0200, +0.0600]" + once
    assert "eager and sasrec cannot be told apart" in said[1] and "is below" in said[2] and len(said) == 3
    assert not [line for line in said if "better" in line or "worse" in line], "one training each"


def test_a_difference_to_a_published_baseline_comes_with_its_shortfall() -> None:
    rows = [
        {"system": "theirs", "kind": "published", "source": "a paper", "same_as": "sasrec", "R@10": 0.1, "N@10": 0.04}
    ]
    reference = Published.model_validate({"dataset": "d", "target": "theirs", "rows": rows})
    popularity, sasrec, _ = result.verdicts(METRICS, reference)
    assert sasrec.endswith("; sasrec here: R@10 10.0 % below, N@10 25.0 % above the published theirs")
    assert popularity == result.verdicts(METRICS)[0]


def test_the_budget_is_said_in_sentences() -> None:
    size, trend, bar = result.budget(METRICS)
    assert "0.67 million parameters, one for every 10,000 of the paper's" in size and "1,734 steps" in size
    assert "0.0500 → 0.0900 → 0.0800; it was no longer getting better" in trend and "-0.0100" in trend
    assert bar == "The best system on this page, sasrec, reaches 1.12 times our R@10."
    better = METRICS | {"budget": METRICS["budget"] | {"validation": [0.05, 0.09]}}
    assert "it was still getting better" in result.budget(better)[1]


def test_a_run_stands_beside_the_seeds_measured_before() -> None:
    table = result.seeds_table(EARLIER, LEDGER, "ours")
    assert [name for name, _ in table.columns][1:3] == ["R@10 here", "R@10, 3 seeds"]
    assert table.rows[0][:3] == ["ours", "0.0812", "0.0900 ± 0.0173 (0.0700 to 0.1000)"] and table.looks == ["ours", ""]
    assert table.rows[1][1:3] == ["0.0412", "0.0400 ± 0.0000 (0.0400 to 0.0400)"]
    assert table.rows[0][3] == "", "no N@10 here"
    same, other = result.seeds_said(EARLIER, "aa"), result.seeds_said(EARLIER, "bb")
    assert same.startswith(
        "Measured before with seeds 42, 43, 44 on two cores, commit 0123456789ab, 0123456789ab+, with the"
    )
    assert "with the same settings" in same and "with settings of another hash (aa, here bb)" in other
    assert same.endswith(
        "one machine with one number of threads; elsewhere it goes its own way. (+: with uncommitted changes)"
    )


def test_where_first_places_are_judged_seeds_and_choices_say_so() -> None:
    seeds = {"1": {"R@1": 0.2}, "2": {"R@1": 0.3}}
    earlier = {"seeds": [1, 2], "runs": [{"protocol": "hard"}], "systems": {"a": {"hard": {"per_seed": seeds}, "easy": {}}}}
    table = result.seeds_table(earlier, [{"system": "a", "kind": "measured", "R@1": 0.2}], "a")
    assert [name for name, _ in table.columns] == ["system", "R@1 here", "R@1, 2 seeds"]
    assert table.rows == [["a", "0.2000", "0.2500 ± 0.0707 (0.2000 to 0.3000)"]]
    row = {"choice": "x", "R@1": 0.2, "margin": 0.1, "steps": 1, "seconds": 60, "changed": []}
    made = result.choices_table([row, row | {"choice": "y", "diff": 0.1, "low": 0.05, "high": 0.2}])
    assert [name for name, _ in made.columns][1:3] == ["R@1", "change of R@1"]
    assert made.rows[1][:3] == ["y", "0.2000 ± 0.1000", "+0.1000"] and isinstance(made.rows[1][2], result.Best)


def test_one_seed_is_no_spread() -> None:
    assert not result.seeds_table({}, LEDGER, "ours").rows and not result.seeds_table(EARLIER | {"seeds": [42]}, [], "").rows
    assert result.seeds_said({}, "aa") == ""


def test_two_numbers_of_one_recipe_are_explained() -> None:
    row = {"R@10": 0.1241, "recipe_hash": "aa", "commit": "abc", "device": "cpu", "threads": 2}
    made = {"commit": "def", "device": "cpu", "threads": 1}
    said = result.choices_said([row], METRICS, "aa", made)
    assert "R@10 0.1241 (commit abc, cpu, threads 2), and 0.0900 in the run of this page (commit def, cpu, threads 1)" in said
    assert "with the same settings" in said
    assert "settings of another hash (aa, here bb)" in result.choices_said([row], METRICS, "bb", made)
    assert result.choices_said([], METRICS, "aa", made) == "" == result.choices_said([row], {}, "aa", made)


def test_steps_and_minutes_are_shown_where_all_choices_have_them() -> None:
    row = {"choice": "a", "R@10": 0.1, "margin": 0.01, "N@10": 0.05, "changed": ["k=1"]}
    assert result.choices_table([row]).rows == [["a", "0.1000 ± 0.0100", "0.0500", "", "k=1"]]
    trained = row | {"steps": 1000, "seconds": 90.0}
    assert result.choices_table([trained]).rows[0][4:] == ["1,000", "1.5", "k=1"]
    assert [name for name, _ in result.choices_table([row, trained]).columns][4:] == ["changed"]


def test_no_metrics_no_result() -> None:
    assert result.result_table({}).rows == [] and result.verdicts({}) == [] and result.budget({}) == []
    assert result.headline({}, "eager-llm") == []


def test_docstrings_tell_the_truth() -> None:
    for module in (result, verdicts):
        found = doctest.testmod(module)
        assert found.attempted and not found.failed
