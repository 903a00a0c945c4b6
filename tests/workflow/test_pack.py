"""A pack: stages run on a machine without Jupyter or a network come home as if they had been made here."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from far_machine import NEVER, far_python, run, wheels
from sandbox import ROOT, STAGES, ToyRun, python

from recnb import cli, runtime
from recnb.artifacts import read_json
from recnb.workflow import far
from recnb.workflow.launch import run_cells
from recnb.workflow.pack import NEEDS, bytes_of

# Choosing a device imports torch, which these notebooks do not need.
OPEN = """
import time
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from recnb import runtime
runtime.start = lambda config, seed: runtime.Runtime("cpu", "float32", 1, seed, False)
from recnb.workflow.stage import Stage
stage = Stage.open("{name}", recipe, overrides)
"""
WORK = {
    "01_data": """
for name in ("items", "interactions"):
    stage.write(f"{name}.parquet", pd.DataFrame({"x": [1, 2]}))
stage.write("dataset.json", [1, 2])
""",
    "02_embeddings": """
display(Markdown("**two**"))
if not (begun := stage.scratch("checkpoint") / "half.txt").is_file():
    begun.write_text("half")
    time.sleep(stage.config("embeddings").behaviour.epochs)
stage.figure("loss").write_bytes(b"png")
stage.write("behaviour.npy", np.random.default_rng(0).random(400_000))
stage.write("embeddings.json", [begun.read_text(), *stage.read("01_data", "dataset.json")])
stage.note(items=2)
""",
    "03_index": """
stage.write("codes.npy", np.arange(3))
stage.write("centroids.safetensors", {"s1": np.ones(2)})
stage.write("index.json", stage.read("02_embeddings", "embeddings.json"))
""",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of small notebooks, the first of them run."""
    root = tmp_path / "project"
    for name, spec in STAGES.items():
        spec.file(root).parent.mkdir(parents=True, exist_ok=True)
        cells = [
            "recipe = 'params/mine.yaml'\noverrides = []",
            OPEN.format(name=name),
            WORK.get(name, ""),
            "stage.close()",
        ]
        tags: list[list[str]] = [["parameters"], [], [], []]
        content = [{"cell_type": "code", "metadata": {"tags": t}, "source": [c]} for c, t in zip(cells, tags)]
        spec.file(root).write_text(json.dumps({"cells": content}), encoding="utf-8")
    (root / "params").mkdir()
    (root / "params" / "mine.yaml").write_text(
        "name: mine\ndata: {source: toy}\nruntime: {threads: 1, device: cpu}\nembeddings: {behaviour: {epochs: 1}}\n"
    )
    monkeypatch.chdir(root)
    monkeypatch.setattr(runtime, "start", runtime.start)  # `make` runs the notebooks in this process: put it back
    return root


def make(root: Path, stage: str) -> None:
    run_cells(STAGES[stage].file(root), {})


def command(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    found = cli.main([*arguments])
    said = capsys.readouterr()
    assert found == code, said.out + said.err
    return said.out + said.err


def there(folder: Path, *arguments: str, code: int = 0) -> str:
    """Call run.py as a far machine does."""
    done = python(folder / "run.py", *arguments, cwd=folder.parent)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def manifest(root: Path, stage: str) -> dict[str, Any]:
    return read_json(root / "runs" / "mine" / stage / "manifest.json")


def packed(project: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Path:
    make(project, "01_data")
    command(capsys, "pack", "params/mine.yaml", "--to", "../packs/mine", *arguments)
    return project.parent / "packs" / "mine"


def test_a_stage_goes_there_and_comes_home(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = packed(project, capsys)
    page = (pack / "README.md").read_text(encoding="utf-8")
    assert "made already: 01_data\n" in page and "08_prefix_map (umap-learn" in page and "- torch " in page
    old = project / "reports" / "mine" / "notebooks" / "02_embeddings.ipynb"
    old.parent.mkdir(parents=True)
    old.write_text('{"cells": []}', encoding="utf-8")
    said = there(pack, "--last", "02")
    assert "02_embeddings done" in said and "03_index" not in said
    home = pack.parent / "mine-home"
    told = read_json(home / "home.json")["stages"]["02_embeddings"]
    assert told["facts"] == {"items": 2} and told["device"] == "cpu" and told["peak_memory"] > 2**20
    assert "02_embeddings  taken" in command(capsys, "unpack", str(home))
    assert json.loads((project / "runs/mine/02_embeddings/embeddings.json").read_text()) == ["half", 1, 2]
    assert (project / "reports/mine/figures/02_embeddings-loss.png").read_bytes() == b"png" and not old.exists()
    explained = command(capsys, "run", "params/mine.yaml", "--explain").splitlines()
    assert "skip" in explained[1] and "made elsewhere on cpu" in explained[1] and "run" in explained[2]
    assert "is here already" in command(capsys, "unpack", str(home))


def test_other_versions_there_are_no_reason_to_run_again_and_a_change_here_is(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = packed(project, capsys)
    launch = project.parent / "packs" / "mine-work" / "recnb" / "workflow" / "manifest.py"
    there(pack, "--last", "02", "--minutes", "0.01", code=3)  # laid out, nothing begun: less time than a stage is worth
    source = launch.read_text(encoding="utf-8")
    launch.write_text(source.replace("found[name] = metadata.version(name)", 'found[name] = "99.0"'), encoding="utf-8")
    there(pack, "--last", "02")
    command(capsys, "unpack", str(pack.parent / "mine-home"))
    made = manifest(project, "02_embeddings")
    assert made["versions"]["torch"] == "99.0" != made["elsewhere"]["package torch"]
    assert "made elsewhere" in command(capsys, "run", "params/mine.yaml", "--explain").splitlines()[1]
    changed = STAGES["02_embeddings"].file(project)
    changed.write_text(changed.read_text(encoding="utf-8").replace("**two**", "**three**"), encoding="utf-8")
    assert "changed: the notebook" in command(capsys, "run", "params/mine.yaml", "--explain").splitlines()[1]


@pytest.mark.slow
def test_out_of_time_goes_on_behind_its_checkpoint_there_and_in_the_next_pack(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = ("--set", "embeddings.behaviour.epochs=300")  # so many seconds, unless it goes on
    make(project, "01_data")
    command(capsys, "pack", "params/mine.yaml", *slow, "--to", "../packs/mine")
    pack = project.parent / "packs" / "mine"
    assert "02_embeddings stopped" in there(pack, "--minutes", "0.05", code=3)
    home, begun = pack.parent / "mine-home", "runs/mine/02_embeddings/scratch-*/checkpoint/half.txt"
    work = subprocess.Popen([sys.executable, pack / "run.py"], stdout=subprocess.PIPE, text=True)
    assert work.stdout and "running" in next(line for line in work.stdout if "running" in line)  # it listens now
    while not list((pack.parent / "mine-work").glob(begun)):
        assert work.poll() is None
        time.sleep(0.1)
    work.terminate()  # as a scheduler does
    assert work.wait() == 3
    assert "its checkpoints go with the next pack" in command(capsys, "unpack", str(home))
    assert len(list(project.glob(begun))) == 1
    command(capsys, "pack", "params/mine.yaml", *slow, "--to", "../packs/mine")
    shutil.rmtree(pack.parent / "mine-work")  # another machine
    there(pack, "--last", "02")
    assert read_json(home / "home.json")["stages"]["02_embeddings"]["seconds"] < 300
    assert "taken" in command(capsys, "unpack", str(home))


def test_limits_of_what_goes_and_of_what_comes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(project, "01_data")
    wheel = project.parent / "noise-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("noise.bin", np.random.default_rng(0).bytes(2_000_000))
    limits = ("--limit", "1MiB", "--largest", "1MiB", "--wheels", str(wheel))
    said = command(capsys, "pack", "params/mine.yaml", "--to", "../packs/mine", *limits)
    packs = sorted((project.parent / "packs").glob("mine-*"))
    assert len(packs) >= 3 and "mine-1, " in said
    assert all(sum(file.stat().st_size for file in pack.iterdir()) <= 2**20 for pack in packs)
    shutil.move(packs[1], project.parent / "elsewhere")
    assert "pack.zip.02 is missing" in there(packs[0], code=2)
    shutil.move(project.parent / "elsewhere", packs[1])
    there(packs[0], "--last", "02")
    assert (project.parent / "packs" / "mine-work" / "site" / "noise.bin").is_file()
    home = project.parent / "packs" / "mine-home"
    assert sorted(file.name for file in home.iterdir()) == ["02_embeddings.zip.0" + n for n in "1234"] + ["home.json"]
    assert all(file.stat().st_size <= 2**20 for file in home.iterdir())
    part = home / "02_embeddings.zip.02"
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    assert "02_embeddings.zip.02 is damaged" in command(capsys, "unpack", str(home), code=2)
    assert not (project / "runs" / "mine" / "02_embeddings").exists()
    part.unlink()
    assert "did not come home: no 02_embeddings.zip.02" in command(capsys, "unpack", str(home))
    there(packs[0], "--last", "02")  # brings again what is not there any more
    assert "taken" in command(capsys, "unpack", str(home))


def test_a_stage_that_stays_there_is_no_obstacle(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = packed(project, capsys)
    there(pack, "--last", "03", "--leave", "02")
    said = command(capsys, "unpack", str(pack.parent / "mine-home"))
    assert "02_embeddings  done, and was left there" in said and "03_index       taken" in said
    explained = command(capsys, "run", "params/mine.yaml", "--explain").splitlines()
    assert "no result yet" in explained[1] and "its input 02_embeddings" in explained[2]


def test_a_failure_shows_the_end_of_its_log(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = STAGES["02_embeddings"].file(project)
    work.write_text(work.read_text(encoding="utf-8").replace("time.sleep", "1 / 0; "), encoding="utf-8")
    pack = packed(project, capsys)
    assert "ZeroDivisionError" in there(pack, code=1)
    assert "failed; its checkpoints" in command(capsys, "unpack", str(pack.parent / "mine-home"))


def test_what_is_wrong_is_a_sentence(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        return command(capsys, *arguments, code=2)

    ask = ("pack", "params/mine.yaml", "--to", "../packs/mine")
    assert "no stage of 'mine' is made yet" in said(*ask)
    make(project, "01_data")
    assert "'64 stone': expected a size" in said(*ask, "--limit", "64 stone")
    assert "expected a wheel" in said(*ask, "--wheels", "params/mine.yaml")
    assert "expected a wheel" in said(*ask, "--wheels", "params")
    (project.parent / "packs" / "mine").mkdir(parents=True)
    assert "is there and no pack" in said(*ask)
    (project.parent / "packs" / "mine").rmdir()
    command(capsys, *ask)
    pack, home = project.parent / "packs" / "mine", project.parent / "packs" / "mine-home"
    assert "no stage '11'" in there(pack, "--last", "11", code=2)
    there(pack, "--last", "02")
    assert "nearest: 'mine-home'" in said("unpack", str(pack.parent / "mine-hom"))
    recipe = project / "params" / "mine.yaml"
    before = recipe.read_text(encoding="utf-8")
    recipe.write_text(before.replace("name: mine", "name: yours"), encoding="utf-8")
    assert "is of recipe 'mine', but params/mine.yaml is 'yours'" in said("unpack", str(home))
    recipe.write_text(before.replace("epochs: 1", "epochs: 2"), encoding="utf-8")
    assert "embeddings.behaviour.epochs was 1, is 2" in said("unpack", str(home))
    recipe.write_text(before, encoding="utf-8")
    data = STAGES["01_data"].file(project)
    data.write_text(data.read_text(encoding="utf-8").replace("[1, 2]", "[1, 3]"), encoding="utf-8")
    make(project, "01_data")
    assert "from another 01_data than is here" in said("unpack", str(home))


def test_what_is_somebody_elses_stays(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(project, "01_data")
    ask = ("pack", "params/mine.yaml", "--to")
    command(capsys, *ask, "../packs/mine-8b")
    command(capsys, *ask, "../packs/mine")
    pack, own = project.parent / "packs" / "mine", project.parent / "packs" / "mine-work" / "thesis.txt"
    assert (pack.parent / "mine-8b" / "pack.json").is_file(), "another pack, though its name begins alike"
    own.parent.mkdir()
    own.write_text("years", encoding="utf-8")
    assert "no pack was laid out in it" in there(pack, code=2) and own.read_text(encoding="utf-8") == "years"
    for minutes in ("-1", "nan", "soon"):
        assert "argument --minutes: invalid minutes value" in there(pack, "--minutes", minutes, code=2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stages": []}, "stages"),
        ({"there": None}, "there"),
        ({"overrides": 3}, "overrides"),
        ({"stages": {"02_embeddings": {"state": "fine", "parts": {}}}}, "stages.02_embeddings.state"),
        ({"stages": {"02_embeddings": {"state": "done", "parts": {"../01.zip.01": "0" * 64}}}}, "stages.02_embeddings"),
    ],
)
def test_a_spoilt_list_of_what_came_home(
    project: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], said: str
) -> None:
    make(project, "01_data")
    home = project / "home"
    home.mkdir()
    whole = {"name": "mine", "recipe": "params/mine.yaml", "overrides": [], "there": {}, "stages": {}}
    (home / "home.json").write_text(json.dumps(whole | changed), encoding="utf-8")
    assert f"it lacks or spoils: {said}" in command(capsys, "unpack", str(home), code=2)


def test_what_joins_to_no_zip_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.zip.01").write_bytes(b"no zip")
    with pytest.raises(far.PackError, match="a.zip.01: File is not a zip file"):
        far.take({"a.zip.01": hashlib.sha256(b"no zip").hexdigest()}, [tmp_path], tmp_path)


def test_sizes() -> None:
    assert bytes_of("64MiB") == 64 * 2**20 and bytes_of("1.5 MB") == 1_500_000


def test_parts_join_to_what_was_put(tmp_path: Path) -> None:
    for name in ("from", "parts", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from" / "a").write_bytes(bytes(range(256)) * 10_000)
    parts = far.put({"x/a": tmp_path / "from" / "a"}, tmp_path / "parts", "all.zip", 2**20)
    assert list(parts) == ["all.zip.01", "all.zip.02", "all.zip.03"]
    far.take(parts, [tmp_path / "from", tmp_path / "parts"], tmp_path / "to")
    assert (tmp_path / "to" / "x" / "a").read_bytes() == (tmp_path / "from" / "a").read_bytes()


def test_what_a_node_must_have_is_declared() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").replace('"', " ")
    needed_by_pydantic = {"annotated-types", "pydantic-core", "typing-extensions", "typing-inspection", "packaging"}
    assert [name for name in NEEDS if f" {name}>=" not in declared and name not in needed_by_pydantic] == []


@pytest.mark.slow
def test_the_toy_without_jupyter_and_pydantic_comes_out_the_same(toy_copy: ToyRun, tmp_path: Path) -> None:
    """04 to 06 run where nothing but a compute node's packages can be imported, stopped once: the same artifacts."""
    stages = ("04_train", "05_anneal", "06_evaluate")
    before = {name: read_json(toy_copy.artifact(name, "manifest.json"))["artifacts"] for name in stages}
    for name in [name for name in STAGES if name >= "04"]:
        shutil.rmtree(toy_copy.artifact(name, ""))
    node = far_python(tmp_path / "node")
    absent = "import importlib.util, sys; sys.exit(any(map(importlib.util.find_spec, sys.argv[1:])))"
    assert run(node, "-c", absent, *NEVER, cwd=tmp_path).returncode == 0
    assert python("-m", "recnb", "pack", "params/toy.yaml", "--to", "pack", cwd=toy_copy.root).returncode == 0
    refused = run(node, toy_copy.root / "pack" / "run.py", cwd=tmp_path)
    assert refused.returncode == 2 and "lacks annotated-types" in refused.stderr and "--wheels" in refused.stderr
    brought = wheels(tmp_path / "wheels")
    done = python("-m", "recnb", "pack", "params/toy.yaml", "--to", "pack", "--wheels", brought, cwd=toy_copy.root)
    assert done.returncode == 0, done.stderr
    stopped = run(node, "pack/run.py", "--minutes", "0.1", "--last", "06", cwd=toy_copy.root)
    assert stopped.returncode == 3, stopped.stdout + stopped.stderr
    ended = run(node, "pack/run.py", "--last", "06", cwd=toy_copy.root)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    taken = python("-m", "recnb", "unpack", "toy-home", cwd=toy_copy.root)
    assert taken.returncode == 0, taken.stderr
    after = {name: read_json(toy_copy.artifact(name, "manifest.json"))["artifacts"] for name in stages}
    for made in (before, after):  # what it took to make them stands there, too
        made["06_evaluate"].pop("ledger.json")
    assert {n: {f: e["sha256"] for f, e in made.items()} for n, made in after.items()} == {
        n: {f: e["sha256"] for f, e in made.items()} for n, made in before.items()
    }
    explained = python("-m", "recnb", "run", "params/toy.yaml", "--explain", cwd=toy_copy.root).stdout.splitlines()
    assert all("skip" in line and "made elsewhere" in line for line in explained[3:6]), explained
