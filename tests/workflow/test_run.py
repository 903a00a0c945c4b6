"""The pipeline over small notebooks: what runs and why, what is kept after a failure or a kill, what is refused."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sandbox import ROOT, cells_of, kernel

from recnb.eager_llm.recipe import EagerLLM
from recnb.errors import ArtifactError, RecipeError, RecnbError
from recnb.runtime import NOTE, tell
from recnb.workflow import run
from recnb.workflow.execute import NotebookError, StageFailedError, cell_labels, check_notebook, partial_path
from recnb.workflow.manifest import read_manifest
from recnb.workflow.plan import Plan, executed_path, explain, make_plan
from recnb.workflow.progress import Progress, duration, size
from recnb.workflow.stage import Stage

RECIPE = "name: mine\ndata: {source: toy}\nruntime: {threads: 1, device: cpu}\n"
CARD = "# 0 · A stage\n\n**What you will learn**\n- nothing\n\n**Time and memory**: <!-- measured -->"
PARAMETERS = 'recipe = "params/mine.yaml"\noverrides: list = []'
# Choosing a device imports torch, which these notebooks do not need.
OPEN = """
from recnb import runtime
runtime.start = lambda config, seed: runtime.Runtime("cpu", "float32", 1, seed, False)
from recnb.workflow.stage import Stage
import os, sys
from dataclasses import replace
stage = Stage.open("{name}", recipe, overrides)
stage.spec = replace(stage.spec, outputs=("{output}",))  # the real notebooks write more
"""
OUTPUTS = {"01_data": "x.json", "02_embeddings": "y.json"}
DATA_WORK = 'stage.write("x.json", {{"k": stage.config("data").k_core, "cycle": {cycle}}})\nstage.note(items=3)'
EMBEDDINGS_WORK = (
    'x = stage.read("01_data", "x.json")\nstage.write("y.json", [x["cycle"], sys.executable])\n'
    'runtime.tell("half way")\nassert os.path.exists(os.environ["RECNB_NOTE"])\n'
    'stage.figure("walk").write_bytes(b"png")\nprint(os.environ["PYTHONHASHSEED"], os.environ["MPLBACKEND"])'
)


def cell(source: str, kind: str = "code", tags: tuple[str, ...] = ()) -> dict[str, Any]:
    extra = {"outputs": [], "execution_count": None} if kind == "code" else {}
    name = f"c{abs(hash((source, kind))) % 10**8}"
    return {"cell_type": kind, "metadata": {"tags": list(tags)}, "source": source, "id": name, **extra}


def write_notebook(root: Path, name: str, *work: str, parameters: str = PARAMETERS) -> Path:
    cells = [cell(CARD, "markdown"), cell(parameters, tags=("parameters",)), cell(OPEN.format(name=name, output=OUTPUTS[name]))]
    cells += [cell("## The work", "markdown"), *(cell(source) for source in work), cell("stage.close()")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path = root / "notebooks" / f"{name}.ipynb"
    path.write_text(json.dumps(notebook))
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    (tmp_path / "params" / "mine.yaml").write_text(RECIPE)
    write_notebook(tmp_path, "01_data", DATA_WORK.format(cycle=1))
    write_notebook(tmp_path, "02_embeddings", EMBEDDINGS_WORK)
    stages = tuple(replace(spec, outputs=(OUTPUTS.get(spec.name, "z.json"),)) for spec in EagerLLM.stages)
    monkeypatch.setattr(EagerLLM, "stages", stages)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(root: Path, *overrides: str, first: str | None = None, last: str = "02", force: bool = False) -> Plan:
    return make_plan("params/mine.yaml", overrides, first, last, force, root)


def carry_out(root: Path, *overrides: str, **options: Any) -> tuple[list[bool], str]:
    """(which stages ran, all that was said)."""
    said = io.StringIO()
    decisions = run.run(plan(root, *overrides, **options), said)
    return [decision.run for decision in decisions], said.getvalue()


def reasons(root: Path, *overrides: str) -> list[str]:
    return [decision.reason for decision in explain(plan(root, *overrides))]


def test_a_run_a_second_run_and_every_reason_to_run_again(root: Path) -> None:
    """One story, because each step costs a kernel."""
    assert reasons(root) == ["no result yet", "no result yet"]
    ran, said = carry_out(root)
    assert ran == [True, True] and "[1/2] 01_data: no result yet" in said and "done in" in said

    executed = root / "reports" / "mine" / "notebooks" / "02_embeddings.ipynb"
    notebook = json.loads(executed.read_text())
    outputs = [o for c in notebook["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    assert outputs[0]["text"] == ["0 Agg\n"] or outputs[0]["text"] == "0 Agg\n", "the kernel's environment is set"
    assert str(root) not in executed.read_text(), "an executed notebook names no place on this machine"
    made_by = json.loads((root / "runs/mine/02_embeddings/y.json").read_text())[1]
    assert made_by == sys.executable, "the kernel is this interpreter, whatever is registered as python3"
    card = "".join(notebook["cells"][0]["source"])
    assert "<!-- measured -->" not in card and "peak memory" in card and "on cpu (1 thread), recipe `mine`" in card
    assert "<!-- measured -->" in (root / "notebooks/02_embeddings.ipynb").read_text(), "only the copy is filled in"
    assert notebook["cells"][3]["metadata"]["recnb"]["seconds"] > 0.05, "of the cell's work: it imports recnb"
    assert not list(executed.parent.glob(".*")), "nothing half-done is left beside it"

    ran, said = carry_out(root)
    assert ran == [False, False] and said.count("skipped, unchanged since") == 2
    assert reasons(root, "train.epochs=1") == reasons(root), "a setting that no stage in range reads"

    # a setting: what changed is named down to the key
    assert reasons(root, "data.k_core=3")[0] == "changed: data.k_core 0 to 3"
    assert reasons(root, "embeddings.behaviour.epochs=9")[0].startswith("unchanged")
    assert reasons(root, "embeddings.behaviour.epochs=9")[1] == "changed: embeddings.behaviour.epochs 3 to 9"

    # another notebook with the same result: what follows is skipped
    write_notebook(root, "01_data", DATA_WORK.format(cycle="2 - 1"))
    assert reasons(root)[0] == "changed: the notebook"
    assert reasons(root)[1] == "if 01_data comes out different; else skipped"
    assert carry_out(root)[0] == [True, False]

    # another result: what follows runs, and names the artifact
    write_notebook(root, "01_data", DATA_WORK.format(cycle=2))
    ran, said = carry_out(root)
    assert ran == [True, True] and "02_embeddings: changed: input 01_data/x.json" in said
    assert "running, last time" in said, "the second time it is known how long it takes"

    # a damaged artifact is named, not used, and rebuilt
    artifact = root / "runs/mine/01_data/x.json"
    whole = artifact.read_bytes()
    artifact.write_bytes(whole.replace(b"2", b"7"))
    assert reasons(root)[0] == "damaged or gone, not used: x.json"
    with pytest.raises(ArtifactError, match=r"01_data comes before the range and is damaged \(x.json\)"):
        carry_out(root, first="02")
    assert carry_out(root)[0] == [True, False] and artifact.read_bytes() == whole

    # reports/ deleted: pages and figures come back without running anything
    for path in sorted((root / "reports").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    ran, said = carry_out(root)
    assert ran == [False, False] and said.count("page restored") == 2
    assert executed.is_file() and (root / "reports/mine/figures/02_embeddings-walk.png").read_bytes() == b"png"

    assert carry_out(root, last="01", force=True)[0] == [True]
    assert carry_out(root, first="embeddings")[0] == [False], "a range after complete stages"


def test_a_failing_cell_says_where_and_how_to_go_on_and_the_run_resumes(root: Path) -> None:
    write_notebook(root, "02_embeddings", "print('so far')", "def f():\n    return 1 / 0\nf()")
    with pytest.raises(StageFailedError) as error:
        carry_out(root, "data.k_core=1")
    said = str(error.value)
    assert not error.value.by_user and "02_embeddings.ipynb, cell In [5]: ZeroDivisionError" in said
    assert "division by zero" in said and "\x1b" not in said and len(said.splitlines()) < 12
    failed = root / "reports/mine/notebooks/02_embeddings.failed.ipynb"
    assert str(failed) in said and "so far" in failed.read_text()
    assert "to go on from there: recnb run params/mine.yaml --set 'data.k_core=1'" in said
    assert not failed.with_name("02_embeddings.ipynb").exists()

    write_notebook(root, "02_embeddings", EMBEDDINGS_WORK)
    ran, said = carry_out(root, "data.k_core=1")
    assert ran == [False, True] and "02_embeddings: not complete: an earlier run was broken off" in said
    assert not failed.exists()


def test_solutions_can_be_left_out(root: Path) -> None:
    path = write_notebook(root, "01_data", DATA_WORK.format(cycle=1), "1 / 0")
    notebook = json.loads(path.read_text())
    next(c for c in notebook["cells"] if c["source"] == "1 / 0")["metadata"]["tags"] = ["solution"]
    path.write_text(json.dumps(notebook))
    assert carry_out(root, "runtime.solutions=false", last="01")[0] == [True]
    assert reasons(root)[0].startswith("unchanged since"), "they are no part of the result"
    with pytest.raises(StageFailedError, match="ZeroDivisionError"):
        carry_out(root, last="01", force=True)


def test_an_error_the_user_can_mend_comes_without_a_trace(root: Path) -> None:
    write_notebook(root, "01_data", "from recnb.errors import DataError\nraise DataError('no such file: here.csv')")
    with pytest.raises(StageFailedError) as error:
        carry_out(root, last="01")
    assert error.value.by_user and str(error.value).splitlines()[:2] == [
        "01_data.ipynb, cell In [4]: DataError", "no such file: here.csv"]  # fmt: skip
    assert "Traceback" not in str(error.value)


def test_a_kernel_that_dies_and_a_notebook_that_does_not_close(root: Path) -> None:
    write_notebook(root, "01_data", "os.kill(os.getpid(), 9)")
    with pytest.raises(StageFailedError, match=r"01_data.ipynb: its kernel died, most often because memory ran out"):
        carry_out(root, last="01")
    cells = json.loads(write_notebook(root, "01_data", "pass").read_text())
    cells["cells"].pop()
    (root / "notebooks/01_data.ipynb").write_text(json.dumps(cells))
    with pytest.raises(StageFailedError, match=r"ran to its end without stage.close\(\)"):
        carry_out(root, last="01")
    pages = [path.name for path in (root / "reports/mine/notebooks").iterdir()]
    assert pages == ["01_data.failed.ipynb"], "no page of a stage that is not complete"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130)])
def test_a_killed_run_resumes_where_it_stopped(root: Path, number: signal.Signals, code: int) -> None:
    started = root / "started"
    write_notebook(root, "02_embeddings", f"open({str(started)!r}, 'w').close()\nimport time\ntime.sleep(60)")
    command = [sys.executable, "-m", "recnb", "run", "params/mine.yaml", "--to", "02"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.time() + 120
    while not started.exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert stderr.decode().strip().splitlines()[-1].endswith("the same command goes on where this one stopped")
    assert read_manifest(plan(root).recipe, "01_data", root) is not None
    assert reasons(root)[0].startswith("unchanged") and reasons(root)[1].startswith("not complete")


def test_a_notebook_interrupted_after_its_manifest_is_run_again(root: Path) -> None:
    """The artifacts are complete, but a page without its last cells must not go into the report."""
    carry_out(root, last="01")
    partial_path(executed_path(plan(root).recipe, "01_data", root)).write_text("{}")
    assert reasons(root)[0] == "its notebook was interrupted before the last cell"


def test_a_run_broken_off_with_other_settings_costs_no_result(root: Path) -> None:
    """It fails, or is killed, after it has written and drawn: what the old settings made is as it was."""
    epochs = 'stage.config("embeddings").behaviour.epochs'
    work = f'stage.figure("walk").write_text(str({epochs}))\nstage.write("y.json", {epochs})'
    path = write_notebook(root, "02_embeddings", work, f"assert {epochs} == 3")
    carry_out(root)
    figure, made = root / "reports/mine/figures/02_embeddings-walk.png", read_manifest(plan(root).recipe, "02_embeddings", root)
    with pytest.raises(StageFailedError, match="AssertionError"):
        carry_out(root, "embeddings.behaviour.epochs=9")
    assert read_manifest(plan(root).recipe, "02_embeddings", root) == made and figure.read_text() == "9"
    page = executed_path(plan(root).recipe, "02_embeddings", root)
    os.replace(page.with_suffix(".failed.ipynb"), partial_path(page))  # so a kill would have left it
    ran, said = carry_out(root)
    assert ran == [False, False] and said.count("page restored") == 1 and figure.read_text() == "3"
    assert "page restored" not in carry_out(root)[1]

    stage = Stage.open("02", "params/mine.yaml", root=root)
    stage.write("y.json", 3)
    stage.close()
    assert not (stage.folder / "page").exists(), "a page is of the notebook that made the result"
    made, cells = read_manifest(plan(root).recipe, "02_embeddings", root), json.loads(path.read_text())
    cells["cells"].pop()
    path.write_text(json.dumps(cells))
    with pytest.raises(StageFailedError, match=r"without stage.close\(\): the stage has no new manifest"):
        carry_out(root)
    assert read_manifest(plan(root).recipe, "02_embeddings", root) == made


def test_notebooks_opened_and_left(root: Path) -> None:
    """In a kernel, as JupyterLab runs them: the first cells only; nothing between open and close; a cell after close."""
    carry_out(root)
    work = cells_of(root / "notebooks" / "01_data.ipynb")
    with kernel(root / "notebooks") as cell:
        assert "".join(map(cell, work[:2])) == ""
    assert [reason[:15] for reason in reasons(root)] == ["unchanged since"] * 2, "left by kill -9"
    with kernel(root / "notebooks") as cell:
        assert "".join(map(cell, cells_of(root / "notebooks" / "02_embeddings.ipynb")[:2])) == "", "it opens on 01"
        opened = [*map(cell, work[:2]), cell("print(stage.read('01', 'x.json'))"), cell("stage.close()")]
        assert "".join(opened) == "{'k': 0, 'cycle': 1}\n01_data was only looked at: its artifacts are as they were\n"
        cell("overrides = ['data.k_core=1']")
        assert "ArtifactError" in cell(f"{work[1]}\nstage.close()") and "x.json" in cell("stage.close()")
        assert [reason[:15] for reason in reasons(root)] == ["unchanged since"] * 2
        assert "".join(map(cell, work)) == "01_data complete: x.json\n"
        assert "01_data is closed, so x.json is not kept" in cell(work[2])
    assert [reason[:15] for reason in reasons(root)] == ["unchanged since"] * 2


def test_two_runs_of_one_recipe_do_not_meet(root: Path) -> None:
    with (
        run._only_run(root / "runs" / "mine"),
        pytest.raises(RecnbError, match=rf"another run works on mine \(process {os.getpid()}\)"),
    ):
        carry_out(root)
    assert not (root / "runs/mine/01_data").exists()


# --- refused before anything starts ---------------------------------------------------------------------------------


def test_unknown_stages_name_the_nearest(root: Path) -> None:
    with pytest.raises(RecipeError, match="no stage 'embedings'; nearest: '02_embeddings'; stages: 01_data, "):
        plan(root, first="embedings")
    with pytest.raises(RecipeError, match="--from 02_embeddings comes after --to 01_data: nothing to run"):
        plan(root, first="02", last="01")
    with pytest.raises(RecipeError, match="no stage '0'"):
        plan(root, last="0")


def test_unknown_overrides_are_refused(root: Path) -> None:
    with pytest.raises(RecipeError, match="nearest valid key: train.epochs"):
        plan(root, "train.epoch=1")


def test_stages_before_the_range_must_be_there(root: Path) -> None:
    with pytest.raises(ArtifactError, match="01_data comes before the range and is not complete; run it first"):
        carry_out(root, first="02")
    assert "its input 01_data has to be made first" not in reasons(root)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("recipe = 'x'", "does not set overrides; it sets recipe"),
        ("a, b = 1, 2\nif True:\n    recipe = 1", "does not set recipe, overrides; it sets nothing"),
        ("recipe = ", "does not set recipe, overrides"),
    ],
)
def test_a_notebook_without_the_parameters_is_refused(root: Path, parameters: str, expected: str) -> None:
    write_notebook(root, "02_embeddings", parameters=parameters)
    with pytest.raises(NotebookError, match=rf"02_embeddings.ipynb: .*{expected}"):
        plan(root)


def test_what_is_no_notebook_is_refused(root: Path) -> None:
    path = root / "notebooks" / "02_embeddings.ipynb"
    for text in ("", "[]", "{}", "{not json"):
        path.write_text(text)
        with pytest.raises(NotebookError, match="not a notebook"):
            check_notebook(path)
    path.write_text(json.dumps({"cells": [cell("recipe = overrides = 1")]}))
    with pytest.raises(NotebookError, match="expected one cell tagged `parameters`, found 0"):
        check_notebook(path)
    path.unlink()
    with pytest.raises(NotebookError, match="no such notebook"):
        plan(root)


def test_every_notebook_of_the_project_can_be_run() -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        check_notebook(path)


# --- progress -------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_living_line(tmp_path: Path) -> None:
    screen = Terminal()
    progress = Progress(tmp_path / "note", screen)
    with progress.stage("[1/2] 01_data", [10.0, 20.0]):
        progress.cell("cell 3/9 How long are the histories?")
    progress.say("done")
    shown = screen.getvalue()
    assert "[1/2] 01_data  cell 3/9 How long are the histories?" in shown and "about 30 s left" in shown
    assert shown.endswith("\r\x1b[Kdone\n")


def test_no_guess_without_the_last_times(tmp_path: Path) -> None:
    screen = Terminal()
    progress = Progress(tmp_path / "note", screen)
    with progress.stage("[1/2] 01_data", [10.0, None]):
        progress.cell("cell 1/1 Work")
    assert "cell 1/1 Work  0.0 s" in screen.getvalue() and "left" not in screen.getvalue()


def test_a_log_gets_plain_lines_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    log = io.StringIO()
    progress = Progress(tmp_path / "note", log)
    with progress.stage("[1/2] 01_data", [None]):
        for step in range(1, 5):
            now[0] += 6
            progress.cell(f"cell {step}/4 Work")
    said = [line.removeprefix("[1/2] 01_data ") for line in log.getvalue().splitlines()]
    assert said == ["running", "cell 2/4 Work, 12 s so far", "cell 4/4 Work, 24 s so far"]


def test_labels_are_headings_or_first_lines() -> None:
    prose = [cell("# A\ntext\n## B", "markdown"), cell("just text", "markdown")]
    cells = [cell("import x\ny"), prose[0], cell("z"), prose[1], cell("w")]
    assert cell_labels(cells) == {0: "cell 1/3 import x", 2: "cell 2/3 B", 4: "cell 3/3 B"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (2.94, "2.9 s"), (59.4, "59 s"), (3599, "59 min 59 s"), (7200, "2 h 0 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (2048, "2 KiB"), (5 * 2**20, "5 MiB"), (3 * 2**30, "3.0 GiB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_a_long_cell_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / ".04_train.note"
    monkeypatch.delenv(NOTE, raising=False)
    tell("nobody listens")
    monkeypatch.setenv(NOTE, str(note))
    tell("step 3 of 9")
    screen = Terminal()
    progress = Progress(note, screen)
    with progress.stage("[4/8] 04_train", [None]):
        progress.cell("cell 12/20 Fit")
        note.unlink()
        progress.cell("cell 13/20 Look")
        tell("step 4 of 9")
    assert not note.exists(), "it goes with the stage"
    assert "cell 12/20 Fit: step 3 of 9" in screen.getvalue() and "cell 13/20 Look  " in screen.getvalue()
