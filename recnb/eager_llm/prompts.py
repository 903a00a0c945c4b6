"""Prompts that ask a trained model: what comes next, what an item is, what somebody searches or likes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from recnb.eager_llm.recipe import TasksConfig
from recnb.eager_llm.templates import TEMPLATES
from recnb.llm.vocabulary import Vocabulary

# -- prompts for inference: always the first template ------------------------------------------------------------


def _first(vocabulary: Vocabulary, task: str) -> tuple[list[int], list[int]]:
    before, after = vocabulary.encode(TEMPLATES[task][0])
    return [*vocabulary.start, *before], after


def _history(vocabulary: Vocabulary, items: np.ndarray, separator: list[int]) -> np.ndarray:
    tokens = vocabulary.item_tokens[items[items >= 0]]
    tail = np.broadcast_to(np.array(separator, dtype=np.int64), (len(tokens), len(separator)))
    return np.concatenate([tokens, tail], axis=1).ravel()


def seqrec_prompts(
    vocabulary: Vocabulary, histories: Iterable[np.ndarray], config: TasksConfig, con_before: bool = False
) -> list[np.ndarray]:
    """Prompts that ask for the next item.

    Args:
        histories: U rows of item numbers, oldest first; -1 where there is none.
        con_before: the model was trained with ``con_position: before_response``; the prompt then ends with [CON].

    Returns:
        U arrays of token ids.
    """
    prefix, _ = _first(vocabulary, "seqrec")
    separator = vocabulary.encode([config.separator])[0] if config.separator else []
    tail = [vocabulary.con_id] if con_before else []
    return [np.concatenate([prefix, _history(vocabulary, row, separator), tail]).astype(np.int64) for row in histories]


def index2item_prompts(vocabulary: Vocabulary, items: np.ndarray, config: TasksConfig) -> list[np.ndarray]:
    """Prompts that ask for the text behind an item's tokens; ``items`` (M,)."""
    prefix, suffix = _first(vocabulary, "index2item")
    return [np.concatenate([prefix, vocabulary.item_tokens[i], suffix]).astype(np.int64) for i in items]


def itemsearch_prompts(
    vocabulary: Vocabulary, queries: Sequence[str], histories: np.ndarray | None, config: TasksConfig
) -> list[np.ndarray]:
    """Prompts that ask for an item by free text; ``histories`` (M, T) or None."""
    prefix, suffix = _first(vocabulary, "itemsearch")
    separator = vocabulary.encode([config.separator])[0] if config.separator else []
    encoded = vocabulary.encode(queries, config.max_text_tokens)
    rows = np.full((len(encoded), 1), -1) if histories is None else histories
    return [
        np.concatenate([prefix, query, suffix, _history(vocabulary, row, separator)]).astype(np.int64)
        for query, row in zip(encoded, rows, strict=True)
    ]


def preference_prompts(vocabulary: Vocabulary, histories: np.ndarray, config: TasksConfig) -> list[np.ndarray]:
    """Prompts that ask what a user likes; ``histories`` (U, T)."""
    prefix, suffix = _first(vocabulary, "preferenceobtain")
    separator = vocabulary.encode([config.separator])[0] if config.separator else []
    return [
        np.concatenate([prefix, _history(vocabulary, row, separator), suffix]).astype(np.int64) for row in histories
    ]
