"""Will it fit? The peak memory of each stage, told from the recipe before anything runs.

Shown by ``recnb doctor --recipe FILE``; ``recnb run`` refuses what does not fit.

On a GPU the model, its gradients, Adam's moments, activations and logits are counted there (in float32, also where
autocast makes some of them bfloat16), everything else on the host. That split and the share of CUDA's libraries have
not been measured: there, expect a larger error than the 25 % that hold on a CPU.

Nothing here imports torch unless there is a GPU, so that ``recnb run`` can ask before it starts.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recnb import store
from recnb.errors import RecnbError
from recnb.footprint import KNOWN_TEXT, LIBRARIES, MIB, STAGE_PARTS, Facts, Shape, Sizes, codes, columns
from recnb.pretrained import hub_cache
from recnb.progress import size
from recnb.recipe import BackboneConfig, Recipe

USABLE = 0.9  # share of the memory that a stage may fill: the system and this command need some, too
CUDA_HOST = 2_000 * MIB  # CUDA's libraries in a process that uses them; not measured here
CUDA_DEVICE = 600 * MIB  # context and kernels on the GPU; not measured here
MOVIELENS = (943, 1682, 100_000)  # users, items, interactions
UNKNOWN_TEXT = 10**6  # tokens of a text that nobody has read yet: the recipe's cuts decide
_USER = re.compile(rb'"(?:reviewerID|user_id)"\s*:\s*"([^"]+)"')
GEMMA_270M = Shape(262_144, 640, 18, 4, 1024, 256, 2048, norms=4)
NO_ENCODER = Shape(0, 0, 0, 1, 0, 0, 0)  # of a catalogue without text
BERT_BASE = Shape(30_522, 768, 12, 12, 768, 768, 3072)  # stands in for a sentence encoder that is not here yet


@dataclass(frozen=True)
class Room:
    """Bytes of memory: of the machine (or its container), and of the GPU that the recipe would use (0: none)."""

    host: int
    gpu: int = 0


@dataclass(frozen=True)
class Forecast:
    """What one stage is expected to take.

    Attributes:
        stage: its name.
        bytes: peak resident memory of its kernel, on the host.
        gpu: peak bytes on the GPU; 0 on the CPU.
        dominates: the largest term, in words.
        key: the recipe key whose halving lowers the peak most; empty where none does.
    """

    stage: str
    bytes: int
    gpu: int
    dominates: str
    key: str = ""

    def fits(self, room: Room) -> bool:
        """Whether it stays within :data:`USABLE` of the memory there is."""
        return self.bytes <= USABLE * room.host and self.gpu <= USABLE * (room.gpu or math.inf)


@dataclass(frozen=True)
class Misfit:
    """A stage that does not fit: what is missing where, and settings with which it would fit."""

    forecast: Forecast
    room: Room
    settings: tuple[str, ...]

    @property
    def what(self) -> str:
        """One line: stage, forecast, and what there is."""
        on_gpu = self.forecast.gpu > USABLE * (self.room.gpu or math.inf)
        needed, there = (self.forecast.gpu, self.room.gpu) if on_gpu else (self.forecast.bytes, self.room.host)
        place = "GPU memory" if on_gpu else "memory"
        return (
            f"{self.forecast.stage} would take {size(needed)} of {place}, mostly for {self.forecast.dominates}; "
            f"{size(USABLE * there)} of {size(there)} may be filled"
        )

    @property
    def way(self) -> str:
        """The settings that would fit, as they are typed."""
        if not self.settings:
            return "no setting makes it fit: a smaller model or catalogue, or a machine with more memory"
        return " ".join(f"--set {setting}" for setting in self.settings)


def forecast(recipe: Recipe, root: Path, room: Room, stages: Sequence[str] = ()) -> dict[str, Forecast]:
    """Peak memory of each of these stages (none: of all) that has a forecast, by name, in order.

    Args:
        recipe: validated.
        root: project root: where manifests, data files and local models are looked for.
        room: where it would run; a GPU in it takes the model.
        stages: names.

    Returns:
        Nothing where the size of the data is not known yet; no model stages where the model's size is not.
    """
    sizes = data_sizes(recipe, root)
    return _Site(root, room, sizes).forecasts(recipe, stages) if sizes else {}


def misfits(recipe: Recipe, root: Path, room: Room, stages: Sequence[str] = ()) -> list[Misfit]:
    """The stages (of these; none: of all) that would not fit, each with settings that would.

    Stages after 01_data are not judged by a catalogue that the k-core has yet to shrink.
    """
    sizes = data_sizes(recipe, root)
    if sizes is None:
        return []
    site = _Site(root, room, sizes)
    found = [one for one in site.forecasts(recipe, stages).values() if not one.fits(room)]
    judged = [one for one in found if sizes.certain or one.stage == "01_data"]
    return [Misfit(one, room, site.settings_that_fit(one.stage, recipe)) for one in judged]


def room_here(recipe: Recipe) -> Room:
    """Memory of this machine, and of its GPU if the recipe would use it; torch is asked only if there is a driver."""
    wanted = recipe.runtime.device in ("auto", "cuda")
    if not wanted or not Path("/proc/driver/nvidia").exists():
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


# --- what is known before anything runs ------------------------------------------------------------------------------


def data_sizes(recipe: Recipe, root: Path) -> Sizes | None:
    """Users, items and interactions: from a finished 01_data, from the recipe, or counted in the source's files.

    None where the files are not here.
    """
    data = recipe.data
    text = KNOWN_TEXT if data.source in ("toy", "movielens-100k") else UNKNOWN_TEXT
    manifest = store.read_manifest(recipe, "01_data", root)
    facts = manifest["facts"] if manifest and manifest["recipe"].get("data") == data.model_dump(mode="json") else {}
    if {"users", "items", "interactions"} <= facts.keys():
        return Sizes(facts["users"], facts["items"], facts["interactions"], text)
    if data.source == "toy":
        return _toy_sizes(recipe)
    if data.source == "movielens-100k":
        return Sizes(*MOVIELENS, text)
    return _counted(recipe, root)


def _toy_sizes(recipe: Recipe) -> Sizes:
    toy = recipe.data.toy
    return Sizes(toy.users, toy.items, toy.users * min(toy.length, toy.items), KNOWN_TEXT)


def _counted(recipe: Recipe, root: Path) -> Sizes | None:
    from recnb.data import source_files
    from recnb.data.tables import open_source

    try:
        events, items = source_files(recipe.data, root)
        with open_source(events) as stream:
            lines, users = _lines_and_users(stream)
        with open_source(items) as stream:
            catalogue = sum(1 for _ in stream)
    except (RecnbError, OSError, EOFError):
        return None
    return Sizes(users, catalogue, lines, UNKNOWN_TEXT, certain=recipe.data.k_core == 0)


def _lines_and_users(stream: Iterable[bytes]) -> tuple[int, int]:
    """Lines and distinct users of a CSV file with a header, or of lines of JSON."""
    lines, users, place = 0, set(), -1
    for line in stream:
        fields = [] if line.startswith(b"{") else line.split(b",", place + 1)
        if lines == 0 and fields:
            names = [name.strip(b'" \r\n\xef\xbb\xbf') for name in line.split(b",")]
            place = names.index(b"user_id") if b"user_id" in names else -1
        elif 0 <= place < len(fields):
            users.add(fields[place])
        elif found := _USER.search(line):
            users.add(found.group(1))
        lines += 1
    return lines, max(1, len(users))


def model_shape(model: str, root: Path) -> Shape | None:
    """Sizes of a pretrained model from its config.json, if it is here, or from the number in its name (7b, 270m)."""
    file = _config_file(model, root)
    if file is not None:
        return _shape_of(json.loads(file.read_text(encoding="utf-8")))
    if "gemma3_270m" in model or "gemma-3-270m" in model:
        return GEMMA_270M
    named = re.search(r"(\d+(?:\.\d+)?)_?([bm])(?![a-z])", model.lower())
    if not named:
        return None
    count = float(named.group(1)) * {"b": 1e9, "m": 1e6}[named.group(2)]
    # a Llama's proportions: layers = width / 128 and 12 width^2 weights a layer
    width = 128 * max(1, round((count * 128 / 12) ** (1 / 3) / 128))
    return Shape(32_000, width, max(1, width // 128), width // 128, width, width, round(2.7 * width), tied=False)


def _scratch_shape(config: BackboneConfig, sizes: Sizes) -> Shape:
    # A byte-level BPE stops when every word is a token: MovieLens' 1,682 texts hold 3.2 pieces an item, the toy's 5.6.
    rows = min(config.vocabulary, 259 + 4 * sizes.items)
    width = config.width
    return Shape(rows, width, config.layers, config.heads, width, width, config.feedforward, config.tie,
                 dropout=config.dropout)  # fmt: skip


def _shape_of(config: dict[str, Any]) -> Shape | None:
    config = config.get("text_config", config)
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if not width or not heads:
        return None
    head = config.get("head_dim") or width // heads
    keys = (config.get("num_key_value_heads") or heads) * head
    norms = 4 if str(config.get("model_type", "")).startswith(("gemma2", "gemma3")) else 2
    return Shape(
        config.get("vocab_size", 32_000), width, config.get("num_hidden_layers", 1), heads, heads * head, keys,
        config.get("intermediate_size", 4 * width), bool(config.get("tie_word_embeddings", True)), norms,
        float(config.get("attention_dropout") or 0.0),
    )  # fmt: skip


def _config_file(model: str, root: Path) -> Path | None:
    return next((path for path in _config_places(model, root) if path.is_file()), None)


def _config_places(model: str, root: Path) -> Iterator[Path]:
    if model.startswith("package:"):
        name = model.removeprefix("package:")
        found = importlib.util.find_spec(name) if name.isidentifier() else None
        for folder in (found.submodule_search_locations or []) if found else []:
            yield Path(folder) / "model" / "config.json"
        return
    yield root / Path(model).expanduser() / "config.json"
    yield from (root / ".cache" / "models").glob(f"{Path(model).stem}-*/config.json")  # a GGUF file once read
    yield from hub_cache().glob(f"models--{model.partition('@')[0].replace('/', '--')}/snapshots/*/config.json")


# --- which key to change ---------------------------------------------------------------------------------------------

# Keys that lower a stage's peak, the mildest first; each is halved (a switch: turned on).
KEYS: dict[str, tuple[str, ...]] = {
    "01_data": ("data.toy.users", "data.toy.items"),
    "02_embeddings": (
        "embeddings.semantic.batch_size", "embeddings.behaviour.batch_size", "embeddings.behaviour.negatives",
    ),
    "03_index": ("index.pca",),
    "04_train": (
        "train.batch_size", "decode.batch_size", "backbone.gradient_checkpointing", "data.max_history",
        "backbone.layers", "backbone.width",
    ),
    "05_anneal": ("train.batch_size", "decode.batch_size", "data.max_history", "backbone.layers", "backbone.width"),
    "06_evaluate": (
        "decode.batch_size", "evaluate.sasrec.batch_size", "evaluate.gru4rec.batch_size",
        "evaluate.bert4rec.batch_size", "evaluate.tiger.batch_size", "decode.beam", "data.max_history",
    ),
    "07_case_studies": ("decode.batch_size", "decode.beam", "data.max_history"),
    "08_prefix_map": ("map.max_items",),
}  # fmt: skip


def halved(recipe: Recipe, key: str) -> Recipe | None:
    """The recipe with this key at half its value (a switch: on); None where no valid value is left."""
    *sections, name = key.split(".")
    tree = recipe.model_dump()
    node = tree
    for section in sections:
        node = node[section]
    if node[name] is True or (node[name] is not False and node[name] <= 1):
        return None
    node[name] = True if node[name] is False else node[name] // 2
    try:
        return Recipe.model_validate(tree)
    except ValueError:
        return None


def _settings(before: Recipe, after: Recipe) -> tuple[str, ...]:
    """``key=value`` of what changed; a smaller training batch is made up for by accumulation: the same numbers."""
    old, new = (store.flatten(each.model_dump(mode="json")) for each in (before, after))
    changed = [f"{key}={json.dumps(new[key])}" for key in new if old[key] != new[key]]
    if before.train.batch_size != after.train.batch_size:
        steps = before.train.accumulate * before.train.batch_size // after.train.batch_size
        changed.append(f"train.accumulate={steps}")
    return tuple(changed)


@dataclass(frozen=True)
class _Site:
    """Where a recipe would run, and on how much data: asked again and again while keys are tried."""

    root: Path
    room: Room
    sizes: Sizes

    def forecasts(self, recipe: Recipe, stages: Sequence[str]) -> dict[str, Forecast]:
        wanted = [stage for stage in STAGE_PARTS if stage in (stages or STAGE_PARTS)]
        found = {stage: self._forecast(stage, recipe) for stage in wanted}
        return {stage: replace(one, key=self._strongest_key(one, recipe)) for stage, one in found.items() if one}

    def settings_that_fit(self, stage: str, recipe: Recipe) -> tuple[str, ...]:
        """One key halved as often as it takes, the mildest first; else several; nothing where none helps."""
        keys = KEYS[stage]
        for way in [*((key,) for key in keys), *(keys[:count] for count in range(2, len(keys) + 1))]:
            found = self._lowered(stage, recipe, way)
            if found is not None:
                return _settings(recipe, found)
        return ()

    def _lowered(self, stage: str, recipe: Recipe, keys: Sequence[str]) -> Recipe | None:
        """The recipe with these keys halved, one after the other to the bottom, until the stage fits."""
        for key in keys:
            while (smaller := halved(recipe, key)) is not None:
                recipe = smaller
                one = self._forecast(stage, recipe)
                if one is not None and one.fits(self.room):
                    return recipe
        return None

    def _strongest_key(self, one: Forecast, recipe: Recipe) -> str:
        """The key whose halving lowers the peak most; empty if none lowers it by a hundredth."""
        peaks = {}
        for key in KEYS[one.stage]:
            smaller = halved(recipe, key)
            changed = self._forecast(one.stage, smaller) if smaller else None
            if changed is not None:
                peaks[key] = changed.gpu or changed.bytes
        key = min(peaks, key=lambda name: peaks[name], default="")
        return key if key and peaks[key] < 0.99 * (one.gpu or one.bytes) else ""

    def _forecast(self, stage: str, recipe: Recipe) -> Forecast | None:
        facts = self._facts(stage, recipe)
        if facts is None:
            return None
        parts = STAGE_PARTS[stage](recipe, facts)
        libraries, held = LIBRARIES[stage] * MIB, sum(parts.held.values())
        moment, host = max(parts.moments.values(), default=0), max(parts.host.values(), default=0)
        terms = {"the libraries": libraries, **parts.held, **parts.moments, **parts.host}
        largest = max(terms, key=lambda name: terms[name])
        if not self.room.gpu or not parts.moments:
            return Forecast(stage, round(libraries + held + max(moment, host)), 0, largest)
        return Forecast(stage, round(libraries + CUDA_HOST + held + host), round(CUDA_DEVICE + held + moment), largest)

    def _facts(self, stage: str, recipe: Recipe) -> Facts | None:
        """None for a pretrained model of which neither config nor name tells a size."""
        sizes = _toy_sizes(recipe) if recipe.data.source == "toy" else self.sizes
        config = recipe.backbone
        text = _scratch_shape(config, sizes) if config.kind == "scratch" else model_shape(config.model, self.root)
        if text is None and stage not in ("01_data", "02_embeddings", "03_index"):
            return None
        semantic = recipe.embeddings.semantic
        encoder = NO_ENCODER if semantic.encoder == "none" else model_shape(semantic.model, self.root) or BERT_BASE
        text = text or encoder  # the first three stages do not look at it
        backbone = replace(text, vocabulary=text.vocabulary + columns(recipe) * codes(recipe, sizes) + 1)
        return Facts(sizes, encoder, backbone)
