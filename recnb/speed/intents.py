"""Intents as a user would ask for them without recnb: every prompt written out, one at a time or padded in batches."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from recnb.llm.backbone import inference, pad_left
from recnb.llm.continuations import NO_TOKEN, Forks, continuations


def intent_contest(model: Any, forks: Forks, stops: Sequence[int], max_tokens: int,
                   batch_tokens: int) -> dict[str, Callable[[], np.ndarray]]:
    """Ways to continue all forks, greedily; each returns token ids (F, max_tokens), -1 behind an answer's end.

    Every setting of ``generate`` that changes an answer is set, so that all write the same; only the time differs.
    ``generate, batches`` holds about as many tokens at once as ``recnb``.
    """
    prompts, order = forks.prompts, np.argsort([-len(prompt) for prompt in forks.prompts], kind="stable")
    own = Forks([prompt[:cut] for prompt, cut in zip(prompts, forks.cuts, strict=True)], np.arange(len(prompts)),
                forks.cuts, forks.endings)  # fmt: skip
    at_once = max(1, batch_tokens // (max(map(len, prompts)) + max_tokens))

    def ours(asked: Forks) -> np.ndarray:
        return continuations(model, asked, stops, max_tokens, batch_tokens).ids

    def theirs(size: int) -> np.ndarray:
        found = np.full((len(prompts), max_tokens), NO_TOKEN, np.int64)
        for rows in np.split(order, np.arange(size, len(order), size)):
            written = _generated(model, [prompts[row] for row in rows], stops, max_tokens)
            found[rows, : written.shape[1]] = written
        return found

    return {
        "recnb, shared lists": lambda: ours(forks),
        "recnb, a list per prompt": lambda: ours(own),
        "generate, batches": lambda: theirs(at_once),
        "generate, one prompt at a time": lambda: theirs(1),
    }


def _generated(model: Any, prompts: Sequence[np.ndarray], stops: Sequence[int], max_tokens: int) -> np.ndarray:
    """(B, c) what ``generate`` writes behind B prompts, -1 behind the token that ends an answer."""
    pad = model.config.get_text_config(decoder=True).vocab_size - 1
    options = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=max_tokens, eos_token_id=list(stops), pad_token_id=pad
    )
    with inference(model) as causal:
        shipped, causal.generation_config = causal.generation_config, options
        try:
            ids, mask = (part.to(causal.device) for part in pad_left(prompts))
            found = causal.generate(input_ids=ids, attention_mask=mask, generation_config=options)[:, ids.shape[1] :]
        finally:
            causal.generation_config = shipped
    ended = torch.isin(found, torch.tensor(list(stops), device=found.device)).long()
    return found.masked_fill(ended.cumsum(1) - ended > 0, NO_TOKEN).cpu().numpy()


def same_answers(one: np.ndarray, other: np.ndarray) -> float:
    """Share of forks with the same tokens."""
    return float((one == other).all(1).mean())


def synthetic_forks(sessions: int, items: int, vocabulary: int, seed: int, line: int = 12, ending: int = 12) -> Forks:
    """All prefixes of ``sessions`` lists of ``items`` lines in two views, random tokens of lengths as titles have."""
    rng = np.random.default_rng(seed)
    lists = [rng.integers(1, vocabulary, line * (items + 1)) for _ in range(sessions)]
    rows = np.repeat(np.arange(sessions), 2 * items)
    cuts = np.tile(np.repeat(line * (np.arange(items) + 2), 2), sessions)
    return Forks(lists, rows, cuts, [rng.integers(1, vocabulary, ending) for _ in rows])
