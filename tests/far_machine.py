"""A far machine on this one: an interpreter of its own that finds only the packages that a compute node would have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from recnb.workflow.pack import NEEDS

ABSENT = {"pydantic", "pydantic-core", "annotated-types", "typing-inspection"}  # they come as wheels
NEVER = ("pydantic", "IPython", "papermill", "nbformat", "nbconvert", "umap", "cornac", "nbval", "ipykernel", "gguf")


def far_python(folder: Path) -> Path:
    """A Python without pip whose site-packages link to what :data:`NEEDS` names, wheels apart, and to what that needs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", folder], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    for package in _with_needs({*NEEDS} - ABSENT):
        for top in _tops(package):
            place = site / top.name
            if not place.exists():
                place.symlink_to(top)
    return folder / "bin" / "python"


def wheels(folder: Path) -> Path:
    """Wheels of the packages that are absent there, made of what is installed here."""
    folder.mkdir()
    for name in ABSENT:
        installed = metadata.distribution(name)
        compiled = any(str(file).endswith(".so") for file in installed.files or ())
        tag = f"cp{sys.version_info.major}{sys.version_info.minor}" if compiled else "py3"
        wheel = folder / f"{name.replace('-', '_')}-{installed.version}-{tag}-{tag if compiled else 'none'}-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for file in installed.files or ():
                if "__pycache__" not in file.parts and ".." not in file.parts:
                    archive.write(file.locate(), str(file))
    return folder


def run(python: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command there: nothing of this process's paths goes along."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)


def _with_needs(names: set[str]) -> set[str]:
    """Packages and all that they require, by the names of their requirements."""
    found, todo = set(), {*names}
    while todo:
        name = todo.pop()
        found.add(name)
        wanted = [Requirement(text) for text in metadata.requires(name) or ()]
        here = [each.name for each in wanted if not each.marker or each.marker.evaluate({"extra": ""})]
        todo |= {re.sub(r"[-_.]+", "-", each).lower() for each in here} - found - ABSENT
    return found


def _tops(package: str) -> set[Path]:
    """What lies in site-packages of an installed package: its folders and files of the first level."""
    files = metadata.files(package) or ()
    return {Path(str(file.locate())).parents[len(file.parts) - 2] if len(file.parts) > 1 else Path(str(file.locate()))
            for file in files if ".." not in file.parts and file.parts[0] != "__pycache__"}  # fmt: skip
