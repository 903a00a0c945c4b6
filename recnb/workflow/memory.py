"""Will it fit? What each stage took when it last ran with these settings, else at least what its models weigh.

Shown by ``recnb doctor --recipe FILE``; ``recnb run`` refuses what cannot fit. Nothing here imports torch unless there
is a GPU, so that ``recnb run`` can ask before it starts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recnb.settings import Recipe, Section, StageSpec
from recnb.workflow.manifest import read_manifest, recipe_changes
from recnb.workflow.progress import size

USABLE = 0.9  # share of the memory that a stage may fill: the system and this command need some, too
TRAINED, READ = 16, 4  # bytes a weight in float32: with a gradient and Adam's two moments beside it, and alone
LIBRARIES = 500 * 2**20  # the least of a stage's kernel with its libraries (measured: 500 to 835 MiB)


@dataclass(frozen=True)
class Room:
    """Bytes of memory: of the machine (or its container), and of the GPU that the recipe would use (0: none)."""

    host: int
    gpu: int = 0


@dataclass(frozen=True)
class Need:
    """What one stage takes: ``host`` and ``gpu`` in bytes, and how that is known."""

    spec: StageSpec
    host: int
    gpu: int
    known: str

    def fits(self, room: Room) -> bool:
        """Whether it stays within :data:`USABLE` of the memory there is."""
        return self.host <= USABLE * room.host and self.gpu <= USABLE * (room.gpu or math.inf)

    def refusal(self, room: Room) -> tuple[str, str]:
        """What is missing where, and the way on."""
        on_gpu = self.gpu > USABLE * (room.gpu or math.inf)
        needed, there, place = (self.gpu, room.gpu, "GPU memory") if on_gpu else (self.host, room.host, "memory")
        what = f"{self.spec.name} needs {size(needed)} of {place} ({self.known}); {size(USABLE * there)} of "
        way = f"a smaller model, more memory, or lower: {', '.join(self.spec.eases) or 'no key of this stage'}"
        if "train.batch_size" in self.spec.eases:
            way += " (train.accumulate raised as train.batch_size is lowered keeps the numbers comparable)"
        return f"{what}{size(there)} may be filled", way


def needs(recipe: Recipe, root: Path, room: Room) -> list[Need]:
    """What each stage of a recipe takes, as far as it is known."""
    return [_measured(spec, recipe, root) or _weighed(spec, recipe, root, room) for spec in recipe.stages]


def misfits(recipe: Recipe, root: Path, room: Room, stages: Sequence[StageSpec]) -> list[Need]:
    """Those of these stages that do not fit."""
    return [need for need in needs(recipe, root, room) if need.spec in stages and not need.fits(room)]


def room_here(recipe: Recipe) -> Room:
    """Memory of this machine, and of its GPU if the recipe would use it; torch is asked only if there is a driver."""
    if recipe.runtime.device not in ("auto", "cuda") or not Path("/proc/driver/nvidia").exists():
        return Room(memory_here())
    import torch

    gpu = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    return Room(memory_here(), gpu)


def memory_here() -> int:
    """Bytes of memory: the machine's, or the container's limit if that is lower."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(total, int(text)) if text.isdigit() else total


def _measured(spec: StageSpec, recipe: Recipe, root: Path) -> Need | None:
    """The peak of the last run, if it and the stages it reads from were run with these settings."""
    made = {name: read_manifest(recipe, name, root) for name in (*spec.inputs, spec.name)}
    if any(one is None or recipe_changes(name, recipe, one) for name, one in made.items()):
        return None
    last = made[spec.name] or {}
    return Need(spec, last["peak_memory"], last["peak_gpu_memory"] or 0, "measured")


def _weighed(spec: StageSpec, recipe: Recipe, root: Path, room: Room) -> Need:
    sections = [getattr(recipe, name) for name in spec.sections]
    weights = sum(section.count_weights(root) for section in sections if isinstance(section, Section))
    held = weights * (TRAINED if spec.trains else READ)
    known = f"at least: {weights / 1e6:,.0f} million weights in float32{', trained' if spec.trains else ''}"
    gpu = held if room.gpu else 0
    return Need(spec, LIBRARIES + held - gpu, gpu, known if weights else "at least: libraries")
