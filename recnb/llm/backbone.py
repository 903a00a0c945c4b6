"""The backbone: a causal LM with a row for every new token, its head, and how it is asked without gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from recnb.errors import RecnbError
from recnb.llm.pretrained import converted, load_causal_lm
from recnb.llm.settings import BackboneConfig
from recnb.llm.vocabulary import Vocabulary, train_tokenizer

LOGITS_AT_ONCE = 2**26  # 256 MiB of float32: rows x V never exceeds it, whatever the vocabulary


def build_tokenizer(config: BackboneConfig, texts: list[str]) -> PreTrainedTokenizerFast:
    """The base tokenizer: learned on the catalogue's text (scratch) or the pretrained model's own."""
    if config.kind == "scratch":
        return train_tokenizer(texts, config.vocabulary)
    tokenizer = AutoTokenizer.from_pretrained(converted(config.model), local_files_only=True)
    tokenizer.padding_side = "left"
    return tokenizer


def build_backbone(config: BackboneConfig, vocabulary: Vocabulary, seed: int, device: str = "cpu") -> PreTrainedModel:
    """A decoder-only LLM in float32, whose embedding table has a row for every token of ``vocabulary``.

    A small Llama of the recipe's sizes, its weights drawn by ``seed``, or a pretrained model.

    Raises:
        ModelNotFoundError: the pretrained model is not at hand.
    """
    torch.manual_seed(seed)
    if config.kind == "scratch":
        model: PreTrainedModel = LlamaForCausalLM(_llama_config(config, vocabulary))
        model.generation_config.do_sample = False
    else:
        model = load_causal_lm(config.model)[0]
        rows = max(vocabulary.size, model.get_input_embeddings().num_embeddings)
        model.resize_token_embeddings(rows, mean_resizing=False)
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


def causal_lm(backbone: Any) -> Any:
    """The causal LM itself, also when a peft adapter is wrapped around it: LoRA layers live inside the base model."""
    return backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone


@contextmanager
def inference(model: nn.Module) -> Iterator[Any]:
    """Evaluation mode without gradients; yields the bare causal LM (DDP and peft wrappers off, adapters in force).

    The mode is put back afterwards, so that a training loop may call it between steps.
    """
    causal = causal_lm(getattr(model, "module", model))
    training = [module for module in causal.modules() if module.training]
    causal.eval()
    try:
        # not inference_mode: buffers a model makes here may meet autograd later
        with torch.no_grad():
            yield causal
    finally:
        for module in training:
            module.training = True


def device_of(model: Any) -> torch.device:
    """Where a model's weights are."""
    return torch.device(next(model.parameters()).device)


def pad_left(prompts: Sequence[np.ndarray], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """B prompts of any lengths -> ids (B, S) padded on the left and mask (B, S) of ones at real tokens."""
    rows = [np.asarray(prompt, dtype=np.int64).reshape(-1) for prompt in prompts]
    if not rows or min(map(len, rows)) == 0:
        raise RecnbError("prompts: expected at least one prompt and at least one token in each")
    width = max(map(len, rows))
    padded = np.stack([np.pad(row, (width - len(row), 0), constant_values=pad_id) for row in rows])
    real = np.arange(width) >= width - np.array([[len(row)] for row in rows])  # (B, S)
    return torch.from_numpy(padded), torch.from_numpy(real).long()


def length_batches(lengths: np.ndarray, batch_size: int, max_tokens: int | None = None) -> list[np.ndarray]:
    """Rows of like length together, longest first: memory runs out at once or never. Rows of length 0 are left out.

    Args:
        lengths: (n,) tokens of each row; batch_size: most rows per batch.
        max_tokens: most tokens per batch, padding counted; a longer row stands alone. None: no limit.

    >>> [rows.tolist() for rows in length_batches(np.array([2, 9, 0, 3, 2]), 3, max_tokens=6)]
    [[1], [3, 0], [4]]
    """
    order, batches = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)], []
    while len(order):
        size = batch_size if max_tokens is None else max(1, min(batch_size, max_tokens // int(lengths[order[0]])))
        batches.append(order[:size])
        order = order[size:]
    return batches


def head_logits(causal: Any, states: Tensor, tokens: Tensor | None = None) -> Tensor:
    """What the head of a causal LM makes of last hidden states (n, d): (n, V) float32 logits, or those of m ``tokens``.

    A linear head multiplies in float32 whatever the dtype of states and weights, under autocast too: bfloat16 would
    round its result, and near ties between items would be decided by that. The scaling that a family applies at its end
    is in them.
    """
    head = causal.get_output_embeddings()
    if (linear := _linear_head(head)) is None:
        logits = head(states) if tokens is None else head(states)[:, tokens]
    else:
        rows = slice(None) if tokens is None else tokens
        table, bias = linear[0][rows].float(), None if linear[1] is None else linear[1][rows].float()
        with torch.autocast(states.device.type, enabled=False):
            logits = F.linear(states.float(), table, bias)
    config = causal.config.get_text_config(decoder=True)
    if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits = logits / scaling
    if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits = logits * scale
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return logits.float()


def rows_at_once(causal: Any) -> int:
    """How many states meet the head together, whatever the vocabulary."""
    return int(max(1, LOGITS_AT_ONCE // causal.config.get_text_config(decoder=True).vocab_size))


def _linear_head(head: Any) -> tuple[Tensor, Tensor | None] | None:
    """Table (V, d) and bias of a linear head, with what peft's adapters on it change; None: it is something else."""
    if hasattr(head, "modules_to_save"):  # trained as a whole
        head = head.original_module if head.disable_adapters else head.modules_to_save[head.active_adapters[0]]
    layer = getattr(head, "token_adapter", head)  # some rows trained
    base = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    if type(base) is not nn.Linear:
        return None
    table = base.weight
    for name in [] if layer is base or layer.disable_adapters or layer.merged else layer.active_adapters:
        if (adapted := _adapted(table.float(), layer, name)) is None:
            return None
        table = adapted
    return table, base.bias


def _adapted(table: Tensor, layer: Any, name: str) -> Tensor | None:
    """A head's table (V, d) in float32 as one adapter leaves it; None: of a kind that is not a change of the table."""
    if rows := getattr(layer, "token_indices", {}).get(name):
        index, trained = torch.tensor(rows, device=table.device), layer.trainable_tokens_delta[name]
        return table.index_copy(0, index, trained.float())  # not rounded to the table's dtype
    if name in getattr(layer, "lora_A", {}) and name not in layer.lora_variant:
        return table + layer.get_delta_weight(name).float()
    return None
