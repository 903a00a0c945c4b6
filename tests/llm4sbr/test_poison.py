"""The leakage probe: with noise for every click of the test sessions, all that is fitted stays as it was, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recnb.data.sessions import PARTS, Sessions, replace_test, samples_of
from recnb.llm4sbr.align import train_arm
from recnb.llm4sbr.recipe import ArmConfig
from recnb.llm4sbr.sources import retrieval
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.session_models import SESSION_MODELS, config_of
from recnb.recommenders.settings import BaselinesConfig

N, T, SEED = 20, 6, 3
TINY = {"width": 8, "epochs": 2, "batch_size": 32}
COUNTING = ("popularity", "itemknn", "rules")


def made(seed: int = 0) -> Sessions:
    """60 sessions along a circle of items; the last six are test, the ten before them validation."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 9, 60)
    items = (rng.integers(0, N, lengths.sum()) // 3 + np.arange(lengths.sum())) % N
    part = np.repeat(np.arange(3, dtype=np.int8), [44, 10, 6])
    offsets = np.append(0, np.cumsum(lengths))
    return Sessions(offsets, items.astype(np.int32), np.arange(len(items), dtype=float), np.arange(60, dtype=np.int32), part)


def poisoned(sessions: Sessions, part: str = "test") -> Sessions:
    """Noise in one part; that of another one by letting it change places with the test part."""
    swap = np.arange(3, dtype=np.int8)
    swap[[PARTS.index(part), 2]] = swap[[2, PARTS.index(part)]]
    noisy = replace_test(replace(sessions, part=swap[sessions.part]), np.random.default_rng(9))
    return replace(noisy, part=sessions.part)


def fitted(name: str, sessions: Sessions) -> list[np.ndarray]:
    """What a baseline is after fitting: its weights and structure, or else its scores of fixed histories."""
    config = BaselinesConfig() if name in COUNTING else BaselinesConfig(**{name.replace("-", "_"): TINY})
    valid = samples_of(sessions, "valid", "all")
    model, _ = fit_baseline(
        name, sessions.sequences("train"), N, config, T, seed=SEED, validation=(valid.inputs(T), valid.targets),
        samples=samples_of(sessions, "train", "all"),
    )  # fmt: skip
    if isinstance(model, torch.nn.Module):
        return [part.numpy() for part in model.state_dict().values()]
    return [np.asarray(model.scores(np.random.default_rng(1).integers(0, N, (30, T))))]


def aligned(sessions: Sessions) -> list[np.ndarray]:
    """Weights of SR-GNN with retrieved texts: the texts of test samples are made, and looked at by nobody."""
    items = np.random.default_rng(2).normal(size=(N, 5)).astype(np.float32)
    found = {part: samples_of(sessions, part, "all") for part in PARTS}
    texts = retrieval(samples_of(sessions, None, "all"), items, np.ones(N, bool), T, lambda vectors: vectors)
    config = config_of("srgnn")(**TINY)
    model = train_arm(ArmConfig(), "srgnn", config, found["train"], N, T, texts, found["valid"], seed=SEED)
    return [part.numpy() for part in model.state_dict().values()]


def same(one: list[np.ndarray], two: list[np.ndarray]) -> bool:
    return len(one) == len(two) and all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", [*COUNTING, "sasrec", "gru4rec", *SESSION_MODELS])
def test_noise_in_the_test_part_changes_nothing_that_is_fitted(name: str) -> None:
    sessions = made()
    assert not np.array_equal(poisoned(sessions).items, sessions.items)
    clean = fitted(name, sessions)
    assert same(clean, fitted(name, poisoned(sessions)))
    assert not same(clean, fitted(name, poisoned(sessions, "train"))), "the probe finds what is used"


def test_noise_in_the_test_part_changes_no_aligned_model() -> None:
    sessions = made()
    clean = aligned(sessions)
    assert same(clean, aligned(poisoned(sessions)))
    assert not same(clean, aligned(poisoned(sessions, "train")))


@pytest.mark.parametrize("name", ["gcegnn", "dhcn"])
def test_graphs_of_all_sessions_are_of_training_sessions_alone(name: str) -> None:
    """Not even validation reaches them, though it picks the epoch."""
    graphs = []
    for sessions in (made(), poisoned(made()), poisoned(made(), "valid"), poisoned(made(), "train")):
        model = SESSION_MODELS[name](N, config_of(name)(**TINY), T)
        model.learn_structure(samples_of(sessions, "train", "all"))
        graphs.append([buffer.numpy() for buffer in model.buffers()])
    assert same(graphs[0], graphs[1]) and same(graphs[0], graphs[2]) and not same(graphs[0], graphs[3])
