"""A catalogue of a few items and a model of a few thousand weights, for tests that need the whole chain in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from recnb.data.schema import Sequences
from recnb.data.split import Validation
from recnb.eager_llm.model import Recommender
from recnb.eager_llm.recipe import TasksConfig, TrainConfig
from recnb.eager_llm.tasks import ItemText, TaskBuilder, full_text
from recnb.eager_llm.train import fit
from recnb.llm.backbone import build_backbone, initialise_tokens
from recnb.llm.settings import BackboneConfig, DecodeConfig
from recnb.llm.vocabulary import Vocabulary, train_tokenizer
from recnb.runtime import Runtime, start
from recnb.settings import RuntimeConfig

N, K, L, USERS, T = 20, 5, 4, 15, 6
TASKS = TasksConfig(separator="", templates=2, heldout_text=0.2)
BACKBONE = BackboneConfig(vocabulary=400, width=16, layers=1, heads=2, feedforward=32, dropout=0.1)


def catalogue(n: int = N, titles: list[str] | None = None) -> pd.DataFrame:
    """n items in two categories."""
    titles = titles or [f"The {('red', 'blue')[i % 2]} story part {i}" for i in range(n)]
    return pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(n)],
            "title": titles,
            "description": "",
            "brand": "",
            "categories": [[("Drama", "Comedy")[i % 2]] for i in range(n)],
        }
    )


def codes(n: int = N, k: int = K) -> np.ndarray:
    """(n, 4) unique codes; the first two columns alone identify an item."""
    number = np.arange(n)
    return np.stack([number // k, number % k, number % k, number // k], axis=1).astype(np.int32)


def sequences(users: int = USERS, seed: int = 0) -> Sequences:
    """Users with 2 to 17 training items."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 18, users)
    return Sequences(np.append(0, np.cumsum(lengths)), rng.integers(0, N, lengths.sum()).astype(np.int32))


def vocabulary(items: pd.DataFrame | None = None) -> Vocabulary:
    """Tokenizer trained on the small catalogue, with its index tokens."""
    tokenizer = train_tokenizer(full_text(catalogue()), BACKBONE.vocabulary)
    return Vocabulary.build(tokenizer, ("s1", "s2", "b1", "b2"), codes(), K)


def builder(vocab: Vocabulary, dense: bool = True, tasks: TasksConfig = TASKS, **kwargs) -> TaskBuilder:
    """All six tasks on the small data."""
    text = ItemText.build(catalogue(), vocab, tasks, 0)
    return TaskBuilder(
        vocab, text, kwargs.pop("train", sequences()), tasks, T, dense, kwargs.pop("con_before", False), 0, **kwargs
    )


def recommender(vocab: Vocabulary, backbone: BackboneConfig = BACKBONE, weight: float = 0.1) -> Recommender:
    """A fresh model with both projectors."""
    rng = np.random.default_rng(0)
    model = build_backbone(backbone, vocab, 0)
    centroids = {c: rng.standard_normal((K, 8)).astype(np.float32) for c in vocab.columns}
    initialise_tokens(model, vocab, centroids, 0)
    sources = {"semantic": rng.standard_normal((N, 8)), "behaviour": rng.standard_normal((N, 6))}
    return Recommender(model, sources, {"semantic": weight, "behaviour": weight})


def runtime() -> Runtime:
    """CPU, one thread, float32."""
    return start(RuntimeConfig(device="cpu", dtype="float32", threads=1), 0)


def validation() -> Validation:
    """Every user's last training items as history, a random target."""
    rng = np.random.default_rng(1)
    return Validation(sequences().pad(T), rng.integers(0, N, USERS).astype(np.int32))


def trained(
    folder: Path, config: TrainConfig, vocab: Vocabulary | None = None
) -> tuple[Recommender, list[dict[str, float]]]:
    """Fit a fresh model; checkpoints go to ``folder``."""
    vocab = vocab or vocabulary()
    here = runtime()
    torch.manual_seed(0)
    model = recommender(vocab)
    log = fit(model, builder(vocab), validation(), config, DecodeConfig(beam=10), here, folder)
    return model, log
