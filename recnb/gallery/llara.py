"""LLaRA (Liao et al., SIGIR 2024, arXiv 2312.02445): behind each title stands the vector that SASRec has for the item.

A curriculum: at step t of T a batch shows vectors with probability t / T, else titles alone, the projector waiting.
**Ours**: a title's likelihood, where the paper writes one and searches it for titles. Question: do vectors add to
titles? Controls: the same training on titles alone (what the paper calls TALLRec, and LlamaRec with titles in the place
of letters); and, at test, the vectors of other items behind the titles, and vectors in the place of the titles.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from recnb.gallery.interface import Answer, Bench, Learned, Ranker, title_scores
from recnb.llm.backbone import causal_lm
from recnb.llm.ranking_prompts import Kind, Prompt, RankingPrompts
from recnb.recommenders.sasrec import SASRec


@dataclass
class LLaRA:
    """Scores by the likelihood of titles; ``order`` (N,): whose vector stands behind each title."""

    name: str
    model: Any
    prompts: RankingPrompts
    learned: Learned
    order: np.ndarray
    kind: Kind = "hybrid"
    answer: Answer = "title"

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> Prompt:
        """History and list, with vectors."""
        return self.prompts.build(history, candidates, self.kind)

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) summed log-probability of each title."""
        with vectors_of_others(self.model, self.order):
            return title_scores(self, histories, items)


@contextmanager
def vectors_of_others(model: Any, order: np.ndarray) -> Iterator[None]:
    """Meanwhile the slot of item i holds the vector of item ``order[i]``."""
    slots = causal_lm(model).get_input_embeddings()
    own = slots.rows
    slots.rows = torch.cat([own[torch.from_numpy(order).to(own.device)], own[len(order) :]])
    try:
        yield
    finally:
        slots.rows = own


def rankers(bench: Bench) -> list[Ranker]:
    """LLaRA, the same without a vector in training, and the same model with other vectors and without titles."""
    prompts, table = bench.prompts, cast(SASRec, bench.models["sasrec"]).item_table()
    model, learned = bench.tuned("llara", bench.one_stage("curriculum"), bench.titled, table)
    text, of_text = bench.tuned("llara-titles", bench.text_only, bench.titled, table)
    own = np.arange(bench.n_items)
    return [
        LLaRA("llara", model, prompts, learned, own),
        LLaRA("llara/titles-alone", text, prompts, of_text, own, "text"),
        LLaRA("llara/other-vectors", model, prompts, learned, bench.others),
        LLaRA("llara/no-titles", model, prompts, learned, own, "slots"),
    ]
