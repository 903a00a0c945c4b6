"""A stage on several processes is the same notebook: cells as a script, one writer, the same training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ToyRun, python

from recnb.launch import main, run_cells


def notebook(path: Path, *cells: tuple[str, list[str]]) -> Path:
    content = [{"cell_type": "markdown", "metadata": {}, "source": ["# card"]}]
    content += [{"cell_type": "code", "metadata": {"tags": tags}, "source": [source]} for source, tags in cells]
    path.write_text(json.dumps({"cells": content}), encoding="utf-8")
    return path


def test_cells_run_in_order_with_parameters_and_without_solutions(tmp_path: Path) -> None:
    path = notebook(
        tmp_path / "n.ipynb",
        ("recipe = 'default'", ["parameters"]),
        ("seen = recipe", []),
        ("seen = 'solution'", ["solution"]),
    )
    assert run_cells(path, {"recipe": "mine"})["seen"] == "mine"
    assert run_cells(path, {})["seen"] == "default"


def test_an_error_names_the_cell(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", ("recipe = 1", ["parameters"]), ("1 / 0", []))
    with pytest.raises(ZeroDivisionError) as error:
        run_cells(path, {})
    assert str(error.traceback[-1].path) == "n.ipynb[2]"


def test_mistakes_are_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["04_train", "params/none.yaml"]) == 2
    assert "no such" in capsys.readouterr().err
    assert main(["nowhere", "params/toy.yaml"]) == 2
    assert "04_train" in capsys.readouterr().err


def test_two_processes_train_one_model(toy_copy: ToyRun) -> None:
    """Two CPU processes: one complete stage, and half the batches per process."""
    before = json.loads(toy_copy.artifact("04_train", "train.json").read_text())
    # torchrun is what `accelerate launch` calls on several GPUs; on a CPU it spawns without asking for MPI
    done = python("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
                  "-m", "recnb.launch", "04_train", "params/toy.yaml", cwd=toy_copy.root)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("04_train complete") == 1
    manifest = json.loads(toy_copy.artifact("04_train", "manifest.json").read_text())
    after = json.loads(toy_copy.artifact("04_train", "train.json").read_text())
    assert set(manifest["artifacts"]) >= {"model", "train.json", "training_log.parquet"}
    assert abs(after["steps"] - before["steps"] / 2) <= 2  # a step now takes both processes' batches
    assert after["final_loss"]["response"] < 1.5 * before["final_loss"]["response"]
