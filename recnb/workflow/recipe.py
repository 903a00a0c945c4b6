"""The recipe: one YAML file, validated and typed before anything starts.

A recipe is a tree of small frozen sections. Stage functions take one section, never the whole recipe. Each field
carries its reason as ``description``; ``recnb params show`` prints them. ``system`` says whose recipe it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from recnb.artifacts import hash_json
from recnb.errors import RecipeError, nearest
from recnb.settings import Recipe, reasons

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# The systems of the house: name -> class. Another package adds its own as entry points of the group `recnb.systems`.
SYSTEMS = {
    "eager_llm": "recnb.eager_llm.recipe:EagerLLM", "llm4sbr": "recnb.llm4sbr.recipe:LLM4SBR",
    "rsllm": "recnb.rsllm.recipe:RSLLM", "gallery": "recnb.gallery.recipe:Gallery",
}  # fmt: skip
DEFAULT = "eager_llm"


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML file, override it (``key.path=value``, the value as YAML) and validate.

    Raises:
        RecipeError: the file cannot be read, no system is called as it says, or a key, type or range is wrong; the
            message names the file, the key path, what was expected and the nearest valid key.
    """
    path = Path(path)
    tree = _read_yaml(path)
    for override in overrides:
        _apply_override(tree, override)
    name, known = tree.get("system", DEFAULT), systems()
    if not isinstance(name, str) or name not in known:
        places = _places(path, overrides).items()
        where = next((place for key, place in places if key == "system" or key.startswith("system.")), path)
        expected = f"expected one of {', '.join(known)}{nearest(str(name), known)}"
        raise RecipeError(f"{where}: system = {name!r}: {expected}")
    model = recipe_class(name)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        keys = [*valid_keys(model), *_keys_in_lists(model)]
        raise RecipeError(_explain(error, path, _places(path, overrides), keys)) from None


def systems() -> dict[str, str]:
    """Every system that a recipe may name, and where its recipe class is."""
    return {entry.name: entry.value for entry in metadata.entry_points(group="recnb.systems")} | SYSTEMS


def recipe_class(system: str = DEFAULT) -> type[Recipe]:
    """The recipe class of a system.

    Raises:
        RecipeError: the system is not declared as it must be; names what is wrong.
    """
    place = systems()[system]
    try:
        found = resolve_name(place)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise RecipeError(f"system {system} ({place}) cannot be imported: {type(error).__name__}: {error}") from None
    if not (isinstance(found, type) and issubclass(found, Recipe)):
        raise RecipeError(f"system {system} ({place}): expected a class of recnb.settings.Recipe, found {found!r}")
    if wrong := list(_undeclared(found)):
        raise RecipeError(f"system {system} ({place}): {'; '.join(wrong)}")
    return found


def _undeclared(model: type[Recipe]) -> Iterator[str]:
    """What the stages of a system name that it does not have."""
    names = [spec.name for spec in model.stages]
    if not names or len(set(names)) < len(names):
        yield f"stages = {', '.join(names)}: expected at least one, and no name twice"
    for number, spec in enumerate(model.stages):
        known_ones = {"section": (spec.sections, model.model_fields), "earlier stage": (spec.inputs, names[:number])}
        for kind, (asked, known) in known_ones.items():
            yield from (f"{spec.name}: unknown {kind} '{name}'{nearest(name, known)}" for name in {*asked} - {*known})
    for name in {model.evaluation, *(judged.last for judged in model.judged.values())} - {"", *names}:
        yield f"unknown stage '{name}'{nearest(name, names)}"


def resolve_recipe(recipe: str | Path | Recipe, overrides: Sequence[str], root: Path) -> Recipe:
    """Load a recipe file, relative to the working directory or else to the root; a loaded recipe passes through."""
    if isinstance(recipe, Recipe):
        if overrides:
            raise RecipeError("overrides need a recipe file; change a loaded recipe with model_copy(update=...)")
        return recipe
    in_root = not Path(recipe).is_file() and (root / recipe).is_file()
    return load_recipe(root / recipe if in_root else recipe, overrides)


def recipe_hash(config: BaseModel | dict[str, Any]) -> str:
    """sha256 of a section (or a whole recipe) in canonical JSON, first 16 hex digits."""
    return hash_json(config.model_dump(mode="json") if isinstance(config, BaseModel) else config)[:16]


def settings_hash(recipe: Recipe) -> str:
    """Hash of what a recipe asks for, whatever its seed, and wherever it runs: a run names its machine and its data."""
    tree = recipe.model_dump(mode="json", exclude={"system", "name", "title", "seed", "runtime", "paths"})
    tree.get("data", {}).pop("path", None)
    return recipe_hash(tree)


def valid_keys(model: type[BaseModel] | None = None) -> list[str]:
    """All dotted key paths of a recipe class (none: the default system's), e.g. ``train.epochs``."""
    return list(reasons(model or recipe_class()))


def _keys_in_lists(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Keys of sections that stand in lists, without their places: ``tune.stages.prompt``."""
    for name, field in model.model_fields.items():
        inner, listed = field.annotation, [one for one in get_args(field.annotation) if isinstance(one, type)]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys_in_lists(inner, f"{prefix}{name}.")
        for section in [one for one in listed if issubclass(one, BaseModel)]:
            yield from reasons(section, f"{prefix}{name}.")


def parse_yaml(text: str) -> Any:
    """YAML in which a key given twice or a value within itself is an error, and ``3e-4`` is a number.

    Raises:
        ValueError: it is none, or has one of these.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None


class _StrictLoader(yaml.SafeLoader):

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.YAMLError(f"key '{key}' is given twice (line {key_node.start_mark.line + 1})")
            seen.append(key)
        return super().construct_mapping(node, deep=True)  # so that a value within itself is found


# YAML 1.1 reads 3e-4 as text for want of a dot.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        nearby = sorted(str(p) for folder in {path.parent, Path("params")} for p in folder.glob("*.yaml"))
        raise RecipeError(f"{path}: no such recipe file{nearest(str(path), nearby)}")
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
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
        node[parts[-1]] = parse_yaml(text)
    except ValueError as error:
        raise RecipeError(f"--set {override}: the value is not YAML: {error}") from None


def _nearest(key: str, keys: list[str]) -> str:
    """The valid key that looks most like this one; the section counts less than the key's own name."""
    key = re.sub(r"\.\d+(?=\.)", "", key)  # places in lists
    leaf = key.rsplit(".", 1)[-1]

    def likeness(valid: str) -> float:
        whole = difflib.SequenceMatcher(None, key, valid).ratio()
        return whole + difflib.SequenceMatcher(None, leaf, valid.rsplit(".", 1)[-1]).ratio()

    sections = sorted({valid.rsplit(".", 1)[0] for valid in keys if "." in valid})
    return f"; nearest valid key: {max(keys + sections, key=likeness)}"


def _places(path: Path, overrides: Sequence[str]) -> dict[str, str]:
    """Where each dotted key is set: in a line of the file, or by an override."""
    found: dict[str, str] = {}
    todo = [("", yaml.compose(path.read_text(encoding="utf-8"), Loader=_StrictLoader))]
    while todo:
        prefix, node = todo.pop()
        for key, value in node.value if isinstance(node, yaml.MappingNode) else []:
            found[f"{prefix}{key.value}"] = f"{path}:{key.start_mark.line + 1}"
            todo.append((f"{prefix}{key.value}.", value))
    return found | {override.partition("=")[0].strip(): f"--set {override}" for override in overrides}


def _explain(error: ValidationError, path: Path, places: dict[str, str], keys: list[str]) -> str:
    """One line per wrong key: where it stands, what was found, what was expected."""
    said: dict[str, list[str]] = {}
    for problem in error.errors():
        key = _key_of(problem, keys)
        if problem["type"] == "extra_forbidden" and key not in places:  # --set trian.epochs=1 is about the whole key
            key = next((whole for whole in places if whole.startswith(f"{key}.")), key)
        said.setdefault(key, []).append(_expectation(key, problem, keys))
    return "\n".join(f"{places.get(key, path)}: {' or '.join(dict.fromkeys(all_))}" for key, all_ in said.items())


def _key_of(problem: ErrorDetails, keys: list[str]) -> str:
    """Dotted key of a problem, without the parts by which pydantic tells union members apart."""
    parts = [str(part) for part in problem["loc"] if part != "[key]"]
    known = {*keys, *(key.rpartition(".")[0] for key in keys)}
    end = next((end for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in known), len(parts))
    is_union = any(mark in part for part in parts[end : end + 1] for mark in ("[", "int", "str"))
    return ".".join(parts[:end] if is_union and problem["type"] != "extra_forbidden" else parts)


def _expectation(key: str, problem: ErrorDetails, keys: list[str]) -> str:
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_nearest(key, keys)}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if not key:  # about several sections: the message names them
        return message
    return f"{key}: {message}" if isinstance(problem["input"], dict) else f"{key} = {problem['input']!r}: {message}"
