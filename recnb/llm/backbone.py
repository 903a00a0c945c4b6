"""The backbone: a causal LM with a row for every new token, its head, and how it is asked without gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from recnb.errors import RecnbError
from recnb.llm.pretrained import converted, load_causal_lm, locate
from recnb.llm.settings import BackboneConfig
from recnb.llm.vocabulary import Vocabulary, train_tokenizer

if TYPE_CHECKING:
    pass


Prompts = Sequence[np.ndarray] | tuple[Tensor, Tensor]


def pad_left(prompts: Prompts, pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Prompts of any lengths -> ids (B, S) padded on the left and mask (B, S) of ones at real tokens.

    Raises:
        RecnbError: no prompts, or an empty one.
    """
    if isinstance(prompts, tuple) and len(prompts) == 2 and isinstance(prompts[0], Tensor):
        ids, mask = (torch.as_tensor(part).long() for part in prompts)
        if bool((mask[:, -1] == 0).any()):
            raise RecnbError("prompts: expected padding on the left (the last column of the mask all ones)")
        return ids, mask
    rows = [np.asarray(prompt, dtype=np.int64).reshape(-1) for prompt in prompts]
    if not rows or min(map(len, rows)) == 0:
        raise RecnbError("prompts: expected at least one prompt and at least one token in each")
    width = max(map(len, rows))
    padded = np.stack([np.pad(row, (width - len(row), 0), constant_values=pad_id) for row in rows])
    real = np.arange(width) >= width - np.array([[len(row)] for row in rows])  # (B, S)
    return torch.from_numpy(padded), torch.from_numpy(real).long()


@contextmanager
def inference(model: nn.Module) -> Iterator[Any]:
    """Evaluation mode without gradients; yields the bare causal LM (DDP and peft wrappers off, adapters in force).

    The mode is put back afterwards, so that a training loop may call it between steps.
    """
    causal: Any = getattr(model, "module", model)
    if hasattr(causal, "get_base_model"):  # peft: LoRA layers live inside the base model
        causal = causal.get_base_model()
    training = [module for module in causal.modules() if module.training]
    causal.eval()
    try:
        # not inference_mode: buffers a model makes here may meet autograd later
        with torch.no_grad():
            yield causal
    finally:
        for module in training:
            module.training = True


def build_tokenizer(config: BackboneConfig, texts: list[str]) -> PreTrainedTokenizerFast:
    """The base tokenizer: learned on the catalogue's text (scratch) or the pretrained model's own."""
    if config.kind == "scratch":
        return train_tokenizer(texts, config.vocabulary)
    tokenizer = AutoTokenizer.from_pretrained(converted(locate(config.model)), local_files_only=True)
    tokenizer.padding_side = "left"
    return tokenizer


def build_backbone(
    config: BackboneConfig, vocabulary: Vocabulary, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """A decoder-only LLM whose embedding table has a row for every token of ``vocabulary``.

    Args:
        config: sizes of a small Llama (scratch), or the name of a pretrained model.
        vocabulary: decides V.
        seed: initial weights.
        device: where the weights go.
        dtype: dtype of pretrained weights; training keeps float32 master weights either way.

    Raises:
        ModelNotFoundError: the pretrained model is not at hand.
    """
    torch.manual_seed(seed)
    if config.kind == "scratch":
        model: PreTrainedModel = LlamaForCausalLM(_llama_config(config, vocabulary))
        model.generation_config.do_sample = False
    else:
        model = load_causal_lm(config.model, dtype=dtype, device="cpu")[0]
        model.resize_token_embeddings(
            max(vocabulary.size, model.get_input_embeddings().num_embeddings), mean_resizing=False
        )
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model.to(device)  # type: ignore[arg-type]


def _llama_config(config: BackboneConfig, vocabulary: Vocabulary) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary.size,
        hidden_size=config.width,
        intermediate_size=config.feedforward,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=2048,
        attention_dropout=config.dropout,
        tie_word_embeddings=config.tie,
        bos_token_id=vocabulary.start[0] if vocabulary.start else None,
        eos_token_id=vocabulary.eos_id,
        pad_token_id=vocabulary.pad_id,
    )


@torch.no_grad()
def initialise_tokens(
    model: PreTrainedModel, vocabulary: Vocabulary, centroids: dict[str, np.ndarray] | None, seed: int
) -> None:
    """Give the added tokens a start: what they stand for, or the mean of the text tokens.

    With centroids, each column's (K, d_source) vectors are centred, projected to d_model by a seeded random
    orthogonal map (so that two sources do not share directions by accident), and scaled to the spread of the text
    embeddings around their mean. A column without centroids (random codes, or published ones without text), and
    ``[CON]``, start at the mean plus small noise; a code that no item has starts at the mean.
    """
    tables = {id(t): t for t in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)}
    rng = np.random.default_rng([seed, 4])
    for table in tables.values():
        text = np.setdiff1d(np.arange(min(vocabulary.size, len(table))), vocabulary.new_ids)
        rows = table[torch.as_tensor(text, device=table.device)].float()
        mean, spread = rows.mean(0).cpu().numpy(), float(rows.std())
        new = mean + 0.1 * spread * rng.standard_normal((len(vocabulary.new_ids), table.shape[1]))
        own = new[:-1].reshape(*vocabulary.index_tokens.shape, -1)  # (L, K, d), a view
        for place, column in enumerate(vocabulary.columns):
            if centroids is not None and column in centroids:
                own[place] = mean + spread * _projected(centroids[column], table.shape[1], rng)
        table[torch.as_tensor(vocabulary.new_ids, device=table.device)] = torch.as_tensor(
            new, dtype=table.dtype, device=table.device
        )


def _projected(vectors: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """(K, d) -> (K, width): centred, mapped by a random orthogonal matrix, unit variance over all entries."""
    used = np.abs(vectors).sum(1) > 0
    centred = np.where(used[:, None], vectors - vectors[used].mean(0), 0.0)
    if centred.shape[1] > width:  # keep the directions that carry the variance
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        centred = centred @ axes[:width].T
    basis, _ = np.linalg.qr(rng.standard_normal((width, width)))
    mapped = centred @ basis[: centred.shape[1]]
    return mapped / max(mapped.std(), 1e-8)


def head_logits(causal: Any, states: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
    """What the model's head makes of hidden states: float32 logits, with the final scaling its family applies.

    Args:
        causal: a transformers causal LM.
        states: (n, d) last hidden states.
        tokens: only these ids; a plain linear head then multiplies only their rows.

    Returns:
        (n, V) or (n, len(tokens)) float32.
    """
    head = causal.get_output_embeddings()
    if tokens is not None and type(head) is nn.Linear:
        bias = None if head.bias is None else head.bias[tokens].float()
        # a bfloat16 product would round its result: near ties between items would be decided by that
        logits = nn.functional.linear(states.float(), head.weight[tokens].float(), bias)
    else:
        logits = head(states) if tokens is None else head(states)[:, tokens]
    config = causal.config.get_text_config(decoder=True)
    if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits = logits / scaling
    if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits = logits * scale
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return logits.float()


def causal_lm(backbone: PreTrainedModel) -> PreTrainedModel:
    """The causal LM itself, also when a peft adapter is wrapped around it."""
    return backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone  # type: ignore[operator]
