"""Training learns, validates as it says, and a killed run ends bit for bit where an uninterrupted one does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small import TASKS, N, builder, recommender, runtime, trained, validation, vocabulary
from transformers import Trainer, TrainingArguments

from recnb.eager_llm.model import Recommender
from recnb.eager_llm.prompts import seqrec_prompts
from recnb.eager_llm.recipe import TrainConfig
from recnb.eager_llm.train import EpochSamples, _arguments, fit, validate, validation_loss
from recnb.index.trie import Trie
from recnb.llm.score import score_items
from recnb.llm.settings import DecodeConfig
from recnb.llm.trainer import OneGPU

CONFIG = TrainConfig(epochs=3, batch_size=16, learning_rate=2e-2, evaluate_every=1, patience=9, negatives=64)
VOCABULARY = vocabulary()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recommender, list[dict[str, float]]]:
    """A training that nobody killed: its checkpoints, the model, the log."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, *trained(folder, CONFIG)


def test_training_learns(tmp_path: Path) -> None:
    _, log = trained(tmp_path / "c", CONFIG.model_copy(update={"epochs": 6}))
    losses = [line["response"] for line in log if "response" in line]
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    assert all(0 <= line["eval_R@10"] <= 1 for line in log if "eval_R@10" in line)


@pytest.mark.parametrize("killed_while", ["training", "writing the state", "writing what comes before it"])
def test_resume_is_bit_for_bit(tmp_path: Path, whole, killed_while: str) -> None:  # type: ignore[no-untyped-def]
    folder, model, log = whole
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    assert len(checkpoints) == 2
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copytree(checkpoints[0], killed / checkpoints[0].name)
    if killed_while != "training":
        shutil.copytree(checkpoints[1], killed / checkpoints[1].name)
        (killed / checkpoints[1].name / "trainer_state.json").write_text("")
    if killed_while == "writing what comes before it":
        (killed / checkpoints[1].name / "trainer_state.json").unlink()
        (killed / checkpoints[1].name / "optimizer.pt").unlink()
    resumed, again = trained(killed, CONFIG)
    one, two = model.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)

    def curve(lines: list[dict[str, float]]) -> list[tuple[float, ...]]:
        return [(line["step"], line["response"]) for line in lines if "response" in line]

    assert curve(again)[-3:] == curve(log)[-3:]


def test_the_best_validated_state_is_kept(whole) -> None:  # type: ignore[no-untyped-def]
    _, model, log = whole
    best = max(line["eval_R@10"] for line in log if "eval_R@10" in line)
    model.eval()
    now = validate(model.backbone, VOCABULARY, validation(), TASKS, DecodeConfig(beam=10))
    assert now["R@10"] == pytest.approx(best)


def test_a_resumed_training_stops_where_it_would_have_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed one validation before its patience ends, or after: no validation more, and the best state in the end."""
    config = CONFIG.model_copy(update={"patience": 2, "epochs": 8})
    values: list[float] = []
    monkeypatch.setattr("recnb.eager_llm.train.validate", lambda *rest: dict.fromkeys(("R@10", "N@10"), values.pop(0)))

    def run(folder: Path, *found: float) -> tuple[dict[str, torch.Tensor], list[float]]:
        values[:] = found
        model, log = trained(folder, config)
        assert not values, "all are asked for"
        return model.state_dict(), [line["eval_R@10"] for line in log if "eval_R@10" in line]

    best, seen = run(tmp_path / "whole", 0.5, 0.4, 0.3)
    assert seen == [0.5, 0.4, 0.3]
    halfway = tmp_path / "halfway"
    values[:] = [0.5, 0.4]
    with pytest.raises(IndexError):  # killed in its third validation
        trained(halfway, config)
    for folder, rest in ((halfway, [0.3]), (tmp_path / "whole", [])):
        again, seen = run(folder, *rest)
        assert seen == [0.5, 0.4, 0.3] and all(torch.equal(best[name], again[name]) for name in best)


def test_early_stopping_on_loss(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"early_stopping": "loss", "patience": 1, "learning_rate": 0.5, "epochs": 8})
    _, log = trained(tmp_path / "c", config)
    losses = [line["eval_loss"] for line in log if "eval_loss" in line]
    assert len(losses) < 8 and losses[-1] >= min(losses)


def test_validate_against_scoring_every_item() -> None:
    model = recommender(VOCABULARY).eval()
    data = validation()
    found = validate(model.backbone, VOCABULARY, data, TASKS, DecodeConfig(beam=N))
    scores = score_items(
        model.backbone, seqrec_prompts(VOCABULARY, data.histories, TASKS), Trie.from_tokens(VOCABULARY.item_tokens)
    )
    order = np.argsort(-np.asarray(scores), axis=1, kind="stable")
    rank = np.array([int(np.flatnonzero(order[u] == t)[0]) for u, t in enumerate(data.targets)])
    assert found["R@10"] == pytest.approx((rank < 10).mean())
    assert found["N@10"] == pytest.approx(np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean())
    nll = -np.asarray(scores)[np.arange(len(rank)), data.targets].mean() / 4
    assert validation_loss(model.backbone, VOCABULARY, data, TASKS, 4) == pytest.approx(nll, abs=1e-4)


def test_epoch_samples_are_a_permutation_in_whole_batches() -> None:
    made = builder(VOCABULARY)
    data = EpochSamples(made.epoch, 8, 2.0, 0, 0)
    assert len(data) == data.steps * 8 and data.per_epoch % 8 == 0
    seen = [tuple(data[i].ids) for i in range(data.per_epoch)]
    available = [tuple(s.ids) for s in made.epoch(0)]
    assert sorted(seen) != sorted(available) or data.per_epoch == len(available)
    assert all(seen.count(s) <= available.count(s) for s in set(seen))
    lengths = np.array([len(s) for s in seen]).reshape(-1, 8)
    padding = 1 - lengths.sum() / (lengths.max(1) * 8).sum()
    shuffled = np.random.default_rng(0).permutation(lengths.ravel()).reshape(-1, 8)
    assert padding < 0.5 * (1 - shuffled.sum() / (shuffled.max(1) * 8).sum())  # little padding, compared with random


def test_max_steps_and_sampling_of_validation_users(tmp_path: Path) -> None:
    _, log = trained(tmp_path / "c", CONFIG.model_copy(update={"max_steps": 3, "evaluate_every": 0.0}))
    assert max(line["step"] for line in log) == 3
    assert len(validation().sample(4, 0).targets) == 4
    assert len(validation().sample(0, 0).targets) == len(validation().targets)


def test_con_before_the_response_trains(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"expand": "per_target", "con_position": "before_response", "max_steps": 4})
    made = builder(VOCABULARY, dense=False, con_before=True)
    model = recommender(VOCABULARY)
    log = fit(model, made, validation(), config, DecodeConfig(beam=10), runtime(), tmp_path / "c")
    assert any("eval_R@10" in line for line in log)


def test_several_gpus_without_a_launcher_are_one(tmp_path: Path) -> None:
    """Trainer's own settings would wrap the model in DataParallel, which cuts a batch's negatives in parts."""
    wrapped = {}
    for kind in (OneGPU, TrainingArguments):
        settings = kind(str(tmp_path), use_cpu=True, per_device_train_batch_size=3, report_to="none")
        assert settings.n_gpu == 0
        trainer = Trainer(recommender(VOCABULARY), settings)
        settings._n_gpu = 4  # what a process alone finds on such a machine
        wrapped[kind] = isinstance(trainer._wrap_model(trainer.model), torch.nn.DataParallel)
        assert settings.train_batch_size == (3 if kind is OneGPU else 12)
    assert wrapped == {OneGPU: False, TrainingArguments: True}
    data = EpochSamples(builder(VOCABULARY).epoch, 16, 1.0, 0, 0)
    assert isinstance(_arguments(CONFIG, runtime(), tmp_path, data), OneGPU)
