"""A tuned ranker: its backbone, what is trained of it, and its folder (shown in ``notebooks/rsllm/06_tune.ipynb``)."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import LlamaForCausalLM

from recnb.artifacts import read_json, write_folder_atomic, write_json
from recnb.errors import ArtifactError
from recnb.llm.backbone import build_backbone, causal_lm
from recnb.llm.lora import PROJECTIONS, save_adapter
from recnb.llm.pretrained import load_causal_lm
from recnb.llm.settings import BackboneConfig, TuneConfig
from recnb.llm.slots import SlotEmbedding, load_slots, save_slots
from recnb.llm.vocabulary import Vocabulary

_PAGE, _ADAPTER, _WHOLE, _SLOTS = "ranker.json", "adapter", "model", "slots"


def open_backbone(
    config: BackboneConfig, tokenizer: Any, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Any:
    """The causal LM that a recipe names, in evaluation mode, with the rows that its tokenizer needs and no others; its
    blocks are :func:`computed_in` a dtype."""
    none = np.empty((0, 0), np.int64)
    model = build_backbone(config, Vocabulary(tokenizer, (), none, none), seed, device).eval()
    return computed_in(model, dtype)


def computed_in(model: Any, dtype: torch.dtype) -> Any:
    """The same model; with bfloat16 its blocks multiply in it, trained or not, wherever they are called. Weights and
    last states stay float32, as does what a head makes of them (:func:`recnb.llm.backbone.head_logits`)."""
    if dtype != torch.float32:
        body = causal_lm(model).base_model
        body.forward = torch.autocast(next(body.parameters()).device.type, dtype)(body.forward)
    return model


def adapt(model: Any, llm: BackboneConfig, config: TuneConfig, seed: int) -> nn.Module:
    """Choose what is trained: LoRA on all projections of the last ``layers`` share of a pretrained model's blocks
    (none: the model stays as it is), or every weight of one from scratch, whose random body gives LoRA nothing to
    build on; and the projector of slots, if a stage shows vectors.

    Raises:
        ArtifactError: the backbone has no such projections.
    """
    if llm.kind == "scratch":
        model.requires_grad_(True)
    else:
        model = _with_lora(model.requires_grad_(False), llm, config, seed)
    projector = getattr(causal_lm(model).get_input_embeddings(), "projector", nn.Identity())
    projector.requires_grad_(any(stage.prompt != "text" for stage in config.stages))
    return model


def _with_lora(model: Any, llm: BackboneConfig, config: TuneConfig, seed: int) -> Any:
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    chosen = list(range(count - math.ceil(config.layers * count), count))
    if llm.gradient_checkpointing:  # in the kind that also works where a block's input needs no gradient
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if not chosen:
        return model
    lora = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=PROJECTIONS,
        layers_to_transform=chosen, task_type="CAUSAL_LM",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, lora)
        except ValueError as error:  # peft: none of the target modules
            raise ArtifactError(f"{llm.model}: no layers named {', '.join(PROJECTIONS)} for LoRA: {error}") from None


def trained_parameters(model: nn.Module) -> int:
    """Numbers that require gradients: after :func:`adapt`, those that a training changes."""
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def fingerprint(model: nn.Module) -> str:
    """Blocks, width and vocabulary of a backbone, and a hash of its last vector of weights (its final norm)."""
    causal = causal_lm(model)
    sizes = causal.config.get_text_config(decoder=True)
    last = [one for one in causal.base_model.parameters() if one.ndim == 1][-1].detach().float().cpu().numpy()
    mark = hashlib.sha256(np.ascontiguousarray(last).tobytes()).hexdigest()[:8]
    return f"{sizes.num_hidden_layers} blocks x {sizes.hidden_size}, V {sizes.vocab_size}, norm {mark}"


def save_ranker(model: Any, folder: Path, llm: BackboneConfig) -> None:
    """Write a tuned model as a folder, whole or not at all: its adapter as peft's folder (or, from scratch, all weights
    as transformers'), its slots if it has some, and a page that says whose they are."""
    causal = causal_lm(model)
    embedding = causal.get_input_embeddings()

    def fill(path: Path) -> None:
        if isinstance(embedding, SlotEmbedding):
            save_slots(embedding, path / _SLOTS)
            causal.set_input_embeddings(embedding.words)
        try:
            _save_body(model, path, llm)
        finally:
            causal.set_input_embeddings(embedding)
        write_json(path / _PAGE, {"llm": llm.model_dump(), "backbone": fingerprint(model)})

    write_folder_atomic(folder, fill)


def _save_body(model: Any, path: Path, llm: BackboneConfig) -> None:
    if llm.kind == "scratch":
        model.save_pretrained(str(path / _WHOLE), safe_serialization=True)
    elif isinstance(model, PeftModel):
        save_adapter(model, path / _ADAPTER)
        page = path / _ADAPTER / "adapter_config.json"
        write_json(page, read_json(page) | {"base_model_name_or_path": llm.model})


def load_ranker(llm: BackboneConfig, folder: Path, device: str = "cpu") -> Any:
    """The model that :func:`save_ranker` wrote, in evaluation mode, its slots in place.

    Args:
        llm: the backbone that the recipe names; the folder must be of the same one.
        folder: ``arms/<name>``; device: where it goes.

    Raises:
        ArtifactError: nothing of that kind lies there, or it was tuned on another backbone.
        ModelNotFoundError: the pretrained model is not at hand.
    """
    page = read_json(folder / _PAGE)
    if "llm" not in page:
        raise ArtifactError(f"{folder / _PAGE} is missing or damaged: expected the folder of a tuned model")
    if (page["llm"]["kind"], page["llm"]["model"]) != (llm.kind, llm.model):
        raise ArtifactError(f"{folder} was tuned on {_named(page['llm'])}, and the recipe's llm is {_named(dict(llm))}")
    scratch = llm.kind == "scratch"
    model = _whole(folder / _WHOLE).to(device) if scratch else load_causal_lm(llm.model, device=device)[0]
    if (found := fingerprint(model)) != page["backbone"]:
        raise ArtifactError(f"{folder} was tuned on {page['backbone']}, and {_named(dict(llm))} is {found}")
    if (folder / _SLOTS).is_dir():
        load_slots(folder / _SLOTS, model)
    if (folder / _ADAPTER).is_dir():
        model = PeftModel.from_pretrained(model, str(folder / _ADAPTER))
    return model.eval()


def _whole(folder: Path) -> Any:
    try:
        return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder}: no model as save_ranker writes it: {error}") from None


def _named(llm: dict[str, Any]) -> str:
    return llm["model"] or f"a scratch model of {llm['layers']} blocks x {llm['width']}"
