"""What a recipe needs and this machine lacks: source data, published indexes, texts, pretrained models, memory.

``recnb run`` refuses with it before the first stage, so that what the fourth one wants is not missed after an hour;
``recnb doctor`` prints it. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from recnb import runtime
from recnb.settings import Problem, Recipe, Section, StageSpec
from recnb.workflow.manifest import read_manifest, recipe_changes
from recnb.workflow.progress import size

USABLE = 0.9  # share of the memory that a stage may fill: the system and this command need some, too
TRAINED, READ = 16, 4  # bytes a weight in float32: with a gradient and Adam's two moments beside it, and alone
LIBRARIES = 500 * 2**20  # the least of a stage's kernel with its libraries (measured: 500 to 835 MiB)
_ON_GPU = ("auto", "cuda")
_DRIVER = ("/proc/driver/nvidia", "/dev/nvidiactl")


@dataclass(frozen=True)
class Machine:
    """What there is, in bytes; ``cores``, ``disk`` and ``torch`` are for the doctor."""

    memory: int
    gpu_memory: int = 0
    gpu: str = ""  # its name; empty: none
    cores: int = 0
    disk: int = 0
    torch: str = ""  # its version


@dataclass(frozen=True)
class Need:
    """What one stage takes: ``host`` and ``gpu`` in bytes, and how that is known."""

    spec: StageSpec
    host: int
    gpu: int
    known: str

    def problem(self, machine: Machine) -> Problem | None:
        """That it does not stay within :data:`USABLE` of the memory there is, and the way on; None: it does."""
        places = [("GPU memory", self.gpu, machine.gpu_memory), ("memory", self.host, machine.memory)]
        for place, needed, there in places:
            if there and needed > USABLE * there:
                most = f"{size(USABLE * there)} of {size(there)} may be filled"
                what = f"{self.spec.name} needs {size(needed)} of {place} ({self.known}); {most}"
                return Problem(what, self._way(), stage=self.spec.name)
        return None

    def _way(self) -> str:
        way = f"a smaller model, more memory, or lower: {', '.join(self.spec.eases) or 'no key of this stage'}"
        if "train.batch_size" in self.spec.eases:
            way += " (train.accumulate raised as train.batch_size is lowered keeps the numbers comparable)"
        return way


def problems(recipe: Recipe, root: Path, machine: Machine) -> list[Problem]:
    """All that is lacking, each with the first stage that would miss it."""
    found: list[Problem] = []
    for name in type(recipe).model_fields:
        section = getattr(recipe, name)
        if isinstance(section, Section):
            first = next((spec.name for spec in recipe.stages if name in spec.sections), "")
            found += [replace(problem, stage=first) for problem in section.problems(root, recipe)]
    return found + [tight for need in needs(recipe, root, machine) if (tight := need.problem(machine))]


def needs(recipe: Recipe, root: Path, machine: Machine) -> list[Need]:
    """What each stage took when it last ran with these settings, else at least what its models weigh."""
    on_gpu = bool(machine.gpu_memory) and recipe.runtime.device in _ON_GPU
    return [_measured(spec, recipe, root) or _weighed(spec, recipe, root, on_gpu) for spec in recipe.stages]


def machine_for(recipe: Recipe, root: Path) -> Machine:
    """This machine; torch is asked for a GPU that the recipe would use if it is loaded (it is slow to load) or there is
    a sign of a driver: its folder, its device or its tool; a container need not have all three."""
    signs = "torch" in sys.modules or any(map(os.path.exists, _DRIVER)) or shutil.which("nvidia-smi")
    return look(root) if signs and recipe.runtime.device in _ON_GPU else Machine(_memory())


def look(root: Path) -> Machine:
    """All of this machine: memory, GPU, cores, and the disk that a project lies on."""
    import torch

    gpu, gpu_memory = "", 0
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        gpu, gpu_memory = properties.name, properties.total_memory
    elif torch.backends.mps.is_available():
        gpu = "Apple GPU"
    cores, disk = runtime.usable_cores(), shutil.disk_usage(root).free
    return Machine(_memory(), gpu_memory, gpu, cores, disk, str(torch.__version__))


def _memory() -> int:
    """Bytes: the machine's, or the container's limit if that is lower."""
    total = psutil.virtual_memory().total
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


def _weighed(spec: StageSpec, recipe: Recipe, root: Path, on_gpu: bool) -> Need:
    sections = [getattr(recipe, name) for name in spec.sections]
    weights = sum(section.count_weights(root) for section in sections if isinstance(section, Section))
    held = weights * (TRAINED if spec.trains else READ)
    known = f"at least: {weights / 1e6:,.0f} million weights in float32{', trained' if spec.trains else ''}"
    host, gpu = (LIBRARIES, held) if on_gpu else (LIBRARIES + held, 0)
    return Need(spec, host, gpu, known if weights else "at least: libraries")
