"""Kernels that are forks: nothing passes from one to the next, and none outlives whoever asked for it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import psutil
import pytest
from sandbox import ROOT, cells_of, kernel

from recnb.workflow.plan import make_plan
from recnb.workflow.run import _warm
from recnb.workflow.warm import LIBRARIES, Parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked under Linux alone")
LIGHT = ("ipykernel.kernelapp", "fractions", "no_such_library")


@pytest.fixture
def parent() -> Iterator[Parent]:
    with closing(Parent({"GIVEN": "before"}, LIGHT)) as parent, parent.kernels():
        yield parent


def test_a_kernel_has_the_libraries_and_nothing_of_the_one_before(parent: Parent, tmp_path: Path) -> None:
    about = "import os, sys; print('fractions' in sys.modules, 'recnb' in sys.modules, os.getcwd(), __name__, sys.argv[0])"
    found = []
    for _ in range(2):
        with kernel(tmp_path) as cell:
            found.append(cell(about))
            assert cell("print(os.environ.get('LEFT'), 'left' in globals(), os.getpid() == os.getsid(0))") == "None False True\n"
            assert cell("left = 1; os.environ['LEFT'] = '1'; import fractions; fractions.left = 1") == ""
            assert cell("print(subprocess)").startswith("NameError")
    assert found == [f"True False {tmp_path} __main__ ipykernel_launcher\n"] * 2
    with kernel(tmp_path) as cell:
        assert cell("import fractions, subprocess; print(hasattr(fractions, 'left'))") == "False\n"
        assert cell("print(subprocess.run(['true']).returncode)") == "0\n", "it waits for its own children"


def test_a_fork_computes_on_several_threads(tmp_path: Path) -> None:
    """Those of the process that was forked are not there any more: libraries have to begin anew."""
    work = """
import numpy, scipy.linalg, torch
a = numpy.random.default_rng(0).random((500, 500))
found = (a @ a).sum(), scipy.linalg.svdvals(a).max() ** 2, float((torch.tensor(a) @ torch.tensor(a)).sum())
print(torch.get_num_threads(), abs(found[0] / found[2] - 1) < 1e-9, found[1] <= (a**2).sum())
"""
    threads = {"OMP_NUM_THREADS": "2"}
    with closing(Parent(threads, ("ipykernel.kernelapp", "numpy", "scipy.linalg", "torch"))) as parent, parent.kernels():
        for _ in range(2):
            with kernel(tmp_path) as cell:
                assert cell(f"import os; os.environ.update({threads})" + work) == "2 True True\n"


def test_a_kernel_that_is_killed_or_left_is_gone(parent: Parent, tmp_path: Path) -> None:
    with kernel(tmp_path) as cell:
        one = psutil.Process(int(cell("import os; print(os.getpid())")))
        assert one.ppid() == parent._process.pid  # type: ignore[union-attr]
    one.wait(timeout=20)
    with kernel(tmp_path) as cell:
        other = psutil.Process(int(cell("import os; print(os.getpid())")))
        parent.close()
        other.wait(timeout=20)


ASKS = """
import os, sys, time
from pathlib import Path
from jupyter_client.manager import start_new_kernel
from recnb.workflow.warm import Parent
parent = Parent({}, ("ipykernel.kernelapp",))
with parent.kernels():
    manager, client = start_new_kernel(kernel_name="python3")
print(parent._process.pid, manager.provisioner.pid, flush=True)
time.sleep(120)
"""


def test_who_asks_may_be_killed(tmp_path: Path) -> None:
    """By kill -9, so that nobody tidies up: the process that forks ends, and so does its kernel."""
    asks = subprocess.Popen([sys.executable, "-c", ASKS], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert asks.stdout
    left = [psutil.Process(int(pid)) for pid in asks.stdout.readline().split()]
    assert len(left) == 2 and all(process.is_running() for process in left)
    asks.kill()
    asks.wait()
    assert len(psutil.wait_procs(left, timeout=20)[1]) == 0


def test_a_process_that_cannot_start_is_a_kernel_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with closing(Parent({})) as parent, pytest.raises(RuntimeError, match="Kernel died"):
        parent.fork([], str(tmp_path), {})


def test_the_libraries_leave_no_thread_that_a_fork_would_miss(tmp_path: Path) -> None:
    """But for one of pyarrow's memory, which the library itself takes care of; and none looks for a GPU."""
    code = "import sys, os, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    code += "import torch; assert not torch.cuda.is_initialized()\n"
    code += "print(*sorted(open(f'/proc/self/task/{task}/comm').read().strip() for task in os.listdir('/proc/self/task')))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *LIBRARIES], env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {Path(sys.executable).resolve().name, "python", "jemalloc_bg_thd"}, done.stdout


def test_no_code_takes_a_part_of_a_package_that_others_must_have_loaded() -> None:
    """``import scipy`` alone gives no ``scipy.stats``; in a fork it would. Such names are found, and each is tried alone."""
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "recnb").rglob("*.py")]
    files += ["\n".join(cells_of(path)) for path in (ROOT / "notebooks").rglob("*.ipynb")]
    taken = set(chain.from_iterable(map(parts_taken, files)))
    parts = sorted(part for part in taken if part.partition(".")[0] in LARGE and is_module(part))
    code = "\n".join(f"import {package}" for package in sorted({part.partition(".")[0] for part in parts}))
    assert "torch.nn" in parts and parts_taken("import scipy\nscipy.stats.rankdata") == {"scipy.stats"}
    subprocess.run([sys.executable, "-c", "\n".join([code, *parts])], check=True)


LARGE = {name.partition(".")[0] for name in LIBRARIES}


def is_module(name: str) -> bool:
    with suppress(ModuleNotFoundError, ValueError):  # of what is no package, or no file
        return find_spec(name) is not None
    return False


def parts_taken(code: str) -> set[str]:
    """``a.b`` where a file has ``import a`` and takes ``a.b``, and does not import that itself."""
    nodes = [*ast.walk(ast.parse(code))]
    imported = [name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    called = {name.asname or name.name: name.name for name in imported}
    dotted = [(node.value.id, node.attr) for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return {f"{called[name]}.{part}" for name, part in dotted if name in called} - {name.name for name in imported}


@pytest.mark.parametrize(
    ("last", "override", "warm"),
    [(None, "seed=7", True), ("02", "seed=7", False), (None, "runtime.device=auto", False), (None, "runtime.device=cuda", False)],
)
def test_it_pays_from_three_notebooks_on_and_is_safe_on_the_cpu(last: str | None, override: str, warm: bool) -> None:
    assert _warm(make_plan("params/toy.yaml", [override], None, last, False, ROOT)) is warm
