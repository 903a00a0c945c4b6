"""Initialisation from text (Harte et al., RecSys 2023): a SASRec whose item table begins as what titles mean.

Title vectors of the language model -> as many directions of most variance as SASRec's table has columns -> that table,
at the usual length, trained on as SASRec is. Question: does text give items a better start? Controls: the same vectors
dealt out to other items; and the table's own SASRec, which begins at random.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import torch

from recnb.gallery.interface import Bench, Learned, Ranker
from recnb.gallery.llmseqsim import Similar
from recnb.llm.ranker import trained_parameters
from recnb.recommenders.next_item import train_sequential
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.settings import SasrecConfig


class StartedSASRec(SASRec):
    """SASRec that begins with given item vectors (N, width)."""

    def __init__(self, n_items: int, config: SasrecConfig, length: int, *, vectors: np.ndarray) -> None:
        super().__init__(n_items, config, length)
        with torch.no_grad():
            self.items.weight[:n_items] = torch.from_numpy(vectors)


def narrowed(vectors: np.ndarray, width: int) -> np.ndarray:
    """(N, d) -> (N, width) float32: the directions of most variance, as long as SASRec's table begins (its entries have
    a standard deviation of width^-1/2); zeros where there are fewer directions.

    >>> narrowed(np.array([[1.0, 5.0], [3.0, 5.0]]), 4).round(3).tolist()
    [[-0.5, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]]
    """
    left, lengths, right = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])  # an SVD's own are anybody's guess
    found = np.zeros((len(vectors), width), np.float32)
    found[:, : len(lengths)] = (left * lengths * signs)[:, :width]
    return found * np.float32(width**-0.5 / max(float(found[:, : len(lengths)].std()), 1e-8))


def started(bench: Bench, name: str, vectors: np.ndarray, examples: int = 0) -> Similar:
    """SASRec with the settings of the table's own, begun with ``vectors`` (N, d); a row. ``examples``: on which the
    vectors themselves were trained."""
    own = cast(SASRec, bench.models["sasrec"])
    config = cast(SasrecConfig, own.config)
    made: Any = partial(StartedSASRec, vectors=narrowed(vectors, config.width))
    asked = (bench.held.histories["valid"], bench.held.targets["valid"])
    model = train_sequential(
        bench.held.train, bench.n_items, config, own.length, seed=bench.seed, encoder=made, validation=asked,
        device=str(own.device), keep=bench.keep / f"{name.replace('/', '-')}.pt",
    )  # fmt: skip
    pairs = len(model.log) * (len(bench.held.train.items) - len(bench.held.train))
    return Similar(name, model, learned=Learned(trained_parameters(model), examples + pairs))


def rankers(bench: Bench) -> list[Ranker]:
    """The language model's vectors, and the same ones at other items."""
    vectors = bench.untuned
    other = np.random.default_rng([bench.seed, 71]).permutation(len(vectors))
    return [started(bench, "textstart", vectors), started(bench, "textstart/other-items", vectors[other])]
