"""Old names: a notebook's former path is answered with the new one, a run from before the wings is never misread."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import papermill
import pytest
from sandbox import ROOT, STAGES, ToyRun, python

from recnb.artifacts import hash_json
from recnb.errors import RecipeError
from recnb.workflow import moved
from recnb.workflow.graph import stage_named
from recnb.workflow.plan import decide, make_plan

OLD = ("03_index", "04_train", "05_anneal", "06_evaluate", "07_case_studies", "08_prefix_map", "09_ablations", "10_speed")


@pytest.mark.parametrize("name", OLD)
def test_papermill_says_where_a_notebook_has_gone(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"notebooks/{name}.ipynb: has moved to notebooks/{STAGES[name].notebook}.ipynb"):
        moved.OldPath.read(f"notebooks/{name}.ipynb")


@pytest.mark.parametrize("before", ["", "./"])
def test_it_is_papermill_that_asks(before: str) -> None:
    done = python("-m", "papermill", f"{before}notebooks/03_index.ipynb", "out.ipynb", cwd=ROOT)
    assert done.returncode != 0 and "has moved to notebooks/eager_llm/03_index.ipynb" in done.stderr
    assert not (ROOT / "out.ipynb").exists()


def test_somebody_elses_notebook_of_that_name_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notebooks").mkdir()
    Path("notebooks/03_index.ipynb").write_text("{}", encoding="utf-8")
    assert moved.OldPath.read("notebooks/03_index.ipynb") == "{}"
    notebook = nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("mine")]))
    Path("notebooks/03_index.ipynb").write_text(notebook, encoding="utf-8")
    papermill.execute_notebook("notebooks/03_index.ipynb", "notebooks/04_train.ipynb", prepare_only=True)
    assert "mine" in Path("notebooks/04_train.ipynb").read_text(encoding="utf-8"), "and may be written"


def test_a_stage_is_found_by_its_notebook_and_an_old_path_is_refused() -> None:
    stages = tuple(STAGES.values())
    assert stage_named("notebooks/eager_llm/06_evaluate.ipynb", stages).name == "06_evaluate"
    assert stage_named("notebooks/02_embeddings.ipynb", stages).name == "02_embeddings"
    with pytest.raises(RecipeError, match="notebooks/06_evaluate.ipynb: has moved to notebooks/eager_llm/06_evaluate.ipynb"):
        stage_named("notebooks/06_evaluate.ipynb", stages)
    with pytest.raises(RecipeError, match="no stage 'notebooks/attic.ipynb'"):
        stage_named("notebooks/attic.ipynb", stages)


def as_before(root: Path, name: str) -> None:
    """Turn a manifest into what the last recnb without wings would have written: code counted by files."""
    path = root / "runs" / "toy" / name / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    parts = {key: sha for key, sha in manifest["parts"].items() if not key.startswith("source ")}
    parts |= {"notebook": "0" * 64, "source recnb.store": "1" * 64, "source recnb.data": "2" * 64, "package cornac": "3.0.1"}
    files = {key: sha for key, sha in parts.items() if key.startswith("file ")}
    parts = {key: sha for key, sha in parts.items() if key not in files}
    parts |= {f"file {Path(key).name}": sha for key, sha in files.items()}
    path.write_text(json.dumps(manifest | {"parts": parts, "key": hash_json(parts)}), encoding="utf-8")


def test_a_run_from_before_the_wings(toy_run: ToyRun, tmp_path: Path) -> None:
    root = tmp_path / "old"
    shutil.copytree(toy_run.root, root)
    for name in ("01_data", "03_index"):
        as_before(root, name)
    plan = make_plan("params/toy.yaml", root=root)
    first, third = STAGES["01_data"], STAGES["03_index"]
    assert decide(first, plan).reason == "changed: its code, which an earlier recnb counted by files"
    assert decide(third, plan).run
