"""LLMRank (Hou et al., ECIR 2024, arXiv 2305.08845): a model that nobody tuned sees a history and a list, and ranks.

Three prompts of the paper (section 2.2): `sequential`; `recency-focused`, which names the latest item once more; and
`in-context`, which holds the latest item back and shows it as the right answer. **Ours**: a title's likelihood, where
the paper writes a ranking and searches it for titles; so one prefill per list, and nothing invalid. What a title is
worth after an empty history is taken off in the row ``contrast``. The control is told what another user had.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recnb.gallery.interface import Answer, Bench, Learned, Ranker, title_scores
from recnb.llm.ranking_prompts import Prompt, RankingPrompts

_ASK = "Which of these does the same visitor choose next? Answer with its name alone."
QUESTIONS = {  # {item} is the latest item of the history
    "sequential": _ASK,
    "recency": f"Note that the latest choice was{{item}}. {_ASK}",
    "in-context": f"After this history the right answer was{{item}}. Now that it was chosen: {_ASK}",
}


@dataclass
class LLMRank:
    """One prompt of the paper. ``others``: each user's history is that of the one before (the control); ``contrast``:
    less what the same list is worth after no history at all."""

    name: str
    model: Any
    prompts: RankingPrompts
    held_back: int = 0
    others: bool = False
    contrast: bool = False
    answer: Answer = "title"
    learned: Learned = field(default_factory=Learned)

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> Prompt:
        """The list behind the history; the latest item in the question, and ``held_back`` from the history or not."""
        shown = history[: len(history) - self.held_back]
        latest = int(history[-1]) if "{item}" in self.prompts.wording.question else None
        return self.prompts.build(shown, candidates, item=latest)

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) summed log-probability of each title."""
        told = np.roll(histories, 1, axis=0) if self.others else histories
        found = title_scores(self, told, items)
        return found - title_scores(self, np.full_like(histories, -1), items) if self.contrast else found


def rankers(bench: Bench) -> list[Ranker]:
    """Three prompts, the contrast to no history, and the control."""
    model = bench.load()
    says = {name: bench.saying(question=question) for name, question in QUESTIONS.items()}
    return [
        LLMRank("llmrank", model, says["sequential"]),
        LLMRank("llmrank/recency", model, says["recency"]),
        LLMRank("llmrank/in-context", model, says["in-context"], held_back=1),
        LLMRank("llmrank/contrast", model, says["sequential"], contrast=True),
        LLMRank("llmrank/other-history", model, says["sequential"], others=True),
    ]
