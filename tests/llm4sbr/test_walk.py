"""The whole toy walk of LLM4SBR: executed, compared cell by cell when run again, the same artifacts, nothing done twice."""

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
import yaml
from sandbox import ROOT, nbval, recnb, walk

from recnb.data.schema import read_dataset, titles_of
from recnb.data.sessions import read_sessions, samples_of
from recnb.llm4sbr.intent_files import questions_frame
from recnb.llm4sbr.intents import Questions, catalogue_lines
from recnb.llm4sbr.recipe import LLM4SBR
from recnb.workflow.stage import Stage

TOY, NAME = "params/llm4sbr/toy.yaml", "llm4sbr-toy"
STAGES = {spec.name: spec for spec in LLM4SBR.stages}
each_stage = pytest.mark.parametrize("stage", STAGES)


def page(root: Path, stage: str) -> Path:
    return root / "reports" / NAME / "notebooks" / f"{stage}.ipynb"


def artifacts(root: Path, stage: str) -> dict[str, str]:
    text = (root / "runs" / NAME / stage / "manifest.json").read_text(encoding="utf-8")
    return {name: entry["sha256"] for name, entry in json.loads(text)["artifacts"].items()}


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" and cell.source.strip()]


@each_stage
def test_every_cell_was_run_and_shows_what_it_should(stage: str, sessions_run: Path) -> None:
    cells = code_cells(page(sessions_run, stage))
    assert all(cell.execution_count is not None for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or (o.output_type == "stream" and o.name == "stderr")]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and all(len(p.metadata.get("image/png", {}).get("alt", "")) > 20 for p in pictures)
    printed = "".join(o.text for o in outputs if o.output_type == "stream")
    assert not [line for line in printed.splitlines() if len(line) > 110 and f"{stage} complete" not in line]
    assert str(sessions_run) not in str(outputs)


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "01_data"])
def test_writes_what_the_readme_names(stage: str, sessions_run: Path) -> None:
    readme = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if f"({STAGES[stage].notebook}.ipynb)" in line)
    named = re.findall(r"`([^`]+)`", row.split("|")[-2])
    made = artifacts(sessions_run, stage)
    assert named and all(any(fnmatchcase(one, name) for one in made) for name in named)


def test_the_report_says_what_came_out(sessions_run: Path) -> None:
    html = (sessions_run / "reports" / NAME / "index.html").read_text(encoding="utf-8")
    assert all(stage in html for stage in STAGES) and "rules+words" in html and str(sessions_run) not in html
    metrics = json.loads((sessions_run / "runs" / NAME / "08_evaluate" / "metrics.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet(sessions_run / "runs" / NAME / "08_evaluate" / "per_user.parquet")
    assert metrics["ours"] == "llm4sbr" and len(rows) == metrics["samples"]
    hits = float((rows["rank_llm4sbr_kept"] < 10).mean())
    assert np.isclose(metrics["systems"]["llm4sbr"]["kept"]["R@10"], hits) and hits > 1.5 * 10 / metrics["items"]


def test_a_second_run_does_nothing(sessions_run: Path) -> None:
    before = {stage: artifacts(sessions_run, stage) for stage in STAGES}
    result = recnb(sessions_run, "run", TOY)
    said = [line for line in (result.stdout + result.stderr).splitlines() if "skipped, unchanged" in line]
    assert result.returncode == 0 and len(said) == len(STAGES)
    assert {stage: artifacts(sessions_run, stage) for stage in STAGES} == before


def test_a_changed_setting_runs_only_what_depends_on_it(sessions_run: Path) -> None:
    result = recnb(sessions_run, "run", TOY, "--explain", "--set", "align.weight=0.2")
    todo = {line.split()[0] for line in result.stdout.splitlines() if line[:2].isdigit() and line.split()[1] == "run"}
    assert {"07_align", "08_evaluate", "09_case_studies"} <= todo and not todo & {"01_data", "03_sessions", "06_session_models"}


def test_the_gate_looks_at_no_answer_about_a_test_session(sessions_run: Path, tmp_path: Path) -> None:
    """Answers from a file: all titles but for test sessions, of which every one got the same."""
    root = shutil.copytree(sessions_run, tmp_path / "copy")
    tree = yaml.safe_load((root / TOY).read_text(encoding="utf-8")) | {"align": {}}
    tree["intents"] = {"source": "file", "file": "answers.csv", "gate": {"max_same": 0.1}}
    (root / "params" / "file.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    stage = Stage.open("04_intents", "params/file.yaml", root=root, look=True)
    dataset, sessions, config = read_dataset(stage), read_sessions(stage), stage.config("intents")
    every = samples_of(sessions, None, *stage.config("sessions").samples)
    about = every, every.take(sessions.part[every.session] < 2)
    lines = catalogue_lines(dataset.items["item_id"], titles_of(dataset.items), config)
    asked, judged = (Questions.about(samples, lines, config, "file") for samples in about)
    rows = questions_frame(asked, dataset.items["item_id"])
    told = np.resize(np.array(titles_of(dataset.items), dtype=object), len(rows))
    texts = np.where(rows["key"].isin(judged.keys), told, "The Matrix")
    rows.assign(text=texts).drop(columns="key").to_csv(root / "answers.csv", index=False)
    said = walk(root, "params/file.yaml,04_intents")["params/file.yaml,04_intents"]
    assert (texts == "The Matrix").mean() > config.gate.max_same and "The gate is open" in said
    kept = json.loads((root / "runs" / NAME / "04_intents" / "intents.json").read_text(encoding="utf-8"))
    assert [found["answers"] for found in kept["report"].values()] == [len(judged.keys)] * 2
    assert kept["model"] is None, "whoever answered, it was not the model that the recipe names by default"


@pytest.mark.slow
def test_outputs_and_artifacts_are_the_same_when_run_again(sessions_run: Path, tmp_path: Path) -> None:
    """nbval, strict, in a copy: every cell's output is compared, and every artifact is made again bit for bit. 01 is the
    notebook that EAGER-LLM's walk compares."""
    root = tmp_path / "copy"
    shutil.copytree(sessions_run, root)
    again = [stage for stage in STAGES if stage != "01_data"]
    for stage in again:
        shutil.copy(page(sessions_run, stage), root / "executed" / f"{stage}.ipynb")
        (root / "runs" / NAME / stage / "manifest.json").unlink()
    copies = [root / "executed" / f"{stage}.ipynb" for stage in again]
    outcome = nbval(root, copies)
    assert not outcome["failed"], outcome["text"][-6000:]
    assert outcome["passed"] == sum(len(code_cells(copy)) for copy in copies)
    assert {stage: artifacts(root, stage) for stage in STAGES} == {stage: artifacts(sessions_run, stage) for stage in STAGES}


@pytest.mark.slow
def test_a_recipe_whose_own_texts_are_a_control_comes_to_its_end(sessions_run: Path, tmp_path: Path) -> None:
    root = shutil.copytree(sessions_run, tmp_path / "copy")
    tree = yaml.safe_load((root / TOY).read_text(encoding="utf-8")) | {"align": {"source": "shuffled"}}
    (root / "params" / "control.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    said = walk(root, "params/control.yaml,05_localise,07_align")["params/control.yaml,05_localise,07_align"]
    assert "07_align complete" in said
