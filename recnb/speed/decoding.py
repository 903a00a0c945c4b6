"""Constrained beam search as a user would have it without recnb: transformers' ``generate`` and a trie of dicts.

This is how the code released with LC-Rec and its successors decodes. Every option that changes a score is set, so that
the opponent returns exactly what :func:`recnb.llm.beam.beam_search` does; only the time differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from recnb.index.build import codes_per_level
from recnb.index.settings import IndexConfig
from recnb.index.trie import Trie
from recnb.llm.backbone import inference, pad_left
from recnb.llm.beam import beam_search
from recnb.llm.token_tree import read_shared


class DictTrie:
    """The usual prefix tree: nested dicts, asked one prefix at a time."""

    def __init__(self, rows: np.ndarray) -> None:
        self.root: dict[int, Any] = {}
        for row in rows.tolist():
            node = self.root
            for token in row:
                node = node.setdefault(token, {})

    def allowed(self, prefix: Sequence[int]) -> list[int]:
        """Tokens that may follow."""
        node = self.root
        for token in prefix:
            node = node.get(token, {})
        return list(node)


def generate(
    model: Any, prompts: Sequence[np.ndarray], tree: DictTrie, depth: int, width: int, once: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """One batch through transformers' beam search with ``prefix_allowed_tokens_fn``.

    Args:
        model: a causal LM.
        prompts: B arrays of token ids.
        tree: asked for the tokens that may follow each beam.
        depth: L.
        width: W.
        once: compute the prompt's keys and values once and copy them to the beams; else, as ``generate`` does by
            itself, every beam reads the whole prompt.

    Returns:
        tokens (B, W, L) and log-probabilities (B, W), best first.
    """
    ids, mask = (part.to(model.device) for part in pad_left(prompts))
    length = ids.shape[1]
    options = GenerationConfig(
        num_beams=width, num_return_sequences=width, max_new_tokens=depth, min_new_tokens=depth, do_sample=False,
        length_penalty=0.0, early_stopping=True, pad_token_id=0, eos_token_id=None, bos_token_id=None,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    with torch.inference_mode():
        cache = {"past_key_values": _copied_cache(model, ids, mask, width)} if once else {}
        found = model.generate(
            input_ids=ids, attention_mask=mask, generation_config=options, **cache,
            prefix_allowed_tokens_fn=lambda _, row: tree.allowed(row[length:].tolist()),
        )  # fmt: skip
    tokens = found.sequences[:, length:].reshape(len(ids), width, depth)
    return tokens.cpu().numpy(), found.sequences_scores.reshape(len(ids), width).float().cpu().numpy()


def _copied_cache(model: Any, ids: torch.Tensor, mask: torch.Tensor, width: int) -> DynamicCache:
    """Keys and values of all but the last prompt token, one copy per beam."""
    places = (mask.cumsum(1) - 1).clamp(min=0)
    found = model(
        input_ids=ids[:, :-1], attention_mask=mask[:, :-1], position_ids=places[:, :-1], use_cache=True,
        logits_to_keep=1,
    )  # fmt: skip
    found.past_key_values.batch_repeat_interleave(width)
    return found.past_key_values


def decoding_contest(
    model: Any, prompts: Sequence[np.ndarray], rows: np.ndarray, width: int, batch_size: int
) -> dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]]:
    """Contestants for :func:`recnb.speed.measure.contest`; each returns tokens (U, W, L) and scores (U, W).

    Args:
        model: a causal LM.
        prompts: U arrays of token ids that begin alike.
        rows: (N, L) tokens of the items.
        width: W.
        batch_size: prompts at a time, for all.
    """
    trie, tree, depth = Trie.from_tokens(rows), DictTrie(rows), rows.shape[1]
    batches = [list(prompts[i : i + batch_size]) for i in range(0, len(prompts), batch_size)]

    def ours(share: bool) -> tuple[np.ndarray, np.ndarray]:
        shared = read_shared(model, prompts) if share else None
        found = [beam_search(model, batch, trie, width, shared=shared) for batch in batches]
        return rows[np.concatenate([f.items for f in found])], np.concatenate([f.scores for f in found])

    def theirs(once: bool) -> tuple[np.ndarray, np.ndarray]:
        found = [generate(model, batch, tree, depth, width, once) for batch in batches]
        return np.concatenate([tokens for tokens, _ in found]), np.concatenate([scores for _, scores in found])

    def prefill() -> tuple[np.ndarray, np.ndarray]:
        with inference(model) as causal:
            for batch in batches:
                ids, mask = (part.to(causal.device) for part in pad_left(batch))
                causal.base_model(input_ids=ids, attention_mask=mask, use_cache=True)
        return np.empty(0), np.empty(0)

    return {
        "recnb, shared beginning cached": lambda: ours(True),
        "recnb": lambda: ours(False),
        "prefill alone": prefill,
        "generate, prompt cached once": lambda: theirs(True),
        "generate, trie of dicts": lambda: theirs(False),
    }


def same_lists(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Share of users whose lists are the same items in the same order, and the largest difference of two scores."""
    (tokens, scores), (others, their_scores) = one, other
    same = (tokens == others).all(axis=(1, 2))
    return float(same.mean()), float(np.abs(scores - their_scores).max())


def small_llama(vocabulary: int, width: int, layers: int, seed: int) -> PreTrainedModel:
    """A Llama with random weights: the time of a search does not depend on what the weights are."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32), num_key_value_heads=max(1, width // 32), max_position_embeddings=4096,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def synthetic_codes(n_items: int, first_token: int, seed: int, levels: int = 2) -> np.ndarray:
    """(N, 2 * levels) tokens like an index's: two sources that each tell all items apart, K = ceil(N^(1/levels))."""
    rng = np.random.default_rng(seed)
    k = codes_per_level(n_items, IndexConfig(levels=levels))
    columns = [
        order // k**power % k for order in (rng.permutation(n_items), rng.permutation(n_items))
        for power in reversed(range(levels))
    ]  # fmt: skip
    return np.stack(columns, axis=1) + first_token + k * np.arange(2 * levels)


def synthetic_prompts(
    count: int, beginning: int, history: int, rows: np.ndarray, first_token: int, seed: int
) -> list[np.ndarray]:
    """``count`` prompts: ``beginning`` text tokens that all share, then the tokens of ``history`` random items."""
    rng = np.random.default_rng(seed)
    start = rng.integers(1, first_token, beginning)
    return [np.concatenate([start, rows[rng.integers(len(rows), size=history)].ravel()]) for _ in range(count)]
