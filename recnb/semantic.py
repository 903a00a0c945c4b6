"""What the text says: item text to semantic embeddings (N, d_sem). EAGER-LLM section 3.1.

Each text field (title, description, categories, brand) is embedded apart, and an item's embedding is the mean over the
fields it has. A field that an item lacks is skipped, not averaged in as zeros: zeros would pull items with poor text
together, whatever they are about.

Two kinds of encoder: a decoder-only language model (last hidden state, mean over the tokens: the paper) or a sentence
encoder (its own pooling: small, and the default on a CPU). Shown in ``notebooks/02_embeddings.ipynb``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from recnb.errors import DataError
from recnb.pretrained import load_causal_lm, load_sentence_encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from recnb.recipe import SemanticConfig


def embed_items(
    items: pd.DataFrame,
    config: SemanticConfig,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
    cache: Path | None = None,
) -> np.ndarray:
    """Semantic embedding of every item.

    Args:
        items: one row per item; text columns as in ``Dataset.items`` (missing: ``""`` or ``[]``).
        config: encoder, model, fields, batch size and cut.
        device: where the encoder runs.
        dtype: of the encoder's weights.
        progress: show a bar.
        cache: folder for converted models; see :func:`recnb.pretrained.locate`.

    Returns:
        (N, d_sem) float32. An item without any text gets the mean of the others, so that it stands nowhere in
        particular instead of at the origin; :func:`text_coverage` counts such items.

    Raises:
        DataError: no item has any text in these fields.
        ModelNotFoundError: the encoder is not on this machine.
    """
    texts, rows = field_texts(items, config.fields)
    if not texts:
        raise DataError(f"no item has text in the fields {', '.join(config.fields)}: nothing to embed")
    # Fields repeat (a genre list, a brand): each distinct text is encoded once.
    distinct, inverse = np.unique(np.array(texts, dtype=object), return_inverse=True)
    vectors = embed_texts(distinct.tolist(), config, device, dtype, progress, cache)
    return mean_by_row(vectors[inverse], rows, len(items))


def embed_texts(
    texts: Sequence[str],
    config: SemanticConfig,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
    cache: Path | None = None,
) -> np.ndarray:
    """Embed texts as they stand: (n, d_sem) float32, in the order given. Arguments as in :func:`embed_items`."""
    if config.encoder == "sentence":
        encoder = load_sentence_encoder(config.model, dtype, device, cache)
        encoder.max_seq_length = min(config.max_tokens, encoder.max_seq_length or config.max_tokens)
        vectors = encoder.encode(list(texts), batch_size=config.batch_size, show_progress_bar=progress)
        return np.asarray(vectors, dtype=np.float32)
    model, tokenizer = load_causal_lm(config.model, dtype, device, cache)
    return mean_hidden_states(texts, model, tokenizer, config.batch_size, config.max_tokens, progress)


@torch.inference_mode()
def mean_hidden_states(
    texts: Sequence[str],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int = 64,
    max_tokens: int = 128,
    progress: bool = False,
) -> np.ndarray:
    """Mean over a text's tokens of a causal language model's last hidden state.

    Batches hold texts of similar length, so little padding is computed; padding stands on the right, where causal
    attention cannot see it, and does not enter the mean. The tokenizer's own special tokens (a leading ``<bos>``)
    count as tokens, as in the paper's release. The head over the vocabulary is not computed.

    Returns:
        (n, d_model) float32, in the order given; a text without tokens gives zeros.
    """
    tokens = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    lengths = np.array([len(ids) for ids in tokens])
    order = np.argsort(-lengths, kind="stable")  # longest first: memory runs out at once or never
    vectors = np.zeros((len(tokens), model.config.get_text_config().hidden_size), dtype=np.float32)
    backbone = model.base_model.eval()
    for start in tqdm(range(0, len(order), batch_size), desc="embedding texts", disable=not progress):
        chosen = order[start : start + batch_size]
        ids, mask = _right_padded([tokens[i] for i in chosen], tokenizer.pad_token_id or 0, model.device)
        if ids.shape[1] == 0:
            break  # sorted: only texts without tokens are left
        hidden = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state  # (B, S, d_model)
        vectors[chosen] = _masked_mean(hidden.float(), mask).cpu().numpy()
    return vectors


def field_texts(items: pd.DataFrame, fields: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The texts that are present, field by field, and the item each belongs to.

    A list (categories) is joined by ``", "``. White space counts as missing.

    Returns:
        n texts, and (n,) int64 item numbers.
    """
    texts: list[str] = []
    rows: list[np.ndarray] = []
    for field in fields:
        column = items[field].map(_as_text) if field in items else pd.Series("", index=items.index)
        present = np.flatnonzero(column.to_numpy(dtype=object) != "")
        texts += column.iloc[present].tolist()
        rows.append(present.astype(np.int64))
    return texts, np.concatenate(rows)


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
    counts = {field: len(field_texts(items, [field])[1]) for field in fields}
    with_text = np.unique(field_texts(items, fields)[1])
    return counts | {"without_text": len(items) - len(with_text)}


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(text for text in map(_as_text, value) if text)
    return ""


def _right_padded(tokens: list[list[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both (B, S) int64."""
    ids = [torch.tensor(row, dtype=torch.long) for row in tokens]
    mask = [torch.ones_like(row) for row in ids]
    padded = torch.nn.utils.rnn.pad_sequence
    return (
        padded(ids, batch_first=True, padding_value=pad).to(device),
        padded(mask, batch_first=True, padding_value=0).to(device),
    )


def _masked_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, S, d), (B, S) -> (B, d): the mean over the positions whose mask is 1; zeros where there are none."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
