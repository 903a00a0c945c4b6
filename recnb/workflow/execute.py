"""Run one notebook with papermill: this interpreter as its kernel, each cell watched, whole results or none."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from recnb.artifacts import write_text
from recnb.errors import RecnbError
from recnb.runtime import ENVIRONMENT, NOTE, process_memory
from recnb.settings import Recipe
from recnb.workflow.progress import Progress

PARAMETERS = ("recipe", "overrides")
MEASURED = "<!-- measured -->"
SOLUTION = "solution"  # the tag of exercises' solutions
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ASSIGNED = re.compile(r"^(\w+) *(?::[^=\n]*)?=(?!=) *\S", re.MULTILINE)  # as papermill finds parameters, line by line


class NotebookError(RecnbError):
    """A notebook is not one that can be run as a stage."""


class StageFailedError(RecnbError):
    """A notebook did not come to its end; ``by_user``: over one of recnb's own errors, something to mend, no defect."""

    def __init__(self, message: str, by_user: bool = False) -> None:
        super().__init__(message)
        self.by_user = by_user


@dataclass
class Execution:
    """A notebook at work, and what is measured of it; nbclient calls the methods."""

    on_cell: Callable[[str], None]  # told of each code cell that starts
    seconds: float = 0.0  # wall time of the whole notebook, kernel start included
    peak_memory: int = 0  # of its kernel, in bytes; 0 where the system does not tell
    cell_seconds: list[float] = field(default_factory=list)
    notebook: Any = None  # with its outputs, once it has run
    _labels: dict[int, str] = field(default_factory=dict)
    _started: float = 0.0

    def start(self, notebook: Any) -> None:
        """The kernel is ready."""
        self._labels = cell_labels(notebook.cells)

    def before(self, cell: Any, cell_index: int) -> None:
        """A code cell starts."""
        self._started = time.perf_counter()
        self.on_cell(self._labels[cell_index])

    def after(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """A code cell has run: the kernel is, of the processes that this one started, the one that has held most."""
        self.cell_seconds.append(round(time.perf_counter() - self._started, 3))
        held = [process_memory("VmHWM", child.pid) or 0 for child in psutil.Process().children(recursive=True)]
        self.peak_memory = max([self.peak_memory, *held])
        cell.metadata["recnb"] = {"seconds": self.cell_seconds[-1], "peak_memory": self.peak_memory}


def check_notebook(path: Path) -> None:
    """Refuse a notebook that is missing, is not one, or lacks a parameter: papermill only warns of that.

    Raises:
        NotebookError: names the notebook and what it lacks.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    except FileNotFoundError:
        raise NotebookError(f"{path}: no such notebook") from None
    except (ValueError, KeyError, TypeError):
        raise NotebookError(f"{path}: not a notebook (expected nbformat 4 JSON with cells)") from None
    if len(tagged) != 1:
        raise NotebookError(f"{path}: expected one cell tagged `parameters`, found {len(tagged)}")
    known = _ASSIGNED.findall("".join(tagged[0]["source"]))
    if missing := [name for name in PARAMETERS if name not in known]:
        raise NotebookError(
            f"{path}: the cell tagged `parameters` does not set {', '.join(missing)}; it sets "
            f"{', '.join(known) or 'nothing'}"
        )


def run_notebook(
    source: Path, partial: Path, parameters: dict[str, Any], recipe: Recipe, progress: Progress
) -> Execution:
    """Execute ``source``; ``partial`` holds the cells done so far, and stays whatever happens (see :func:`publish`).

    Raises:
        StageFailedError: a cell raised, or the kernel died.
    """
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="jupyter_client|papermill|zmq")
    import papermill  # late, because a run with nothing to do must not wait for it

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    partial.parent.mkdir(parents=True, exist_ok=True)
    execution, start = Execution(progress.cell), time.perf_counter()
    try:
        with _this_python(kernel_environment(recipe) | {NOTE: str(progress.note.resolve())}):
            execution.notebook = papermill.execute_notebook(
                source, partial, parameters, kernel_name="python3", language="python", progress_bar=False,
                cwd=source.parent, start_timeout=180, on_notebook_start=execution.start,
                on_cell_execute=execution.before, on_cell_executed=execution.after,  # ..._complete: once it is sent
                skip_cells_with_tag="" if recipe.runtime.solutions else SOLUTION,
            )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        raise _failure(source, error) from None
    except RuntimeError as error:
        if "Kernel died" not in str(error):
            raise
        held = f" It last held {execution.peak_memory / 2**30:.1f} GiB." if execution.peak_memory else ""
        raise StageFailedError(f"{source.name}: its kernel died, most often because memory ran out.{held}") from None
    execution.seconds = time.perf_counter() - start
    return execution


def partial_path(target: Path) -> Path:
    """Where a notebook grows while it runs; one left behind tells of an interrupted run."""
    return target.with_name(f".{target.stem}.partial.ipynb")


def publish(notebook: Any, source: str, target: Path, measured: str) -> None:
    """Put an executed notebook in its place, whole: no path in it names this machine, and its card says what was
    ``measured``. ``source`` is where it lies in the project."""
    import nbformat

    notebook.metadata.papermill.update(input_path=source, output_path=target.name)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace(MEASURED, measured)
    write_text(target, nbformat.writes(notebook) + "\n")
    partial_path(target).unlink()


def kernel_environment(recipe: Recipe) -> dict[str, str]:
    """Environment of every notebook kernel, so that two machines start alike. What the user has set stays."""
    wanted = {**ENVIRONMENT, "PYTHONHASHSEED": "0", "RECNB_PROGRESS": "0"}
    if recipe.runtime.threads:
        wanted["OMP_NUM_THREADS"] = str(recipe.runtime.threads)
    if recipe.offline:
        wanted["HF_HUB_OFFLINE"] = "1"
    wanted = {name: os.environ.get(name, value) for name, value in wanted.items()}
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return wanted | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "MPLBACKEND": "Agg"}


@contextmanager
def _this_python(environment: dict[str, str]) -> Iterator[None]:
    """Make the kernel name ``python3`` mean this interpreter, whatever is registered on the machine."""
    from ipykernel.kernelspec import write_kernel_spec

    with tempfile.TemporaryDirectory(prefix="recnb-") as folder:
        write_kernel_spec(f"{folder}/kernels/python3", {"env": environment}, ["--IPKernelApp.log_level=50"])
        places = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        with patch.dict(os.environ, JUPYTER_PATH=places):
            yield


def cell_labels(cells: list[Any]) -> dict[int, str]:
    """``cell 3/9 Heading`` by each code cell's place in the notebook: what it stands under, else its first line."""
    labels, heading = {}, ""
    for place, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
            heading = headings[-1] if headings else heading
        elif cell["cell_type"] == "code":
            labels[place] = (heading or text.strip().partition("\n")[0])[:60]
    return {place: f"cell {n}/{len(labels)} {label}" for n, (place, label) in enumerate(labels.items(), 1)}


def _failure(source: Path, error: Any) -> StageFailedError:
    """The error's last lines, without colours; one of recnb's own errors is its message alone."""
    ours: list[type] = [RecnbError, *RecnbError.__subclasses__()]
    by_user = error.ename in {each.__name__ for each in ours}
    lines = _ANSI.sub("", "\n".join(map(str, error.traceback))).splitlines()
    said = str(error.evalue) if by_user else "\n".join([line for line in lines if line.strip()][-6:])
    return StageFailedError(f"{source.name}, cell In [{error.exec_count}]: {error.ename}\n{said}", by_user)
