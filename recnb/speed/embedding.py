"""Text embedding against what a user would write instead: the same network, every field text as it stands.

All contestants hold the same loaded encoder and return the same (N, d_sem) table: what differs is what is computed for
it. Ours encodes each distinct text once, in batches of like length that a CPU's cache holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from recnb.embeddings.text import (
    TextEncoder,
    encoder_in_int8,
    field_texts,
    item_vectors,
    load_encoder,
    mean_by_row,
    pooled_states,
)
from recnb.errors import RecipeError

if TYPE_CHECKING:
    import pandas as pd

    from recnb.embeddings.settings import SemanticConfig


ROWS_PER_BATCH = 32  # of sentence-transformers' and most tutorials' loops


@torch.no_grad()
def one_by_one(texts: Sequence[str], encoder: TextEncoder, max_tokens: int) -> np.ndarray:
    """Every text in a pass of its own, as EAGER-LLM's release embeds items: (n, d) float32."""
    return np.concatenate([_encode([text], encoder, max_tokens) for text in texts])


@torch.no_grad()
def unsorted_batches(
    texts: Sequence[str], encoder: TextEncoder, max_tokens: int, batch_size: int = ROWS_PER_BATCH
) -> np.ndarray:
    """Batches in the order of the texts, each padded to its longest: (n, d) float32."""
    starts = range(0, len(texts), batch_size)
    return np.concatenate([_encode(texts[start : start + batch_size], encoder, max_tokens) for start in starts])


def embedding_contest(
    items: pd.DataFrame,
    config: SemanticConfig,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    cache: Path | None = None,
) -> dict[str, Callable[[], np.ndarray]]:
    """Contestants for :func:`recnb.speed.measure.contest`; the encoder is loaded here, not on the clock.

    Putting it in 8 bits is on the clock of ``ours, int8``, each time.

    Args:
        items: the catalogue.
        config: encoder, fields, batch size and cut.
        device, dtype, cache: as in :func:`recnb.embeddings.text.embed_items`.

    Returns:
        ``ours``, ``ours, int8`` (a CPU in float32), ``unsorted batches`` and ``one by one``: each returns (N, d_sem).

    Raises:
        RecipeError: the encoder does more than pool: the opponents' few lines would not give its vectors.
    """
    encoder = _plain_encoder(config, device, dtype, cache)
    texts, rows = field_texts(items, config.fields)

    def pool(found: Sequence[str], network: TextEncoder) -> np.ndarray:
        return pooled_states(found, network, config.batch_size, config.max_tokens)

    contestants = {"ours": lambda: item_vectors(items, config.fields, lambda found: pool(found, encoder))}
    if device == "cpu" and dtype == torch.float32:
        contestants["ours, int8"] = lambda: item_vectors(
            items, config.fields, lambda found: pool(found, encoder_in_int8(encoder, found, config.max_tokens))
        )

    def slow(encode: Callable[[Sequence[str], TextEncoder, int], np.ndarray]) -> Callable[[], np.ndarray]:
        return lambda: mean_by_row(encode(texts, encoder, config.max_tokens), rows, len(items))

    return contestants | {"unsorted batches": slow(unsorted_batches), "one by one": slow(one_by_one)}


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The smallest cosine between rows of two (n, d) tables: what "equal" means for embeddings.

    >>> least_cosine(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0], [0.0, 1.0]]))
    1.0
    """
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / lengths).min())


def _plain_encoder(config: SemanticConfig, device: str, dtype: torch.dtype, cache: Path | None) -> TextEncoder:
    encoder = load_encoder(config, device, dtype, cache)
    if not isinstance(encoder, TextEncoder):
        raise RecipeError(
            f"embeddings.semantic.model = {config.model}: expected a transformer with mean or cls pooling; this one "
            "has more modules, and the opponents' few lines would not give its vectors"
        )
    return encoder


def _encode(texts: Sequence[str], encoder: TextEncoder, max_tokens: int) -> np.ndarray:
    """One padded batch through tokenizer, network and pooling, as the transformers documentation writes it."""
    longest = min(max_tokens, encoder.tokenizer.model_max_length)
    batch = encoder.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
    batch = batch.to(next(encoder.backbone.parameters()).device)
    mask = batch["attention_mask"]
    hidden = encoder.backbone(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state.float()
    if encoder.pooling == "cls":
        first = mask.argmax(1)  # 0, or behind the padding where a tokenizer pads on the left
        vectors = hidden[torch.arange(len(hidden)), first]
    else:
        vectors = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    if encoder.normalise:
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
    return vectors.cpu().numpy()
