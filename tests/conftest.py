"""Shared by all tests: a quiet, offline, single-threaded environment, and one toy run per session."""

from __future__ import annotations

import os

# Before torch or a BLAS is imported. One thread: tiny tensors are faster so, and sums are added in one order.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RECNB_PROGRESS"] = "0"
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import pytest

# A loaded machine is slow at random; that is no failure. In CI the same examples come every time.
hypothesis.settings.register_profile("recnb", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("recnb")

ROOT = Path(__file__).resolve().parents[1]
TOY = "params/toy.yaml"
# Kernels and commands in a sandbox use the recnb that is tested, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def notebook_names(root: Path = ROOT) -> list[str]:
    """Names of the notebooks in order, without suffix."""
    return sorted(path.stem for path in (root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def new_sandbox(folder: Path) -> Path:
    """A project root of its own: copies of notebooks and recipes; runs/ and reports/ will appear beside them."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for measured in (*ROOT.glob("reports/ablations/*"), *ROOT.glob("reports/*/results.json")):
        place = folder / measured.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(measured, place)
    (folder / "executed").mkdir()
    return folder


def python(*arguments: str | Path, cwd: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run this interpreter, output captured."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def papermill(sandbox: Path, name: str, recipe: str = TOY, overrides: str = "[]") -> subprocess.CompletedProcess[str]:
    """Execute one notebook as README says: plain papermill, nothing of ours around it."""
    out = f"executed/{name}.ipynb"
    return python("-m", "papermill", f"notebooks/{name}.ipynb", out, "-p", "recipe", recipe,
                  "-y", f"overrides: {overrides}", "--no-progress-bar", cwd=sandbox)  # fmt: skip


def recnb(sandbox: Path, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the console command inside a sandbox."""
    return python("-m", "recnb", *arguments, cwd=sandbox, timeout=timeout)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project root with recipes and notebooks, and nothing run or measured."""
    for name in ("params", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@dataclass
class ToyRun:
    """The toy recipe, executed notebook by notebook with plain papermill; ``seconds`` are of computing."""

    root: Path
    results: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def executed(self, name: str) -> Path:
        return self.root / "executed" / f"{name}.ipynb"

    def artifact(self, stage: str, name: str) -> Path:
        return self.root / "runs" / "toy" / stage / name


def cpu_seconds() -> float:
    """What all finished child processes have computed so far; a loaded machine's waiting does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> ToyRun:
    """All notebooks on the toy recipe, once per session, in order, each alone. Stops at the first that fails."""
    run = ToyRun(new_sandbox(tmp_path_factory.mktemp("toy")))
    for name in notebook_names():
        before = cpu_seconds()
        run.results[name] = papermill(run.root, name)
        run.seconds[name] = cpu_seconds() - before
        if run.results[name].returncode:
            break
    return run


@pytest.fixture
def toy_copy(toy_run: ToyRun, tmp_path: Path) -> ToyRun:
    """A copy of the finished toy run that a test may spoil."""
    shutil.copytree(toy_run.root, tmp_path / "copy")
    return ToyRun(tmp_path / "copy", toy_run.results, toy_run.seconds)
