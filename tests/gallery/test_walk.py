"""The toy walk of the gallery: all ten systems in one table, executed, compared when run again, nothing done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from sandbox import nbval, new_sandbox, recnb

from recnb.gallery.interface import SYSTEMS
from recnb.gallery.recipe import Gallery

TOY, NAME = "params/gallery/toy.yaml", "gallery-toy"
OWN = ("one_table", "chat")
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("gallery")]


@pytest.fixture(scope="module")
def gallery_run(tmp_path_factory):
    """A project in which the toy of the gallery has run to its report."""
    root = new_sandbox(tmp_path_factory.mktemp("gallery") / "project")
    result = recnb(root, "run", TOY, timeout=1800)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return root


def page(root: Path, stage: str) -> Path:
    return root / "reports" / NAME / "notebooks" / f"{stage}.ipynb"


@pytest.mark.parametrize("stage", OWN)
def test_every_cell_was_run_and_shows_what_it_should(stage, gallery_run):
    cells = [cell for cell in nbformat.read(page(gallery_run, stage), 4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count is not None for cell in cells if cell.source.strip())
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or (o.output_type == "stream" and o.name == "stderr")]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and all(len(p.metadata.get("image/png", {}).get("alt", "")) > 20 for p in pictures)
    printed = "".join(o.text for o in outputs if o.output_type == "stream")
    assert not [line for line in printed.splitlines() if len(line) > 110 and f"{stage} complete" not in line]
    assert str(gallery_run) not in str(outputs)


def test_every_system_stands_in_the_table_by_what_its_users_got(gallery_run):
    made = gallery_run / "runs" / NAME / "one_table"
    metrics = json.loads((made / "metrics.json").read_text(encoding="utf-8"))
    users = pd.read_parquet(made / "per_user.parquet")
    names = set(metrics["systems"])
    assert {name.split("/")[0] for name in names} >= {*SYSTEMS, "random", "popularity", "itemknn", "sasrec"}
    assert metrics["ours"] in SYSTEMS and len(users) == metrics["users"]
    for name in names:
        rules = [rule for rule in ("uniform", "popularity", "retrieved") if rule in metrics["systems"][name]]
        assert "popularity" in rules and (len(rules) == 3 or "/" in name)
        for rule in rules:
            assert np.isclose(users[f"hit_{name}_{rule}"].mean(), metrics["systems"][name][rule]["HR@1"])
    cost = metrics["cost"]
    assert cost["llmrank"]["read"] > 0 == cost["popularity"]["read"] and cost["bigrec"]["written"] > 0
    assert cost["llamarec"]["examples"] == 64 and cost["llmrank"]["parameters"] == 0
    scores = np.load(made / "scores_llmrank.npy")
    assert scores.shape == (3, metrics["users"], metrics["draws"], metrics["candidates"])


def test_the_report_names_what_came_out(gallery_run):
    html = (gallery_run / "reports" / NAME / "index.html").read_text(encoding="utf-8")
    assert all(name in html for name in (*OWN, "llamarec", "sasrec")) and str(gallery_run) not in html


def test_a_second_run_does_nothing(gallery_run):
    result = recnb(gallery_run, "run", TOY)
    said = [line for line in (result.stdout + result.stderr).splitlines() if "skipped, unchanged" in line]
    assert result.returncode == 0 and len(said) == len(Gallery.stages)


@pytest.mark.slow
def test_outputs_are_the_same_when_run_again(gallery_run, tmp_path):
    root = tmp_path / "again"
    shutil.copytree(gallery_run, root)
    for stage in OWN:
        shutil.rmtree(root / "runs" / NAME / stage)
    outcome = nbval(root, [page(root, stage) for stage in OWN])
    assert not outcome["failed"], outcome["text"][-6000:]
    assert outcome["passed"] > 50
