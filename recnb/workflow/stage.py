"""Artifacts: the only hand-off between stages. Atomic writes, hashed reads, one manifest per stage.

A notebook opens its stage, reads what earlier stages wrote, writes its own, and closes::

    stage = Stage.open("03_index", "params/toy.yaml")
    semantic = stage.read("02_embeddings", "semantic.npy")   # (N, d_sem), verified against its manifest
    stage.write("codes.npy", codes)                          # whole or not at all
    stage.close()                                            # they take their place: from now on the stage is complete

What was made before stays whole until then, so to open a notebook costs no result. Shown in notebook ``01_data``.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recnb import runtime
from recnb.artifacts import (
    TEMPORARY,
    find_root,
    fingerprint,
    git_commit,
    hash_json,
    hash_once,
    json_values,
    read_artifact,
    remove,
    write_artifact,
    write_atomic,
    write_folder_atomic,
    write_json,
)
from recnb.errors import ArtifactError, RecipeError, nearest
from recnb.runtime import Runtime
from recnb.settings import Recipe, Section, StageSpec, flatten
from recnb.workflow import manifest as manifests
from recnb.workflow.graph import stage_named
from recnb.workflow.recipe import resolve_recipe

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass
class Stage:
    """One stage of one recipe, opened for work. See :meth:`open`.

    Attributes:
        spec: name, sections, inputs and outputs of the stage.
        recipe: the whole recipe; stage code takes sections from :meth:`config`.
        root: project root.
        folder: where the artifacts go, ``runs/<recipe>/<stage>``.
        runtime: device, dtype, threads and seeds, with reasons.
        key: hash of all that the result depends on.
        writes: False where a stage is only looked at, and in all but the first process of a distributed launch.
    """

    spec: StageSpec
    recipe: Recipe
    root: Path
    folder: Path
    runtime: Runtime
    key: str
    _parts: dict[str, str]
    _inputs: dict[str, dict[str, str]]
    _started: float
    _made: dict[str, dict[str, Any]] = field(default_factory=dict)  # fingerprints of artifacts in their place
    _written: dict[str, dict[str, Any]] = field(default_factory=dict)  # of those that wait for close()
    _facts: dict[str, Any] = field(default_factory=dict)
    _closed: bool = False
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
        """Open a stage for work, or to look at what it has made: until :meth:`close` replaces that, it stays as it is.

        Args:
            name: of a stage that the recipe's system declares.
            recipe: a recipe file (relative to the working directory, else to the project root) or a loaded recipe.
            overrides: ``key.path=value`` strings, for a recipe file.
            root: project root; by default found above the working directory.
            look: only read what the stage would read and what it has made, with whatever settings; what is written
                goes nowhere.

        Raises:
            RecipeError: the recipe is not valid, or there is no project root.
            ArtifactError: an input stage is missing, was made with another recipe, or is damaged; names the notebook.
            ResourceError: the machine lacks what the recipe demands.
        """
        started = time.perf_counter()
        root = Path(root) if root else find_root(recipe)
        loaded = resolve_recipe(recipe, overrides, root)
        spec = stage_named(name, loaded.stages)
        inputs = manifests.verified_inputs(spec, loaded, root)
        parts = manifests.stage_parts(spec, loaded, root)
        here = runtime.start(loaded.runtime, loaded.seed)
        folder = manifests.stage_folder(loaded, spec.name, root)
        stage = cls(spec, loaded, root, folder, here, hash_json(parts), parts, inputs, started)
        stage.writes = not look and os.environ.get("RANK", "0") == "0"  # set by accelerate launch and torchrun
        if stage.writes:
            folder.mkdir(parents=True, exist_ok=True)
        made = manifests.read_manifest(loaded, spec.name, root)
        if made and (look or made["key"] == stage.key):
            stage._made = made["artifacts"]
        return stage

    def config(self, section: str) -> Section:
        """A section of the recipe that this stage declares."""
        if section not in self.spec.sections:
            declared = ", ".join(self.spec.sections)
            raise RecipeError(f"{self.spec.name} does not declare recipe section '{section}'; declared: {declared}")
        return getattr(self.recipe, section)

    @property
    def settings(self) -> dict[str, Any]:
        """The whole recipe as plain values by dotted key."""
        return flatten(self.recipe.model_dump(mode="json"))

    @property
    def commit(self) -> str:
        """Commit of the project (:func:`recnb.artifacts.git_commit`)."""
        return git_commit(self.root)

    def made(self) -> dict[str, dict[str, Any]]:
        """Manifests of the stages it reads from: seconds, memory, device, facts."""
        found = {name: manifests.read_manifest(self.recipe, name, self.root) for name in self.spec.inputs}
        return {name: manifest for name, manifest in found.items() if manifest}

    def path(self, stage: str, name: str) -> Path:
        """Verified path of an artifact of an input stage, or of this one: of what it has written or, before it writes,
        of what it made when its key was the same. What is written moves at :meth:`close`.

        Raises:
            ArtifactError: undeclared stage, unknown artifact, or content that does not match its manifest.
        """
        full = stage_named(stage, self.recipe.stages).name
        made = self._inputs | {self.spec.name: manifests.artifact_hashes({"artifacts": self._written or self._made})}
        if full not in made:
            declared = ", ".join(self.spec.inputs) or "none"
            raise ArtifactError(f"{self.spec.name} does not declare {full} as an input; declared: {declared}")
        if name not in made[full]:
            raise ArtifactError(f"{full} has no artifact '{name}'; it has: {', '.join(sorted(made[full])) or 'none'}")
        waits = full == self.spec.name and name in self._written
        path = (self._new if waits else manifests.stage_folder(self.recipe, full, self.root)) / name
        manifests.verify(path, made[full][name], full, self.recipe)
        return path

    def read(self, stage: str, name: str) -> Any:
        """An artifact by its suffix, verified; see :func:`recnb.artifacts.read_artifact`."""
        return read_artifact(self.path(stage, name))

    def write(self, name: str, value: Any) -> Path:
        """Write an artifact whole or not at all, by its suffix (:func:`recnb.artifacts.write_artifact`); it waits
        beside the old one for :meth:`close`.

        Raises:
            ArtifactError: a name that the stage does not declare, no such format, or the stage is closed.
            ResourceError: the disk is full.
        """
        return self._put(name, lambda path: write_artifact(path, value))

    def write_folder(self, name: str, fill: Callable[[Path], Any]) -> Path:
        """As :meth:`write`, a folder (a model, an adapter): ``fill`` is called with an empty temporary one."""
        return self._put(name, lambda path: write_folder_atomic(path, fill))

    def note(self, **facts: Any) -> None:
        """Keep small facts for the manifest and the report, e.g. ``note(recall=0.081)``."""
        self._refuse_if_closed("a note")
        self._facts |= json_values(facts)

    def scratch(self, name: str) -> Path:
        """A folder for checkpoints: it survives a kill, serves only the same key, and goes with :meth:`close`."""
        path = self._scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def _scratch(self) -> Path:
        return self.folder / f"scratch-{self.key[:16]}"

    @property
    def _new(self) -> Path:
        return self._scratch / "new"  # where artifacts wait for close()

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Arrays by name that a broken-off notebook need not make again: kept beside its checkpoints (:meth:`scratch`).

        ``make`` is called only where this key has not made them yet. Every process of a launch looks for itself, so
        that all make them together or none does; one writes.
        """
        path = self._scratch / "made" / f"{name}.npz"
        if not path.is_file():
            made = make()
            if not self.writes:
                return made
            write_atomic(path, lambda new: np.savez(new, **made))
        with np.load(path) as stored:
            return dict(stored)

    def figure(self, name: str) -> Path:
        """Where a figure for the report page belongs: ``reports/<recipe>/figures/<stage>-<name>.png``."""
        folder = manifests.report_folder(self.recipe, self.root) / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.spec.name}-{name}.png"

    def close(self) -> None:
        """Put what was written in its place: from now on the stage is complete. Where nothing was written and the stage
        was complete, nothing changes. Prints one line.

        Raises:
            ArtifactError: artifacts that the stage declares are missing, or another kernel wrote over them; what was
                made before stays, whole.
        """
        looked = bool(self._made) and not self._written
        whole = {name for name, new in self._written.items() if hash_once(self._new / name) == new["sha256"]}
        here = self._made if looked else whole
        if self.writes and (missing := sorted({*self.spec.outputs, *self._written}.difference(here))):
            raise ArtifactError(
                f"{self.spec.name} has not written {', '.join(missing)}: run all cells of "
                f"{manifests.notebook_of(self.spec.name, self.recipe)}, in one kernel at a time. "
                "What was made before is as it was"
            )
        if self.writes and not looked:
            self._take_place()
            print(f"{self.spec.name} complete: {', '.join(sorted(self._made)) or 'no artifacts'}")
        elif self.writes:
            print(f"{self.spec.name} was only looked at: its artifacts are as they were")
        self._closed = True

    def _put(self, name: str, write: Callable[[Path], None]) -> Path:
        self._refuse_if_closed(name)
        if not self.spec.declares(name):
            declared = [*self.spec.outputs, *self.spec.optional]
            said = f"declared: {', '.join(declared) or 'none'}{nearest(name, declared)}"
            raise ArtifactError(f"{self.spec.name} declares no artifact '{name}'; {said}")
        path = self._new / name
        if self.writes:
            if not self._written:
                remove(self._new)  # of a notebook that was broken off
            write(path)
            self._written[name] = fingerprint(path)
        return path

    def _refuse_if_closed(self, what: str) -> None:
        if self._closed:
            raise ArtifactError(f"{self.spec.name} is closed, so {what} is not kept: run its cells from the first on")

    def _take_place(self) -> None:
        """What waits comes instead of what was there. A kill leaves all the old or all the new or, in the midst of the
        renames, no manifest: a stage that is plainly incomplete, with its checkpoints."""
        old = self._scratch / "old"
        write_json(self._new / manifests.MANIFEST, self._manifest())
        remove(old)
        old.mkdir()
        (self.folder / manifests.MANIFEST).unlink(missing_ok=True)
        for path in list(self.folder.iterdir()):
            if path != self._scratch and (path.name == manifests.PAGE or self.spec.declares(path.name)):
                os.replace(path, old / path.name)
        for name in (*self._written, manifests.MANIFEST):
            os.replace(self._new / name, self.folder / name)
        self._made, self._written = self._written, {}
        for leftover in [*self.folder.glob(f"{TEMPORARY}*"), *self.folder.glob("scratch-*")]:
            remove(leftover)

    def _manifest(self) -> dict[str, Any]:
        return {
            "stage": self.spec.name,
            "recipe_name": self.recipe.name,
            "key": self.key,
            "parts": self._parts,
            "artifacts": self._written,
            "inputs": self._inputs,
            "recipe": manifests.recipe_part(self.spec, self.recipe),
            "versions": manifests.versions(),
            "commit": self.commit,
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


def lists_once(
    stage: Stage,
    system: str,
    make: Callable[[csr_matrix | None], np.ndarray],
    protocols: Mapping[str, csr_matrix | None],
    before: float = 0.0,
) -> tuple[dict[str, np.ndarray], float]:
    """A system's lists under each protocol, made once (:meth:`Stage.once`): a killed notebook goes on behind them.

    ``make`` gives lists (U, W) without the items to leave out, (U, N) or None, of each of the ``protocols``.

    Returns:
        protocol -> (U, W), and the seconds that the system took in all, those ``before`` counted in.
    """

    def timed() -> dict[str, np.ndarray]:
        start = time.perf_counter()
        found = {protocol: make(exclude) for protocol, exclude in protocols.items()}
        return found | {"seconds": np.array(before + time.perf_counter() - start)}

    found = stage.once(f"lists-{system}", timed)
    seconds = round(float(found.pop("seconds")), 2)
    return found, seconds
