"""The whole toy walk of RSLLM: executed, compared cell by cell when run again, the same artifacts, nothing done twice."""

from __future__ import annotations

import json
import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from sandbox import ROOT, nbval, recnb

from recnb.rsllm.recipe import MAIN, RSLLM

TOY, NAME = "params/rsllm/toy.yaml", "rsllm-toy"
STAGES = {spec.name: spec for spec in RSLLM.stages}
each_stage = pytest.mark.parametrize("stage", STAGES)


def page(root: Path, stage: str) -> Path:
    return root / "reports" / NAME / "notebooks" / f"{stage}.ipynb"


def artifacts(root: Path, stage: str) -> dict[str, str]:
    text = (root / "runs" / NAME / stage / "manifest.json").read_text(encoding="utf-8")
    return {name: entry["sha256"] for name, entry in json.loads(text)["artifacts"].items()}


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" and cell.source.strip()]


@each_stage
def test_every_cell_was_run_and_shows_what_it_should(stage: str, ranking_run: Path) -> None:
    cells = code_cells(page(ranking_run, stage))
    assert all(cell.execution_count is not None for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or (o.output_type == "stream" and o.name == "stderr")]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and all(len(p.metadata.get("image/png", {}).get("alt", "")) > 20 for p in pictures)
    printed = "".join(o.text for o in outputs if o.output_type == "stream")
    assert not [line for line in printed.splitlines() if len(line) > 110 and f"{stage} complete" not in line]
    assert str(ranking_run) not in str(outputs)


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "01_data"])
def test_writes_what_the_readme_names(stage: str, ranking_run: Path) -> None:
    readme = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if f"({STAGES[stage].notebook}.ipynb)" in line)
    named = re.findall(r"`([^`]+)`", row.split("|")[-2])
    made = artifacts(ranking_run, stage)
    assert named and all(any(fnmatchcase(one, name) for one in made) for name in named)


def test_the_report_says_what_came_out_and_whether_to_believe_it(ranking_run: Path) -> None:
    html = (ranking_run / "reports" / NAME / "index.html").read_text(encoding="utf-8")
    assert all(stage in html for stage in STAGES) and "HR@1" in html and str(ranking_run) not in html
    assert "Not to be believed yet" in html or "All checks hold" in html
    assert "Seen items kept" not in html, "these are sets of candidates"


def test_every_number_of_the_table_follows_from_the_scores_that_are_kept(ranking_run: Path) -> None:
    folder = ranking_run / "runs" / NAME
    metrics = json.loads((folder / "07_rank" / "metrics.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet(folder / "07_rank" / "per_user.parquet")
    assert metrics["ours"] == MAIN and len(rows) == metrics["users"]
    items = np.load(folder / "03_candidates" / "candidates_uniform.npy")
    for name in (MAIN, "sasrec"):
        scores = np.load(folder / "07_rank" / f"scores_{name}.npy")
        hits = [[hit(scores[u, d], items[u, d], target) for d in range(items.shape[1])] for u, target in enumerate(rows.target)]
        assert np.isclose(metrics["systems"][name]["uniform"]["HR@1"], np.mean(hits)), name
        assert np.allclose(rows[f"hit_{name}_uniform"], np.mean(hits, axis=1))
    assert metrics["systems"]["sasrec"]["uniform"]["HR@1"] > 3 / metrics["candidates"]


def hit(scores: np.ndarray, items: np.ndarray, target: int) -> float:
    """Whether the target is first; of two first ones half."""
    own = scores[items == target].item()
    return 0.0 if (scores > own).any() else {1: 1.0, 2: 0.5}.get(int((scores == own).sum()), 0.0)


def test_a_second_run_does_nothing(ranking_run: Path) -> None:
    before = {stage: artifacts(ranking_run, stage) for stage in STAGES}
    result = recnb(ranking_run, "run", TOY)
    said = [line for line in (result.stdout + result.stderr).splitlines() if "skipped, unchanged" in line]
    assert result.returncode == 0 and len(said) == len(STAGES)
    assert {stage: artifacts(ranking_run, stage) for stage in STAGES} == before


def test_a_changed_setting_runs_only_what_depends_on_it(ranking_run: Path) -> None:
    result = recnb(ranking_run, "run", TOY, "--explain", "--set", "tune.rank=4")
    todo = {line.split()[0] for line in result.stdout.splitlines() if line[:2].isdigit() and line.split()[1] == "run"}
    assert {"06_tune", "07_rank", "08_case_studies"} <= todo and not todo & {"01_data", "03_candidates", "05_align"}


@pytest.mark.slow
def test_outputs_and_artifacts_are_the_same_when_run_again(ranking_run: Path, tmp_path: Path) -> None:
    """nbval, strict, in a copy: every cell's output is compared, and every artifact is made again bit for bit."""
    root = tmp_path / "copy"
    shutil.copytree(ranking_run, root)
    for stage in STAGES:
        shutil.copy(page(ranking_run, stage), root / "executed" / f"{stage}.ipynb")
        (root / "runs" / NAME / stage / "manifest.json").unlink()
    copies = [root / "executed" / f"{stage}.ipynb" for stage in STAGES]
    outcome = nbval(root, copies)
    assert not outcome["failed"], outcome["text"][-6000:]
    assert outcome["passed"] == sum(len(code_cells(copy)) for copy in copies)
    assert {stage: artifacts(root, stage) for stage in STAGES} == {stage: artifacts(ranking_run, stage) for stage in STAGES}
