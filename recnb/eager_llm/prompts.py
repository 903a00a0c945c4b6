"""What the model reads: instructions, items as tokens and text; and the prompts that ask it once it is trained."""

from collections.abc import Iterable, Sequence

import numpy as np

from recnb.eager_llm.recipe import TasksConfig
from recnb.eager_llm.templates import TEMPLATES
from recnb.llm.vocabulary import Vocabulary


class Pieces:
    """What prompts are put together from, as token ids.

    Attributes:
        separator: stands behind each item of a history.
        instructions: task -> what stands before and after its history, item or query, for each template.
    """

    def __init__(self, vocabulary: Vocabulary, config: TasksConfig) -> None:
        self.vocabulary = vocabulary
        self.separator = vocabulary.encode([config.separator])[0] if config.separator else []
        self.instructions = {
            task: [(vocabulary.start + before, after) for before, after in map(vocabulary.encode, texts)]
            for task, texts in TEMPLATES.items()
        }

    def history(self, items: np.ndarray) -> np.ndarray:
        """Ids of items (T,), each one's L tokens and the separator; -1 is no item."""
        tokens = self.vocabulary.item_tokens[items[items >= 0]]  # (T, L)
        behind = np.broadcast_to(np.array(self.separator, np.int64), (len(tokens), len(self.separator)))
        return np.concatenate([tokens, behind], axis=1).ravel()


def joined(*parts: Sequence[int] | np.ndarray) -> np.ndarray:
    """(S,) int64 of ids in parts."""
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])


# -- prompts for inference: always the first template ----------------------------------------------------------------


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
    pieces = Pieces(vocabulary, config)
    before, _ = pieces.instructions["seqrec"][0]
    return [joined(before, pieces.history(row), [vocabulary.con_id] * con_before) for row in histories]


def index2item_prompts(vocabulary: Vocabulary, items: np.ndarray, config: TasksConfig) -> list[np.ndarray]:
    """Prompts that ask for the text behind an item's tokens; ``items`` (M,)."""
    before, after = Pieces(vocabulary, config).instructions["index2item"][0]
    return [joined(before, vocabulary.item_tokens[item], after) for item in items]


def itemsearch_prompts(
    vocabulary: Vocabulary, queries: Sequence[str], histories: np.ndarray | None, config: TasksConfig
) -> list[np.ndarray]:
    """Prompts that ask for an item by free text; ``histories`` (M, T) or None."""
    pieces = Pieces(vocabulary, config)
    before, after = pieces.instructions["itemsearch"][0]
    encoded = vocabulary.encode(queries, config.max_text_tokens)
    rows = np.full((len(encoded), 1), -1) if histories is None else histories
    return [joined(before, query, after, pieces.history(row)) for query, row in zip(encoded, rows, strict=True)]


def preference_prompts(vocabulary: Vocabulary, histories: np.ndarray, config: TasksConfig) -> list[np.ndarray]:
    """Prompts that ask what a user likes; ``histories`` (U, T)."""
    pieces = Pieces(vocabulary, config)
    before, after = pieces.instructions["preferenceobtain"][0]
    return [joined(before, pieces.history(row), after) for row in histories]
