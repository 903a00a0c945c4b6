"""Plain text: whether a model still reads it, and what it writes after a prompt."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from recnb.llm.scoring import write
from recnb.llm.vocabulary import Vocabulary

PLAIN_SENTENCES = tuple((Path(__file__).parent / "plain_sentences.txt").read_text(encoding="utf-8").splitlines())
MAX_TOKENS = 128  # of a text that is read


@torch.no_grad()
def comprehension(
    model: PreTrainedModel, vocabulary: Vocabulary, texts: Sequence[str], batch_size: int = 32
) -> dict[str, float]:
    """How well a model still reads plain text (§7), sentences that no training task has shown. Returns ``perplexity``
    (per token), ``accuracy`` (share of next tokens that are the model's first choice), ``tokens`` (how many were
    predicted).
    """
    sequences = [vocabulary.start + ids for ids in vocabulary.encode(texts, MAX_TOKENS)]
    sequences = sorted((s for s in sequences if len(s) > 1), key=len)
    device = model.get_input_embeddings().weight.device
    loss, right, count = 0.0, 0, 0
    for first in range(0, len(sequences), batch_size):
        batch = [torch.tensor(s) for s in sequences[first : first + batch_size]]
        ids = pad_sequence(batch, batch_first=True, padding_value=vocabulary.pad_id).to(device)
        mask = pad_sequence([torch.ones_like(s) for s in batch], batch_first=True).bool().to(device)
        logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits[:, :-1].float()
        following, kept = ids[:, 1:], mask[:, 1:]
        picked = logits.log_softmax(-1).gather(2, following[..., None])[..., 0]
        loss -= float(picked[kept].sum())
        right += int((logits.argmax(-1) == following)[kept].sum())
        count += int(kept.sum())
    return {"perplexity": float(np.exp(loss / count)), "accuracy": right / count, "tokens": count}


def without_adapter(model: nn.Module) -> AbstractContextManager[Any]:
    """Within it a peft model answers as its backbone alone; a model without adapter is left as it is."""
    return model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()  # type: ignore[operator]


def greedy_text(model: nn.Module, prompts: Sequence[np.ndarray], vocabulary: Any, max_tokens: int) -> list[str]:
    """What the model, also wrapped by peft, writes after each prompt, always the most probable token, as text.

    ``vocabulary`` gives ``eos_id`` and ``con_id``, which end an answer of at most ``max_tokens``, and ``decode``.
    """
    ends = [vocabulary.eos_id, vocabulary.con_id]
    return [vocabulary.decode(ids) for ids in write(model, prompts, max_tokens, ends)] if prompts else []
