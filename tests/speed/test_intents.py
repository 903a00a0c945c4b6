"""All ways to ask for intents write the same tokens."""

from __future__ import annotations

import numpy as np
import pytest

from recnb.llm.continuations import NO_TOKEN
from recnb.speed import intent_contest, same_answers, small_llama, synthetic_forks


def test_every_contestant_writes_the_same() -> None:
    model = small_llama(60, width=32, layers=2, seed=0)
    forks = synthetic_forks(sessions=3, items=3, vocabulary=60, seed=0, line=4, ending=3)
    assert len(forks.rows) == 18 and len(forks.lists) == 3
    found = {name: run() for name, run in intent_contest(model, forks, [5, 9, 20, 33], 6, 300).items()}
    ours = found["recnb, shared lists"]
    assert (ours == NO_TOKEN).any(), "some answers end early"
    assert {name: same_answers(ours, ids) for name, ids in found.items()} == dict.fromkeys(found, 1.0)


def test_same_answers_can_tell() -> None:
    one = np.array([[1, 2], [3, 4]])
    assert same_answers(one, np.array([[1, 2], [3, 5]])) == pytest.approx(0.5)
