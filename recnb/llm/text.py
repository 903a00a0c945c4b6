"""Plain text: whether a model still reads it, and what it writes after a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel

from recnb.llm.backbone import inference, pad_left
from recnb.llm.vocabulary import Vocabulary


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


def without_adapter(model: nn.Module) -> AbstractContextManager[Any]:
    """Within it a peft model answers as its backbone alone; a model without adapter is left as it is."""
    return model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()  # type: ignore[operator]


def greedy_text(
    model: nn.Module, prompts: Sequence[np.ndarray], vocabulary: Any, max_tokens: int, batch_size: int = 32
) -> list[str]:
    """What the model writes after each prompt, always the most probable token.

    ``generate`` falls back to the settings a model was shipped with wherever one is not given; a sampling default then
    turns an answer into noise. So every option is given here, and the model's own settings are laid aside.

    Args:
        model: causal LM, also wrapped by peft.
        prompts: M arrays of token ids.
        vocabulary: gives ``pad_id``, ``eos_id``, ``con_id`` and ``decode``.
        max_tokens: longest answer.
        batch_size: prompts per batch.
    """
    options = GenerationConfig(
        do_sample=False, num_beams=1, num_return_sequences=1, max_new_tokens=max_tokens, min_new_tokens=0,
        temperature=1.0, top_k=50, top_p=1.0, typical_p=1.0, epsilon_cutoff=0.0, eta_cutoff=0.0,
        repetition_penalty=1.0, encoder_repetition_penalty=1.0, length_penalty=1.0, no_repeat_ngram_size=0,
        renormalize_logits=False, remove_invalid_values=False, use_cache=True, pad_token_id=vocabulary.pad_id,
        eos_token_id=[vocabulary.eos_id, vocabulary.con_id],
    )  # fmt: skip
    texts: list[str] = []
    with inference(model) as causal:
        shipped, causal.generation_config = causal.generation_config, GenerationConfig()
        try:
            for start in range(0, len(prompts), batch_size):
                ids, mask = pad_left(prompts[start : start + batch_size], vocabulary.pad_id)
                ids, mask = ids.to(causal.device), mask.to(causal.device)
                written = causal.generate(input_ids=ids, attention_mask=mask, generation_config=options)
                texts += [vocabulary.decode(row) for row in written[:, ids.shape[1] :].tolist()]
        finally:
            causal.generation_config = shipped
    return texts
