"""Artifacts: the only hand-off between stages. Atomic writes, hashed reads, one manifest per stage.

A notebook opens its stage, reads what earlier stages wrote, writes its own, and closes::

    stage = Stage.open("03_index", "params/toy.yaml")
    semantic = stage.read("02_embeddings", "semantic.npy")   # (N, d_sem), verified against its manifest
    stage.write("codes.npy", codes)                          # whole or not at all
    stage.close()                                            # the manifest: from now on the stage is complete

Shown in notebook ``01_data``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from recnb import keys, runtime
from recnb.errors import ArtifactError, RecipeError, ResourceError
from recnb.recipe import Recipe, Section, load_recipe
from recnb.runtime import Runtime
from recnb.stages import StageSpec
from recnb.stages import stage as stage_spec

MANIFEST = "manifest.json"
_TEMPORARY = ".tmp-"


@dataclass
class Stage:
    """One stage of one recipe, opened for work. See :meth:`open`.

    Attributes:
        spec: name, sections, inputs and modules of the stage.
        recipe: the whole recipe; stage code takes sections from :meth:`config`.
        root: project root.
        folder: where the artifacts go, ``runs/<recipe>/<stage>``.
        runtime: device, dtype, threads and seeds, with reasons.
        key: hash of all that the result depends on.
        writes: False where a stage is only looked at, and in all but the first process of a distributed launch, where
            writing is left to the first.
    """

    spec: StageSpec
    recipe: Recipe
    root: Path
    folder: Path
    runtime: Runtime
    key: str
    _parts: dict[str, str]
    _inputs: dict[str, dict[str, str]]
    _verified: dict[Path, tuple[Any, ...]]
    _started: float
    _artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _facts: dict[str, Any] = field(default_factory=dict)
    writes: bool = True

    @classmethod
    def open(
        cls,
        name: str,
        recipe: str | Path | Recipe,
        overrides: Sequence[str] = (),
        root: Path | None = None,
        look: bool = False,
    ) -> Stage:
        """Open a stage for work; its old manifest goes, so that a broken-off run never looks complete.

        Args:
            name: stage name, as in ``recnb.stages.STAGES``.
            recipe: a recipe file (relative to the working directory, else to the project root) or a loaded recipe.
            overrides: ``key.path=value`` strings, for a recipe file.
            root: project root; by default found above the working directory.
            look: only read what the stage would read: nothing is prepared, and what is written goes nowhere.

        Raises:
            RecipeError: the recipe is not valid, or there is no project root.
            ArtifactError: an input stage is missing, was made with another recipe, or is damaged; names the notebook.
            ResourceError: the machine lacks what the recipe demands.
        """
        started = time.perf_counter()
        root = Path(root) if root else find_root(recipe)
        spec = stage_spec(name)
        loaded = resolve_recipe(recipe, overrides, root)
        verified: dict[Path, tuple[Any, ...]] = {}
        inputs = _verified_inputs(spec, loaded, root, verified)
        parts = keys.key_parts(spec, loaded, root, inputs)
        started_runtime = runtime.start(loaded.runtime, loaded.seed)
        folder = stage_folder(loaded, spec.name, root)
        stage = cls(spec, loaded, root, folder, started_runtime, keys.key_of(parts), parts, inputs, verified, started)
        stage.writes = not look and os.environ.get("RANK", "0") == "0"  # set by accelerate launch and torchrun
        if stage.writes:
            stage._prepare_folder()
        return stage

    def config(self, section: str) -> Section:
        """A section of the recipe that this stage declares in ``recnb.stages``."""
        if section not in self.spec.sections:
            declared = ", ".join(self.spec.sections)
            raise RecipeError(f"{self.spec.name} does not declare recipe section '{section}'; declared: {declared}")
        return getattr(self.recipe, section)

    def path(self, stage: str, name: str) -> Path:
        """Verified path of an artifact of an input stage, or of one that this stage has written.

        Raises:
            ArtifactError: undeclared stage, unknown artifact, or content that does not match its manifest.
        """
        full = stage_spec(stage).name
        known = self._known(full)
        path = stage_folder(self.recipe, full, self.root) / name
        if name not in known:
            raise ArtifactError(f"{full} has no artifact '{name}'; it has: {', '.join(sorted(known)) or 'none'}")
        _verify(path, known[name], full, self.recipe, self._verified)
        return path

    def read(self, stage: str, name: str) -> Any:
        """An artifact by its suffix: ``.npy`` array, ``.parquet`` frame, ``.json`` values, ``.txt`` text,
        ``.safetensors`` dict of numpy arrays."""
        path = self.path(stage, name)
        return _READERS[_suffix(name, _READERS)](path)

    def write(self, name: str, value: Any) -> Path:
        """Write an artifact whole or not at all: the format follows the suffix (see :meth:`read`).

        Raises:
            ResourceError: the disk is full; an earlier artifact of that name is left whole.
        """
        writer = _WRITERS[_suffix(name, _WRITERS)]
        path = self.folder / name
        if self.writes:
            write_atomic(path, lambda file: writer(file, value))
            self._record(name)
        return path

    def write_folder(self, name: str, fill: Callable[[Path], Any]) -> Path:
        """Write a folder whole or not at all (a Hugging Face model, an adapter).

        Args:
            name: folder name of the artifact.
            fill: called with an empty temporary folder; writes the files there.
        """
        path = self.folder / name
        if self.writes:
            write_folder_atomic(path, fill)
            self._record(name)
        return path

    def note(self, **facts: Any) -> None:
        """Keep small facts for the manifest and the report, e.g. ``note(recall=0.081)``."""
        self._facts |= _plain(facts)

    def scratch(self, name: str) -> Path:
        """A folder for checkpoints: it survives a kill, serves only the same key, and goes with :meth:`close`."""
        path = self._scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def _scratch(self) -> Path:
        return self.folder / f"scratch-{self.key[:16]}"

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Arrays that a broken-off notebook need not make again: kept beside its checkpoints (:meth:`scratch`).

        Every process of a launch looks for itself, so that all make them together or none does; one writes.

        Args:
            name: of what is made.
            make: gives numpy arrays by name; called only where this key has not made them yet.
        """
        import numpy as np

        path = self._scratch / "made" / f"{name}.npz"
        if not path.is_file():
            made = make()
            if not self.writes:
                return made
            write_atomic(path, lambda file: np.savez(file, **made))
        with np.load(path) as stored:
            return dict(stored)

    def figure(self, name: str) -> Path:
        """Where a figure for the report page belongs: ``reports/<recipe>/figures/<stage>-<name>.png``."""
        folder = report_folder(self.recipe, self.root) / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.spec.name}-{name}.png"

    def close(self) -> None:
        """Write the manifest: from now on the stage is complete. Prints one line."""
        if not self.writes:
            return
        manifest = self._manifest()
        write_atomic(self.folder / MANIFEST, lambda file: _write_json(file, manifest))
        for leftover in self.folder.glob("scratch-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        print(f"{self.spec.name} complete: {', '.join(sorted(self._artifacts)) or 'no artifacts'}")

    def _known(self, stage: str) -> dict[str, str]:
        if stage == self.spec.name:
            return {name: entry["sha256"] for name, entry in self._artifacts.items()}
        if stage not in self._inputs:
            declared = ", ".join(self.spec.inputs) or "none"
            raise ArtifactError(f"{self.spec.name} does not declare {stage} as an input; declared: {declared}")
        return self._inputs[stage]

    def _record(self, name: str) -> None:
        path = self.folder / name
        self._artifacts[name] = {"sha256": hash_artifact(path), "bytes": _size(path)}
        self._verified[path] = _stat_signature(path)

    def _prepare_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for leftover in [*self.folder.glob(f"{_TEMPORARY}*"), *self.folder.glob("scratch-*")]:
            if leftover != self._scratch:
                _remove(leftover)

    def _manifest(self) -> dict[str, Any]:
        return {
            "stage": self.spec.name,
            "recipe_name": self.recipe.name,
            "key": self.key,
            "parts": self._parts,
            "artifacts": self._artifacts,
            "inputs": self._inputs,
            "recipe": keys.recipe_part(self.spec, self.recipe),
            "versions": keys.versions(),
            "commit": git_commit(self.root),
            "seed": self.recipe.seed,
            "device": self.runtime.device,
            "dtype": str(self.runtime.dtype).removeprefix("torch."),
            "threads": self.runtime.threads,
            "reasons": self.runtime.reasons,
            "platform": platform.platform(),
            "seconds": round(time.perf_counter() - self._started, 3),
            "peak_memory": runtime.memory_peak(),
            "peak_gpu_memory": runtime.gpu_memory_peak(self.runtime.device),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "facts": self._facts,
        }


def find_root(recipe: str | Path | Recipe | None = None) -> Path:
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


def resolve_recipe(recipe: str | Path | Recipe, overrides: Sequence[str], root: Path) -> Recipe:
    """Load a recipe file, relative to the working directory or else to the root; a loaded recipe passes through."""
    if isinstance(recipe, Recipe):
        if overrides:
            raise RecipeError("overrides need a recipe file; change a loaded recipe with model_copy(update=...)")
        return recipe
    path = Path(recipe)
    if not path.is_absolute() and not path.is_file() and (root / path).is_file():
        path = root / path
    return load_recipe(path, tuple(overrides))


def stage_folder(recipe: Recipe, stage: str, root: Path) -> Path:
    """``runs/<recipe>/<stage>``."""
    return root / recipe.paths.runs / recipe.name / stage


def report_folder(recipe: Recipe, root: Path) -> Path:
    """``reports/<recipe>``."""
    return root / recipe.paths.reports / recipe.name


def stage_key(spec: StageSpec, recipe: Recipe, root: Path) -> str:
    """Hash of everything a stage's result depends on; its inputs must be complete.

    Raises:
        ArtifactError: an input stage has no manifest.
    """
    return keys.key_of(stage_parts(spec, recipe, root))


def stage_parts(spec: StageSpec, recipe: Recipe, root: Path) -> dict[str, str]:
    """The named parts that :func:`stage_key` hashes."""
    manifests = {name: read_manifest(recipe, name, root) for name in spec.inputs}
    inputs = {
        name: artifact_hashes(manifest if manifest else _missing(spec.name, name, recipe))
        for name, manifest in manifests.items()
    }
    return keys.key_parts(spec, recipe, root, inputs)


def read_manifest(recipe: Recipe, stage: str, root: Path) -> dict[str, Any] | None:
    """Manifest of a stage; none when the stage is incomplete or its manifest unreadable."""
    path = stage_folder(recipe, stage, root) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and "artifacts" in manifest and "key" in manifest else None


def damaged_artifacts(recipe: Recipe, stage: str, root: Path, manifest: dict[str, Any]) -> list[str]:
    """Names of artifacts that are gone or do not match the manifest."""
    folder = stage_folder(recipe, stage, root)
    return [name for name, sha in artifact_hashes(manifest).items() if _hash_or_none(folder / name) != sha]


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
    temporary = path.parent / f"{_TEMPORARY}{os.getpid()}-{path.name}"
    with _disk_guard(path, temporary):
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and machines, whole or not at all; the folder is made."""
    write_atomic(path, lambda file: _write_json(file, value))


def write_folder_atomic(path: Path, fill: Callable[[Path], Any]) -> None:
    """Fill a temporary folder, flush it to disk, and put it in the place of ``path``."""
    temporary = path.parent / f"{_TEMPORARY}{os.getpid()}-{path.name}"
    with _disk_guard(path, temporary):
        _remove(temporary)
        temporary.mkdir(parents=True)
        fill(temporary)
        for file in [*_files(temporary), temporary]:
            _sync(file)
        old = path.parent / f"{_TEMPORARY}{os.getpid()}-old-{path.name}"
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        _sync(path.parent)
        _remove(old)


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


def _verified_inputs(
    spec: StageSpec, recipe: Recipe, root: Path, verified: dict[Path, tuple[Any, ...]]
) -> dict[str, dict[str, str]]:
    inputs = {}
    for name in spec.inputs:
        manifest = read_manifest(recipe, name, root) or _missing(spec.name, name, recipe)
        _same_recipe(spec.name, name, recipe, manifest)
        inputs[name] = artifact_hashes(manifest)
        for artifact, sha in inputs[name].items():
            _verify(stage_folder(recipe, name, root) / artifact, sha, name, recipe, verified)
    return inputs


def _missing(stage: str, needed: str, recipe: Recipe) -> dict[str, Any]:
    raise ArtifactError(
        f"{stage} needs {needed}, which is not complete for recipe '{recipe.name}': run notebooks/{needed}.ipynb "
        f"with this recipe first, or `recnb run <recipe> --to {needed}`"
    )


def _same_recipe(stage: str, needed: str, recipe: Recipe, manifest: dict[str, Any]) -> None:
    changed = recipe_changes(needed, recipe, manifest)
    if changed:
        raise ArtifactError(
            f"{stage} needs {needed}, which was made with another recipe ({'; '.join(changed[:3])}): "
            f"run notebooks/{needed}.ipynb again, or `recnb run <recipe>`"
        )


def recipe_changes(stage: str, recipe: Recipe, manifest: dict[str, Any]) -> list[str]:
    """What a stage's artifacts were made with and the recipe now says otherwise, in words; empty if nothing."""
    wanted = flatten(keys.recipe_part(stage_spec(stage), recipe))
    made = flatten(manifest["recipe"])
    differing = sorted(key for key in {*made, *wanted} if made.get(key) != wanted.get(key))
    return [f"{key} was {made.get(key)!r}, is {wanted.get(key)!r}" for key in differing]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"train": {"epochs": 3}}`` -> ``{"train.epochs": 3}``."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _verify(path: Path, sha: str, stage: str, recipe: Recipe, verified: dict[Path, tuple[Any, ...]]) -> None:
    if path.exists() and verified.get(path) == _stat_signature(path):
        return
    found = _hash_or_none(path)
    if found != sha:
        what = "is gone" if found is None else f"is damaged: sha256 {found[:12]}…, its manifest says {sha[:12]}…"
        raise ArtifactError(
            f"{path} {what}. It is not used; rebuild it with notebooks/{stage}.ipynb, "
            f"or `recnb run <recipe>`, which rebuilds that stage of '{recipe.name}'"
        )
    verified[path] = _stat_signature(path)


def artifact_hashes(manifest: dict[str, Any]) -> dict[str, str]:
    """Artifact name -> sha256, as a stage's manifest has them."""
    return {name: entry["sha256"] for name, entry in manifest["artifacts"].items()}


def _hash_or_none(path: Path) -> str | None:
    return hash_artifact(path) if path.exists() else None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in _files(path))


def _stat_signature(path: Path) -> tuple[Any, ...]:
    files = [path] if path.is_file() else _files(path)
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _remove(path: Path) -> None:
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
        _remove(temporary)
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


def _suffix(name: str, table: dict[str, Any]) -> str:
    suffix = Path(name).suffix
    if suffix not in table:
        raise ArtifactError(f"artifact '{name}': expected one of {', '.join(table)}")
    return suffix


def _plain(value: Any) -> Any:
    """JSON values: numpy scalars and arrays, paths and tuples become plain; not-a-number becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


def _write_json(file: IO[bytes], value: Any) -> None:
    file.write(json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _write_npy(file: IO[bytes], value: Any) -> None:
    import numpy as np

    np.save(file, np.ascontiguousarray(value), allow_pickle=False)


def _write_parquet(file: IO[bytes], value: Any) -> None:
    value.to_parquet(file, index=False)


def _write_safetensors(file: IO[bytes], value: Any) -> None:
    import numpy as np
    from safetensors.numpy import save

    file.write(save({name: np.ascontiguousarray(array) for name, array in value.items()}))


def _read_npy(path: Path) -> Any:
    import numpy as np

    return np.load(path, allow_pickle=False)


def _read_parquet(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path)


def _read_safetensors(path: Path) -> Any:
    from safetensors.numpy import load_file

    return load_file(path)


_WRITERS: dict[str, Callable[[IO[bytes], Any], Any]] = {
    ".npy": _write_npy,
    ".parquet": _write_parquet,
    ".json": _write_json,
    ".safetensors": _write_safetensors,
    ".txt": lambda file, value: file.write(str(value).encode()),
}
_READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": _read_npy,
    ".parquet": _read_parquet,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".safetensors": _read_safetensors,
    ".txt": lambda path: path.read_text(encoding="utf-8"),
}
