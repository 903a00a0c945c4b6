"""What the toy walk of LLM4SBR has found, beside what `test_walks.py` asks of every walk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sandbox import walk

from recnb.data.schema import read_dataset, titles_of
from recnb.data.sessions import read_sessions, samples_of
from recnb.llm4sbr.intent_files import questions_frame
from recnb.llm4sbr.intents import Questions, catalogue_lines
from recnb.llm4sbr.recipe import LLM4SBR
from recnb.workflow.stage import Stage

TOY, NAME = "params/llm4sbr/toy.yaml", "llm4sbr-toy"
STAGES = [spec.name for spec in LLM4SBR.stages]


def test_the_report_says_what_came_out(sessions_run: Path) -> None:
    html = (sessions_run / "reports" / NAME / "index.html").read_text(encoding="utf-8")
    assert all(stage in html for stage in STAGES) and "rules+words" in html and str(sessions_run) not in html
    metrics = json.loads((sessions_run / "runs" / NAME / "08_evaluate" / "metrics.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet(sessions_run / "runs" / NAME / "08_evaluate" / "per_user.parquet")
    assert metrics["ours"] == "llm4sbr" and len(rows) == metrics["samples"]
    hits = float((rows["rank_llm4sbr_kept"] < 10).mean())
    assert np.isclose(metrics["systems"]["llm4sbr"]["kept"]["R@10"], hits) and hits > 1.5 * 10 / metrics["items"]


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
def test_a_recipe_whose_own_texts_are_a_control_comes_to_its_end(sessions_run: Path, tmp_path: Path) -> None:
    root = shutil.copytree(sessions_run, tmp_path / "copy")
    tree = yaml.safe_load((root / TOY).read_text(encoding="utf-8")) | {"align": {"source": "shuffled"}}
    (root / "params" / "control.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    said = walk(root, "params/control.yaml,05_localise,07_align")
    assert "07_align complete" in said["params/control.yaml,07_align"]
