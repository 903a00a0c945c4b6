"""TIGER (Rajput et al., NeurIPS 2023, arXiv 2305.05065): no language model ranks; a small T5 writes an item's code.

The language model gives title vectors, once; balanced k-means makes codes of them; an encoder-decoder, trained from
scratch as :mod:`recnb.recommenders.tiger` has it, writes the next item's. Candidates are scored by their codes' tokens.
Question: does meaning in a code matter? Control: the same codes dealt out to other items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from recnb.gallery.interface import Answer, Bench, Learned
from recnb.index.build import build_index
from recnb.index.settings import IndexConfig
from recnb.llm.ranker import trained_parameters
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.tiger import TIGER, train_tiger


@dataclass
class Coded:
    """Scores by the likelihood of codes."""

    name: str
    model: TIGER
    learned: Learned
    answer: Answer = "index"

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> None:
        """Its own, of codes."""

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) log-probability of each candidate's code; a user's history is read once."""
        return self.model.scores_of(histories, items.reshape(len(items), -1)).reshape(items.shape)


def rankers(bench: Bench) -> list[Coded]:
    """Codes by meaning, and the same codes at other items."""
    held, config = bench.held, bench.gallery.tiger
    index = build_index({"semantic": bench.untuned}, IndexConfig(source="semantic"), bench.seed)
    device = str(cast(SASRec, bench.models["sasrec"]).device)
    other = np.random.default_rng([bench.seed, 79]).permutation(bench.n_items)
    valid, rows = (held.histories["valid"], held.targets["valid"]), []
    for name, codes in {"tiger": index.codes, "tiger/other-items": index.codes[other]}.items():
        model = train_tiger(
            held.train, codes, config, valid[0].shape[1], seed=bench.seed, device=device, validation=valid,
            keep=bench.keep / f"{name.replace('/', '-')}.pt",
        )  # fmt: skip
        pairs = len(model.log) * (len(held.train.items) - len(held.train))
        rows.append(Coded(name, model, Learned(trained_parameters(model), pairs)))
    return rows
