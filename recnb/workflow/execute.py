"""Run one notebook with papermill: this interpreter as its kernel, live progress, whole results or none.

papermill only warns about a parameter that a notebook lacks, so :func:`check_notebook` refuses it beforehand.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recnb.artifacts import write_text
from recnb.errors import RecnbError
from recnb.runtime import ENVIRONMENT, NOTE, process_memory
from recnb.settings import Recipe

PARAMETERS = ("recipe", "overrides")
MEASURED = "<!-- measured -->"
SOLUTION = "solution"  # the tag of exercises' solutions
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class NotebookError(RecnbError):
    """A notebook is not one that can be run as a stage."""


class StageFailedError(RecnbError):
    """A cell of a notebook raised; the message holds the error's last lines.

    Attributes:
        by_user: the cell raised one of recnb's own errors: something to mend, no defect.
    """

    def __init__(self, message: str, by_user: bool = False) -> None:
        super().__init__(message)
        self.by_user = by_user


@dataclass(frozen=True)
class CellEvent:
    """A code cell is about to run: ``number`` of ``total`` (from 1), and what it is about in one line."""

    number: int
    total: int
    label: str


@dataclass
class Execution:
    """What was measured while a notebook ran.

    Attributes:
        seconds: wall time of the whole notebook, kernel start included.
        peak_memory: of its kernel, in bytes; 0 where the system does not tell.
        cell_seconds: wall time per code cell.
    """

    seconds: float = 0.0
    peak_memory: int = 0
    cell_seconds: list[float] = field(default_factory=list)


def check_notebook(path: Path, parameters: Mapping[str, Any] | tuple[str, ...] = PARAMETERS) -> None:
    """Refuse a notebook that is missing, is not one, or lacks one of these parameters.

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
    known = _assigned_names("".join(tagged[0]["source"]))
    missing = [name for name in parameters if name not in known]
    if missing:
        raise NotebookError(
            f"{path}: the cell tagged `parameters` does not set {', '.join(missing)}; it sets "
            f"{', '.join(sorted(known)) or 'nothing'}"
        )


def run_notebook(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    recipe: Recipe,
    on_cell: Callable[[CellEvent], None] = lambda event: None,
) -> Execution:
    """Execute ``source`` into ``target``, which appears whole and only if every cell ran.

    While it runs, ``.<name>.partial.ipynb`` beside the target holds the cells done so far; a failed one is kept as
    ``<name>.failed.ipynb``.

    Raises:
        StageFailedError: a cell raised, or the kernel died.
    """
    check_notebook(source, parameters)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, failed = partial_path(target), target.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    execution, start = Execution(), time.perf_counter()
    try:
        _execute(source, partial, parameters, recipe, execution, on_cell, note_path(target))
    except StageFailedError as error:
        if partial.is_file():
            os.replace(partial, failed)
        raise StageFailedError(f"{error}\nthe notebook as far as it came: {failed}", error.by_user) from None
    finally:
        note_path(target).unlink(missing_ok=True)
    execution.seconds = time.perf_counter() - start
    _finish(partial, target, source.name)
    return execution


def partial_path(target: Path) -> Path:
    """Where a notebook grows while it runs; one left behind tells of an interrupted run."""
    return target.with_name(f".{target.stem}.partial.ipynb")


def note_path(target: Path) -> Path:
    """Where a long cell says how far it is (:func:`recnb.runtime.tell`); gone when the notebook ends."""
    return target.with_name(f".{target.stem}.note")


def fill_measured(path: Path, sentence: str) -> None:
    """Put a measured sentence into the card of an executed notebook, in the place of ``<!-- measured -->``."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and MEASURED in "".join(cell["source"]):
            cell["source"] = "".join(cell["source"]).replace(MEASURED, sentence)
    _write_notebook(path, notebook)


def kernel_environment(recipe: Recipe) -> dict[str, str]:
    """Environment of every notebook kernel, so that two machines start alike. What the user has set stays."""
    package = str(Path(__file__).resolve().parents[2])
    wanted = {
        **ENVIRONMENT,
        "PYTHONHASHSEED": "0",
        "RECNB_PROGRESS": "0",
        # glibc gives large blocks back to the system at once and faults them in again; keeping them is much faster.
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        "MALLOC_TOP_PAD_": str(2**26),
    }
    if recipe.runtime.threads:
        wanted["OMP_NUM_THREADS"] = str(recipe.runtime.threads)
    if recipe.offline:
        wanted["HF_HUB_OFFLINE"] = "1"
    wanted = {name: os.environ.get(name, value) for name, value in wanted.items()}
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    return wanted | {"PYTHONPATH": path, "MPLBACKEND": "Agg"}


@contextmanager
def this_python_as_kernel(environment: dict[str, str]) -> Iterator[None]:
    """Make the kernel name ``python3`` mean this interpreter, whatever is registered on the machine."""
    with tempfile.TemporaryDirectory(prefix="recnb-") as folder:
        kernel = [sys.executable, "-m", "ipykernel_launcher"]
        spec = {
            "argv": [*kernel, "-f", "{connection_file}", "--IPKernelApp.log_level=50"],
            "display_name": "Python 3",
            "language": "python",
            "env": environment,
        }
        home = Path(folder) / "kernels" / "python3"
        home.mkdir(parents=True)
        (home / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before


def cell_labels(cells: list[Any]) -> dict[int, str]:
    """One line per code cell, by its place in the notebook: the heading it stands under, else its first line."""
    labels, heading = {}, ""
    for place, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
            heading = headings[-1] if headings else heading
        elif cell["cell_type"] == "code":
            labels[place] = (heading or text.strip().partition("\n")[0])[:60]
    return labels


def _execute(
    source: Path,
    partial: Path,
    parameters: dict[str, Any],
    recipe: Recipe,
    execution: Execution,
    on_cell: Callable[[CellEvent], None],
    note: Path,
) -> None:
    papermill = _papermill()
    with this_python_as_kernel(kernel_environment(recipe) | {NOTE: str(note.resolve())}):
        try:
            papermill.execute_notebook(
                source, partial, parameters, engine_name="recnb", kernel_name="python3", language="python",
                progress_bar=False, cwd=source.parent, start_timeout=180, execution=execution, on_cell=on_cell,
                left_out="" if recipe.runtime.solutions else SOLUTION,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            raise _failure(source, error) from None
        except RuntimeError as error:  # nbclient's DeadKernelError
            if "Kernel died" not in str(error) and "kernel" not in type(error).__name__.lower():
                raise
            peak = f" It last held {execution.peak_memory / 2**30:.1f} GiB." if execution.peak_memory else ""
            message = f"{source.name}: its kernel died, most often because memory ran out.{peak}"
            raise StageFailedError(message) from None


def _failure(source: Path, error: Any) -> StageFailedError:
    """The error's last lines, without colours; one of recnb's own errors is its message alone."""
    by_user = error.ename in _error_names(RecnbError)
    lines = [_ANSI.sub("", line) for entry in error.traceback for line in str(entry).splitlines()]
    lines = [line for line in lines if line.strip()]
    said = str(error.evalue) if by_user else "\n".join(lines[-6:])
    return StageFailedError(f"{source.name}, cell In [{error.exec_count}]: {error.ename}\n{said}", by_user)


def _error_names(base: type) -> set[str]:
    names = {base.__name__}
    children: list[type] = base.__subclasses__()
    for child in children:
        names |= _error_names(child)
    return names


def _papermill() -> Any:
    """papermill with our engine; imported late, because a run with nothing to do must not wait for it."""
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="jupyter_client|papermill|zmq")
    import papermill
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    logging.getLogger("papermill").setLevel(logging.ERROR)

    class WatchedEngine(NBClientEngine):
        """papermill's engine, telling when a code cell starts and what the kernel held after it."""

        @classmethod
        def execute_managed_notebook(
            cls, nb_man: Any, kernel_name: str, execution: Any = None, on_cell: Any = None, left_out: str = "",
            **options: Any,
        ) -> Any:
            client = PapermillNotebookClient(
                nb_man, kernel_name=kernel_name, startup_timeout=options["start_timeout"], timeout=None,
                skip_cells_with_tag=left_out,
            )
            client.on_cell_execute, client.on_cell_complete = _watching(nb_man.nb.cells, client, execution, on_cell)
            return client.execute()

    papermill_engines.register("recnb", WatchedEngine)
    return papermill


def _watching(cells: list[Any], client: Any, execution: Execution, on_cell: Callable[[CellEvent], None]) -> Any:
    """What nbclient calls before and after it runs a code cell."""
    labels = cell_labels(cells)
    numbers = {place: number for number, place in enumerate(labels, 1)}
    started = 0.0

    def before(cell: Any, cell_index: int) -> None:
        nonlocal started
        started = time.perf_counter()
        on_cell(CellEvent(numbers[cell_index], len(labels), labels[cell_index]))

    def after(cell: Any, cell_index: int) -> None:
        execution.cell_seconds.append(round(time.perf_counter() - started, 3))
        execution.peak_memory = max(execution.peak_memory, _memory_peak_of(client))
        cell.metadata["recnb"] = {"seconds": execution.cell_seconds[-1], "peak_memory": execution.peak_memory}

    return before, after


def _memory_peak_of(client: Any) -> int:
    process: Any = getattr(getattr(client.km, "provisioner", None), "pid", None)
    return process_memory("VmHWM", process) or 0


def _finish(partial: Path, target: Path, name: str) -> None:
    """Take the paths of this machine out of the executed notebook and put it in its place."""
    notebook = json.loads(partial.read_text(encoding="utf-8"))
    notebook["metadata"]["papermill"] |= {"input_path": f"notebooks/{name}", "output_path": target.name}
    notebook["metadata"]["papermill"].pop("environment_variables", None)
    _write_notebook(partial, notebook)
    os.replace(partial, target)


def _write_notebook(path: Path, notebook: dict[str, Any]) -> None:
    write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _assigned_names(source: str) -> set[str]:
    """Names a parameters cell sets at top level, annotated or not."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return set()
    names: set[str] = set()
    for node in body:
        targets: list[ast.expr] = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names
