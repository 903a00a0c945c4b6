"""What every system's toy walk owes but EAGER-LLM's own tests: executed to its report by ``recnb run``, compared cell by
cell when run again, the same artifacts, nothing done twice."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import nbformat
import pytest
from sandbox import ROOT, nbval, recnb

from recnb.gallery.recipe import Gallery
from recnb.llm4sbr.recipe import LLM4SBR
from recnb.rsllm.recipe import RSLLM

STAGES = {name: {spec.name: spec for spec in system.stages}
          for name, system in {"llm4sbr": LLM4SBR, "rsllm": RSLLM, "gallery": Gallery}.items()}  # fmt: skip
# Stages whose notebook is a system's own; the others are run again in the walk of the system that brought them.
OWN = {name: [stage for stage, spec in stages.items() if spec.notebook.startswith(f"{name}/")] for name, stages in STAGES.items()}
# A setting, whom it concerns, and whom not.
CHANGED = {
    "llm4sbr": ("align.weight=0.2", {"07_align", "08_evaluate", "09_case_studies"}, {"01_data", "03_sessions", "06_session_models"}),
    "rsllm": ("tune.rank=4", {"06_tune", "07_rank", "08_case_studies"}, {"01_data", "03_candidates", "05_align"}),
    "gallery": ("tune.rank=4", {"one_table", "chat"}, {"01_data", "03_candidates"}),
}  # fmt: skip
Walked = Callable[[str], Path]
each_system = pytest.mark.parametrize("system", STAGES)
each_stage = pytest.mark.parametrize(("system", "stage"), [(system, stage) for system in OWN for stage in STAGES[system]])
each_own_stage = pytest.mark.parametrize(("system", "stage"), [(system, stage) for system in OWN for stage in OWN[system]])


def page(root: Path, system: str, stage: str) -> Path:
    return root / "reports" / f"{system}-toy" / "notebooks" / f"{stage}.ipynb"


def artifacts(root: Path, system: str) -> dict[str, dict[str, str]]:
    """stage -> artifact -> its hash."""
    made = {stage: root / "runs" / f"{system}-toy" / stage / "manifest.json" for stage in STAGES[system]}
    read = {stage: json.loads(path.read_text(encoding="utf-8"))["artifacts"] for stage, path in made.items()}
    return {stage: {name: entry["sha256"] for name, entry in found.items()} for stage, found in read.items()}


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" and cell.source.strip()]


@each_stage
def test_every_cell_was_run_and_shows_what_it_should(system: str, stage: str, walked: Walked) -> None:
    root = walked(system)
    cells = code_cells(page(root, system, stage))
    assert all(cell.execution_count is not None for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or (o.output_type == "stream" and o.name == "stderr")]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and all(len(p.metadata.get("image/png", {}).get("alt", "")) > 20 for p in pictures)
    printed = "".join(o.text for o in outputs if o.output_type == "stream")
    assert not [line for line in printed.splitlines() if len(line) > 110 and f"{stage} complete" not in line]
    assert str(root) not in str(outputs)


@each_own_stage
def test_writes_what_the_readme_names(system: str, stage: str, walked: Walked) -> None:
    readme = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if line.startswith("|") and f"({system}/{stage}.ipynb)" in line)
    named = re.findall(r"`([^`]+)`", row.split("|")[-2])
    made = artifacts(walked(system), system)[stage]
    assert named and all(any(fnmatchcase(one, name) for one in made) for name in named)


@each_system
def test_a_second_run_does_nothing(system: str, walked: Walked) -> None:
    before = artifacts(walked(system), system)
    result = recnb(walked(system), "run", f"params/{system}/toy.yaml")
    said = [line for line in (result.stdout + result.stderr).splitlines() if "skipped, unchanged" in line]
    assert result.returncode == 0 and len(said) == len(STAGES[system])
    assert artifacts(walked(system), system) == before


@each_system
def test_a_changed_setting_runs_only_what_depends_on_it(system: str, walked: Walked) -> None:
    setting, concerned, others = CHANGED[system]
    said = recnb(walked(system), "run", f"params/{system}/toy.yaml", "--explain", "--set", setting).stdout.splitlines()
    todo = {line.split()[0] for line in said if line.split()[1] == "run"}
    assert len(said) == len(STAGES[system]) and concerned <= todo and not todo & others


@pytest.mark.slow
@each_system
def test_outputs_and_artifacts_are_the_same_when_run_again(system: str, walked: Walked, tmp_path: Path) -> None:
    """nbval, strict, in a copy: every cell's output is compared, and every artifact is made again bit for bit."""
    root, again = walked(system), tmp_path / "copy"
    shutil.copytree(root, again)
    copies = [again / "executed" / f"{stage}.ipynb" for stage in OWN[system]]
    for stage, copy in zip(OWN[system], copies, strict=True):
        shutil.copy(page(root, system, stage), copy)
        (again / "runs" / f"{system}-toy" / stage / "manifest.json").unlink()
    outcome = nbval(again, copies)
    assert not outcome["failed"], outcome["text"][-6000:]
    assert outcome["passed"] == sum(len(code_cells(copy)) for copy in copies)
    before, after = artifacts(root, system), artifacts(again, system)
    if system == "gallery":  # seconds a user, a price of every system, stand there
        assert before["one_table"].pop("metrics.json") and after["one_table"].pop("metrics.json")
    assert before == after
