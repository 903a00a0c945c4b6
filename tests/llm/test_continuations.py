"""Forks behind shared lists against each prompt alone: our own slow twin, and transformers' ``generate``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_models import MODELS, V, gemma, llama
from transformers import GenerationConfig

from recnb.errors import RecnbError
from recnb.llm.continuations import NO_TOKEN, Forks, continuations, fork_states

MOST = 7
STOPS = [3, 11, 17, 30]


def some_forks(seed: int = 0, lists: int = 6) -> Forks:
    """Lists of 4 to 19 tokens, none to four forks each, endings of one to five tokens."""
    rng = np.random.default_rng(seed)
    written = [rng.integers(1, V, rng.integers(4, 20)) for _ in range(lists)]
    rows = rng.permutation(np.repeat(np.arange(lists), rng.integers(0, 5, lists)))
    cuts = np.array([rng.integers(1, len(written[row]) + 1) for row in rows])
    return Forks(written, rows, cuts, [rng.integers(1, V, rng.integers(1, 6)) for _ in rows])


def alone(model, prompt: np.ndarray) -> tuple[list[int], float]:
    """The slow twin: the whole prompt is read again for every token."""
    ids, score = prompt.tolist(), 0.0
    while len(ids) < len(prompt) + MOST and (len(ids) == len(prompt) or ids[-1] not in STOPS):
        with torch.no_grad():
            step = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        ids.append(int(step.argmax()))
        score += float(step.max())
    return ids[len(prompt) :], score


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch_tokens", [1, 120, 10_000])
def test_equals_each_prompt_alone(name: str, batch_tokens: int) -> None:
    model, forks = MODELS[name](), some_forks()
    found = continuations(model, forks, STOPS, MOST, batch_tokens)
    assert len(forks.prompts) > 8
    assert 1 < len(set(found.lengths.tolist())), "answers of several lengths, so that some forks end before others"
    for prompt, ids, score in zip(forks.prompts, found.ids, found.scores, strict=True):
        wanted, total = alone(model, prompt)
        assert ids[ids != NO_TOKEN].tolist() == wanted
        assert score == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_equals_generate(name: str) -> None:
    model, forks = MODELS[name](), some_forks(1)
    found = continuations(model, forks, STOPS, MOST, 10_000)
    model.generation_config = GenerationConfig(do_sample=False, max_new_tokens=MOST, eos_token_id=STOPS, pad_token_id=0)
    for prompt, ids in zip(forks.prompts, found.ids, strict=True):
        whole = torch.from_numpy(prompt)[None]
        written = model.generate(input_ids=whole, attention_mask=torch.ones_like(whole))[0, len(prompt) :]
        assert ids[ids != NO_TOKEN].tolist() == written.tolist()


@pytest.mark.parametrize("name", MODELS)
def test_states_are_those_of_each_prompt_alone(name: str) -> None:
    model, forks = MODELS[name](), some_forks(5)
    found = fork_states(model, forks, 150)
    for prompt, state in zip(forks.prompts, found, strict=True):
        with torch.no_grad():
            alone = model.base_model(input_ids=torch.from_numpy(prompt)[None]).last_hidden_state[0, -1]
        assert state == pytest.approx(alone.numpy(), abs=1e-4)


def test_shipped_sampling_settings_change_nothing() -> None:
    model, forks = llama(), some_forks(2)
    before = continuations(model, forks, STOPS, MOST, 500)
    model.generation_config = GenerationConfig(do_sample=True, temperature=5.0, top_k=V, eos_token_id=[])
    after = continuations(model, forks, STOPS, MOST, 500)
    assert np.array_equal(before.ids, after.ids)


def test_what_lies_behind_the_cut_is_not_seen() -> None:
    model, forks = gemma(), some_forks(3)
    other = [np.concatenate([one, [5, 9, 13]]) for one in forks.lists]
    longer = Forks(other, forks.rows, forks.cuts, forks.endings)
    one, two = (continuations(model, each, STOPS, MOST, 500) for each in (forks, longer))
    assert np.array_equal(one.ids, two.ids)
    assert one.scores == pytest.approx(two.scores, abs=1e-4)


def test_batches_hold_every_forked_list_once_and_keep_to_their_size() -> None:
    forks = some_forks(4, lists=40)
    batches = forks.batches(MOST, 200)
    assert sorted(np.concatenate(batches).tolist()) == np.unique(forks.rows).tolist()
    assert len(batches) > 3
    endings = np.bincount(forks.rows, [len(ending) + MOST for ending in forks.endings], 40)
    size = np.array([len(one) for one in forks.lists]) + endings
    assert all(len(batch) == 1 or size[batch].sum() <= 200 for batch in batches)


def test_a_cut_outside_its_list_is_refused() -> None:
    with pytest.raises(RecnbError, match="fork 1: cut 4, expected 1 to 3"):
        Forks([np.arange(3)], np.array([0, 0]), np.array([3, 4]), [np.ones(1), np.ones(1)])
