"""What a language model thinks of a session without writing: ``state`` and ``score``. Neither can invent a title.

``state``: the hidden state behind the question about a session is compared with the states behind the same question
about each item alone. ``score``: how much more probable a title is behind the list than without it. Both answer with
the title of the best item, so that all that follows is as for written answers. Ours, not the paper's; shown in
``notebooks/llm4sbr/04_intents.ipynb``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recnb.llm.continuations import Forks, fork_states
from recnb.llm.packed import told_answers
from recnb.llm4sbr.prompts import Prompter
from recnb.recommenders.content import unit

NEAREST = 20  # items besides those of the session that ``score`` chooses from: the nearest by state
AT_ONCE = 32  # titles that are scored behind an empty list together


@dataclass(frozen=True)
class Reader:
    """A model that reads questions about inputs (A, T), -1 on the left, and knows the catalogue's N items.

    Attributes:
        model: the language model; prompter: its prompts.
        views: V names; batch_tokens: about how many tokens are held at once.
    """

    model: Any
    prompter: Prompter
    views: tuple[str, ...]
    batch_tokens: int

    def states(self, inputs: np.ndarray) -> np.ndarray:
        """(A, V, d) hidden states behind the questions."""
        found = fork_states(self.model, self.prompter.forks(inputs, self.views), self.batch_tokens)
        return found.reshape(len(inputs), len(self.views), -1)

    @cached_property
    def items(self) -> np.ndarray:
        """(N, V, d) hidden states behind the questions about each item alone."""
        return self.states(np.arange(len(self.prompter.titles))[:, None])

    def nearness(self, inputs: np.ndarray) -> np.ndarray:
        """(A, V, N) cosine between the state of a session and that of each item, the items' mean taken away."""
        mean = self.items.mean(0)
        ours, theirs = unit(self.states(inputs) - mean), unit(self.items - mean)
        return np.einsum("avd,nvd->avn", ours, theirs)

    def by_state(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(A, V) the nearest item of each question, and its cosine."""
        near = self.nearness(inputs)
        return near.argmax(-1), near.max(-1)

    def candidates(self, inputs: np.ndarray, nearest: int = NEAREST) -> np.ndarray:
        """(A, V, C) items to choose from: those of the session (the last stands for what is missing), the nearest."""
        own = np.where(inputs >= 0, inputs, inputs[:, -1:])[:, None].repeat(len(self.views), axis=1)
        order = np.argsort(-self.nearness(inputs), axis=-1, kind="stable")[..., :nearest]
        return np.concatenate([own, order], axis=-1)

    def by_score(self, inputs: np.ndarray, nearest: int = NEAREST) -> tuple[np.ndarray, np.ndarray]:
        """(A, V) the item whose title gains most by the list, among its candidates, and how much (nats)."""
        asked = self.candidates(inputs, nearest)
        flat = asked.reshape(-1, asked.shape[-1])
        forks = self.prompter.forks(inputs, self.views)
        found = told_answers(self.model, forks, self.spoken, flat, self.batch_tokens).sum().reshape(asked.shape)
        gains = found - self.alone(np.unique(asked))[asked, np.arange(len(self.views))[:, None]]
        best = gains.argmax(-1)[..., None]
        return np.take_along_axis(asked, best, -1)[..., 0], np.take_along_axis(gains, best, -1)[..., 0]

    @cached_property
    def spoken(self) -> Sequence[np.ndarray]:
        """(N,) token ids of each title as an answer."""
        return self.prompter.spoken()

    def alone(self, items: np.ndarray) -> np.ndarray:
        """(N, V) log-probability of these items' titles as answers to a question without a list; 0 for the others."""
        parts = np.resize(items, (-(-len(items) // AT_ONCE), AT_ONCE))  # the last part is filled with the first items
        count = len(self.views)
        endings = [self.prompter.ending(view, 0) for view in self.views] * len(parts)
        rows = np.repeat(np.arange(len(parts)), count)
        cuts = np.full(len(rows), len(self.prompter.start))
        forks = Forks([self.prompter.start] * len(parts), rows, cuts, endings)
        told = told_answers(self.model, forks, self.spoken, parts.repeat(count, axis=0), self.batch_tokens)
        found = np.zeros((len(self.prompter.titles), count), np.float32)
        found[parts.ravel()] = told.sum().reshape(len(parts), count, AT_ONCE).swapaxes(1, 2).reshape(-1, count)
        return found
