"""A GPU that is far away: a run's next stages as a folder to carry there (``recnb pack``), and home again (``unpack``).

What runs there is :mod:`recnb.workflow.far`, without a network, papermill or Jupyter. The artifacts carried are inputs,
taken there as they are. A stage made there keeps in its manifest what made it, device and versions, and gets
``elsewhere``: what its code, files and packages were here when it was packed. It is run again when those change.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ByteSize, TypeAdapter, ValidationError

import recnb
from recnb.artifacts import files_of, git_commit, read_json, remove, write_atomic, write_folder_atomic, write_json
from recnb.errors import ArtifactError, RecnbError, nearest
from recnb.settings import PathsConfig, StageSpec
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

# What the stages there import, and what that needs: all of it, or wheels, must be there.
NEEDS = (
    "accelerate", "annotated-types", "huggingface-hub", "joblib", "lazy-loader", "matplotlib", "numpy", "packaging",
    "pandas", "peft", "pillow", "psutil", "pyarrow", "pydantic", "pydantic-core", "pyyaml", "safetensors",
    "scikit-learn", "scipy", "seaborn", "sentence-transformers", "threadpoolctl", "tokenizers", "torch", "tqdm",
    "transformers", "typing-extensions", "typing-inspection",
)  # fmt: skip
LARGEST = 256 * 2**20  # bytes of a part, where nothing smaller is asked for: a part is held in memory
_INDEX_ROOM = 2**18  # of a limit, for pack.json, run.py and README.md
_PAGE = """\
# The next stages of {name} ({recipe}, commit {commit})

    python {folder}/run.py --minutes 8

runs them, stops in time, and goes on when called again (`--help` says more). No network is needed.

- together, side by side: {together}
- made already: {made}
- to run there: {there}
- to run at home: {home}

A stage that is stopped goes on behind the checkpoints of its training and the lists that it has made; where it has
none yet, it is begun afresh.

Python 3.11 or newer must have these packages there (here: these versions), or find their wheels in the pack:
{needs}
wheels in the pack: {wheels}
"""


def pack(plan: Plan, to: Path, wheels: Sequence[Path] = (), limit: int = 0, largest: int = LARGEST) -> list[Path]:
    """Write the next stages of a run as folders to carry to a far machine; earlier packs of that name are replaced.

    Args:
        plan: the recipe, and what is made of it.
        to: the folder; with a ``limit`` that one would exceed: ``<to>-1``, ``<to>-2`` ..., to lie side by side there.
        wheels: wheels, or folders of them, for packages that the far machine lacks.
        limit: most bytes of a folder; 0: none.
        largest: most bytes of a file that comes home.

    Raises:
        RecnbError: nothing is made yet, or nothing is left to do there; a folder holds something else; what a stage
            reads lies outside the project.
    """
    made, there, home = _sorted_stages(plan)
    brought = {f"wheels/{wheel.name}": wheel for wheel in _wheels(wheels)}
    environment = kernel_environment(plan.recipe) | {"HF_HUB_OFFLINE": "1"}
    index: dict[str, Any] = {
        "name": plan.recipe.name, "recipe": plan.recipe_path, "overrides": list(plan.overrides),
        "commit": git_commit(plan.root), "made": made, "home": home, "largest": largest,
        "there": {spec.name: local_parts(spec, plan.recipe, plan.root) for spec in there},
        "needs": {each.name: each.version for name in NEEDS for each in metadata.distributions(name=name)},
        "environment": {name: value for name, value in environment.items() if name != "PYTHONPATH"},
    }  # fmt: skip
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".pack-") as temporary:
        room = min(limit - _INDEX_ROOM, LARGEST) if limit else LARGEST
        parts = far.put(_files(plan, there) | brought, Path(temporary), "pack.zip", room)
        paths = [Path(temporary) / part for part in parts]
        return _written(to, [[path] for path in paths] if limit else [paths], index | {"parts": parts}, [*brought])


def unpack(folder: Path) -> tuple[Plan, list[str]]:
    """Take what a far machine has made, and checkpoints of what it has begun; a line on each stage.

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
    return plan, [f"{name:18}{_take(name, entry, folder, plan, index)}" for name, entry in index["stages"].items()]


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
        waits = [f"it reads {name}" for name in spec.inputs if name in home]
        if reasons := [*filter(None, [spec.home]), *waits]:
            home[spec.name] = reasons[0]
        else:
            there.append(spec)
    if not made:
        raise ArtifactError(f"no stage of '{plan.recipe.name}' is made yet: here first, {plan.command} --to STAGE")
    if not there:
        raise ArtifactError(f"nothing of '{plan.recipe.name}' is left to do on a far machine: here, {plan.command}")
    return made, there, home


def _files(plan: Plan, there: Sequence[StageSpec]) -> dict[str, Path]:
    """All that the stages there read, by its place in the project there: code, notebooks, recipe, data, models,
    artifacts of stages made here, and checkpoints with which they were begun."""
    recipe, root, package = plan.recipe, plan.root, Path(recnb.__file__).parent
    files = {f"recnb/{path.relative_to(package).as_posix()}": path for path in files_of(package)}
    named = [root / plan.recipe_path, *(spec.file(root) for spec in there)]
    for path in [*named, *(path for spec in there for path in outside_files(spec, recipe, root))]:
        if not path.absolute().is_relative_to(root.absolute()):
            raise ArtifactError(f"{path} lies outside the project {root}: to be packed, it has to be in there")
        files[path.absolute().relative_to(root.absolute()).as_posix()] = path
    running = {spec.name for spec in there}
    for name in sorted({*running, *(name for spec in there for name in spec.inputs)}):
        folder = stage_folder(recipe, name, root)
        artifacts = [] if name in running else [MANIFEST, *needed(there[0].name, name, recipe, root)["artifacts"]]
        begun = folder.glob("scratch-*") if name in running else ()
        for path in (file for top in [*(folder / each for each in artifacts), *begun] for file in files_of(top)):
            files[f"runs/{recipe.name}/{name}/{path.relative_to(folder).as_posix()}"] = path
    return {name: path for name, path in files.items() if "__pycache__" not in name}


def _wheels(named: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in named:
        wheels = sorted(path.glob("*.whl")) if path.is_dir() else [path]
        if not wheels or not all(wheel.suffix == ".whl" and zipfile.is_zipfile(wheel) for wheel in wheels):
            raise ArtifactError(f"--wheels {path}: expected a wheel (NAME-VERSION-...whl), or a folder of wheels")
        found += wheels
    return found


def _written(to: Path, shares: list[list[Path]], index: dict[str, Any], wheels: Sequence[str]) -> list[Path]:
    """Each share of the parts in a folder with run.py, the index and a page for people."""
    folders = [to] if len(shares) == 1 else [to.with_name(f"{to.name}-{n}") for n in range(1, len(shares) + 1)]
    for folder in folders:
        if folder.exists() and not (folder / far.PACK).is_file():
            raise ArtifactError(f"{folder} is there and no pack (it has no {far.PACK}): name another with --to")
    for old in [to, *to.parent.glob(f"{to.name}-[0-9]*")]:
        if (old / far.PACK).is_file():
            remove(old)
    home = "; ".join(f"{name} ({reason})" for name, reason in index["home"].items())
    lists = {name: ", ".join(index[name]) for name in ("made", "there")} | {"home": home or "nothing"}
    needs = "\n".join(f"- {name} {version}" for name, version in index["needs"].items())
    about = {"folder": folders[0].name, "together": ", ".join(each.name for each in folders), "needs": needs}
    page = _PAGE.format_map(index | lists | about | {"wheels": ", ".join(wheels) or "none"})
    for folder, share in zip(folders, shares, strict=True):

        def fill(new: Path, share: list[Path] = share) -> None:
            for part in share:
                shutil.copy2(part, new)
            shutil.copy2(far.__file__, new / "run.py")
            write_json(new / far.PACK, index)
            (new / "README.md").write_text(page, encoding="utf-8")

        write_folder_atomic(folder, fill)
    return folders


# --- what comes home -------------------------------------------------------------------------------------------------


def _take(name: str, entry: dict[str, Any], folder: Path, plan: Plan, index: dict[str, Any]) -> str:
    """Take one stage, as far as it came; says so."""
    if lacking := [part for part in entry["parts"] if not (folder / part).is_file()]:
        return f"{entry['state']}, but did not come home: no {', '.join(lacking)} in {folder}"
    if not entry["parts"]:
        return f"{entry['state']}, and was left there"
    runs = plan.root / plan.recipe.paths.runs
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs, prefix=".unpack-") as temporary:
        try:
            far.take(entry["parts"], [folder], Path(temporary))
        except far.PackError as error:
            raise ArtifactError(str(error)) from None
        spec = stage_named(name, plan.recipe.stages)
        if entry["state"] != "done":
            return entry["state"] + _take_begun(spec, plan, Path(temporary))
        return _take_made(spec, plan, Path(temporary), index["there"])


def _take_made(spec: StageSpec, plan: Plan, came: Path, sent: dict[str, dict[str, str]]) -> str:
    """Put a stage that was made there in its place, once all of it is found to be right."""
    recipe, root, name = plan.recipe, plan.root, spec.name
    as_sent = recipe.model_copy(update={"paths": PathsConfig()})  # the folders of a pack are called as usual
    manifest = read_manifest(as_sent, name, came)
    if manifest is None or (damaged := damaged_artifacts(as_sent, name, came, manifest)):
        raise ArtifactError(f"{name}: {', '.join(damaged) if manifest else MANIFEST} is damaged or missing")
    if changed := recipe_changes(name, recipe, manifest):
        raise ArtifactError(f"{name} was made there with another recipe: {'; '.join(changed[:3])}")
    for read, hashes in manifest["inputs"].items():
        found = read_manifest(recipe, read, root)
        if artifact_hashes(found) != hashes if found else read not in sent:  # one that was left there is no obstacle
            raise ArtifactError(f"{name} was made there from another {read} than is here: pack and run it again")
    here, target = read_manifest(recipe, name, root), stage_folder(recipe, name, root)
    if here and not decide(spec, plan).run:
        if artifact_hashes(here) == artifact_hashes(manifest):
            return "is here already"
        raise ArtifactError(f"{name} is complete here, with other artifacts: to take those made there, remove {target}")
    folder = stage_folder(as_sent, name, came)
    write_json(folder / MANIFEST, manifest | {"elsewhere": sent[name]})
    write_atomic(target, lambda new: folder.rename(new))
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


def _take_begun(spec: StageSpec, plan: Plan, came: Path) -> str:
    """Keep the checkpoints of a stage that was not completed there: the next pack carries them."""
    scratch = list((came / "runs" / plan.recipe.name / spec.name).glob("scratch-*"))
    for folder in scratch:
        target = stage_folder(plan.recipe, spec.name, plan.root) / folder.name
        write_atomic(target, lambda new, folder=folder: folder.rename(new))  # type: ignore[misc]
    return "; its checkpoints go with the next pack" if scratch else "; it had nothing yet to go on from"
