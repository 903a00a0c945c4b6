"""What a stage's result depends on, as hashes: a stage runs again only when one of these parts changed.

The parts are kept in the stage's manifest, so that ``recnb run --explain`` can name the one that changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from recnb.recipe import Recipe, recipe_hash
from recnb.stages import StageSpec

PACKAGES = (
    "numpy", "scipy", "pandas", "scikit-learn", "torch", "transformers", "tokenizers", "accelerate", "peft",
    "sentence-transformers", "cornac", "umap-learn",
)  # fmt: skip
# These change no result but through the recipe's values, which are hashed themselves.
_NOT_HASHED = {"recnb", "recnb.recipe", "recnb.stages", "recnb.errors", "recnb.keys"}
_DATA_SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".txt")
_HASHED_UP_TO = 64 * 2**20
_FOR_PEOPLE = {"max_hours", "solutions"}


def key_parts(spec: StageSpec, recipe: Recipe, root: Path, inputs: dict[str, dict[str, str]]) -> dict[str, str]:
    """Everything the stage's result depends on, named, with its hash or version.

    Args:
        spec: the stage.
        recipe: its declared sections, the seed and the runtime count.
        root: the project root; ``notebooks/<stage>.ipynb`` is read there if present.
        inputs: sha256 of each input artifact, ``{stage: {artifact: sha256}}``.
    """
    notebook = root / "notebooks" / f"{spec.name}.ipynb"
    cells = notebook_cells(notebook)
    parts = {"notebook": _digest(json.dumps(cells).encode())}
    parts |= {f"recipe {name}": recipe_hash({"": value}) for name, value in recipe_part(spec, recipe).items()}
    modules = {f"recnb.{name}" for name in spec.modules} | _imports_of_cells(cells)
    parts |= {f"source {name}": digest for name, digest in source_hashes(frozenset(modules)).items()}
    parts |= {f"file {file.name}": _file_mark(file) for file in outside_files(spec, recipe, root)}
    parts |= {f"input {stage}/{name}": sha for stage, files in inputs.items() for name, sha in files.items()}
    return parts | {f"package {name}": version for name, version in versions().items()}


def key_of(parts: dict[str, str]) -> str:
    """One hash over all parts."""
    return _digest(json.dumps(parts, sort_keys=True).encode())


def recipe_part(spec: StageSpec, recipe: Recipe) -> dict[str, Any]:
    """The part of the recipe that a stage depends on, as plain JSON values."""
    tree = recipe.model_dump(mode="json", include={*spec.sections, "seed", "runtime"})
    tree["runtime"] = {k: v for k, v in tree["runtime"].items() if k not in _FOR_PEOPLE}
    return tree


def outside_files(spec: StageSpec, recipe: Recipe, root: Path) -> list[Path]:
    """Files that the recipe names and the stage reads, where they are here: the source data, local models, texts."""
    data, named = recipe.data, []

    def here(name: str) -> Path:
        return root / Path(name).expanduser()

    if "data" in spec.sections and not spec.inputs and data.path:
        named += [here(data.path), *(here(data.path) / name for name in (data.interactions, data.items) if name)]
    if "embeddings" in spec.sections:
        named.append(here(recipe.embeddings.semantic.model))
    if "index" in spec.sections and recipe.index.semantic_file:
        named += [here(data.path or ".") / recipe.index.semantic_file, here(recipe.index.semantic_file)]
    if "backbone" in spec.sections and recipe.backbone.model:
        named.append(here(recipe.backbone.model))
    if "tasks" in spec.sections and recipe.tasks.preference_file:
        named.append(here(recipe.tasks.preference_file))
    if "ablations" in spec.sections:
        reports = root / recipe.paths.reports
        named += [*reports.glob("ablations/*"), *reports.glob("*/results.json")]
    inside = [file for path in named if path.is_dir() for file in path.iterdir()]
    return sorted({file for file in [*named, *inside] if file.is_file()})


def notebook_cells(path: Path) -> list[list[str]]:
    """``[cell type, source]`` of each cell of a notebook; outputs and metadata do not count. Empty if there is none."""
    if not path.is_file():
        return []
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [[cell["cell_type"], "".join(cell["source"])] for cell in cells]


@cache
def versions() -> dict[str, str]:
    """Versions of python, recnb and the packages whose arithmetic or formats reach an artifact."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def source_hashes(modules: frozenset[str]) -> dict[str, str]:
    """Source hash of these ``recnb`` modules and of all that they import from ``recnb``, by module name.

    Data files beside the source count too when the source names them (``published.yaml``).
    """
    todo, found = sorted(modules), {}
    while todo:
        name = todo.pop()
        path = _module_file(name)
        if path is None or name in found:
            continue
        found[name] = ""
        todo += sorted(_imports(path.read_text(encoding="utf-8"), name, path.name == "__init__.py"))
        found |= {f"{name} {file.name}": _digest(file.read_bytes()) for file in _named_files(path)}
        found[name] = _digest(path.read_bytes())
    return {name: found[name] for name in sorted(found) if name.split()[0] not in _NOT_HASHED}


def _package() -> Path:
    return Path(__file__).parent


def _module_file(name: str) -> Path | None:
    base = _package().joinpath(*name.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if name.split(".")[0] == "recnb" and candidate.is_file():
            return candidate
    return None


def _imports_of_cells(cells: list[list[str]]) -> set[str]:
    found: set[str] = set()
    for kind, source in cells:
        code = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n"))
        if kind == "code":
            found |= _imports(code, "notebook", False)
    return found


def _imports(source: str, module: str, is_package: bool) -> set[str]:
    """Names that a source may import from ``recnb``: ``from a import b`` counts as ``a`` and as ``a.b``."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    ours = {name for name in names if name.split(".")[0] == "recnb"}
    return ours | {parent for name in ours for parent in _parents(name)}


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(2, len(parts)))


def _named_files(path: Path) -> list[Path]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = {name for name in names if name.endswith(_DATA_SUFFIXES) and "\n" not in name and len(name) < 100}
    return sorted(file for name in names if (file := path.parent / name).is_file())


def _file_mark(path: Path) -> str:
    """sha256 of a file, or its size and time where hashing at every start would take long."""
    state = path.stat()
    if state.st_size > _HASHED_UP_TO:
        return f"{state.st_size} bytes, {state.st_mtime_ns}"
    return _digest(path.read_bytes())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
