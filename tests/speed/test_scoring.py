"""All ways to score candidates give the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_models import MODELS

from recnb.speed.scoring import scoring_contest, synthetic_sets


@pytest.mark.parametrize("name", MODELS)
def test_all_ways_score_alike(name: str) -> None:
    model, sets = MODELS[name](), synthetic_sets(5, 12, 6, 40, seed=0)
    ways = scoring_contest(model, sets, 60)
    assert [len(set(map(len, part))) > 1 for part in (sets.prompts, sets.answers)] == [True, True]
    *scores, states = (run() for run in ways.values())
    assert len(scores) == 4 and all(found.shape == (5, 6) for found in scores)
    for found in scores[1:]:
        assert found == pytest.approx(scores[0], abs=2e-4)
    for prompt, state in zip(sets.prompts, states, strict=True):
        with torch.no_grad():
            alone = model.base_model(input_ids=torch.from_numpy(prompt)[None]).last_hidden_state[0, -1]
        assert state == pytest.approx(alone.numpy(), abs=1e-4)


def test_candidates_are_printed_behind_what_a_user_shares() -> None:
    sets = synthetic_sets(6, 12, 4, 40, seed=1)
    for prompt, own, user in zip(sets.prompts, sets.candidates, sets.users, strict=True):
        first = int(np.flatnonzero(sets.users == user)[0])
        assert len(set(own.tolist())) == 4
        printed = np.concatenate([sets.answers[item][:-1] for item in own])
        assert np.array_equal(prompt[-len(printed) - 1 : -1], printed)
        shared = sets.prompts[first][: len(prompt) - len(printed) - 1]
        assert np.array_equal(prompt[: len(shared)], shared)
