"""In Colab a notebook stands alone; this puts the project around it, installs what is missing, and makes what it reads.

A notebook's cell tagged ``colab`` fetches this file from the repository at its tag and calls :func:`prepare`; so the
file needs the standard library alone. Two kinds of packages stay as Colab has them: those whose builds belong to its
machine (``KEPT``), and those that its kernel has loaded, which nothing could replace without a restart.

Only Colab itself and the two addresses, of this file and of the repository, are out of a test's reach. Tests run the
rest as it stands: a module in place of ``google.colab``, and git told to take a local clone for the repository.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

REPOSITORY, TAG = "https://github.com/recnb/recnb", "v0.1.0"  # as in pyproject.toml, [tool.recnb]
FOLDER = Path("/content/recnb")
KEPT = ("torch", "numpy", "pandas", "scipy", "scikit-learn", "transformers")
UNUSED = ("jupyterlab",)  # Colab is the editor
STARTED = "RECNB_COLAB"  # environment variable: the process that prepare() ran in; its children find it


def prepare(recipe: str, overrides: list[str], small: str, to: str = "") -> str:
    """Make the notebook of a Colab session ready to run, in the folder of the project.

    Args:
        recipe: the notebook's; it stays in a kernel that this one has started (``recnb run``, papermill), where all is
            ready.
        overrides: the notebook's; earlier notebooks run with them, too.
        small: the recipe to run instead, one for minutes.
        to: the last stage that the notebook reads from; empty: it reads from none.

    Returns:
        The recipe to run.

    Raises:
        RuntimeError: git, pip or an earlier notebook failed; what it said is printed above.
    """
    if os.environ.setdefault(STARTED, str(os.getpid())) != str(os.getpid()):
        return recipe
    if not FOLDER.exists():
        quiet = ("--quiet", "--config", "advice.detachedHead=false")
        _run("git", "clone", *quiet, "--depth", "1", "--branch", TAG, REPOSITORY, str(FOLDER))
    os.chdir(FOLDER)
    sys.path.insert(0, str(FOLDER))  # an editable install is not seen before a restart
    _install()
    if to:
        changed = ["--set", *overrides] if overrides else []
        _run(sys.executable, "-m", "recnb", "run", small, "--to", to, *changed)
    return small


def missing(asked: list[str], kept: dict[str, str]) -> list[str]:
    """Requirements (``name>=version``) that are to be installed: absent or too old, and not to be kept or left out."""
    wanted = []
    for requirement in asked:
        name, _, least = requirement.partition(">=")
        found = _version(name)
        if name not in (*kept, *UNUSED) and (found is None or _numbers(found) < _numbers(least)):
            wanted.append(requirement)
    return wanted


def kept_versions() -> dict[str, str]:
    """Name and version of what may not change: ``KEPT``, and all that this process has loaded, as far as installed."""
    owners = metadata.packages_distributions()
    loaded = {owner for module in {name.partition(".")[0] for name in sys.modules} for owner in owners.get(module, [])}
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in (*KEPT, *loaded)}
    return {name: version for name in sorted(names) if (version := _version(name)) is not None}


def _install() -> None:
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    kept = kept_versions()
    wanted = missing(project["dependencies"], kept)
    if wanted:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            constraints.writelines(f"{name}=={version}\n" for name, version in kept.items())
            constraints.flush()
            _run(sys.executable, "-m", "pip", "install", "--quiet", "--constraint", constraints.name, *wanted)
    if _version(project["name"]) is None:  # for the command `recnb`
        _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(FOLDER))
    importlib.invalidate_caches()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """``2.11.0+cu128`` -> ``(2, 11, 0)``."""
    return tuple(int(part) for part in re.match(r"[\d.]*\d", version)[0].split("."))  # type: ignore[index]


def _run(*command: str) -> None:
    """Run a command, its lines shown as they come: a notebook does not show what a child process prints."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
    if process.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed; what it said stands above. Run this cell again once mended.")
