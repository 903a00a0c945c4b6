"""A GPU that is far away: a run's next stages as a folder to carry there (``recnb pack``), and home again (``unpack``).

What runs there is :mod:`recnb.workflow.far`, without a network, papermill or Jupyter. The artifacts carried are inputs,
taken there as they are. A stage made there keeps in its manifest what made it, device and versions, and gets
``elsewhere``: what its code, files and packages were here when it was packed. It is run again when those change.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, Field, TypeAdapter, ValidationError

import recnb
from recnb.artifacts import files_of, git_commit, read_json, remove, write_atomic, write_folder_atomic, write_json
from recnb.errors import ArtifactError, RecnbError, nearest
from recnb.settings import PathsConfig, StageSpec
from recnb.style import aligned
from recnb.workflow import far, manifest as manifests
from recnb.workflow.execute import kernel_environment
from recnb.workflow.graph import stage_named
from recnb.workflow.manifest import MANIFEST, artifact_hashes, read_manifest, stage_folder
from recnb.workflow.plan import Plan, decide, executed_path, explain, make_plan
from recnb.workflow.progress import size
from recnb.workflow.run import figures_of, restore_page

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


class Came(BaseModel):
    """What ``home.json`` holds of a stage."""

    state: Literal["done", "failed", "stopped"]
    parts: dict[Annotated[str, Field(pattern=r"^[\w-]+\.zip\.\d+$")], str]  # names in its own folder, and no other


class Home(BaseModel):
    """What :func:`unpack` reads of ``home.json``."""

    name: str
    recipe: str
    overrides: list[str]
    there: dict[str, dict[str, str]]
    stages: dict[str, Came]


def pack(plan: Plan, to: Path, wheels: Sequence[Path] = (), limit: int = 0, largest: int = 0) -> list[Path]:
    """Write the next stages of a run as folders to carry to a far machine; earlier packs of that name are replaced.

    Args:
        plan: the recipe, and what is made of it.
        to: the folder; with a ``limit`` that one would exceed: ``<to>-1``, ``<to>-2`` ..., to lie side by side there.
        wheels: wheels, or folders of them, for packages that the far machine lacks.
        limit: most bytes of a folder; 0: none.
        largest: most bytes of a file that comes home; 0: :data:`LARGEST`.

    Raises:
        RecnbError: nothing is made yet, or nothing is left to do there; a folder holds something else; what a stage
            reads lies outside the project.
    """
    made, there, home = _sorted_stages(plan)
    brought = {f"wheels/{wheel.name}": wheel for wheel in _wheels(wheels)}
    environment = kernel_environment(plan.recipe) | {"HF_HUB_OFFLINE": "1"}
    index: dict[str, Any] = {
        "name": plan.recipe.name, "recipe": plan.recipe_path, "overrides": plan.overrides,
        "commit": git_commit(plan.root), "made": made, "home": home, "largest": largest or LARGEST,
        "there": {spec.name: manifests.local_parts(spec, plan.recipe, plan.root) for spec in there},
        "needs": {each.name: each.version for name in NEEDS for each in metadata.distributions(name=name)},
        "environment": {name: value for name, value in environment.items() if name != "PYTHONPATH"},
    }  # fmt: skip
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".pack-") as temporary:
        room = min(limit - _INDEX_ROOM, LARGEST) if limit else LARGEST
        index["parts"] = far.put(_files(plan, there) | brought, Path(temporary), "pack.zip", room)
        parts = [Path(temporary, part) for part in index["parts"]]
        return _written(to, [[part] for part in parts] if limit else [parts], index, [*brought])


def unpack(folder: Path) -> tuple[Plan, list[str]]:
    """Take what a far machine has made, and checkpoints of what it has begun; a line on each stage.

    Raises:
        RecnbError: no folder that ``run.py`` wrote; of another recipe; damaged; a stage is complete here already.
    """
    try:
        index = Home.model_validate(read_json(folder / far.HOME)).model_dump()
    except ValidationError as error:
        hint = nearest(folder.name, (path.parent.name for path in folder.absolute().parent.glob(f"*/{far.HOME}")))
        lacks = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors()[:3])
        said = f"{folder}: expected a folder that a pack's run.py wrote, with {far.HOME}; it lacks or spoils: {lacks}"
        raise ArtifactError(f"{said}{hint}") from None
    plan = make_plan(index["recipe"], index["overrides"])
    if plan.recipe.name != index["name"]:
        raise ArtifactError(f"{folder} is of recipe '{index['name']}', but {index['recipe']} is '{plan.recipe.name}'")
    taken = [(name, _take(name, entry, folder, plan, index)) for name, entry in index["stages"].items()]
    return plan, aligned(taken).splitlines()


def bytes_of(text: str) -> int:
    """``64MiB`` as bytes.

    Raises:
        RecnbError: it is no size, or less than a pack can be.
    """
    with suppress(ValidationError):
        if (count := TypeAdapter(ByteSize).validate_python(text)) >= 2**20:
            return count
    raise RecnbError(f"'{text}': expected a size of at least 1MiB, e.g. 64MiB")


# --- what goes there -------------------------------------------------------------------------------------------------


def _sorted_stages(plan: Plan) -> tuple[list[str], list[StageSpec], dict[str, str]]:
    """Names of the stages that are made, those to run there, and name -> reason of those to run at home."""
    decisions = explain(plan)
    made = [decision.spec.name for decision in decisions if not decision.run]
    waiting = [decision.spec for decision in decisions if decision.run]
    home: dict[str, str] = {}
    for spec in waiting:
        reasons = [spec.home, *(f"it reads {name}" for name in spec.inputs if name in home)]
        if any(reasons):
            home[spec.name] = next(filter(None, reasons))
    there = [spec for spec in waiting if spec.name not in home]
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
    named = [path for spec in there for path in (spec.file(root), *manifests.outside_files(spec, recipe, root))]
    for path in [root / plan.recipe_path, *named]:
        if not path.absolute().is_relative_to(root.absolute()):
            raise ArtifactError(f"{path} lies outside the project {root}: to be packed, it has to be in there")
        files[path.absolute().relative_to(root.absolute()).as_posix()] = path
    running = {spec.name for spec in there}
    tops = [top for name in running for top in stage_folder(recipe, name, root).glob("scratch-*")]
    for name in sorted({name for spec in there for name in spec.inputs} - running):
        artifacts = manifests.needed(there[0].name, name, recipe, root)["artifacts"]
        tops += [stage_folder(recipe, name, root) / artifact for artifact in (MANIFEST, *artifacts)]
    runs = root / recipe.paths.runs
    files |= {f"runs/{path.relative_to(runs).as_posix()}": path for top in tops for path in files_of(top)}
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
    for old in to.parent.iterdir():
        if re.fullmatch(rf"{re.escape(to.name)}(-\d+)?", old.name) and (old / far.PACK).is_file():
            remove(old)
    lists = {name: ", ".join(index[name]) for name in ("made", "there")} | {"wheels": ", ".join(wheels) or "none"}
    lists["home"] = "; ".join(f"{name} ({reason})" for name, reason in index["home"].items()) or "nothing"
    lists["needs"] = "\n".join(f"- {name} {version}" for name, version in index["needs"].items())
    together = ", ".join(folder.name for folder in folders)
    page = _PAGE.format_map(index | lists | {"folder": folders[0].name, "together": together})
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
        if entry["state"] == "done":
            return _take_made(stage_named(name, plan.recipe.stages), plan, Path(temporary), index["there"])
        return entry["state"] + _take_begun(stage_folder(plan.recipe, name, plan.root), Path(temporary))


def _take_made(spec: StageSpec, plan: Plan, came: Path, sent: dict[str, dict[str, str]]) -> str:
    """Put a stage that was made there in its place, once all of it is found to be right; older figures go, and an older
    page of its notebook, since it shows another run."""
    recipe, root, name = plan.recipe, plan.root, spec.name
    as_sent = recipe.model_copy(update={"paths": PathsConfig()})  # the folders of a pack are called as usual
    manifest = read_manifest(as_sent, name, came)
    strange = [made for made in (manifest or {}).get("artifacts", {}) if not spec.declares(made)]
    if strange:
        raise ArtifactError(f"{name}: {', '.join(strange)} is no artifact of this stage")
    if manifest is None or (damaged := manifests.damaged_artifacts(as_sent, name, came, manifest)):
        raise ArtifactError(f"{name}: {', '.join(damaged) if manifest else MANIFEST} is damaged or missing")
    if changed := manifests.recipe_changes(name, recipe, manifest):
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
    folder, page = stage_folder(as_sent, name, came), executed_path(recipe, name, root)
    write_json(folder / MANIFEST, manifest | {"elsewhere": sent[name]})
    write_atomic(target, lambda new: folder.rename(new))
    for old in [*figures_of(recipe, name, root), page, page.with_suffix(".html")]:
        old.unlink(missing_ok=True)
    restore_page(recipe, name, root)
    return f"taken: {manifest['seconds']:.0f} s on {manifest['device']}, {size(manifest['peak_memory'])}"


def _take_begun(target: Path, came: Path) -> str:
    """Keep the checkpoints of a stage that was not completed there: the next pack carries them."""
    scratch = list(came.glob(f"runs/*/{target.name}/scratch-*"))
    for folder in scratch:
        write_atomic(target / folder.name, lambda new, folder=folder: folder.rename(new))  # type: ignore[misc]
    return "; its checkpoints go with the next pack" if scratch else "; it had nothing yet to go on from"
