"""Annealing: a LoRA adapter trained on recommendation data alone, kept apart from the backbone (§5; 05_anneal)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from recnb.data import Sequences
from recnb.recipe import AnnealConfig, TrainConfig
from recnb.vocabulary import Vocabulary

BACKBONE = "../../04_train/model"  # where the backbone lies, seen from the adapter
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def add_adapter(
    backbone: PreTrainedModel, vocabulary: Vocabulary, config: AnnealConfig, seed: int, checkpointing: bool = False
) -> PeftModel:
    """Wrap a backbone with LoRA on all attention and MLP projections; everything else is frozen.

    With ``train_embeddings`` the rows of the index tokens are trained along, in table and head. The release trains the
    whole table; we train the catalogue's rows only, because no text row ever occurs in a ``seqrec`` answer and a
    frozen text row is what keeps comprehension comparable. ``checkpointing`` (the backbone's setting) computes layers
    again in the backward pass: less memory, the same numbers.
    """
    torch.manual_seed(seed)
    if checkpointing:
        backbone.gradient_checkpointing_enable({"use_reentrant": False})  # the frozen table's rows need no gradient
    rows = vocabulary.index_tokens.ravel().tolist() if config.train_embeddings else None
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=PROJECTIONS,
        task_type="CAUSAL_LM",
        trainable_token_indices=_token_rows(backbone, rows),
    )
    return get_peft_model(backbone, lora)  # type: ignore[return-value]


def _token_rows(backbone: PreTrainedModel, rows: list[int] | None) -> Any:
    if rows is None:
        return None
    tied = backbone.get_output_embeddings().weight is backbone.get_input_embeddings().weight
    return {"embed_tokens": rows} if tied else {"embed_tokens": rows, "lm_head": rows}


@dataclass(frozen=True)
class Selection:
    """Which data the adapter sees.

    Attributes:
        users: (U,) bool.
        targets: (N,) bool.
    """

    users: np.ndarray
    targets: np.ndarray


def select(train: Sequences, n_items: int, config: AnnealConfig) -> Selection:
    """The recipe's rule for "high-quality data": ``all``, or users and targets above two floors (§5)."""
    if config.select == "all":
        return Selection(np.ones(len(train), dtype=bool), np.ones(n_items, dtype=bool))
    popularity = np.bincount(train.items, minlength=n_items)
    return Selection(train.lengths >= config.min_interactions, popularity >= config.min_popularity)


def annealing_config(train: TrainConfig, anneal: AnnealConfig) -> TrainConfig:
    """The training settings of the annealing stage: its own epochs and rate, no contrast, validation as in training."""
    return train.model_copy(
        update={
            "epochs": anneal.epochs,
            "max_steps": anneal.max_steps,
            "learning_rate": anneal.learning_rate,
            "lambda_semantic": 0.0,
            "lambda_behaviour": 0.0,
            "evaluate_every": 0.0,
            "early_stopping": "none",
            "checkpoint_every": 0,
        }
    )


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


@torch.no_grad()
def comprehension(
    model: PreTrainedModel, vocabulary: Vocabulary, texts: Sequence[str], batch_size: int = 32, max_tokens: int = 128
) -> dict[str, float]:
    """How well a model still reads plain text (§7): perplexity and next-token accuracy.

    Args:
        texts: sentences no training task has shown.

    Returns:
        ``perplexity`` (per token), ``accuracy`` (share of next tokens that are the model's first choice),
        ``tokens`` (how many were predicted).
    """
    sequences = [vocabulary.start + ids for ids in vocabulary.encode(texts, max_tokens)]
    sequences = sorted((s for s in sequences if len(s) > 1), key=len)
    device = model.get_input_embeddings().weight.device
    loss, right, count = 0.0, 0, 0
    for first in range(0, len(sequences), batch_size):
        ids = pad_sequence(
            [torch.tensor(s) for s in sequences[first : first + batch_size]],
            batch_first=True,
            padding_value=vocabulary.pad_id,
        ).to(device)
        lengths = torch.tensor([len(s) for s in sequences[first : first + batch_size]], device=device)
        mask = torch.arange(ids.shape[1], device=device)[None] < lengths[:, None]
        logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits[:, :-1].float()
        following, kept = ids[:, 1:], mask[:, 1:]
        picked = logits.log_softmax(-1).gather(2, following[..., None])[..., 0]
        loss -= float(picked[kept].sum())
        right += int((logits.argmax(-1) == following)[kept].sum())
        count += int(kept.sum())
    return {"perplexity": float(np.exp(loss / count)), "accuracy": right / count, "tokens": count}


PLAIN_SENTENCES = (
    "The train leaves at seven and arrives before noon.",
    "She opened the window because the room was too warm.",
    "Water boils at a lower temperature on a mountain.",
    "My brother repaired the old bicycle with a piece of wire.",
    "The library closes early on Fridays during the summer.",
    "He wrote a letter to his grandmother every month.",
    "A good map shows the rivers as well as the roads.",
    "The children painted the fence green and yellow.",
    "We waited for an hour, but the bus never came.",
    "Bread is made of flour, water, salt and yeast.",
    "The judge asked the witness to repeat the answer.",
    "If it rains tomorrow, the match will be played indoors.",
    "The cat slept on the chair next to the stove.",
    "Most of the shops in the village sell local cheese.",
    "They measured the height of the tower with a rope.",
    "An honest mistake is easier to forgive than a clever lie.",
    "The doctor told him to walk for half an hour each day.",
    "Please bring your own cup and a pair of warm socks.",
    "The engine made a strange noise and then stopped.",
    "Nobody remembered who had locked the door.",
    "The first snow of the year fell during the night.",
    "Her new book tells the story of a lighthouse keeper.",
    "The price of apples has doubled since last autumn.",
    "He learned to play the piano when he was already fifty.",
)
