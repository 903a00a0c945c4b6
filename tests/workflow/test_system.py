"""A system that recnb has never heard of runs, is reported, compared, tabled and examined by the rooms it already has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from sandbox import ROOT

NOTEBOOKS = {
    "01_walk": """from recnb import Stage
from tiny_system import walks
stage = Stage.open("01_walk", recipe, overrides)
stage.write("walks.npy", walks(stage.config("walk")))
stage.close()""",
    "02_rank": """import pandas as pd
from recnb import Stage
from recnb.evaluation import per_sample_metrics, session_differences, session_metrics
from tiny_system import ranks, together
stage = Stage.open("02_rank", recipe, overrides)
found = {"tiny": ranks(stage, stage.recipe, "model"), "popularity": ranks(stage, stage.recipe, "model") + 3}
protocols = ("kept", "removed")
systems = {name: {p: session_metrics(rank) for p in protocols} for name, rank in found.items()}
said, walkers = ["Walking <b>pays</b>."], together(stage, stage.recipe, "model")
each = {name: per_sample_metrics(rank) for name, rank in found.items()}
minus = session_differences(each.pop("tiny"), each, walkers, 200, 0).to_dict("records")
stage.write("metrics.json", {"systems": systems, "ours": "tiny", "cutoffs": [5, 10, 20], "said": said,
                             "ours_minus": {"kept": minus}})
rows = [{"system": name, **both["kept"], "kind": "measured", "hardware": "one"} for name, both in systems.items()]
stage.write("ledger.json", {"rows": rows})
table = pd.DataFrame({f"rank_{s}_{p}": r for s, r in found.items() for p in protocols})
stage.write("per_user.parquet", table.assign(session=walkers))
stage.close()""",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose only system is the tiny one, installed beside recnb."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "notebooks" / "tiny").mkdir(parents=True)
    for name, source in NOTEBOOKS.items():
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        parameters = nbformat.v4.new_code_cell("recipe = 'params/tiny.yaml'\noverrides = []", metadata={"tags": ["parameters"]})
        notebook.cells = [nbformat.v4.new_markdown_cell(f"# {name}"), parameters, nbformat.v4.new_code_cell(source)]
        nbformat.write(notebook, root / "notebooks" / "tiny" / f"{name}.ipynb")
    (root / "params").mkdir()
    (root / "params" / "tiny.yaml").write_text("name: tiny\nsystem: tiny\nruntime: {threads: 1, device: cpu}\n")
    asked = "base: params/tiny.yaml\nvariants: {one ahead: [], two ahead: [rank.ahead=2], dizzy: [walk.slips=0.9]}\n"
    (root / "params" / "compared.yaml").write_text(asked)
    (root / "params" / "tabled.yaml").write_text("entries: [{recipe: params/tiny.yaml, seeds: [42, 43]}]\n")
    shutil.copy(ROOT / "requirements.lock", root)
    (root / "site" / "tiny_system-1.0.dist-info").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "tiny_system.py", root / "site")
    (root / "site" / "tiny_system-1.0.dist-info" / "entry_points.txt").write_text("[recnb.systems]\ntiny = tiny_system:Tiny\n")
    return root


def recnb(root: Path, *arguments: str, code: int = 0) -> str:
    """What a command prints, after a look at its exit code."""
    path = os.pathsep.join([str(root / "site"), str(ROOT)])
    done = subprocess.run([sys.executable, "-m", "recnb", *arguments], cwd=root, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": path}, timeout=300, check=False)  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.e2e
def test_it_runs_and_is_reported(root: Path) -> None:
    said = recnb(root, "run", "params/tiny.yaml")
    assert "01_walk: no result yet" in said and "report: reports/tiny/index.html" in said
    page = (root / "reports" / "tiny" / "index.html").read_text(encoding="utf-8")
    assert "02_rank" in page and "popularity" in page and "06_evaluate" not in page
    assert "<p>Walking &lt;b&gt;pays&lt;/b&gt;.</p>" in page and 'class="n">M@20</th>' in page
    assert "Paired differences over pairs of walkers" in page and "<li>M@20: tiny is above popularity, +" in page
    assert (root / "reports" / "tiny" / "notebooks" / "02_rank.html").is_file()
    again = recnb(root, "run", "params/tiny.yaml", "--explain", "--set", "rank.ahead=2")
    assert [line.split()[:2] for line in again.splitlines()] == [["01_walk", "skip"], ["02_rank", "run"]]


@pytest.mark.e2e
def test_its_code_counts_function_by_function(root: Path, tmp_path: Path) -> None:
    recnb(root, "run", "params/tiny.yaml")
    recnb(root, "compare", "params/compared.yaml")
    other = shutil.copytree(root, tmp_path / "other")
    module = other / "site" / "tiny_system.py"
    code = module.read_text(encoding="utf-8")
    assert code.count("behind < 20") == 1
    module.write_text(code.replace("behind < 20", "behind < 0"), encoding="utf-8")
    said = recnb(other, "run", "params/tiny.yaml", "--explain")
    assert [line.split()[:2] for line in said.splitlines()] == [["01_walk", "skip"], ["02_rank", "run"]]
    assert "source tiny_system.ranks" in said
    assert "one ahead, seed 42: validation R@10 0.0000" in recnb(other, "compare", "params/compared.yaml")


@pytest.mark.parametrize(
    ("place", "change", "said"),
    [
        ("absent:Tiny", ("", ""), "cannot be imported: ModuleNotFoundError: No module named 'absent'"),
        ("tiny_system:Tinny", ("", ""), "cannot be imported: AttributeError"),
        ("tiny_system:walks", ("", ""), "expected a class of recnb.settings.Recipe, found <function walks"),
        ("tiny_system:Tiny", ('("rank",), ("01_walk",)', '("rnk",), ("01_walk",)'), "02_rank: unknown section 'rnk'; nearest: 'rank'"),
        ("tiny_system:Tiny", ('("rank",), ("01_walk",)', '("rank",), ("02_rank",)'), "02_rank: unknown earlier stage '02_rank'"),
        ("tiny_system:Tiny", ('evaluation: ClassVar[str] = "02_rank"', 'evaluation: ClassVar[str] = "2"'), "unknown stage '2'"),
        ("tiny_system:Tiny", ('"02_rank", ("rank"', '"01_walk", ("rank"'), "no name twice"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused(
    root: Path, tmp_path: Path, place: str, change: tuple[str, str], said: str
) -> None:
    other = shutil.copytree(root, tmp_path / "other")
    module = other / "site" / "tiny_system.py"
    code = module.read_text(encoding="utf-8")
    assert change[0] in code
    module.write_text(code.replace(*change) if change[0] else code, encoding="utf-8")
    (other / "site" / "tiny_system-1.0.dist-info" / "entry_points.txt").write_text(f"[recnb.systems]\ntiny = {place}\n")
    assert said in recnb(other, "params", "validate", "params/tiny.yaml", code=2)


@pytest.mark.e2e
def test_it_is_compared(root: Path) -> None:
    said = recnb(root, "compare", "params/compared.yaml")
    assert "one ahead, seed 42: validation R@10" in said
    result = json.loads((root / "reports" / "ablations" / "compared.json").read_text(encoding="utf-8"))
    assert [row["choice"] for row in result["rows"]] == ["one ahead", "two ahead", "dizzy"]
    ahead, dizzy = (row["minus"]["one ahead"]["N@10"] for row in result["rows"][1:])
    assert ahead["diff"] < -0.1 and dizzy["diff"] < -0.1
    assert (ahead["over"], dizzy["over"]) == ("sessions", "sessions"), "walkers go two and two"
    runs = {path.name for path in (root / "runs").glob("tiny--compared-*")}
    assert runs == {"tiny--compared-one-ahead", "tiny--compared-dizzy"}, "another ranking is no other run"
    assert "expected one of model; nearest: 'model'" in recnb(
        root, "compare", _edited(root, "judged: modle\n"), code=2
    )


def _edited(root: Path, more: str) -> str:
    path = root / "params" / "edited.yaml"
    path.write_text(more + (root / "params" / "compared.yaml").read_text())
    return "params/edited.yaml"


@pytest.mark.e2e
def test_it_is_tabled(root: Path) -> None:
    recnb(root, "table", "params/tabled.yaml")
    result = json.loads((root / "reports" / "tiny" / "results.json").read_text(encoding="utf-8"))
    assert result["seeds"] == [42, 43] and result["best_baseline"] == "popularity"
    assert result["ours_minus_best"]["N@10"]["diff"] > 0.1
    assert result["ours_minus_best"]["N@10"]["over"] == "sessions and seeds"


def test_it_is_examined(root: Path) -> None:
    said = recnb(root, "doctor", "--recipe", "params/tiny.yaml")
    assert "params/tiny.yaml" in said and "runs here" in said and "01_walk" in said
    assert "ahead: 1" in recnb(root, "params", "show", "params/tiny.yaml")


def test_an_unknown_system_is_refused_with_the_nearest(root: Path) -> None:
    (root / "params" / "odd.yaml").write_text("name: odd\nsystem: tinny\n")
    said = recnb(root, "run", "params/odd.yaml", code=2)
    assert "params/odd.yaml:2: system = 'tinny': expected one of " in said and "nearest: 'tiny'" in said
    (root / "params" / "plain.yaml").write_text("name: plain\n")
    assert "--set system.x=3: system = {'x': 3}" in recnb(root, "run", "params/plain.yaml", "--set", "system.x=3", code=2)
    assert "--set system=eager: system = 'eager'" in recnb(
        root, "run", "params/tiny.yaml", "--set", "system=eager", code=2
    )
    assert "unknown key 'train'" in recnb(root, "run", "params/tiny.yaml", "--set", "train={epochs: 1}", code=2)
