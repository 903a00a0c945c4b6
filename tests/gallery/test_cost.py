"""What a row costs is counted, not guessed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from small_models import V, llama

from recnb.gallery.cost import costed, positions_read
from recnb.gallery.interface import Learned
from recnb.llm.scoring import score_words


@dataclass
class Row:
    """Asks for a word behind prompts of 7 tokens, a shared one of 5 among them, and says that it writes 3 tokens."""

    model: Any = field(default_factory=llama)
    learned: Learned = field(default_factory=lambda: Learned(11, 22))
    written: int = 0

    def scores(self, histories, items):
        self.written += 3 * len(histories)
        start = np.arange(1, 6)
        prompts = [np.append(start, [item, 9]) for item in items.ravel()]
        groups = np.repeat(np.arange(len(items)), items[0].size)
        return score_words(self.model, prompts, np.array([1]), groups=groups)[:, 0].reshape(items.shape)


def test_positions_tokens_and_what_was_learned():
    items = np.arange(10, 22).reshape(3, 1, 4)
    row, histories = Row(), np.zeros((3, 2), int)
    scores, cost = costed(row, lambda: row.scores(histories, items), len(histories))
    assert scores.shape == items.shape
    assert cost.read == 5 + 4 * 2  # the beginning once, then a branch each
    assert (cost.written, cost.parameters, cost.examples) == (3, 11, 22)
    assert cost.seconds > 0


def test_waiting_for_others_costs_nothing():
    def wait():
        time.sleep(0.4)

    assert costed(Row(), wait, 1)[1].seconds < 0.1, "processor seconds: a busy machine does not change a price"


def test_padding_counts_and_nothing_counts_outside():
    model, ids = llama(), torch.zeros(2, 5, dtype=torch.long)
    with positions_read() as tally:
        model(ids)
        model(ids[:, :3])
    model(ids)
    assert tally.positions == 16 and V > 0
