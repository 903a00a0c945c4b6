"""Constrained beam search as a user would have it without recnb: transformers' ``generate`` and a trie of dicts.

This is how the code released with LC-Rec and its successors decodes, and how it evaluates: strings are compared, user
by user. Every option that changes a score is set, so that the opponent returns exactly what
:func:`recnb.llm.beam.beam_search` does; only the time differs.
"""

from collections.abc import Callable, Sequence
from math import log2
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from recnb.evaluation.metrics import metrics, target_ranks
from recnb.index.build import codes_per_level, random_codes
from recnb.index.settings import IndexConfig
from recnb.index.trie import Trie
from recnb.llm.backbone import inference, pad_left
from recnb.llm.beam import TokenScorer, beam_search, best_columns, recommend
from recnb.llm.settings import DecodeConfig
from recnb.llm.token_tree import TokenTree, read_shared
from recnb.llm.vocabulary import Vocabulary

Lists = tuple[np.ndarray, np.ndarray]  # tokens (U, W, L) and their log-probabilities (U, W), best first
# Parts of a beam search for recnb.speed.measure.parts_of; no function of one part calls one of another.
SEARCH_PARTS: dict[str, tuple[Callable[..., Any], ...]] = {
    "prefill": (TokenTree.__init__,),
    "reading chosen tokens": (TokenTree.read, TokenTree.follow),
    "head and softmax": (TokenScorer.__call__,),
    "trie and top-k": (Trie.branches, Trie.remaining, best_columns),
}


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


def generate(model: Any, prompts: Sequence[np.ndarray], tree: DictTrie, depth: int, width: int,
             once: bool = False) -> Lists:
    """One batch through transformers' beam search: ``width`` lists of ``depth`` tokens that the tree allows.

    Left to itself it lets every beam read the whole prompt; with ``once`` the prompt's keys and values are computed
    once and copied to the beams.
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


def _copied_cache(model: Any, ids: torch.Tensor, mask: torch.Tensor, width: int) -> Any:
    """Keys and values of all but the last prompt token, one copy per beam."""
    ids, mask = ids[:, :-1], mask[:, :-1]
    places = (mask.cumsum(1) - 1).clamp(min=0)
    read = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, logits_to_keep=1)
    read.past_key_values.batch_repeat_interleave(width)
    return read.past_key_values


def decoding_contest(model: Any, prompts: Sequence[np.ndarray], rows: np.ndarray, width: int,
                     batch_size: int) -> dict[str, Callable[[], Lists]]:
    """Ways to search for the items whose tokens are ``rows`` (N, L), ``batch_size`` prompts at a time.

    ``prefill alone``, the floor of all, returns no lists.
    """
    trie, tree, depth = Trie.from_tokens(rows), DictTrie(rows), rows.shape[1]
    batches = [list(prompts[i : i + batch_size]) for i in range(0, len(prompts), batch_size)]

    def ours(share: bool) -> Lists:
        shared = read_shared(model, prompts) if share else None
        found = [beam_search(model, batch, trie, width, shared=shared) for batch in batches]
        return rows[np.concatenate([f.items for f in found])], np.concatenate([f.scores for f in found])

    def theirs(once: bool) -> Lists:
        tokens, scores = zip(*(generate(model, batch, tree, depth, width, once) for batch in batches))
        return np.concatenate(tokens), np.concatenate(scores)

    def prefill() -> Lists:
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


def same_lists(one: Lists, other: Lists) -> tuple[float, float]:
    """Share of users whose lists are the same items in the same order, and the largest difference of two scores."""
    same = (one[0] == other[0]).all(axis=(1, 2))
    return float(same.mean()), float(np.abs(one[1] - other[1]).max())


def evaluation_contest(model: Any, vocabulary: Vocabulary, prompts: Sequence[np.ndarray], targets: np.ndarray,
                       config: DecodeConfig, cutoffs: Sequence[int]) -> dict[str, Callable[[], dict[str, float]]]:
    """A whole evaluation: U prompts and targets (U,) in, R@k and N@k out; both use the same beam and batch size."""
    items, decode, size = vocabulary.item_tokens, vocabulary.tokenizer.decode, config.batch_size

    def ours() -> dict[str, float]:
        lists, _ = recommend(model, prompts, Trie.from_tokens(items), config)
        return metrics(target_ranks(lists, targets), cutoffs)

    def theirs() -> dict[str, float]:
        tree, ranks = DictTrie(items), []
        for start in range(0, len(prompts), size):
            batch = slice(start, start + size)
            beams, _ = generate(model, prompts[batch], tree, items.shape[1], min(config.beam, len(items)))
            for said, target in zip(beams, targets[batch], strict=True):
                wanted = decode(items[target].tolist())
                ranks += [rank for rank, tokens in enumerate(said, 1) if decode(tokens.tolist()) == wanted]
        recall = {f"R@{k}": sum(rank <= k for rank in ranks) for k in cutoffs}
        gain = {f"N@{k}": sum(1 / log2(rank + 1) for rank in ranks if rank <= k) for k in cutoffs}
        return {name: total / len(prompts) for name, total in (recall | gain).items()}

    return {"recnb": ours, "generate and string metrics": theirs}


def small_llama(vocabulary: int, width: int, layers: int, seed: int) -> PreTrainedModel:
    """A Llama with random weights: the time of a search does not depend on what the weights are."""
    torch.manual_seed(seed)
    heads = max(1, width // 32)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=4096,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def synthetic_codes(n_items: int, first_token: int, seed: int) -> np.ndarray:
    """(N, 4) tokens like an index's: two sources that each tell all items apart by two codes below K = ceil(sqrt N)."""
    k = codes_per_level(n_items, IndexConfig())
    codes = np.hstack([random_codes(n_items, k, 2, 2 * seed), random_codes(n_items, k, 2, 2 * seed + 1)])
    return codes + first_token + k * np.arange(4)


def synthetic_prompts(count: int, beginning: int, history: int, rows: np.ndarray, first_token: int,
                      seed: int) -> list[np.ndarray]:
    """``count`` prompts: ``beginning`` text tokens that all share, then the tokens of ``history`` random items."""
    rng = np.random.default_rng(seed)
    start = rng.integers(1, first_token, beginning)
    return [np.concatenate([start, rows[rng.integers(len(rows), size=history)].ravel()]) for _ in range(count)]
