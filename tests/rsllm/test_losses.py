"""The two contrasts against loops, and what the user's vector may not know."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from ranker_small import small_model, toy

from recnb.llm.settings import TuneConfig
from recnb.llm.training_cases import training_cases
from recnb.llm.tuning import Example, batch_of, losses_of
from recnb.rsllm.losses import contrast, pooled, rsllm_losses

TAU = 0.3


def slow_contrast(queries: np.ndarray, targets: np.ndarray, items: list[int]) -> float:
    """CALRec's formula, one pair at a time."""

    def likeness(j: int, i: int) -> float:
        product = float(queries[j] @ targets[i])
        return math.exp(product / np.linalg.norm(queries[j]) / np.linalg.norm(targets[i]) / TAU)

    total = 0.0
    for i in range(len(items)):
        others = [j for j in range(len(items)) if j == i or items[j] != items[i]]
        total -= math.log(likeness(i, i) / sum(likeness(j, i) for j in others))
    return total / len(items)


@pytest.fixture
def vectors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)


@pytest.mark.parametrize("items", [[0, 1, 2, 3, 4], [7, 1, 7, 7, 2]])
def test_contrast_is_calrecs_formula(vectors, items: list[int]) -> None:
    queries, targets = vectors
    given = torch.from_numpy(queries), torch.from_numpy(targets), torch.tensor(items)
    one, other = slow_contrast(queries, targets, items), slow_contrast(targets, queries, items)
    assert float(contrast(*given, TAU)) == pytest.approx(one, abs=1e-5)
    assert float(contrast(*given, TAU, both_ways=True)) == pytest.approx((one + other) / 2, abs=1e-5)
    assert abs(one - other) > 1e-3, "the directions differ, so that the test can tell them apart"


def test_an_equal_target_is_no_negative(vectors) -> None:
    queries, targets = map(torch.from_numpy, vectors)
    twins = torch.tensor([3, 3, 3, 3, 3])
    assert float(contrast(queries, targets, twins, TAU)) == pytest.approx(0.0, abs=1e-6)
    assert float(contrast(queries, targets, torch.arange(5), TAU)) > 0.1


def test_pooled_is_the_mean_of_a_span() -> None:
    states = torch.arange(12.0).view(2, 3, 2)
    span = torch.tensor([[True, False, True], [False, False, False]])
    assert pooled(states, span).tolist() == [[2.0, 3.0], [0.0, 0.0]]


@cache
def model() -> torch.nn.Module:
    return small_model()


def users_vectors(histories, targets, candidates, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """v_U and v_T|U of a batch, as the losses pool them."""
    prompts, found = toy().prompts, {}

    def kept(states, alone, spans, items) -> torch.Tensor:
        found["user"], found["target"] = pooled(states, spans["history"]), pooled(states, spans["answer"])
        return states.sum() * 0

    rows = zip(histories, candidates, targets.tolist(), strict=True)
    examples = [Example(prompts.build(h, c, kind), prompts.answers[i], i, prompts.alone(i, kind)) for h, c, i in rows]
    with torch.no_grad():
        losses_of(model(), batch_of(examples), {"kept": kept})
    return found["user"], found["target"]


@pytest.mark.parametrize("kind", ["text", "hybrid", "slots"])
def test_the_user_knows_neither_target_nor_candidates(kind: str) -> None:
    """Unchanged bit for bit. (The last case is the longest, so that the width of the batch, and with it the order of
    sums in a product of matrices, stays.)"""
    cases = training_cases(toy().held, 5, 6, 6, 0)
    rng, items = np.random.default_rng(1), np.argsort([len(ids) for ids in toy().prompts.title_ids])
    short = items[: len(items) // 2].astype(np.int32)
    histories = cases.histories.copy()
    histories[-1] = items[-6:]
    one = np.stack([rng.permutation(short)[:6] for _ in range(5)])
    other = np.stack([rng.permutation(short)[:6] for _ in range(5)])
    one[-1] = other[-1] = items[-6:]
    before = users_vectors(histories, one[:, 0], one, kind)
    after = users_vectors(histories, other[:, 0], other, kind)
    assert torch.equal(before[0], after[0])
    assert not torch.isclose(before[1], after[1]).all(1)[:-1].any(), "the targets' vectors do change"
    histories[0, -1] = (histories[0, -1] + 1) % toy().dataset.n_items
    assert not torch.equal(before[0], users_vectors(histories, one[:, 0], one, kind)[0]), "and history changes it"


def test_both_losses_are_named_by_their_weights() -> None:
    config = TuneConfig()
    assert set(rsllm_losses(config)) == set(config.stages[0].weights.model_dump()) - {"nip"}


def test_ut_contrasts_the_history_and_tt_the_answer() -> None:
    cases, found = training_cases(toy().held, 4, 6, 6, 0), {}
    prompts = toy().prompts
    rows = zip(cases.histories, cases.candidates, cases.targets.tolist(), strict=True)
    examples = [Example(prompts.build(h, c), prompts.answers[i], i, prompts.alone(i)) for h, c, i in rows]

    def kept(states, alone, spans, items) -> torch.Tensor:
        found.update(tt=pooled(states, spans["answer"]), ut=pooled(states, spans["history"]),
                     alone=pooled(alone, spans["alone"]))  # fmt: skip
        return states.sum() * 0

    with torch.no_grad():
        parts = losses_of(model(), batch_of(examples), {"kept": kept, **rsllm_losses(TuneConfig())})
    for name in ("tt", "ut"):
        wanted = contrast(found[name], found["alone"], torch.from_numpy(cases.targets), TuneConfig().temperature)
        assert float(parts[name]) == pytest.approx(float(wanted), abs=1e-6)
    assert float(parts["tt"]) != pytest.approx(float(parts["ut"]), abs=1e-3)
