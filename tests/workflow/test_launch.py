"""A stage on several processes is the same notebook: cells as a script, one writer, the same results."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sandbox import ROOT, ToyRun, python

from recnb import distributed
from recnb.errors import ResourceError
from recnb.workflow.launch import main, run_cells


def notebook(path: Path, *cells: tuple[str, list[str]]) -> Path:
    content = [{"cell_type": "markdown", "metadata": {}, "source": ["# card"]}]
    content += [{"cell_type": "code", "metadata": {"tags": tags}, "source": [source]} for source, tags in cells]
    path.write_text(json.dumps({"cells": content}), encoding="utf-8")
    return path


def together(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Two processes: torchrun is what `accelerate launch` calls on GPUs; on a CPU it spawns without asking for MPI."""
    return python("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments, cwd=folder)


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
    done = together(toy_copy.root, "-m", "recnb.workflow.launch", "04_train", "params/toy.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("04_train complete") == 1
    manifest = json.loads(toy_copy.artifact("04_train", "manifest.json").read_text())
    after = json.loads(toy_copy.artifact("04_train", "train.json").read_text())
    assert set(manifest["artifacts"]) >= {"model", "train.json", "training_log.parquet"}
    assert abs(after["steps"] - before["steps"] / 2) <= 2  # a step now takes both processes' batches
    assert after["final_loss"]["response"] < 1.5 * before["final_loss"]["response"]


# Baselines that every process would train for itself.
FEWER = [f"--set=evaluate.{one}" for one in ("baselines=[popularity,itemknn]", "fusion.partners=[repeats]", "fusion.controls=[]")]


def test_two_processes_make_the_artifacts_of_one(toy_copy: ToyRun) -> None:
    """Texts and users shared between two CPU processes: the same bits in every artifact that holds results."""
    for stage, names in {
        "02_embeddings": ["semantic.npy", "behaviour.npy", "embeddings.json"],
        "06_evaluate": [f"lists_{system}_{protocol}.npy" for system in ("eager-llm", "eager-llm-no-adapter", "itemknn")
                        for protocol in ("kept", "removed")],
    }.items():  # fmt: skip
        path = toy_copy.artifact(stage, "manifest.json")
        alone = json.loads(path.read_text())["artifacts"]
        done = together(toy_copy.root, "-m", "recnb.workflow.launch", stage, "params/toy.yaml", *FEWER)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count(f"{stage} complete") == 1
        shared = json.loads(path.read_text())["artifacts"]
        assert {name: shared[name]["sha256"] for name in names} == {name: alone[name]["sha256"] for name in names}


TRAINING = """
import sys
import torch
from pathlib import Path
from small import trained
from recnb import distributed
from recnb.eager_llm.recipe import TrainConfig
distributed.join()
number, several = distributed.place()
model, log = trained(Path(sys.argv[1]), TrainConfig(batch_size=8, evaluate_every=1, epochs=4, learning_rate=2e-2))
weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
other = [torch.empty_like(weights) for _ in range(several)]
torch.distributed.all_gather(other, weights)
assert several == 2 and torch.equal(*other), "one model"
losses = [line["response"] for line in log if "response" in line]
assert losses[-1] < 0.8 * losses[0] and any("eval_R@10" in line for line in log), losses
print("trained", flush=True)
distributed.leave()
"""


def test_two_processes_hold_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distributed data parallel over gloo: batches of their own with positions of their own, one model after it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    script = tmp_path / "training.py"
    script.write_text(TRAINING, encoding="utf-8")
    done = together(tmp_path, script, tmp_path / "checkpoints")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained") == 2


SHARING = """
import numpy as np
import torch
from recnb import distributed
from recnb.errors import ResourceError
distributed.join()
batches = [np.array(rows) for rows in ([4, 0], [2], [3, 1])]
mine = [rows.tolist() for rows in distributed.share(batches)]
first, several = distributed.place()
assert several == 2 and mine == ([[4, 0], [3, 1]], [[2]])[first], mine
for dtype in (np.int64, np.float32):
    table = np.full((5, 2), -9, dtype)
    for rows in distributed.share(batches):
        table[rows] = np.stack([rows, -rows], 1)
    whole = distributed.gather_rows(table, batches)
    assert whole.tobytes() == np.stack([np.arange(5), -np.arange(5)], 1).astype(dtype).tobytes(), whole
one = np.full((5, 2), first)
assert distributed.gather_rows(one, batches[:1])[[4, 0]].tolist() == [[0, 0], [0, 0]], "fewer batches than processes"
print("whole", flush=True)
distributed.leave()
"""


def test_two_processes_share_batches_and_hold_the_whole(tmp_path: Path) -> None:
    script = tmp_path / "sharing.py"
    script.write_text(SHARING, encoding="utf-8")
    done = together(tmp_path, script)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("whole") == 2


@pytest.mark.parametrize("told", ["FSDP", "DEEPSPEED"])
def test_a_model_in_parts_is_refused_before_any_work(
    told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{told}", "true")
    monkeypatch.setattr("recnb.workflow.launch.make_plan", lambda *_: pytest.fail("a plan was made"))
    assert main(["04_train", "params/toy.yaml"]) == 2
    with pytest.raises(ResourceError):  # nor by a notebook that is run otherwise
        distributed.join()
    said = capsys.readouterr().err.lower()
    assert f"asks for {told.lower()}" in said and "accelerate launch --multi_gpu --num_processes n" in said


def test_a_process_alone_has_every_batch() -> None:
    batches, table = [np.array([1, 0]), np.array([2])], np.arange(3.0)
    assert distributed.place() == (0, 1)
    assert distributed.share(batches) == batches
    assert distributed.gather_rows(table, batches) is table
