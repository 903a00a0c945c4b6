"""A whole evaluation as the released codes run it: generate, decode to strings, compare strings user by user."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recnb.evaluation.metrics import metrics, target_ranks
from recnb.index.trie import Trie
from recnb.llm.beam import recommend
from recnb.llm.settings import DecodeConfig
from recnb.llm.vocabulary import Vocabulary
from recnb.speed.decoding import DictTrie, generate


def evaluation_contest(
    model: Any,
    vocabulary: Vocabulary,
    prompts: Sequence[np.ndarray],
    targets: np.ndarray,
    config: DecodeConfig,
    cutoffs: Sequence[int],
) -> dict[str, Callable[[], dict[str, float]]]:
    """Prompts in, R@k and N@k out; both return the same dict.

    Args:
        model: the trained model.
        vocabulary: its tokens, with those of every item.
        prompts: U prompts.
        targets: (U,) items.
        config: beam and batch size, the same for both.
        cutoffs: k.
    """

    def ours() -> dict[str, float]:
        trie = Trie.from_tokens(vocabulary.item_tokens)
        lists, _ = recommend(model, prompts, trie, config)
        return metrics(target_ranks(lists, targets), cutoffs)

    def theirs() -> dict[str, float]:
        tree, width = DictTrie(vocabulary.item_tokens), min(config.beam, len(vocabulary.item_tokens))
        sums = {f"{letter}@{k}": 0.0 for letter in "RN" for k in cutoffs}
        for start in range(0, len(prompts), config.batch_size):
            batch = prompts[start : start + config.batch_size]
            tokens, _ = generate(model, batch, tree, vocabulary.item_tokens.shape[1], width)
            for row, target in zip(tokens, targets[start : start + config.batch_size], strict=True):
                said = [vocabulary.tokenizer.decode(beam.tolist()) for beam in row]
                wanted = vocabulary.tokenizer.decode(vocabulary.item_tokens[target].tolist())
                _count(sums, said, wanted, cutoffs)
        return {name: total / len(prompts) for name, total in sums.items()}

    return {"recnb": ours, "generate and string metrics": theirs}


def _count(sums: dict[str, float], said: list[str], wanted: str, cutoffs: Sequence[int]) -> None:
    """Add one user's hits and gains, string by string."""
    for k in cutoffs:
        for rank, text in enumerate(said[:k]):
            if text == wanted:
                sums[f"R@{k}"] += 1
                sums[f"N@{k}"] += 1 / math.log2(rank + 2)
