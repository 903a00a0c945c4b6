"""The projector's warm-up against its formula, and the tables that slots may hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recnb.errors import ArtifactError
from recnb.llm.slots import SlotEmbedding, make_projector
from recnb.recommenders.item_tables import item_table
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.session_models import save_session_model
from recnb.recommenders.settings import BaselinesConfig
from recnb.rsllm.align import TEMPERATURE, title_means, title_ranks, warm_up
from recnb.rsllm.losses import contrast
from recnb.rsllm.recipe import RSLLM

N, D = 40, 6
RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((N, D)).astype(np.float32)
TITLES = (TABLE @ RNG.standard_normal((D, 16))).astype(np.float32)  # what a projector can find


def slots(kind: str = "mlp") -> SlotEmbedding:
    torch.manual_seed(0)
    return SlotEmbedding(nn.Embedding(9, 16), torch.from_numpy(TABLE), make_projector(kind, D, 16))


def test_the_loss_is_the_formula() -> None:
    p, t = slots().vectors(torch.arange(5)).detach().numpy().astype(float), TITLES[:5].astype(float)
    cosines = [[float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) / TEMPERATURE for b in t] for a in p]
    slow = -np.mean([row[i] - np.log(np.sum(np.exp(row))) for i, row in enumerate(cosines)])
    fast = contrast(torch.from_numpy(t), torch.from_numpy(p), torch.arange(5), TEMPERATURE)
    assert float(fast) == pytest.approx(slow, rel=1e-5)


def test_warm_up_brings_slots_to_their_titles_and_touches_nothing_else() -> None:
    found = slots()
    words, table = found.weight.clone(), found.table.clone()
    before = title_ranks(found, TITLES, np.arange(N))
    log = warm_up(found, TITLES, np.arange(30), 60, seed=0)
    after = title_ranks(found, TITLES, np.arange(N))
    assert log.epoch.tolist() == list(range(1, 61)) and log.loss.iloc[-1] < log.loss.iloc[0] / 4
    assert after[:30].mean() < 1.5 < before.mean() / 4
    assert after[30:].mean() < before[30:].mean() / 2, "and of items that it never saw"
    assert torch.equal(found.weight, words) and torch.equal(found.table, table)


def test_warm_up_follows_the_seed_and_may_be_none() -> None:
    runs = [slots() for _ in range(4)]
    for run, (epochs, seed) in zip(runs, [(3, 0), (3, 0), (3, 1), (0, 0)]):
        assert len(warm_up(run, TITLES, np.arange(N), epochs, seed)) == epochs
    first, same, other, none = (run.projector[0].weight for run in runs)
    assert torch.equal(first, same) and not torch.equal(first, other) and torch.equal(none, slots().projector[0].weight)


def test_title_ranks_against_the_slow_way() -> None:
    found, items = slots(), np.array([7, 3])
    p = found.vectors(torch.from_numpy(items)).detach().numpy()
    cosine = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in TITLES] for a in p]
    slow = [1 + sum(value > row[item] for value in row) for row, item in zip(cosine, items)]
    assert title_ranks(found, TITLES, items).tolist() == slow


def test_title_means() -> None:
    words = nn.Embedding(9, 4)
    ids = [np.array([1, 2, 2]), np.array([5]), np.array([0, 8])]
    slow = np.stack([words.weight[torch.from_numpy(one)].detach().numpy().mean(0) for one in ids])
    assert np.allclose(title_means(words, ids), slow - slow.mean(0), atol=1e-6)


def test_a_table_that_nobody_trains_is_refused_before_work_starts() -> None:
    with pytest.raises(ValueError, match="slots.table: caser, and nobody trains it: expected text, random or one of"):
        RSLLM.model_validate({"name": "x", "slots": {"table": "caser"}})
    RSLLM.model_validate({"name": "x", "slots": {"table": "text"}})


def test_item_tables(tmp_path: Path) -> None:
    texts = ["dark crime story", "dark film", "robots story", "robots in a film"] * 5
    model = SASRec(len(texts), BaselinesConfig().sasrec, 5)
    model.log = []
    save_session_model(model, tmp_path / "sasrec")
    assert np.array_equal(item_table("sasrec", tmp_path, texts, 0), model.item_table())
    words = item_table("text", tmp_path, texts, 0)
    assert np.allclose(words[0], words[4]) and not np.allclose(words[0], words[1]) and words.shape[1] < 20
    noise = item_table("random", tmp_path, texts, 0)
    assert np.array_equal(noise, item_table("random", tmp_path, texts, 0)) and noise.shape == (20, 64)
    with pytest.raises(ArtifactError, match="no item table of 'gru4rec', expected one of sasrec, text, random"):
        item_table("gru4rec", tmp_path, texts, 0)
    with pytest.raises(ArtifactError, match="20 items, expected 19"):
        item_table("sasrec", tmp_path, texts[:-1], 0)
