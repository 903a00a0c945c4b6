"""The recipe: one YAML file, validated and typed before anything starts.

A recipe is a tree of small frozen sections. Stage functions take one section, never the whole recipe. Each field
carries its reason as ``description``; ``recnb params show`` prints them. ``system`` says whose recipe it is.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from recnb.errors import RecipeError, nearest
from recnb.settings import Recipe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# The systems of the house: name -> class. Another package adds its own as entry points of the group `recnb.systems`.
SYSTEMS = {"eager_llm": "recnb.eager_llm.recipe:EagerLLM"}
DEFAULT = "eager_llm"


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        path: a YAML file.
        overrides: ``key.path=value`` strings; the value is read as YAML.

    Raises:
        RecipeError: the file cannot be read, no system is called as it says, or a key, type or range is wrong; the
            message names the file, the key path, what was expected and the nearest valid key.
    """
    tree = _read_yaml(Path(path))
    for override in overrides:
        _apply_override(tree, override)
    name = tree.get("system", DEFAULT)
    if name not in (known := systems()):
        place = _place(Path(path), "system", _key_lines(Path(path)), overrides)
        names = ", ".join(known)
        raise RecipeError(f"{place}: system = {name!r}: expected one of {names}{nearest(str(name), known)}")
    model = recipe_class(name)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(_explain(error, Path(path), overrides, model)) from None


def systems() -> dict[str, str]:
    """Every system that a recipe may name, and where its recipe class is."""
    return {entry.name: entry.value for entry in metadata.entry_points(group="recnb.systems")} | SYSTEMS


def recipe_class(system: str = DEFAULT) -> type[Recipe]:
    """The recipe class of a system."""
    module, _, name = systems()[system].partition(":")
    found: type[Recipe] = getattr(importlib.import_module(module), name)
    return found


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


def recipe_hash(config: BaseModel | dict[str, Any]) -> str:
    """sha256 of a section (or a whole recipe) in canonical JSON, first 16 hex digits."""
    tree = config.model_dump(mode="json") if isinstance(config, BaseModel) else config
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def valid_keys(model: type[BaseModel] | None = None, prefix: str = "") -> list[str]:
    """All dotted key paths of a recipe class (none: the default system's), e.g. ``train.epochs``."""
    keys: list[str] = []
    for name, field in (model or recipe_class()).model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += valid_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key given twice is an error, and ``3e-4`` is a number."""


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.YAMLError(f"key '{key}' is given twice (line {key_node.start_mark.line + 1})")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


# YAML 1.1 reads 3e-4 as text for want of a dot.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        nearby = sorted(str(p) for folder in {path.parent, Path("params")} for p in folder.glob("*.yaml"))
        raise RecipeError(f"{path}: no such recipe file{nearest(str(path), nearby)}")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a YAML file: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: expected a mapping of sections, found {type(tree).__name__}")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise RecipeError(f"--set {override}: expected key=value, for example train.epochs=1")
    parts = key.strip().split(".")
    node = tree
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise RecipeError(f"--set {override}: '{part}' is not a section, so '{key}' is no key")
    try:
        node[parts[-1]] = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: the value is not YAML: {error}") from None


def _nearest(key: str, keys: list[str]) -> str:
    """The valid key that looks most like this one; the section counts less than the key's own name."""
    leaf = key.rsplit(".", 1)[-1]

    def likeness(valid: str) -> float:
        whole = difflib.SequenceMatcher(None, key, valid).ratio()
        return whole + difflib.SequenceMatcher(None, leaf, valid.rsplit(".", 1)[-1]).ratio()

    sections = sorted({valid.rsplit(".", 1)[0] for valid in keys if "." in valid})
    return f"; nearest valid key: {max(keys + sections, key=likeness)}"


def _explain(error: ValidationError, path: Path, overrides: Sequence[str], model: type[Recipe]) -> str:
    """One line per wrong key: where it stands, what was found, what was expected."""
    problems: dict[str, list[str]] = {}
    keys = valid_keys(model)
    known = {*keys, *(key.rpartition(".")[0] for key in keys)}
    for problem in error.errors():
        key = _key_of(problem, known)
        if problem["type"] == "extra_forbidden":  # --set trian.epochs=1 is about the whole key, not a section
            asked = (override.partition("=")[0].strip() for override in overrides)
            key = next((whole for whole in asked if whole.startswith(f"{key}.")), key)
        problems.setdefault(key, []).append(_expectation(key, problem, keys))
    lines = _key_lines(path)
    return "\n".join(
        f"{_place(path, key, lines, overrides)}: {' or '.join(dict.fromkeys(said))}" for key, said in problems.items()
    )


def _key_of(problem: ErrorDetails, known: set[str]) -> str:
    """Dotted key of a problem, without the parts by which pydantic tells union members apart."""
    parts = [str(part) for part in problem["loc"] if part != "[key]"]
    for length in range(len(parts), 0, -1):  # the whole first: a name may look like a type (evaluate.bootSTRap)
        key = ".".join(parts[:length])
        if key in known and problem["type"] != "extra_forbidden":
            is_union = any(mark in part for part in parts[length : length + 1] for mark in ("[", "int", "str"))
            return key if is_union else ".".join(parts)
    return ".".join(parts)


def _expectation(key: str, problem: ErrorDetails, keys: list[str]) -> str:
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_nearest(key, keys)}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if not key:  # about several sections: the message names them
        return message
    return f"{key}: {message}" if isinstance(problem["input"], dict) else f"{key} = {problem['input']!r}: {message}"


def _place(path: Path, key: str, lines: dict[str, int], overrides: Sequence[str]) -> str:
    for override in overrides:
        if override.partition("=")[0].strip() == key:
            return f"--set {override}"
    return f"{path}:{lines[key]}" if key in lines else str(path)


def _key_lines(path: Path) -> dict[str, int]:
    """Line of each dotted key of the file, counted from 1."""

    def walk(node: yaml.Node | None, prefix: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for key_node, value in node.value if isinstance(node, yaml.MappingNode) else []:
            key = f"{prefix}{key_node.value}"
            found |= {key: key_node.start_mark.line + 1} | walk(value, f"{key}.")
        return found

    return walk(yaml.compose(path.read_text(encoding="utf-8"), Loader=_StrictLoader), "")
