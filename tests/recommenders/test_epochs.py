"""Training in epochs: broken off and taken up again, it ends with the same bits; the best epoch's weights win."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recnb.data.schema import Sequences
from recnb.recommenders import epochs
from recnb.recommenders.epochs import EpochModel, EpochTraining, seeded
from recnb.recommenders.settings import (
    Bert4recConfig,
    Gru4recConfig,
    SasrecSampledConfig,
    SequentialConfig,
    TigerConfig,
)

N, T = 9, 6


class Killed(Exception):
    """What a test throws into a training."""


class Line(EpochModel):
    """One weight and one bias."""

    def __init__(self) -> None:
        super().__init__(length=T)
        self.linear = torch.nn.Linear(1, 1)


def fit(keep: Path | None, checks: list[float], killed_after: int = 99, patience: int = 3) -> Line:
    """A line through noise; ``checks`` is what validation says after each epoch."""
    with seeded(3):
        model, rng = Line(), np.random.default_rng(5)

        def batches() -> list[torch.Tensor]:
            if len(model.log) == killed_after:
                raise Killed
            return [torch.from_numpy(rng.standard_normal((4, 1)).astype(np.float32))]

        def learn(x: torch.Tensor) -> tuple[torch.Tensor, float, int]:
            losses = (model.linear(x) - 2 * x + 0.1 * torch.randn(4, 1)) ** 2
            return losses.mean(), float(losses.detach().sum()), len(losses)

        config = SequentialConfig(epochs=8, patience=patience, learning_rate=0.1)
        training = EpochTraining(model, config, 1, rng, keep)
        training.run(batches, learn, (lambda: checks[len(model.log) - 1]) if checks else None)
    return model


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "SAVE_EVERY", -1.0)


@pytest.mark.parametrize("checks", [[], [0.1, 0.5, 0.4, 0.6, 0.2, 0.2, 0.1, 0.9]])
@pytest.mark.parametrize("killed_after", [1, 3, 5])
def test_broken_off_and_taken_up_again_it_ends_with_the_same_bits(
    tmp_path: Path, checks: list[float], killed_after: int
) -> None:
    whole = fit(None, checks)
    with pytest.raises(Killed):
        fit(tmp_path / "state.pt", checks, killed_after)
    again = fit(tmp_path / "state.pt", checks)
    assert again.log == whole.log
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_best_epoch_wins_patience_ends_it_and_a_finished_one_is_not_run_again(tmp_path: Path) -> None:
    checks = [0.1, 0.5, 0.4, 0.3, 0.9]
    model = fit(tmp_path / "state.pt", checks, patience=2)
    assert [row["R@10"] for row in model.log] == checks[:4]
    assert torch.equal(model.linear.weight, fit(None, checks[:2] + [0.0] * 6, patience=1).linear.weight)
    again = fit(tmp_path / "state.pt", [], killed_after=4, patience=2)  # another epoch would raise
    assert torch.equal(again.linear.weight, model.linear.weight)
    assert again.seconds > torch.load(tmp_path / "state.pt")["seconds"] > 0


def walks() -> Sequences:
    first = np.random.default_rng(0).integers(0, N, 60)
    return Sequences(np.arange(0, 301, 5), ((first[:, None] + np.arange(5)) % N).ravel().astype(np.int32))


@pytest.mark.parametrize("name", ["sasrec-sampled", "gru4rec", "bert4rec", "tiger"])
def test_each_neural_baseline_can_be_taken_up_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recnb.eager_llm.recipe import EvaluateConfig
    from recnb.recommenders.fit import fit_baseline

    few = {"epochs": 4, "width": 16, "dropout": 0.2, "patience": 9}
    config = EvaluateConfig(
        sasrec_sampled=SasrecSampledConfig(**few, negatives=4), gru4rec=Gru4recConfig(**few, negatives=4),
        bert4rec=Bert4recConfig(**few), tiger=TigerConfig(**few, heads=2, head_width=8, encoder_layers=1,
                                                          decoder_layers=1, feedforward=16),
    )  # fmt: skip
    train, codes = walks(), np.stack([np.arange(N) // 3, np.arange(N) % 3], axis=1)
    shown = train.pad(T)
    asked = {"seed": 1, "validation": (shown, (shown[:, -1] + 1) % N), "codes": codes}
    whole: torch.nn.Module = fit_baseline(name, train, N, config, T, **asked)[0]  # type: ignore[assignment, arg-type]
    real = EpochTraining._judge

    def broken(self: EpochTraining, reached: float) -> None:
        if len(self.model.log) == 3:
            raise Killed
        real(self, reached)

    monkeypatch.setattr(EpochTraining, "_judge", broken)
    with pytest.raises(Killed):
        fit_baseline(name, train, N, config, T, keep=tmp_path, **asked)  # type: ignore[arg-type]
    monkeypatch.setattr(EpochTraining, "_judge", real)
    again = fit_baseline(name, train, N, config, T, keep=tmp_path, **asked)[0]  # type: ignore[arg-type]
    assert again.log == whole.log  # type: ignore[union-attr]
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])  # type: ignore[union-attr]
