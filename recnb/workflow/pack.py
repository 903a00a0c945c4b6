"""A GPU that is far away: a run's next stages as a folder to carry there (``recnb pack``), and home again (``unpack``).

What runs there is :mod:`recnb.workflow.far`, without a network, papermill or Jupyter. The artifacts carried are inputs,
taken there as they are. A stage made there keeps in its manifest what made it, device and versions, and gets
``elsewhere``, what its code, files and packages were here when it was packed: it is run again when those change.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ByteSize, TypeAdapter, ValidationError

import recnb
from recnb.artifacts import (
    files_of,
    git_commit,
    read_json,
    remove,
    write_atomic,
    write_folder_atomic,
    write_json,
)
from recnb.errors import ArtifactError, RecnbError, nearest
from recnb.settings import PathsConfig, Recipe, StageSpec
from recnb.workflow import far
from recnb.workflow.execute import kernel_environment
from recnb.workflow.graph import stage_named
from recnb.workflow.manifest import (
    MANIFEST,
    artifact_hashes,
    damaged_artifacts,
    local_parts,
    needed,
    outside_files,
    read_manifest,
    recipe_changes,
    report_folder,
    stage_folder,
)
from recnb.workflow.plan import Plan, decide, executed_path, explain, make_plan
from recnb.workflow.progress import size

# What the stages there import, and what that needs; all of these, or their wheels, must be there.
NEEDS = (
    "accelerate", "annotated-types", "huggingface-hub", "joblib", "lazy-loader", "matplotlib", "numpy", "packaging",
    "pandas", "peft", "pillow", "psutil", "pyarrow", "pydantic", "pydantic-core", "pyyaml", "safetensors",
    "scikit-learn", "scipy", "seaborn", "sentence-transformers", "threadpoolctl", "tokenizers", "torch", "tqdm",
    "transformers", "typing-extensions", "typing-inspection",
)  # fmt: skip
LARGEST = 256 * 2**20  # bytes of a part where nothing smaller is asked for: a part is held in memory
_INDEX_ROOM = 2**18  # of a limit, for pack.json, run.py and README.md


def pack(plan: Plan, to: Path, wheels: Sequence[Path] = (), limit: int = 0, largest: int = LARGEST) -> list[Path]:
    """Write the next stages of a run as folders to carry to a far machine; earlier packs of that name are replaced.

    Args:
        plan: the recipe, and what is made of it.
        to: the folder; with a ``limit`` that one folder exceeds, ``<to>-1``, ``<to>-2`` ..., to lie side by side there.
        wheels: wheel files, or folders of them, for packages that the far machine lacks.
        limit: most bytes of a folder; 0: none.
        largest: most bytes of a file that comes home.

    Raises:
        RecnbError: nothing is made yet, or nothing is left to do there; a folder holds something else; what a stage
            reads lies outside the project.
    """
    made, there, home = _sorted_stages(plan)
    files = _code(plan, there) | _artifacts(plan, there) | _outside(plan, there)
    files |= {f"wheels/{wheel.name}": wheel for wheel in _wheels(wheels)}
    index: dict[str, Any] = {
        "name": plan.recipe.name, "recipe": plan.recipe_path, "overrides": list(plan.overrides),
        "commit": git_commit(plan.root), "made": made, "home": home, "largest": largest,
        "there": {spec.name: local_parts(spec, plan.recipe, plan.root) for spec in there},
        "needs": {name: metadata.version(name) for name in NEEDS},
        "environment": {k: v for k, v in kernel_environment(plan.recipe).items() if k != "PYTHONPATH"}
        | {"HF_HUB_OFFLINE": "1"},
    }  # fmt: skip
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".pack-") as temporary:
        room = min(limit - _INDEX_ROOM, LARGEST) if limit else LARGEST
        index["parts"] = far.put(files, Path(temporary), "pack.zip", room)
        shares = [[part] for part in index["parts"]] if limit else [list(index["parts"])]
        return _written(to, [[Path(temporary) / part for part in share] for share in shares], index)


def unpack(folder: Path) -> tuple[Plan, list[str]]:
    """Take stages that a far machine has made, and checkpoints of one that it has begun; says in a line each what came.

    Raises:
        RecnbError: no folder that ``run.py`` wrote; of another recipe; damaged; a stage is complete here already.
    """
    index = read_json(folder / far.HOME)
    if not index:
        beside = [path.parent.name for path in folder.absolute().parent.glob(f"*/{far.HOME}")]
        hint = nearest(folder.name, beside)
        raise ArtifactError(f"{folder}: expected a folder that a pack's run.py wrote, with {far.HOME}{hint}")
    plan = make_plan(index["recipe"], index["overrides"])
    if plan.recipe.name != index["name"]:
        raise ArtifactError(f"{folder} is of recipe '{index['name']}', but {index['recipe']} is '{plan.recipe.name}'")
    said = []
    for name, entry in index["stages"].items():
        spec = stage_named(name, plan.recipe.stages)
        (plan.root / plan.recipe.paths.runs).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=plan.root / plan.recipe.paths.runs, prefix=".unpack-") as temporary:
            try:
                far.take(entry["parts"], [folder], Path(temporary))
            except far.PackError as error:
                raise ArtifactError(str(error)) from None
            take = _take_made if entry["state"] == "done" else _take_begun
            said.append(f"{name:18}{take(spec, plan, Path(temporary), index['there'][name])}")
    return plan, said


def bytes_of(text: str) -> int:
    """``64MiB`` as bytes.

    Raises:
        RecnbError: it is no size, or less than a pack can be.
    """
    try:
        count = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        count = 0
    if count < 2**20:
        raise RecnbError(f"'{text}': expected a size of at least 1MiB, e.g. 64MiB")
    return count


# --- what goes there -------------------------------------------------------------------------------------------------


def _sorted_stages(plan: Plan) -> tuple[list[str], list[StageSpec], dict[str, str]]:
    """Names of the stages that are made, those to run there, and name -> reason of those to run at home."""
    decisions = explain(plan)
    made = [decision.spec.name for decision in decisions if not decision.run]
    there: list[StageSpec] = []
    home: dict[str, str] = {}
    for spec in (decision.spec for decision in decisions if decision.run):
        waits = [name for name in spec.inputs if name in home]
        if reason := spec.home or (f"it reads {waits[0]}" if waits else ""):
            home[spec.name] = reason
        else:
            there.append(spec)
    command = plan.command
    if not made:
        raise ArtifactError(f"no stage of '{plan.recipe.name}' is made yet; make the first here: {command} --to STAGE")
    if not there:
        raise ArtifactError(f"nothing of '{plan.recipe.name}' is left to do on a far machine; here: {command}")
    return made, there, home


def _code(plan: Plan, there: Sequence[StageSpec]) -> dict[str, Path]:
    package = Path(recnb.__file__).parent
    code = [path for path in files_of(package) if "__pycache__" not in path.parts]
    files = {f"recnb/{path.relative_to(package).as_posix()}": path for path in code}
    named = [spec.file(plan.root) for spec in there] + [plan.root / plan.recipe_path]
    return files | _in_project(named, plan.root)


def _artifacts(plan: Plan, there: Sequence[StageSpec]) -> dict[str, Path]:
    """What the stages there read of those made here, and checkpoints with which they were begun."""
    recipe, root = plan.recipe, plan.root
    running = {spec.name for spec in there}
    files: dict[str, Path] = {}
    for name in sorted({name for spec in there for name in spec.inputs} - running):
        folder = stage_folder(recipe, name, root)
        made = needed(there[0].name, name, recipe, root)
        found = [folder / MANIFEST, *(file for artifact in made["artifacts"] for file in files_of(folder / artifact))]
        files |= {_there(recipe, name, folder, file): file for file in found}
    for name in running:
        folder = stage_folder(recipe, name, root)
        begun = [file for scratch in folder.glob("scratch-*") for file in files_of(scratch)]
        files |= {_there(recipe, name, folder, file): file for file in begun}
    return files


def _there(recipe: Recipe, stage: str, folder: Path, file: Path) -> str:
    return f"runs/{recipe.name}/{stage}/{file.relative_to(folder).as_posix()}"


def _outside(plan: Plan, there: Sequence[StageSpec]) -> dict[str, Path]:
    """Data and models that the stages there are the first to read."""
    return _in_project([file for spec in there for file in outside_files(spec, plan.recipe, plan.root)], plan.root)


def _in_project(files: Iterable[Path], root: Path) -> dict[str, Path]:
    """Files by their places in the project.

    Raises:
        ArtifactError: one lies outside.
    """
    found = {}
    for file in files:
        place = Path(os.path.abspath(file))
        if not place.is_relative_to(root.absolute()):
            raise ArtifactError(f"{file} lies outside the project {root}: copy it there and name it so, to be packed")
        found[place.relative_to(root.absolute()).as_posix()] = file
    return found


def _wheels(named: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in named:
        wheels = sorted(path.glob("*.whl")) if path.is_dir() else [path]
        if not wheels or not all(wheel.suffix == ".whl" and zipfile.is_zipfile(wheel) for wheel in wheels):
            raise ArtifactError(f"--wheels {path}: expected a wheel (NAME-VERSION-...whl), or a folder of wheels")
        found += wheels
    return found


def _written(to: Path, shares: list[list[Path]], index: dict[str, Any]) -> list[Path]:
    """Each share of the parts in a folder with run.py, the index and a page for people."""
    folders = [to] if len(shares) == 1 else [to.with_name(f"{to.name}-{n}") for n in range(1, len(shares) + 1)]
    for folder in folders:
        if folder.exists() and not (folder / far.PACK).is_file():
            raise ArtifactError(f"{folder} is there and no pack (it has no {far.PACK}); name another with --to")
    for old in [to, *to.parent.glob(f"{to.name}-[0-9]*")]:
        if (old / far.PACK).is_file():
            remove(old)
    for folder, share in zip(folders, shares, strict=True):

        def fill(new: Path, share: list[Path] = share) -> None:
            for part in share:
                shutil.copy2(part, new)
            shutil.copy2(far.__file__, new / "run.py")
            write_json(new / far.PACK, index)
            (new / "README.md").write_text(_page(index, folders), encoding="utf-8")

        write_folder_atomic(folder, fill)
    return folders


def _page(index: dict[str, Any], folders: Sequence[Path]) -> str:
    """What a person must know on the far machine."""
    several = f"These {len(folders)} folders belong side by side: {', '.join(path.name for path in folders)}.\n\n"
    home = "".join(f"- {name}: {reason}\n" for name, reason in index["home"].items()) or "- nothing\n"
    return (
        f"# The next stages of {index['name']} ({index['recipe']}, commit {index['commit'] or 'unknown'})\n\n"
        f"    python {folders[0].name}/run.py --minutes 8\n\n"
        "runs them, stops in time and is called again to go on (`--help` says more). No network is needed.\n\n"
        f"{several if len(folders) > 1 else ''}"
        f"Made already: {', '.join(index['made'])}.\n\nTo run there: {', '.join(index['there'])}.\n\n"
        f"To run at home:\n{home}\n"
        "A stage that is stopped keeps the checkpoints of its training and the lists that it has made, and is begun "
        "behind them; a stage without checkpoints is begun afresh.\n\n"
        "Python 3.11 or newer must have these packages there (here: these versions), or wheels in this pack:\n"
        + "".join(f"- {name} {version}\n" for name, version in index["needs"].items())
    )


# --- what comes home -------------------------------------------------------------------------------------------------


def _take_made(spec: StageSpec, plan: Plan, came: Path, sent: dict[str, str]) -> str:
    """Put a stage that was made there in its place, once all of it is found to be right."""
    recipe, root, name = plan.recipe, plan.root, spec.name
    as_sent = recipe.model_copy(update={"paths": PathsConfig()})  # the folders of a pack are called as usual
    manifest = read_manifest(as_sent, name, came)
    if manifest is None or (damaged := damaged_artifacts(as_sent, name, came, manifest)):
        raise ArtifactError(f"{name}: {', '.join(damaged) if manifest else MANIFEST} is damaged or missing")
    if changed := recipe_changes(name, recipe, manifest):
        raise ArtifactError(f"{name} was made there with another recipe: {'; '.join(changed[:3])}")
    for read, hashes in manifest["inputs"].items():
        if artifact_hashes(needed(name, read, recipe, root)) != hashes:
            raise ArtifactError(f"{name} was made there from another {read} than is here: pack and run it again")
    here = read_manifest(recipe, name, root)
    if here and not decide(spec, plan).run:
        if artifact_hashes(here) == artifact_hashes(manifest):
            return "is here already"
        place = stage_folder(recipe, name, root)
        raise ArtifactError(f"{name} is complete here, with other artifacts; to take those made there, remove {place}")
    folder = stage_folder(as_sent, name, came)
    write_json(folder / MANIFEST, manifest | {"elsewhere": sent})
    write_atomic(stage_folder(recipe, name, root), lambda new: folder.rename(new))
    _take_figures(spec, plan, report_folder(as_sent, came) / "figures")
    return f"taken: {manifest['seconds']:.0f} s on {manifest['device']}, {size(manifest['peak_memory'])}"


def _take_figures(spec: StageSpec, plan: Plan, came: Path) -> None:
    """Figures of a stage, in place of older ones; an older page of its notebook goes, since it shows another run."""
    figures, page = report_folder(plan.recipe, plan.root) / "figures", executed_path(plan.recipe, spec.name, plan.root)
    for old in [*figures.glob(f"{spec.name}-*"), page, page.with_suffix(".html")]:
        old.unlink(missing_ok=True)
    figures.mkdir(parents=True, exist_ok=True)
    for file in came.glob(f"{spec.name}-*"):
        shutil.copy2(file, figures)


def _take_begun(spec: StageSpec, plan: Plan, came: Path, sent: dict[str, str]) -> str:
    """Keep the checkpoints of a stage that was stopped there: the next pack carries them."""
    scratch = list((came / "runs" / plan.recipe.name / spec.name).glob("scratch-*"))
    for folder in scratch:
        target = stage_folder(plan.recipe, spec.name, plan.root) / folder.name
        write_atomic(target, lambda new, folder=folder: folder.rename(new))  # type: ignore[misc]
    return "not complete; " + ("its checkpoints go with the next pack" if scratch else "nothing of it to go on from")
