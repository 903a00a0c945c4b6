"""A project of its own for a test: copies of notebooks and recipes, commands inside it, and the toy as it was run."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from recnb.artifacts import hash_json
from recnb.eager_llm.recipe import EagerLLM

ROOT = Path(__file__).resolve().parents[1]
TOY = "params/toy.yaml"
# Kernels and commands in a sandbox use the recnb that is tested, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


# Stages that may write whatever a test likes.
FREE_STAGES = tuple(replace(spec, outputs=(), optional=("*.*", "model")) for spec in EagerLLM.stages)
STAGES = {spec.name: spec for spec in EagerLLM.stages}


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
    return python("-m", "papermill", f"notebooks/{STAGES[name].notebook}.ipynb", out, "-p", "recipe", recipe,
                  "-y", f"overrides: {overrides}", "--no-progress-bar", cwd=sandbox)  # fmt: skip


def walk(sandbox: Path, *walks: str) -> dict[str, str]:
    """What the notebooks of some walks show, each ``recipe,stage,stage``: all in one process (``tests/walk.py``)."""
    result = python(ROOT / "tests" / "walk.py", "shown.json", *walks, cwd=sandbox)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    shown: dict[str, str] = json.loads((sandbox / "shown.json").read_text(encoding="utf-8"))
    return shown


def recnb(sandbox: Path, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the console command inside a sandbox."""
    return python("-m", "recnb", *arguments, cwd=sandbox, timeout=timeout)


@contextmanager
def kernel(folder: Path) -> Iterator[Callable[[str], str]]:
    """A notebook's kernel in a folder: called with a cell, it returns what that printed, or its error. It dies by kill -9."""
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=180, cwd=str(folder))

    def run(cell: str) -> str:
        said: list[str] = []
        hook = lambda message: said.extend(str(message["content"].get(key, "")) for key in ("text", "ename", "evalue"))  # noqa: E731
        client.execute_interactive(cell, timeout=300, output_hook=hook)
        return "".join(said)

    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def cells_of(notebook: Path) -> list[str]:
    """Its code cells, but for those of exercises' solutions and of Colab."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    left_out = {"solution", "colab"}
    code = [cell for cell in cells if cell["cell_type"] == "code" and not left_out & set(cell["metadata"].get("tags", []))]
    return ["".join(cell["source"]) for cell in code]


@dataclass
class ToyRun:
    """The toy recipe, executed notebook by notebook by papermill's command line; ``seconds`` are of computing."""

    root: Path
    results: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def executed(self, name: str) -> Path:
        return self.root / "executed" / f"{name}.ipynb"

    def artifact(self, stage: str, name: str) -> Path:
        return self.root / "runs" / "toy" / stage / name

    def write(self, path: Path) -> None:
        """What the processes said, and their seconds, for other workers."""
        results = {name: vars(result) for name, result in self.results.items()}
        path.write_text(json.dumps({"results": results, "seconds": self.seconds}), encoding="utf-8")

    @classmethod
    def read(cls, root: Path, path: Path) -> ToyRun:
        """What :meth:`write` wrote."""
        kept = json.loads(path.read_text(encoding="utf-8"))
        results = {name: subprocess.CompletedProcess(**result) for name, result in kept["results"].items()}
        return cls(root, results, kept["seconds"])


def cpu_seconds() -> float:
    """What all finished child processes have computed so far; a loaded machine's waiting does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass
class Again:
    """Every cell of an executed toy run, run once more in a copy of its folder and compared with what it showed."""

    root: Path
    outcome: dict[str, Any]


def nbval(root: Path, files: list[Path]) -> dict[str, Any]:
    """Run pytest --nbval on files; counts of passed and failed cells and the text of the run."""
    report = root / "nbval.xml"
    result = python(ROOT / "tests" / "nbval_run.py", "--nbval-cell-timeout=300", "-q", "-p", "no:cacheprovider",
                    "-p", "no:cov", "-c", "/dev/null", f"--rootdir={root}", f"--junitxml={report}", *files,
                    cwd=root / "executed", timeout=900)  # fmt: skip
    cases = ET.parse(report).getroot().findall(".//testcase")
    bad = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    passed = len(cases) - len(bad) - len(skipped)
    return {"passed": passed, "failed": len(bad), "skipped": len(skipped), "text": result.stdout + result.stderr}


def manifest(stage: str, recipe_name: str, **values: Any) -> dict[str, Any]:
    """A stage's manifest, whole, for a run that nobody has run."""
    nothing = dict.fromkeys(("parts", "artifacts", "inputs", "recipe", "versions", "reasons", "facts"), {})
    made = {"commit": "abc", "device": "cpu", "dtype": "float32", "platform": "", "finished": "2026-11-22T12:00:00+00:00"}
    made |= {"seed": 7, "threads": 2, "seconds": 3.5, "peak_memory": 1, "peak_gpu_memory": None}
    return {"stage": stage, "recipe_name": recipe_name, "key": hash_json({})} | nothing | made | values
