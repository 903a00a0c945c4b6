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

import shutil
from pathlib import Path

import hypothesis
import pytest
from sandbox import ROOT, STAGES, Again, ToyRun, cpu_seconds, nbval, new_sandbox, papermill, recnb
from tiny import tiny_folder  # noqa: F401 - a fixture

# A loaded machine is slow at random; that is no failure. In CI the same examples come every time.
hypothesis.settings.register_profile("recnb", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("recnb")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a toy run goes to one worker (``-n 2 --dist loadgroup``), which begins with it: it takes longest."""
    groups = {"toy": {"toy_run", "toy_copy", "twin", "again"}, "sessions": {"sessions_run"}, "ranking": {"ranking_run"}}
    for item in items:
        for name in (name for name, shared in groups.items() if shared & set(getattr(item, "fixturenames", ()))):
            item.add_marker(pytest.mark.xdist_group(name))
            item.add_marker(pytest.mark.e2e)
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


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
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> ToyRun:
    """All notebooks on the toy recipe, once per session, in order, each alone. Stops at the first that fails."""
    run = ToyRun(new_sandbox(tmp_path_factory.mktemp("toy")))
    for name in STAGES:
        before = cpu_seconds()
        run.results[name] = papermill(run.root, name)
        run.seconds[name] = cpu_seconds() - before
        if run.results[name].returncode:
            break
    return run


@pytest.fixture(scope="session")
def again(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> Again:
    """The toy run once more, cell by cell, by nbval."""
    root = tmp_path_factory.mktemp("again") / "copy"
    shutil.copytree(toy_run.root, root)
    copies = [root / "executed" / f"{name}.ipynb" for name in STAGES]
    return Again(root, nbval(root, copies))


@pytest.fixture(scope="session")
def sessions_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the toy of LLM4SBR has run to its report."""
    root = new_sandbox(tmp_path_factory.mktemp("sessions") / "project")
    result = recnb(root, "run", "params/llm4sbr/toy.yaml")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return root


@pytest.fixture(scope="session")
def ranking_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the toy of RSLLM has run to its report."""
    root = new_sandbox(tmp_path_factory.mktemp("ranking") / "project")
    result = recnb(root, "run", "params/rsllm/toy.yaml")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return root


@pytest.fixture
def toy_copy(toy_run: ToyRun, tmp_path: Path) -> ToyRun:
    """A copy of the finished toy run that a test may spoil."""
    shutil.copytree(toy_run.root, tmp_path / "copy")
    return ToyRun(tmp_path / "copy", toy_run.results, toy_run.seconds)
