"""Files that stand whole or not at all, by their hash; and the folder of the project that they lie in.

What notebooks hand to each other goes through here (:class:`recnb.workflow.stage.Stage`), and all else that is written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

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


def hash_artifact(path: Path) -> str:
    """sha256 of a file, or of a folder's relative paths and file hashes."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = [f"{file.relative_to(path).as_posix()} {hash_artifact(file)}" for file in _files(path)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file whole or not at all: a temporary file in the same folder, flushed to disk, then renamed.

    Raises:
        ResourceError: the disk is full; the old file, if any, is left whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name}"
    with _disk_guard(path, temporary):
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and machines, whole or not at all; the folder is made."""
    text = json.dumps(json_values(value), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(path, lambda file: file.write(f"{text}\n".encode()))


def write_artifact(path: Path, value: Any) -> None:
    """Write a value in the format of the suffix, whole or not at all; see :func:`read_artifact`.

    Raises:
        ArtifactError: no such format.
        ResourceError: the disk is full; an earlier file of that name is left whole.
    """
    match path.suffix:
        case ".json":
            write_json(path, value)
        case ".npy":
            write_atomic(path, lambda file: np.save(file, np.ascontiguousarray(value), allow_pickle=False))
        case ".parquet":
            write_atomic(path, lambda file: value.to_parquet(file, index=False))
        case ".safetensors":
            from safetensors.numpy import save

            content = save({name: np.ascontiguousarray(array) for name, array in value.items()})
            write_atomic(path, lambda file: file.write(content))
        case ".txt":
            write_atomic(path, lambda file: file.write(str(value).encode()))
        case _:
            raise ArtifactError(f"artifact '{path.name}': expected one of {', '.join(FORMATS)}")


def read_artifact(path: Path) -> Any:
    """A file by its suffix: ``.npy`` array, ``.parquet`` frame, ``.json`` values, ``.txt`` text, ``.safetensors`` dict
    of numpy arrays.

    Raises:
        ArtifactError: no such format.
    """
    match path.suffix:
        case ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        case ".npy":
            return np.load(path, allow_pickle=False)
        case ".parquet":
            import pandas as pd

            return pd.read_parquet(path)
        case ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        case ".txt":
            return path.read_text(encoding="utf-8")
        case _:
            raise ArtifactError(f"artifact '{path.name}': expected one of {', '.join(FORMATS)}")


def write_folder_atomic(path: Path, fill: Callable[[Path], Any]) -> None:
    """Fill a temporary folder, flush it to disk, and put it in the place of ``path``."""
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name}"
    with _disk_guard(path, temporary):
        remove(temporary)
        temporary.mkdir(parents=True)
        fill(temporary)
        for file in [*_files(temporary), temporary]:
            _sync(file)
        old = path.parent / f"{TEMPORARY}{os.getpid()}-old-{path.name}"
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        _sync(path.parent)
        remove(old)


def git_commit(root: Path) -> str:
    """Commit of the project, with ``+`` if tracked files differ from it; outside git what ``RECNB_COMMIT`` says."""
    said = os.environ.get("RECNB_COMMIT", "")
    try:
        run = {"cwd": root, "capture_output": True, "text": True, "timeout": 10}
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **run)  # type: ignore[call-overload]
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], **run)  # type: ignore[call-overload]
    except (OSError, subprocess.TimeoutExpired):
        return said
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else said


def hash_or_none(path: Path) -> str | None:
    """:func:`hash_artifact`; None where there is nothing."""
    return hash_artifact(path) if path.exists() else None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def artifact_size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in _files(path))


def state_of(path: Path) -> tuple[Any, ...]:
    """Names, sizes and times of a file or folder: while they are the same, its hash is not asked again."""
    files = [path] if path.is_file() else _files(path)
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def remove(path: Path) -> None:
    """A file or folder goes, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk_guard(path: Path, temporary: Path) -> Iterator[None]:
    """Remove the temporary on any failure, and turn a full disk into a sentence."""
    try:
        yield
    except BaseException as error:
        remove(temporary)
        if _is_full_disk(error):
            free = shutil.disk_usage(path.parent).free
            raise ResourceError(
                f"{path}: the disk is full ({free / 2**20:.0f} MiB free). Nothing half-written is left and what was "
                "there before is whole; free some space and run the same command again"
            ) from error
        raise


def _is_full_disk(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)


def json_values(value: Any) -> Any:
    """JSON values: numpy scalars and arrays, paths and tuples become plain; not-a-number becomes null."""
    if isinstance(value, dict):
        return {str(key): json_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_values(inner) for inner in value]
    if hasattr(value, "tolist"):
        return json_values(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


