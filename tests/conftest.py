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

import fcntl
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

import hypothesis
import pytest
from sandbox import ROOT, STAGES, TOY, Again, ToyRun, cpu_seconds, nbval, new_sandbox, python, recnb
from tiny import tiny_folder  # noqa: F401 - a fixture

# A loaded machine is slow at random; that is no failure. In CI the same examples come every time.
hypothesis.settings.register_profile("recnb", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("recnb")


# What shares more than a finished toy run, by the fixtures that hold it; those that take longest stand first.
GROUPS = {"toy": {"twin", "again"}, "llm4sbr": {"sessions_run"}, "rsllm": {"ranking_run"}, "gallery": {"gallery_run"}}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A walk, or a file with its fixtures, goes to one worker (``-n 2 --dist loadgroup``). The toys' walks come first, then
    files that run notebooks, so that no worker is left with one at the end (``--no-loadscope-reorder`` keeps the order)."""
    walks = {item: _walk_of(item) for item in items}
    long = {item.path for item in items if item.get_closest_marker("e2e") or item.get_closest_marker("slow")}
    for item, walk in walks.items():
        if item.config.getoption("loadgroup", False):
            item.add_marker(pytest.mark.xdist_group(walk or item.path.relative_to(item.config.rootpath).as_posix()))
        if walk or {"toy_run", "toy_copy"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.e2e)
            long.add(item.path)
    order = [*GROUPS, ""]
    items.sort(key=lambda item: (order.index(walks[item]), item.path not in long))


def _walk_of(item: pytest.Item) -> str:
    """Whose toy run a test looks at; empty: nobody's, or a finished one that all workers may look at."""
    fixtures, call = set(getattr(item, "fixturenames", ())), getattr(item, "callspec", None)
    if "walked" in fixtures and call:
        return str(call.params["system"])
    return next((name for name, shared in GROUPS.items() if shared & fixtures), "")


def pytest_collection_finish(session: pytest.Session) -> None:
    """A worker that does not know the groups would run all walks, and so would the other."""
    if session.config.getoption("loadgroup", False):
        lost = [item for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
        if lost:
            said = "this pytest and pytest-xdist lose groups of tests, install those of requirements.lock"
            raise pytest.UsageError(f"{said}: {lost[0].nodeid}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project root with recipes and notebooks, and nothing run or measured."""
    for name in ("params", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> ToyRun:
    """All notebooks on the toy recipe, once per session, in order, each in its kernel. Stops at the first that fails. The worker
    that needs it first makes it; the others wait, and look at the same."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if hasattr(request.config, "workerinput") else own  # of all workers: that above their own
    with (folder / "toy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "toy.json").is_file():
            _run_toy(new_sandbox(folder / "toy")).write(folder / "toy.json")
    return ToyRun.read(folder / "toy", folder / "toy.json")


def _run_toy(root: Path) -> ToyRun:
    before, notebooks = cpu_seconds(), [f"{name}={spec.notebook}" for name, spec in STAGES.items()]
    result = python(ROOT / "tests" / "papermill_run.py", TOY, *notebooks, cwd=root, timeout=1200)
    ended, run = len(result.stdout.split()), ToyRun(root, seconds=cpu_seconds() - before)
    for number, name in enumerate([*STAGES][: ended + 1]):
        run.results[name] = CompletedProcess(result.args, 0 if number < ended else result.returncode, "", result.stderr)
    return run


@pytest.fixture(scope="session")
def again(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> Again:
    """The toy run once more, cell by cell, by nbval."""
    root = tmp_path_factory.mktemp("again") / "copy"
    shutil.copytree(toy_run.root, root)
    copies = [root / "executed" / f"{name}.ipynb" for name in STAGES]
    return Again(root, nbval(root, copies))


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """By a system's name: a project in which its toy has run to its report, once per session."""

    @cache
    def project(system: str) -> Path:
        root = new_sandbox(tmp_path_factory.mktemp(system) / "project")
        result = recnb(root, "run", f"params/{system}/toy.yaml")
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
        return root

    return project


@pytest.fixture(scope="session")
def sessions_run(walked: Callable[[str], Path]) -> Path:
    """That of LLM4SBR."""
    return walked("llm4sbr")


@pytest.fixture(scope="session")
def ranking_run(walked: Callable[[str], Path]) -> Path:
    """That of RSLLM."""
    return walked("rsllm")


@pytest.fixture(scope="session")
def gallery_run(walked: Callable[[str], Path]) -> Path:
    """That of the gallery."""
    return walked("gallery")


@pytest.fixture
def toy_copy(toy_run: ToyRun, tmp_path: Path) -> ToyRun:
    """A copy of the finished toy run that a test may spoil."""
    shutil.copytree(toy_run.root, tmp_path / "copy")
    return ToyRun(tmp_path / "copy", toy_run.results, toy_run.seconds)
