"""LLMSeqSim (Harte et al., RecSys 2023): the item whose title means most nearly what the history's titles mean.

A vector per title, the mean of the language model's last states over it, made once; nothing is trained, no prompt is
asked. An untuned model's vectors all point one way, so their mean is taken off (ours). Rows: the history as a weighted
sum, newest first (decay .5), its mean, and its last item alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recnb.gallery.interface import Answer, Bench, Learned, Ranker, of_candidates
from recnb.llm.scoring import pooled_states
from recnb.recommenders.content import VectorSimilarity

if TYPE_CHECKING:
    from recnb.llm.ranking_prompts import RankingPrompts
    from recnb.recommenders.interface import Scorer

DECAYS = {"llmseqsim": 0.5, "llmseqsim/mean": 1.0, "llmseqsim/last": 0.0}


@dataclass
class Similar:
    """A recommender that scores all items, as a row of the table."""

    name: str
    scorer: Scorer
    answer: Answer = "vector"
    learned: Learned = field(default_factory=Learned)

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> None:
        """It asks nothing."""

    def catalogue(self, histories: np.ndarray) -> np.ndarray:
        """(U, N) scores."""
        return self.scorer.scores(histories)

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) of the candidates."""
        return of_candidates(self.catalogue(histories), items)


def title_vectors(model: Any, prompts: RankingPrompts) -> np.ndarray:
    """(N, d) float32: the mean of the last hidden states over each title by itself."""
    alone = [prompts.alone(item) for item in range(len(prompts.titles))]
    return pooled_states(model, alone, [slice(len(prompts.lead), len(ids)) for ids in alone])


def rankers(bench: Bench) -> list[Ranker]:
    """Three ways to sum up a history."""
    vectors = title_vectors(bench.load(), bench.prompts)
    vectors = vectors - vectors.mean(0)
    return [Similar(name, VectorSimilarity(vectors, decay)) for name, decay in DECAYS.items()]
