"""What the text says: item text to semantic embeddings (N, d_sem). EAGER-LLM section 3.1.

Each text field (title, description, categories, brand) is embedded apart, and an item's embedding is the mean over the
fields it has. A field that an item lacks is skipped, not averaged in as zeros: zeros would pull items with poor text
together, whatever they are about.

Two kinds of encoder: a decoder-only language model (last hidden state, mean over the tokens: the paper) or a sentence
encoder (its own pooling: small, and the default on a CPU). Shown in ``notebooks/02_embeddings.ipynb``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from recnb import distributed
from recnb.embeddings.int8 import in_int8
from recnb.embeddings.settings import SemanticConfig
from recnb.errors import DataError, RecipeError, ResourceError
from recnb.llm.backbone import length_batches
from recnb.llm.pretrained import load_causal_lm, load_sentence_encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase


TOKENS_IN_CACHE = 1024  # tokens per pass on a CPU: their activations and a layer's weights stay in its cache
TEXTS_SHOWN = 64  # to a network that is put in 8 bits
INT8 = "embeddings.semantic.precision = int8"


def embed_items(
    items: pd.DataFrame,
    config: SemanticConfig,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
    cache: Path | None = None,
) -> np.ndarray:
    """Semantic embedding of every item: (N, d_sem) float32.

    An item without any text gets the mean of the others, so that it stands nowhere in particular instead of at the
    origin; :func:`text_coverage` counts such items. Rows and text columns of ``items`` are those of
    :class:`recnb.data.Dataset`; device and dtype are the encoder's, ``cache`` a folder for converted models
    (:func:`recnb.llm.pretrained.locate`).

    Raises:
        DataError: no item has any text in these fields.
        ModelNotFoundError: the encoder is not on this machine.
        ResourceError: ``precision: int8`` on anything but a CPU in float32.
        RecipeError: ``precision: int8`` with an encoder that only sentence-transformers can run.
    """
    return item_vectors(items, config.fields, lambda texts: embed_texts(texts, config, device, dtype, progress, cache))


def item_vectors(
    items: pd.DataFrame, fields: Sequence[str], encode: Callable[[Sequence[str]], np.ndarray]
) -> np.ndarray:
    """:func:`embed_items` with any encoder, n texts -> (n, d); each distinct text (a genre list, a brand) goes once."""
    texts, rows = field_texts(items, fields)
    if not texts:
        raise DataError(
            f"no item has text in the fields {', '.join(fields)}: nothing to embed; a catalogue without text needs "
            "embeddings.semantic.encoder: none"
        )
    distinct, inverse = np.unique(np.array(texts, dtype=object), return_inverse=True)
    return mean_by_row(encode(distinct.tolist())[inverse], rows, len(items))


def embed_texts(
    texts: Sequence[str],
    config: SemanticConfig,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
    cache: Path | None = None,
) -> np.ndarray:
    """Embed texts as they stand: (n, d_sem) float32, in the order given. Arguments as in :func:`embed_items`."""
    int8 = config.precision == "int8"
    if int8 and (device != "cpu" or dtype != torch.float32):
        here = f"{device} in {str(dtype).removeprefix('torch.')}"
        raise ResourceError(f"{INT8} is for CPUs in float32, and this run is on {here}: expected auto")
    encoder = load_encoder(config, device, dtype, cache)
    if isinstance(encoder, TextEncoder):
        encoder = encoder_in_int8(encoder, texts, config.max_tokens) if int8 else encoder
        return pooled_states(texts, encoder, config.batch_size, config.max_tokens, progress)
    if int8:
        raise RecipeError(f"{INT8} needs a plain encoder, and {config.model} has modules of its own: expected auto")
    vectors = encoder.encode(list(texts), batch_size=config.batch_size, show_progress_bar=progress)
    return np.asarray(vectors, dtype=np.float32)


@dataclass(frozen=True)
class TextEncoder:
    """A transformer, and how the states of a text's tokens become one vector.

    Attributes:
        backbone: token ids -> last hidden state (B, S, d); in evaluation mode.
        tokenizer: with a pad token; its ``model_max_length`` is the longest text the backbone reads.
        pooling: ``mean`` over the tokens, or ``cls``: the first token's state.
        normalise: whether vectors get length 1.
    """

    backbone: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    pooling: Literal["mean", "cls"] = "mean"
    normalise: bool = False

    @property
    def device(self) -> torch.device:
        """Where the backbone is."""
        return next(self.backbone.parameters()).device


def load_encoder(
    config: SemanticConfig, device: str = "cpu", dtype: torch.dtype = torch.float32, cache: Path | None = None
) -> TextEncoder | SentenceTransformer:
    """The recipe's encoder: a :class:`TextEncoder` if that says it all, else the sentence-transformers model.

    A sentence encoder with modules beyond transformer, mean or cls pooling, and normalisation (a dense layer, a default
    prompt) stays with sentence-transformers, which knows what they mean.

    Raises:
        ModelNotFoundError: the encoder is not on this machine.
        RecipeError: ``encoder: none``.
    """
    if config.encoder == "none":
        raise RecipeError("embeddings.semantic.encoder = 'none': nothing reads text; expected sentence or causal-lm")
    if config.encoder == "sentence":
        sentence = load_sentence_encoder(config.model, dtype, device, cache)
        sentence.max_seq_length = min(config.max_tokens, sentence.max_seq_length or config.max_tokens)
        return _as_text_encoder(sentence) or sentence
    model, tokenizer = load_causal_lm(config.model, dtype, device, cache)
    model.config.get_text_config().use_cache = False
    return TextEncoder(model.base_model, tokenizer)  # the head over the vocabulary is not computed


def encoder_in_int8(encoder: TextEncoder, texts: Sequence[str], max_tokens: int = 128) -> TextEncoder:
    """The same encoder with its linear layers in 8 bits, fitted to what its activations are on some of these texts.

    Faster on a CPU, and not the same vectors: an exercise of ``notebooks/02_embeddings.ipynb`` counts the neighbours it
    costs.
    """
    tokens = _token_ids(list(texts)[:: max(1, len(texts) // TEXTS_SHOWN)], encoder, max_tokens)

    def show(network: torch.nn.Module) -> None:  # all of it in every process: they must agree
        shown = replace(encoder, backbone=network)
        for rows in _batches(tokens, len(tokens), shown):
            _one_pass(tokens, rows, shown)

    return replace(encoder, backbone=in_int8(encoder.backbone, show))


def pooled_states(
    texts: Sequence[str], encoder: TextEncoder, batch_size: int = 64, max_tokens: int = 128, progress: bool = False
) -> np.ndarray:
    """(n, d_model) float32: one vector per text from the last hidden states of its tokens; zeros for one without
    tokens.

    Batches hold texts of like length, counted in tokens, so next to no padding is computed; padding stands on the
    right and does not enter the mean. A tokenizer's own special tokens (a leading ``<bos>``) count as tokens, as in
    the paper's release. A pass has at most ``batch_size`` texts and on a CPU :data:`TOKENS_IN_CACHE` tokens; a text is
    cut at ``max_tokens``.
    """
    tokens = _token_ids(texts, encoder, max_tokens)
    vectors = np.zeros((len(tokens), encoder.backbone.config.get_text_config().hidden_size), dtype=np.float32)
    batches = _batches(tokens, batch_size, encoder)
    for rows in tqdm(distributed.share(batches), desc="embedding texts", disable=not progress):
        vectors[rows] = _one_pass(tokens, rows, encoder)
    return distributed.gather_rows(vectors, batches)


def field_texts(items: pd.DataFrame, fields: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The n texts that are present, field by field, and the items (n,) int64 that they belong to.

    A list (categories) is joined by ``", "``. White space counts as missing.
    """
    columns = [map(_as_text, items[field]) for field in fields if field in items]
    found = [(text, row) for column in columns for row, text in enumerate(column) if text]
    return [text for text, _ in found], np.array([row for _, row in found], dtype=np.int64)


def mean_by_row(vectors: np.ndarray, rows: np.ndarray, n_rows: int) -> np.ndarray:
    """Mean of the vectors of each row: (n, d), (n,) -> (n_rows, d) float32; a row without any gets the others' mean.

    >>> mean_by_row(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), np.array([0, 0, 2]), 3).tolist()
    [[2.0, 0.0], [1.0, 2.5], [0.0, 5.0]]
    """
    counts = np.bincount(rows, minlength=n_rows)
    sums = np.zeros((n_rows, vectors.shape[1]), dtype=np.float64)
    np.add.at(sums, rows, vectors)
    present = counts > 0
    means = sums / np.maximum(counts, 1)[:, None]
    means[~present] = means[present].mean(axis=0)
    return means.astype(np.float32)


def text_coverage(items: pd.DataFrame, fields: Sequence[str]) -> dict[str, int]:
    """How many items have each field, and how many have none (``without_text``: those get the mean embedding).

    >>> text_coverage(pd.DataFrame({"title": ["Heat", ""], "categories": [["Crime"], []]}), ["title", "categories"])
    {'title': 1, 'categories': 1, 'without_text': 1}
    """
    counts = {field: len(field_texts(items, [field])[0]) for field in fields}
    return counts | {"without_text": len(items) - len(np.unique(field_texts(items, fields)[1]))}


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    names = value if isinstance(value, list | tuple | np.ndarray) else []
    return ", ".join(filter(None, map(_as_text, names)))


def _token_ids(texts: Sequence[str], encoder: TextEncoder, max_tokens: int) -> list[list[int]]:
    longest = min(max_tokens, encoder.tokenizer.model_max_length)
    return encoder.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]


def _batches(tokens: list[list[int]], batch_size: int, encoder: TextEncoder) -> list[np.ndarray]:
    limit = TOKENS_IN_CACHE if encoder.device.type == "cpu" else None
    return length_batches(np.array([len(ids) for ids in tokens]), batch_size, limit)


@torch.inference_mode()
def _one_pass(tokens: list[list[int]], rows: np.ndarray, encoder: TextEncoder) -> np.ndarray:
    """Vectors of these rows: (b, d) float32."""
    ids = pad_sequence([torch.tensor(tokens[i]) for i in rows], batch_first=True, padding_value=-1).to(encoder.device)
    mask = (ids >= 0).long()  # (b, S)
    ids = ids.masked_fill(ids < 0, encoder.tokenizer.pad_token_id or 0)
    hidden = encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (b, S, d)
    if encoder.pooling == "cls":
        vectors = hidden[:, 0]
    else:
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        vectors = (hidden * weights).sum(1) / weights.sum(1)
    return (functional.normalize(vectors, dim=-1) if encoder.normalise else vectors).cpu().numpy()


def _as_text_encoder(sentence: SentenceTransformer) -> TextEncoder | None:
    """The same encoder without sentence-transformers around it; None if that would leave something out."""
    from sentence_transformers.models import Normalize, Pooling, Transformer

    modules: list[Any] = list(sentence)
    kinds = [type(module) for module in modules]
    if kinds not in ([Transformer, Pooling], [Transformer, Pooling, Normalize]):
        return None
    transformer, pooling = modules[:2]
    special = (sentence.default_prompt_name, sentence.truncate_dim, transformer.processing_kwargs)
    if any(special) or pooling.pooling_mode not in ("mean", "cls") or transformer.backend != "torch":
        return None
    return TextEncoder(transformer.auto_model.eval(), sentence.tokenizer, pooling.pooling_mode, len(kinds) == 3)
