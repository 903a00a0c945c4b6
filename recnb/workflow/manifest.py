"""What a stage's result depends on, as hashes, and the manifest that keeps them beside its artifacts.

A stage runs again only when one of these parts changed; ``recnb run --explain`` names the one.
"""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from recnb.artifacts import hash_artifact, hash_json, hash_once, read_json
from recnb.errors import ArtifactError
from recnb.settings import Recipe, StageSpec, differing
from recnb.workflow.graph import stage_named
from recnb.workflow.recipe import recipe_hash
from recnb.workflow.sources import Home, used_sources

MANIFEST = "manifest.json"
PAGE = "page"  # beside it: the executed notebook that made the result, and its figures, should reports/ be deleted
PACKAGES = (
    "numpy", "scipy", "pandas", "scikit-learn", "torch", "transformers", "tokenizers", "accelerate", "peft",
    "sentence-transformers", "umap-learn",
)  # fmt: skip


class Fingerprint(BaseModel):
    """Of an artifact (:func:`recnb.artifacts.fingerprint`)."""

    sha256: str
    bytes: int


class Manifest(BaseModel):
    """What a stage's manifest holds."""

    stage: str
    recipe_name: str  # under which it was made: what would come out the same is copied
    key: str  # of all its parts
    parts: dict[str, str]
    artifacts: dict[str, Fingerprint]
    inputs: dict[str, dict[str, str]]
    recipe: dict[str, Any]
    versions: dict[str, str]
    commit: str
    seed: int
    device: str
    dtype: str
    threads: int
    reasons: dict[str, str]
    platform: str
    seconds: float
    peak_memory: int
    peak_gpu_memory: int | None
    finished: str
    facts: dict[str, Any]
    elsewhere: dict[str, str] = {}  # made on another machine: `local_parts` of this one, which sent it there


_HASHED_UP_TO = 64 * 2**20
_FOR_PEOPLE = {"max_hours", "solutions"}


def stage_folder(recipe: Recipe, stage: str, root: Path) -> Path:
    """``runs/<recipe>/<stage>``."""
    return root / recipe.paths.runs / recipe.name / stage


def report_folder(recipe: Recipe, root: Path) -> Path:
    """``reports/<recipe>``."""
    return root / recipe.paths.reports / recipe.name


# --- what a result depends on ----------------------------------------------------------------------------------------


def stage_parts(spec: StageSpec, recipe: Recipe, root: Path) -> dict[str, str]:
    """Everything a stage's result depends on, named, with its hash or version: its sections of the recipe, seed and
    runtime; its notebook, and what that reaches of ours; files that the recipe names; its inputs as they are; packages.

    Raises:
        ArtifactError: an input stage has no manifest.
    """
    inputs = {name: artifact_hashes(needed(spec.name, name, recipe, root)) for name in spec.inputs}
    parts = {f"recipe {name}": recipe_hash({"": value}) for name, value in recipe_part(spec, recipe).items()}
    parts |= {f"input {stage}/{name}": sha for stage, files in inputs.items() for name, sha in files.items()}
    return parts | local_parts(spec, recipe, root)


def local_parts(spec: StageSpec, recipe: Recipe, root: Path) -> dict[str, str]:
    """Those parts that are told apart by this machine's Python, clock and packages: code, files and versions."""
    files = {f"file {_portable(file, root)}": _file_mark(file) for file in outside_files(spec, recipe, root)}
    packages = {f"package {name}": version for name, version in versions().items()}
    return code_parts(spec, recipe, root) | files | packages


def code_parts(spec: StageSpec, recipe: Recipe, root: Path) -> dict[str, str]:
    """A stage's notebook, and what that reaches of ours and of its system's."""
    cells = notebook_cells(spec.file(root))
    used = used_sources((source for kind, source in cells if kind == "code"), Home.of(type(recipe).__module__))
    return {"notebook": hash_json(cells)} | {f"source {name}": sha for name, sha in used.items()}


def recipe_part(spec: StageSpec, recipe: Recipe) -> dict[str, Any]:
    """The part of the recipe that a stage depends on, as plain JSON values."""
    tree = recipe.model_dump(mode="json", include={*spec.sections, "seed", "runtime"})
    return tree | {"runtime": {k: v for k, v in tree["runtime"].items() if k not in _FOR_PEOPLE}}


def outside_files(spec: StageSpec, recipe: Recipe, root: Path) -> list[Path]:
    """Files that the recipe names and the stage is the first to read, where they are here: data, models, texts."""
    before = {name for other in recipe.stages[: recipe.stages.index(spec)] for name in other.sections}
    own = [getattr(recipe, name) for name in spec.sections if name not in before]
    named = [path for section in own for path in section.files(root, recipe)]
    inside = [file for path in named if path.is_dir() for file in path.iterdir()]
    return sorted({file for file in [*named, *inside] if file.is_file()})


def notebook_cells(path: Path) -> list[list[str]]:
    """``[cell type, source]`` of each cell of a notebook; outputs and metadata do not count. Empty if there is none."""
    return [[cell["cell_type"], "".join(cell["source"])] for cell in read_json(path).get("cells", [])]


@cache
def versions() -> dict[str, str]:
    """Versions of python and the packages whose arithmetic or formats reach an artifact."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _file_mark(path: Path) -> str:
    """sha256 of a file, or its size and time where hashing at every start would take long."""
    state = path.stat()
    return hash_artifact(path) if state.st_size <= _HASHED_UP_TO else f"{state.st_size} bytes, {state.st_mtime_ns}"


def _portable(path: Path, root: Path) -> str:
    """A file's path in the project, or its name alone: no manifest names a machine."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


# --- what was made ---------------------------------------------------------------------------------------------------


def read_manifest(recipe: Recipe, stage: str, root: Path) -> dict[str, Any] | None:
    """Manifest of a stage; none when the stage is incomplete or its manifest unreadable."""
    manifest = read_json(stage_folder(recipe, stage, root) / MANIFEST)
    try:
        Manifest.model_validate(manifest)
    except ValidationError:
        return None
    whole = manifest["stage"] == stage and manifest["key"] == hash_json(manifest["parts"])
    return manifest if whole else None


def needed(by: str, name: str, recipe: Recipe, root: Path) -> dict[str, Any]:
    """Manifest of a stage that another, or a command, cannot do without.

    Raises:
        ArtifactError: the stage is not complete; names its notebook.
    """
    manifest = read_manifest(recipe, name, root)
    if manifest is None:
        raise ArtifactError(
            f"{by} needs {name}, which is not complete for recipe '{recipe.name}': run "
            f"{notebook_of(name, recipe)} with this recipe first, or `recnb run <recipe> --to {name}`"
        )
    return manifest


def artifact_hashes(manifest: dict[str, Any]) -> dict[str, str]:
    """Artifact name -> sha256, as a stage's manifest has them."""
    return {name: entry["sha256"] for name, entry in manifest["artifacts"].items()}


def damaged_artifacts(recipe: Recipe, stage: str, root: Path, manifest: dict[str, Any]) -> list[str]:
    """Names of artifacts that are gone or do not match the manifest, or that it lacks and the stage always writes."""
    folder, hashes = stage_folder(recipe, stage, root), artifact_hashes(manifest)
    lacking = [name for name in stage_named(stage, recipe.stages).outputs if name not in hashes]
    return lacking + [name for name, sha in hashes.items() if hash_artifact(folder / name) != sha]


def recipe_changes(stage: str, recipe: Recipe, manifest: dict[str, Any]) -> list[str]:
    """What a stage's artifacts were made with and the recipe now says otherwise, in words; empty if nothing."""
    wanted = recipe_part(stage_named(stage, recipe.stages), recipe)
    return [f"{key} was {made!r}, is {now!r}" for key, made, now in sorted(differing(manifest["recipe"], wanted))]


def verified_inputs(spec: StageSpec, recipe: Recipe, root: Path) -> dict[str, dict[str, str]]:
    """sha256 of each artifact of a stage's inputs, after a look at every file.

    Raises:
        ArtifactError: an input is missing, was made with another recipe or from another input, or is damaged; names the
            notebook.
    """
    inputs: dict[str, dict[str, str]] = {}
    for name in spec.inputs:
        manifest = needed(spec.name, name, recipe, root)
        used = manifest["inputs"]
        stale = [f"from another {before}" for before in used if inputs.get(before, used[before]) != used[before]]
        if changed := recipe_changes(name, recipe, manifest):
            device = any(change.startswith("runtime.device ") for change in changed)
            both = "; made with --set runtime.device=auto, it serves this recipe with the same on any device"
            stale = [f"with another recipe ({'; '.join(changed[:3])}{both if device else ''})"]
        if stale:
            raise ArtifactError(
                f"{spec.name} needs {name}, which was made {stale[0]}: run {notebook_of(name, recipe)} again, "
                "or `recnb run <recipe>`"
            )
        inputs[name] = artifact_hashes(manifest)
        for artifact, sha in inputs[name].items():
            verify(stage_folder(recipe, name, root) / artifact, sha, name, recipe)
    return inputs


def verify(path: Path, sha: str, stage: str, recipe: Recipe) -> None:
    """Check one artifact of a stage.

    Raises:
        ArtifactError: it is gone, or not what the manifest says.
    """
    found = hash_once(path)
    if found != sha:
        what = f"is damaged: sha256 {found[:12]}…, its manifest says {sha[:12]}…" if found else "is gone"
        raise ArtifactError(
            f"{path} {what}. It is not used; rebuild it with {notebook_of(stage, recipe)}, "
            f"or `recnb run <recipe>`, which rebuilds that stage of '{recipe.name}'"
        )


def notebook_of(stage: str, recipe: Recipe) -> str:
    """A stage's notebook for a message."""
    return f"notebooks/{stage_named(stage, recipe.stages).notebook}.ipynb"
