"""A LoRA adapter: put on a backbone, kept apart from it (eager-llm.md, section 5; shown in 05_anneal)."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from recnb.llm.settings import AdapterConfig
from recnb.llm.vocabulary import Vocabulary

BACKBONE = "../../04_train/model"  # where the backbone lies, seen from the adapter
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def add_adapter(
    backbone: PreTrainedModel, vocabulary: Vocabulary, config: AdapterConfig, seed: int, checkpointing: bool = False
) -> PeftModel:
    """Wrap a backbone with LoRA on all attention and MLP projections; everything else is frozen.

    ``train_embeddings`` trains the table and the head along: ``all`` of it, as the release, or (true) the rows of the
    index tokens alone, so that the adapter stays small and text keeps the vectors whose comprehension is compared.
    ``checkpointing`` (the backbone's setting) computes layers again in the backward pass: less memory, same numbers.
    """
    torch.manual_seed(seed)
    if checkpointing:
        backbone.gradient_checkpointing_enable({"use_reentrant": False})  # the frozen table's rows need no gradient
    tied = backbone.get_output_embeddings().weight is backbone.get_input_embeddings().weight
    tables = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    along: dict[str, Any] = {}
    if config.train_embeddings == "all":
        along = {"modules_to_save": tables, "ensure_weight_tying": tied}
    elif config.train_embeddings:
        along = {"trainable_token_indices": dict.fromkeys(tables, vocabulary.index_tokens.ravel().tolist())}
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=PROJECTIONS,
        task_type="CAUSAL_LM",
        **along,
    )
    return get_peft_model(backbone, lora)  # type: ignore[return-value]


def save_adapter(adapted: PeftModel, folder: Path) -> None:
    """Write the adapter alone (safetensors); the backbone stays as it was trained."""
    adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = BACKBONE  # not where this machine keeps it
    for name, value in settings.items():
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            settings[name] = sorted(value)  # peft writes sets, in an order that changes
    path.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
