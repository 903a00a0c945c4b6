"""Tuning on prompts: what a batch holds, what a curriculum shows, what is trained, and that it goes on to the same bits."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from recnb.errors import RecipeError, RecnbError
from recnb.llm import tuning
from recnb.llm.settings import LossWeights, TuneConfig, TuneStage
from recnb.llm.tuning import Example, batch_of, kind_at, length_order, losses_of, rate_at, tune

V, N, SEED = 40, 8, 5
ONLY = LossWeights(nip=1.0, tt=0.0, ut=0.0)


@dataclass(frozen=True)
class Plain:
    """A prompt as tuning needs it: ids and spans."""

    ids: np.ndarray
    spans: dict[str, slice]


class Rows(nn.Module):
    """Slots as tuning needs them: an embedding layer with a projector."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self.words, self.projector = words, nn.Linear(3, words.embedding_dim)
        self.register_buffer("table", torch.randn(N, 3))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        slots = ids >= V
        found = self.words(ids.masked_fill(slots, 0))
        return found.masked_scatter(slots[..., None], self.projector(self.table[ids[slots] - V])) if slots.any() else found


def llama(dropout: float = 0.0):
    config = LlamaConfig(
        vocab_size=V, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, attention_dropout=dropout, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    model.set_input_embeddings(Rows(model.get_input_embeddings()))
    return model


def examples_of(number: int, kind: str) -> list[Example]:
    """Two items in, the one after them out; lengths differ."""
    rng, made = np.random.default_rng([7, number]), []
    for place in range(20):
        item = int(rng.integers(N))
        ids = np.concatenate([rng.integers(1, 9, 2 + place % 3), [10 + (item - 1) % N]])
        ids = ids if kind == "text" else np.append(ids, V + (item - 1) % N)
        spans = {"history": slice(1, len(ids))}
        made.append(Example(Plain(ids, spans), np.array([20 + item, 3]), item, np.array([20 + item])))
    return made


def config(*prompts: str, **more) -> TuneConfig:
    stages = [TuneStage(prompt=prompt, examples=20, weights=ONLY) for prompt in prompts]
    return TuneConfig(**{"stages": stages, "batch_size": 4, "learning_rate": 0.02} | more)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: part.clone() for name, part in model.state_dict().items()}


def test_the_answers_loss_is_that_of_each_example_alone() -> None:
    model, examples = llama(), examples_of(0, "hybrid")[:5]
    with torch.no_grad():
        found = losses_of(model, batch_of(examples), {})["nip"]
        each = []
        for one in examples:
            ids = torch.from_numpy(np.concatenate([one.prompt.ids, one.answer]))[None]
            scores = model(input_ids=ids).logits[0, -3:-1]
            each.append(F.cross_entropy(scores, torch.from_numpy(one.answer), reduction="sum"))
    assert float(found) == pytest.approx(float(sum(each)) / 10, abs=1e-5)


def test_spans_stand_where_their_tokens_do() -> None:
    examples = examples_of(0, "text")[:4]
    batch = batch_of(examples)
    for row, one in enumerate(examples):
        assert batch.ids[row][batch.spans["answer"][row]].tolist() == one.answer.tolist()
        assert batch.ids[row][batch.spans["history"][row]].tolist() == one.prompt.ids[1:].tolist()
        assert batch.alone[row][batch.spans["alone"][row]].tolist() == one.alone.tolist()


def test_every_example_once_and_alike_in_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 70)
    batches = length_order(lengths, 8, [3, 0])
    assert sorted(np.concatenate(batches).tolist()) == list(range(70))
    assert np.mean([np.ptp(lengths[batch]) for batch in batches]) < 30, "random batches of 8 span about 77"
    assert [len(batch) for batch in length_order(lengths, 8, [3, 1])] != [8] * 9, "the last, smaller batch stands anywhere"


def test_a_curriculum_goes_from_text_to_vectors_over_the_steps() -> None:
    """Not over the examples that one worker of one epoch has seen (LLaRA's release)."""
    stage, steps = TuneStage(prompt="curriculum"), 2000
    shown = np.array([kind_at(stage, step, steps, [SEED, 0]) == "hybrid" for step in range(steps)])
    share = shown.reshape(4, -1).mean(1)
    np.testing.assert_allclose(share, [0.125, 0.375, 0.625, 0.875], atol=0.07)
    assert not shown[0]


def test_the_log_counts_the_steps_that_showed_vectors() -> None:
    log = tune(llama(), examples_of, config("curriculum", batch_size=1), seed=SEED)
    stage = TuneStage(prompt="curriculum")
    wanted = [float(kind_at(stage, step, 20, [SEED, 0]) == "hybrid") for step in range(20)]
    assert [row["hybrid"] for row in log] == wanted
    assert 0 < sum(wanted) < 20


def test_the_rate_rises_then_falls_to_a_hundredth() -> None:
    rates = [rate_at(step, 100) for step in range(101)]
    assert rates[0] == rates[100] == pytest.approx(0.01)
    assert rates[5] == 1.0
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_text_leaves_the_projector_and_hybrid_moves_it() -> None:
    model = llama()
    before = weights(model)
    tune(model, examples_of, config("hybrid"), seed=SEED)
    moved = weights(model)
    tune(model, examples_of, config("text"), seed=SEED)
    after = weights(model)
    name = "model.embed_tokens.projector.weight"
    assert not torch.equal(before[name], moved[name])
    assert torch.equal(moved[name], after[name])
    assert not torch.equal(moved["model.norm.weight"], after["model.norm.weight"])
    assert torch.equal(before["model.embed_tokens.table"], after["model.embed_tokens.table"])


def test_text_steps_of_a_curriculum_leave_the_projector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although Adam's momentum and its decay would move it."""
    model, moved = llama(), []
    projector = model.get_input_embeddings().projector.weight
    step = tuning._Stage._descend

    def watched(stage, *args) -> None:
        before = projector.detach().clone()
        step(stage, *args)
        moved.append(not torch.equal(before, projector))

    monkeypatch.setattr(tuning._Stage, "_descend", watched)
    log = tune(model, examples_of, config("curriculum", batch_size=1), seed=SEED)
    assert moved == [bool(row["hybrid"]) for row in log]


def test_killed_it_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = llama(0.3), llama(0.3)
    untouched = tune(whole, examples_of, config("text", "hybrid"), seed=SEED, keep=tmp_path / "whole")
    monkeypatch.setattr(tuning, "SAVE_EVERY", 0.0)
    step, count = tuning._Stage._descend, []

    def killed(stage, *args) -> None:
        count.append(1)
        if len(count) == 8:  # in the second stage
            raise KeyboardInterrupt
        step(stage, *args)

    monkeypatch.setattr(tuning._Stage, "_descend", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(broken, examples_of, config("text", "hybrid"), seed=SEED, keep=tmp_path / "broken")
    log = tune(again := llama(0.3), examples_of, config("text", "hybrid"), seed=SEED, keep=tmp_path / "broken")
    assert len(count) == 8 + 3, "two steps of the second stage are not taken again"
    assert all(torch.equal(one, weights(again)[name]) for name, one in weights(whole).items())
    assert [row["loss"] for row in log] == [row["loss"] for row in untouched]
    seconds = [row["seconds"] for row in log[5:]]
    assert seconds == sorted(seconds)


def test_seconds_are_counted_once_however_often_a_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SAVE_EVERY", 0.0)
    started = time.monotonic()
    log = tune(llama(), examples_of, config("text"), seed=SEED)
    assert 0 < log[-1]["seconds"] <= time.monotonic() - started


def test_arms_share_equal_first_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, after = llama(0.3), llama(0.3)
    wanted = tune(alone, examples_of, config("text", "text"), seed=SEED)
    tune(llama(0.3), examples_of, config("text", "hybrid"), seed=SEED, keep=tmp_path)
    step, count = tuning._Stage._descend, []
    monkeypatch.setattr(tuning._Stage, "_descend", lambda stage, *args: (count.append(1), step(stage, *args)))
    log = tune(after, examples_of, config("text", "text"), seed=SEED, keep=tmp_path)
    assert len(count) == 5, "the first stage is read, the second trained"
    assert [row["loss"] for row in log] == [row["loss"] for row in wanted]
    assert all(torch.equal(one, weights(after)[name]) for name, one in weights(alone).items())
    tune(llama(0.3), examples_of, config("text", learning_rate=0.03), seed=SEED, keep=tmp_path)
    assert len(count) == 10, "another learning rate is another first stage"


def test_dropout_leaves_the_callers_chance_alone() -> None:
    model = llama(0.3)
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    tune(model, examples_of, config("text"), seed=SEED)
    assert torch.equal(torch.rand(3), wanted)


def test_it_learns() -> None:
    log = tune(model := llama(), examples_of, config("text", "hybrid", "hybrid"), seed=SEED)
    before = float(np.mean([row["nip"] for row in log[:3]]))
    assert log[-1]["nip"] < 0.7 * before
    assert not model.training


def test_a_loss_without_weight_is_not_computed() -> None:
    def never(*args):
        raise AssertionError

    log = tune(llama(), examples_of, config("text"), {"tt": never}, seed=SEED)
    assert "tt" not in log[0]


def test_extra_losses_are_logged_before_weighting() -> None:
    weighted = TuneStage(prompt="text", examples=20, weights=LossWeights(nip=0.5, tt=0.25, ut=0.0))

    def half(states, alone, spans, items) -> torch.Tensor:
        return alone.square().mean() * 0 + 3.0

    row = tune(llama(), examples_of, config(stages=[weighted]), {"tt": half}, seed=SEED)[0]
    assert row["tt"] == 3.0
    assert row["loss"] == pytest.approx(0.5 * row["nip"] + 0.75, abs=1e-6)


def test_nothing_to_train_is_said() -> None:
    model = llama().requires_grad_(False)
    with pytest.raises(RecipeError, match=r"tune.stages\[0\]: nothing to train.*hybrid or slots"):
        tune(model, examples_of, config("text"), seed=SEED)
    frozen = copy.deepcopy(model)
    tune(model, examples_of, config("hybrid"), seed=SEED)  # the projector alone
    changed = [name for name, one in weights(frozen).items() if not torch.equal(one, weights(model)[name])]
    assert changed == ["model.embed_tokens.projector.weight", "model.embed_tokens.projector.bias"]


def test_a_loss_that_is_no_number_stops_it() -> None:
    model = llama()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(RecnbError, match=r"stage 1, step 1: the loss is nan; lower tune.learning_rate \(0.02\)"):
        tune(model, examples_of, config("text"), seed=SEED)
