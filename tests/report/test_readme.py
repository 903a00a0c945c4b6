"""The command that fills the tables of the results' page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pages import EARLIER, LEDGER
from sandbox import ROOT

from recnb.errors import ArtifactError
from recnb.report import readme
from recnb.studies.claims import read_claims, read_comparisons, verdict
from recnb.studies.comparisons import Comparison

KEPT = {"recipe_hash": "bb", "ledger": LEDGER, "stages": {"06_evaluate": {"facts": {"ours": "ours"}}}}
ROWS = [
    {"system": "A", "R@10": 0.083, "kind": "published", "why": "a | b", "commit": "", "hardware": ""},
    {"system": "ours", "R@10": None, "kind": "measured", "why": "", "commit": "abc", "hardware": "two cores"},
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose page has two marks."""
    monkeypatch.setattr(readme, "LEDGERS", {"ledger": ("ledger.json",), "long": ("a.json", "b.json")})
    monkeypatch.setattr(readme, "BODIES", {})
    for name in ("notebooks", "params", "reports/ablations"):
        (tmp_path / name).mkdir(parents=True)
    marks = [f"<!-- {name} -->\nold {name}\n<!-- /{name} -->\n" for name in readme.LEDGERS]
    (tmp_path / readme.PAGE).write_text(f"before\n{'between'.join(marks)}after\n", encoding="utf-8")
    (tmp_path / "ledger.json").write_text(json.dumps(ROWS), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("content", [ROWS, {"rows": ROWS}])
def test_fills_between_the_marks_once(root: Path, content: object) -> None:
    (root / "ledger.json").write_text(json.dumps(content), encoding="utf-8")
    text = readme.filled(root, "ledger")
    assert text.startswith("before\n") and text.endswith("after\n") and "old ledger" not in text
    assert "between" in text and "old long" in text, "another mark's table stays"
    assert "| A | 0.0830 | published | a \\| b |" in text
    assert "| ours |  | measured |  |" in text
    assert "Measured rows: commit abc; hardware two cores." in text
    (root / readme.PAGE).write_text(text, encoding="utf-8")
    assert readme.filled(root, "ledger") == text, "nothing changes the second time"


def test_a_row_of_two_files_stands_once(root: Path) -> None:
    own = {"system": "ours, again", "R@10": 0.5, "kind": "measured", "why": "", "commit": "def", "hardware": "a GPU"}
    (root / "a.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (root / "b.json").write_text(json.dumps([*ROWS, own]), encoding="utf-8")
    text = readme.mark_body(root, "long")
    assert text.count("| A |") == 1 and text.count("| ours |") == 1 and text.count("| ours, again | **0.5000** |") == 1
    assert "commit abc, def; hardware a GPU, two cores" in text


def test_a_baseline_whose_tuning_stopped_early_is_named(root: Path) -> None:
    (root / "a.json").write_text(json.dumps({"rows": ROWS, "recipe": "mine", "systems": {"gru": {}}}), encoding="utf-8")
    (root / "b.json").write_text(json.dumps(ROWS), encoding="utf-8")
    tuning = {"base": "params/mine.yaml", "judged": "gru", "missing": ["dropout 0.3", "two blocks"], "rows": []}
    for name, found in {
        "ours": tuning,
        "done": tuning | {"missing": []},
        "other": tuning | {"base": "params/other.yaml"},
    }.items():
        (root / "reports" / "ablations" / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    assert readme.mark_body(root, "long").endswith(
        "\n\ngru may be under-tuned: of ours, 2 choices were not run (dropout 0.3; two blocks)."
    )


def test_several_seeds_stand_beside_the_example(root: Path) -> None:
    assert "have not been measured yet" in readme.seeds_body(root)
    for place, content in {readme.SEEDS: EARLIER, readme.EXAMPLE: KEPT}.items():
        (root / place).parent.mkdir(parents=True)
        (root / place).write_text(json.dumps(content), encoding="utf-8")
    text = readme.seeds_body(root)
    assert (
        "| ours | 0.0812 | 0.0900 ± 0.0173 (0.0700 to 0.1000) |" in text
        and "with settings of another hash (aa, here bb)" in text
    )


def test_the_codebook_is_not_told_without_its_row_of_equal_parameters(root: Path) -> None:
    text = readme.choices_body(ROOT)
    for name, pairs in readme.CODEBOOKS.items():
        part = text[text.index(f"`{name}`") :].splitlines()
        for one, other in pairs:
            line = next(line for line in part if line.startswith("- ") and f"'{one}'" in line and f"'{other}'" in line)
            assert line.endswith(("these two trained models differ", "over users", "over users and seeds"))
        asked = Comparison.read(ROOT / "params" / "ablations" / f"{name}.yaml").variants
        assert {choice for both in pairs for choice in both} <= asked.keys()


def test_what_needs_several_trainings_stands_with_its_verdicts_and_choices() -> None:
    text, every = readme.compared_body(ROOT), read_comparisons(ROOT)
    asked = [claim for claim in read_claims("recnb.llm4sbr") if claim.comparison != "run"]
    for claim in asked:
        line = next(line for line in text.splitlines() if line.startswith(f"| {claim.claim} |"))
        found = claim.difference(every, claim.metric)
        assert found and f"| {100 * found['diff']:+.2f} [" in line and line.endswith(f"| {verdict(found)} |")
    assert asked and all(f"| {claim.better} |" in text for claim in asked)


def test_gains_are_told_group_by_group(root: Path) -> None:
    row = {"group": "new", "samples": 1200, "sessions": 9, "mean": 0.02, "low": 0.01, "high": 0.03}
    (root / readme.JUDGED["sessions-judged"][0]).parent.mkdir(parents=True)
    gains = {"its pair": [row, row | {"group": "old", "low": -0.01}, row | {"low": -0.03, "high": -0.001}]}
    (root / readme.JUDGED["sessions-judged"][0]).write_text(json.dumps({"gains": gains}), encoding="utf-8")
    lines = readme.gains_body(root).splitlines()[2:]
    assert lines[0] == "| its pair: new | 1,200 | +2.00 [+1.00, +3.00] | above zero |"
    assert lines[1].endswith("| cannot be told |") and lines[2].endswith("| below zero |")


@pytest.mark.parametrize(("name", "metric"), [("sessions-judged", "P@20"), ("ranking-judged", "HR@1")])
def test_claims_stand_with_their_points_and_verdicts(root: Path, name: str, metric: str) -> None:
    found = {"claim": "A beats B", "diff": 0.0312, "low": -0.001, "high": 0.06, "verdict": "cannot be told"}
    (root / readme.JUDGED[name][0]).parent.mkdir(parents=True)
    (root / readme.JUDGED[name][0]).write_text(json.dumps({"claims": [found, found | {"diff": None}]}), encoding="utf-8")
    head, _, *rows = readme.judged_body(root, name).splitlines()
    assert f"| {metric}, points |" in head and rows == ["| A beats B | +3.12 [-0.10, +6.00] | cannot be told |"]


def test_missing_number_is_an_empty_cell(root: Path) -> None:
    rows = [{"system": "A", "R@5": None, "N@5": 0.1}, {"system": "B", "R@5": None, "N@5": None}]
    (root / "ledger.json").write_text(json.dumps(rows), encoding="utf-8")
    text = readme.mark_body(root, "ledger")
    assert "| B |  |" in text and "None" not in text and "R@5" not in text and "Measured" not in text


@pytest.mark.parametrize("content", ["", "[]", "[1]", "{}"])
def test_a_bad_ledger_is_named(root: Path, content: str) -> None:
    (root / "ledger.json").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match="ledger.json"):
        readme.filled(root, "ledger")


def test_missing_ledger_and_marks_are_named(root: Path) -> None:
    with pytest.raises(ArtifactError, match="a.json: no such file"):
        readme.filled(root, "long")
    (root / readme.PAGE).write_text("no marks", encoding="utf-8")
    with pytest.raises(ArtifactError, match="README.md: expected one <!-- ledger -->"):
        readme.filled(root, "ledger")


def test_command(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(root)
    before = (root / readme.PAGE).read_bytes()
    assert readme.main() == 2 and "a.json" in capsys.readouterr().err
    assert (root / readme.PAGE).read_bytes() == before
    for name in ("a.json", "b.json"):
        (root / name).write_text(json.dumps(ROWS), encoding="utf-8")
    assert readme.stale(root) == ["ledger", "long"]
    assert readme.main() == 0 and "tables filled in: ledger, long" in capsys.readouterr().out
    assert "old" not in (root / readme.PAGE).read_text(encoding="utf-8")
    assert readme.stale(root) == [] and readme.main() == 0 and "up to date" in capsys.readouterr().out


def test_the_gallery_s_table_says_what_a_row_is_worth_and_costs(root: Path) -> None:
    assert "has been kept" in readme.gallery_body(root)
    scores = {"a": {"hard": {"HR@1": 0.1}, "easy": {"HR@1": 0.5}, "catalogue": {"R@10": 0.2}}, "sasrec": {"hard": {}, "easy": {}}}
    interval = {"rule": "hard", "metric": "HR@1", "low": 0.05, "high": 0.2}
    cost = {"seconds": 4.0, "read": 1000.0, "written": 0, "parameters": 1500, "examples": 64}
    found = {
        "users": 50, "draws": 2, "candidates": 20, "split": "leave-one-out", "chief": {"protocol": "hard", "metric": "HR@1"},
        "systems": scores, "answers": {"a": "letter", "sasrec": "no language model"}, "cost": dict.fromkeys(scores, cost),
        "intervals": [interval | {"system": "a", "mean": 0.1}, interval | {"system": "sasrec", "mean": 0.15},
                      interval | {"system": "a", "mean": 0.9, "rule": "easy"}],
        "differences": [{"system": "a", "rule": "hard", "diff": -0.05, "low": -0.1, "high": -0.01},
                        {"system": "a", "rule": "easy", "diff": 0.5, "low": 0.4, "high": 0.6}],
    }  # fmt: skip
    (root / readme.GALLERY).parent.mkdir(parents=True)
    (root / readme.GALLERY).write_text(json.dumps(found), encoding="utf-8")
    lines = readme.gallery_body(root).splitlines()
    assert lines[2].startswith("| sasrec | no language model | 0.150 [0.050, 0.200] |  |")
    assert lines[3] == "| a | letter | 0.100 [0.050, 0.200] | **-0.050 [-0.100, -0.010]** | 1.000 | 250 | 1,500 | 64 |"
    assert lines[-1] == "leave-one-out, 50 users, sets of 20 hard candidates, chance 0.05."


def test_each_backbone_stands_beside_its_own_texts_and_what_was_published(root: Path) -> None:
    at = {name: {"kept": {f"R@{k}": place / 100 + k / 1000 for k in (5, 10, 20)}}
          for place, name in enumerate(("gru4rec-views", "llm4sbr", "rules+words+llm4sbr"), 5)}  # fmt: skip
    gain = {"metric": "R@20", "diff": 0.01, "low": -0.002, "high": 0.03}
    claims = [gain | {"claim": claim, "diff": 0.01 * place} for place, claim in enumerate(("another", *readme.GAINS))]
    (root / readme.BACKBONES).mkdir(parents=True)
    page = {"systems": at, "claims": claims}
    (root / readme.BACKBONES / "gru4rec-views.json").write_text(json.dumps(page), encoding="utf-8")
    (row,) = readme.backbones_body(root).splitlines()[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:4] == ["5.50 6.00 7.00", "6.50 7.00 8.00", "7.50 8.00 9.00"]
    assert cells[4:] == ["+1.00 [-0.20, +3.00]", "+2.00 [-0.20, +3.00]", "12.71 → 16.74"]  # Table 3, GRU4Rec
