"""Annealing: a LoRA adapter trained on recommendation data alone, kept apart from the backbone (§5; 05_anneal)."""

import numpy as np

from recnb.data.schema import Sequences
from recnb.eager_llm.recipe import AnnealConfig, TrainConfig


def select(train: Sequences, n_items: int, config: AnnealConfig) -> tuple[np.ndarray, np.ndarray]:
    """Which data the adapter sees: ``all``, or users and targets above two floors (§5: "high-quality data"). Returns
    (U,) bool users whose sequences count, and (N,) bool items that may be a target.
    """
    if config.select == "all":
        return np.ones(len(train), dtype=bool), np.ones(n_items, dtype=bool)
    popularity = np.bincount(train.items, minlength=n_items)
    return train.lengths >= config.min_interactions, popularity >= config.min_popularity


def annealing_config(train: TrainConfig, anneal: AnnealConfig) -> TrainConfig:
    """The training settings of the annealing stage: its own epochs and rate, no contrast, validated at its end."""
    return train.model_copy(
        update={
            "epochs": anneal.epochs, "max_steps": anneal.max_steps, "learning_rate": anneal.learning_rate,
            "lambda_semantic": 0.0, "lambda_behaviour": 0.0,
            "evaluate_every": 0.0, "early_stopping": "none", "checkpoint_every": 0,
        }
    )  # fmt: skip
