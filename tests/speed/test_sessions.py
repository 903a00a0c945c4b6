"""Contests of session models: both ways give the same graphs, losses and scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recnb.data.schema import Sequences
from recnb.data.sessions import every_prefix
from recnb.recommenders.settings import SrgnnConfig, TagnnConfig
from recnb.recommenders.srgnn import SRGNN
from recnb.recommenders.tagnn import TAGNN
from recnb.speed.sessions import (
    epoch_contest,
    graph_contest,
    like_batches,
    looped_loss,
    same_graphs,
    session_loss,
    target_contest,
)

N = 9


def prefixes():
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 9, 40)
    return every_prefix(Sequences(np.append(0, np.cumsum(lengths)), rng.integers(0, N, lengths.sum()).astype(np.int32)))


def small(kind, config):
    torch.manual_seed(0)
    return kind(N, config(width=8, dropout=0.0), 8).eval()


@pytest.mark.parametrize("length", [3, 8, 12])
def test_both_ways_make_the_same_graphs(length: int) -> None:
    batches = like_batches(prefixes(), 16, length, seed=0)
    assert sorted(map(len, batches))[-1] == 16 and sum(map(len, batches)) == len(prefixes())
    ours, looped = (run() for run in graph_contest(batches).values())
    assert same_graphs(ours, looped, batches)
    for part in ("inward", "outward", "alias", "nodes"):
        changed = looped[2]._replace(**{part: getattr(looped[2], part) + 1})
        assert not same_graphs(ours, [*looped[:2], changed, *looped[3:]], batches)


def test_both_ways_have_the_same_loss_and_gradients() -> None:
    model, samples = small(SRGNN, SrgnnConfig), prefixes()
    windows, targets = samples.inputs(8).astype(np.int64), torch.from_numpy(samples.targets.astype(np.int64))
    found = []
    for loss in (
        session_loss(model, torch.from_numpy(windows), targets),
        looped_loss(model, [row[row >= 0] for row in windows], targets, 11),
    ):
        model.zero_grad()
        loss.backward()
        found.append([loss.detach(), *(part.grad.clone() for part in model.parameters())])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))


def test_an_epoch_sees_every_sample_once_and_leaves_the_weights() -> None:
    model, samples = small(SRGNN, SrgnnConfig), prefixes()
    before = [part.detach().clone() for part in model.parameters()]
    losses = [run() for run in epoch_contest(model, samples, 16, 8, seed=0).values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_both_forms_of_tagnn_score_alike() -> None:
    model = small(TAGNN, TagnnConfig)
    ours, plain = (run() for run in target_contest(model, torch.from_numpy(prefixes().inputs(8).astype(np.int64))).values())
    assert torch.allclose(ours, plain, atol=1e-5) and not ours.requires_grad
