"""Dense training of E4SRec against a prompt per target: the same loss, the same gradients."""

from __future__ import annotations

import numpy as np
import torch

from recnb.speed.decoding import small_llama
from recnb.speed.item_vectors import item_loss, item_vector_contest, synthetic_e4srec

T, N = 7, 30


def model_and_windows():
    model = synthetic_e4srec(small_llama(64, 32, 2, 0), N, T, 5, 0)
    return model, torch.from_numpy(np.random.default_rng(1).integers(0, N, (5, T + 1)))


def test_both_ways_have_the_same_loss():
    model, windows = model_and_windows()
    contestants = item_vector_contest(model, windows, 3)
    dense, alone = (run() for run in contestants.values())
    assert dense > 1
    assert abs(dense - alone) < 1e-5


def test_both_ways_have_the_same_gradients():
    model, windows = model_and_windows()
    item_loss(model, *model.lesson(windows)).backward()
    dense = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    for stop in range(1, T + 1):
        histories = windows[:, :stop]
        (item_loss(model, model.read(histories), windows[:, stop], histories) / T).backward()
    assert len(dense) > 10
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, dense[name], atol=1e-5, rtol=1e-3)
