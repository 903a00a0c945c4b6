"""Text embedding against what a user would write instead: the same network, every field text as it stands.

All contestants hold the same loaded encoder and return the same (N, d_sem) table: what differs is what is computed for
it. Ours encodes each distinct text once, in batches of like length that a CPU's cache holds.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from recnb.embeddings.settings import SemanticConfig
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

ROWS_PER_BATCH = 32  # of sentence-transformers' and most tutorials' loops


def embedding_contest(items: pd.DataFrame, config: SemanticConfig,
                      device: str = "cpu") -> dict[str, Callable[[], np.ndarray]]:
    """Ways to embed a catalogue, each (N, d_sem); the encoder is loaded here, not on the clock.

    ``ours``; ``ours, int8`` (on a CPU; putting the encoder in 8 bits is on its clock); ``unsorted batches``; ``one by
    one``, as EAGER-LLM's release embeds items.

    Raises:
        RecipeError: the encoder does more than pool: the opponents' few lines would not give its vectors.
    """
    encoder = load_encoder(config, device)
    if not isinstance(encoder, TextEncoder):
        raise RecipeError(
            f"embeddings.semantic.model = {config.model}: expected a transformer with mean or cls pooling; this one "
            "has more modules, and the opponents' few lines would not give its vectors"
        )
    texts, rows = field_texts(items, config.fields)

    def ours(network: Callable[[Sequence[str]], TextEncoder]) -> Callable[[], np.ndarray]:
        def encode(found: Sequence[str]) -> np.ndarray:
            return pooled_states(found, network(found), config.batch_size, config.max_tokens)

        return lambda: item_vectors(items, config.fields, encode)

    def theirs(batch_size: int) -> Callable[[], np.ndarray]:
        return lambda: mean_by_row(as_they_come(texts, encoder, config.max_tokens, batch_size), rows, len(items))

    contestants = {"ours": ours(lambda found: encoder)}
    if device == "cpu":
        contestants["ours, int8"] = ours(lambda found: encoder_in_int8(encoder, found, config.max_tokens))
    return contestants | {"unsorted batches": theirs(ROWS_PER_BATCH), "one by one": theirs(1)}


@torch.no_grad()
def as_they_come(texts: list[str], encoder: TextEncoder, max_tokens: int, batch_size: int) -> np.ndarray:
    """Batches in the order of the texts, each padded to its longest, as model cards write it: (n, d) float32."""
    longest, vectors = min(max_tokens, encoder.tokenizer.model_max_length), []
    options = {"padding": True, "padding_side": "right", "truncation": True, "max_length": longest}
    for start in range(0, len(texts), batch_size):
        batch = encoder.tokenizer(texts[start : start + batch_size], **options, return_tensors="pt")
        ids, mask = (batch[part].to(encoder.backbone.device) for part in ("input_ids", "attention_mask"))
        hidden = encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (b, S, d)
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        pooled = hidden[:, 0] if encoder.pooling == "cls" else mean
        vectors.append(F.normalize(pooled, dim=-1) if encoder.normalise else pooled)
    return torch.cat(vectors).cpu().numpy()
