"""Files that stand whole or not at all, by their hash; and the folder of the project that they lie in.

What notebooks hand to each other goes through here (:class:`recnb.workflow.stage.Stage`), and all else that is written.
"""

import errno
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic_core import to_jsonable_python
from safetensors.numpy import load_file, save_file

from recnb.errors import ArtifactError, RecipeError, ResourceError

FORMATS = (".npy", ".parquet", ".json", ".safetensors", ".txt")
TEMPORARY = ".tmp-"  # how the names of unfinished files begin


class Artifacts(Protocol):
    """What a stage gives to functions that read and write its artifacts: see :class:`recnb.workflow.stage.Stage`."""

    runtime: Any
    recipe: Any

    def path(self, stage: str, name: str) -> Path:
        """Verified path of an artifact."""

    def read(self, stage: str, name: str) -> Any:
        """An artifact, by its suffix."""

    def write(self, name: str, value: Any) -> Path:
        """Write an artifact, by its suffix."""


def find_root(recipe: object = None) -> Path:
    """Project root: the first folder with ``notebooks/`` and ``params/``, at or above the working directory or,
    failing that, the recipe file."""
    starts = [Path.cwd()]
    if isinstance(recipe, str | Path):
        starts.append(Path(recipe).absolute().parent)
    for start in starts:
        for folder in (start, *start.parents):
            if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
                return folder
    raise RecipeError(f"{Path.cwd()}: no folder with notebooks/ and params/ here or above; change into the project")


def git_commit(root: Path) -> str:
    """Commit of the project, with ``+`` if tracked files differ from it; outside git what ``RECNB_COMMIT`` says."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("RECNB_COMMIT", "")
    return done.stdout.strip()


def hash_artifact(path: Path) -> str:
    """sha256 of a file, or of a folder's relative paths and file hashes; empty where there is nothing."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = [f"{file.relative_to(path).as_posix()} {hash_artifact(file)}" for file in files_of(path)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if path.is_dir() else ""


def hash_once(path: Path) -> str:
    """:func:`hash_artifact`, computed again only when names, sizes or times have changed."""
    return _hash_in_state(path, *((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(path)))


@cache
def _hash_in_state(path: Path, *state: tuple[Path, int, int]) -> str:
    return hash_artifact(path)


def hash_json(value: Any) -> str:
    """sha256 of a value as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fingerprint(path: Path) -> dict[str, Any]:
    """sha256 and bytes of a file, or of all files of a folder."""
    return {"sha256": hash_artifact(path), "bytes": sum(file.stat().st_size for file in files_of(path))}


def files_of(path: Path) -> list[Path]:
    """All files of a folder, sorted; a file itself."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def write_artifact(path: Path, value: Any) -> None:
    """Write a value in the format of the suffix, whole or not at all; see :func:`read_artifact`.

    Raises:
        ArtifactError: no such format.
        ResourceError: the disk is full; an earlier file of that name is left whole.
    """
    match path.suffix:
        case ".json":
            write_json(path, value)
        case ".txt":
            write_text(path, str(value))
        case ".npy":
            write_atomic(path, lambda file: np.save(file, np.ascontiguousarray(value), allow_pickle=False))
        case ".parquet":
            write_atomic(path, lambda file: value.to_parquet(file, index=False))
        case ".safetensors":
            arrays = {name: np.ascontiguousarray(array) for name, array in value.items()}
            write_atomic(path, lambda file: save_file(arrays, file))
        case _:
            raise ArtifactError(f"artifact '{path.name}': expected one of {', '.join(FORMATS)}")


def read_artifact(path: Path) -> Any:
    """A file by its suffix: array, frame (``.parquet``), JSON values, arrays by name (``.safetensors``) or text."""
    match path.suffix:
        case ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        case ".txt":
            return path.read_text(encoding="utf-8")
        case ".npy":
            return np.load(path, allow_pickle=False)
        case ".parquet":
            import pandas as pd

            return pd.read_parquet(path)
        case ".safetensors":
            return load_file(path)
        case _:
            raise ArtifactError(f"artifact '{path.name}': expected one of {', '.join(FORMATS)}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing, broken or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and machines, whole or not at all; the folder is made."""
    write_text(path, json.dumps(json_values(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def json_values(value: Any) -> Any:
    """JSON values: numpy scalars and arrays, paths and tuples become plain; not-a-number becomes null."""
    return to_jsonable_python(value, inf_nan_mode="null", fallback=lambda odd: getattr(odd, "tolist", odd.__str__)())


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all; a file that holds it already is left alone."""
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomic(path, lambda file: file.write_bytes(text.encode()))


def write_atomic(path: Path, make: Callable[[Path], Any]) -> None:
    """Write a file or a folder whole or not at all: under a temporary name beside it, flushed to disk, then renamed.

    Args:
        path: what is written; its folder is made.
        make: called with the temporary path, which ends as ``path`` does; makes the file or folder.
    """
    temporary, old = (path.with_name(f"{TEMPORARY}{os.getpid()}-{prefix}{path.name}") for prefix in ("", "old-"))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(temporary)
    try:
        make(temporary)
        for part in {temporary, *files_of(temporary)}:
            _sync(part)
        if path.is_dir():
            os.replace(path, old)
        os.replace(temporary, path)
        _sync(path.parent)
    except BaseException as error:
        remove(temporary)
        if _is_full_disk(error):
            free = shutil.disk_usage(path.parent).free
            raise ResourceError(
                f"{path}: the disk is full ({free / 2**20:.0f} MiB free). Nothing half-written is left and what was "
                "there before is whole; free some space and run the same command again"
            ) from error
        raise
    remove(old)


def write_folder_atomic(path: Path, fill: Callable[[Path], Any]) -> None:
    """:func:`write_atomic` of a folder; ``fill`` is called with an empty one."""

    def make(folder: Path) -> None:
        folder.mkdir()
        fill(folder)

    write_atomic(path, make)


def _is_full_disk(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """A file or folder goes, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
