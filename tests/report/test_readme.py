"""The command that fills README's ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recnb.errors import ArtifactError
from recnb.report import readme

ROWS = [
    {"system": "A", "R@10": 0.083, "kind": "published", "why": "a | b", "commit": "", "hardware": ""},
    {"system": "ours", "R@10": None, "kind": "measured", "why": "", "commit": "abc", "hardware": "two cores"},
]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text("before\n" + "".join(f"{b}\nold\n{e}\n" for b, e in map(readme.marks, readme.LEDGERS)) + "after\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("content", [ROWS, {"rows": ROWS}])
def test_fills_between_the_markers_once(page: Path, content: object, tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text(json.dumps(content), encoding="utf-8")
    assert readme.fill(page, tmp_path / "ledger.json")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and text.count("old") == len(readme.LEDGERS) - 1, "one table of all"
    assert "| A | 0.0830 | published | a \\| b |" in text
    assert "| ours |  | measured |  |" in text
    assert "Measured rows: commit abc; hardware two cores." in text
    assert not readme.fill(page, tmp_path / "ledger.json"), "nothing changes the second time"


def test_a_row_of_two_files_stands_once(tmp_path: Path) -> None:
    own = {"system": "ours, again", "R@10": 0.5, "kind": "measured", "why": "", "commit": "def", "hardware": "a GPU"}
    (tmp_path / "a.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps([*ROWS, own]), encoding="utf-8")
    text = readme.table(tmp_path / "a.json", tmp_path / "b.json")
    assert text.count("| A |") == 1 and text.count("| ours |") == 1 and text.count("| ours, again | 0.5000 |") == 1
    assert "commit abc, def; hardware a GPU, two cores" in text


def test_missing_number_is_an_empty_cell(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text('[{"system": "A", "R@5": NaN, "N@5": 0.1}]', encoding="utf-8")
    assert "NaN" not in readme.table(tmp_path / "ledger.json") and "nan" not in readme.table(tmp_path / "ledger.json")


@pytest.mark.parametrize("content", ["", "[]", "[1]", "{}"])
def test_a_bad_ledger_is_named(page: Path, content: str, tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text(content, encoding="utf-8")
    before = page.read_bytes()
    with pytest.raises(ArtifactError, match="ledger.json"):
        readme.fill(page, tmp_path / "ledger.json")
    assert page.read_bytes() == before


def test_missing_ledger_and_markers_are_named(page: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        readme.fill(page, tmp_path / "nowhere.json")
    page.write_text("no markers", encoding="utf-8")
    with pytest.raises(ArtifactError, match="expected one"):
        readme.fill(page, tmp_path / "nowhere.json")


def test_command(tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    assert readme.main() == 2 and "ledger.json" in capsys.readouterr().err
    for source in (source for sources in readme.LEDGERS.values() for source in sources):
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source).write_text(json.dumps(ROWS), encoding="utf-8")
    assert readme.main() == 0 and "filled in" in capsys.readouterr().out
    assert "old" not in page.read_text(encoding="utf-8")
    assert readme.main() == 0 and "up to date" in capsys.readouterr().out
