"""LlamaRec (Yue et al., 2023, arXiv 2311.02089): candidates stand behind letters, and the answer is one letter.

The cheapest list-wise answer: the 20 columns of the head at one position, no title to read. Loss on the letter and on
what ends an answer. The paper's list is the top 20 of a retriever; here it is whatever the table asks about. Rows: the
model before and after training, and a control whose letters stand in random order: does it read letters, or places?
"""

from __future__ import annotations

from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

import numpy as np

from recnb.errors import RecipeError
from recnb.gallery.interface import Answer, Bench, Learned, Ranker, prompts_of
from recnb.llm.ranking_prompts import Prompt, RankingPrompts
from recnb.llm.scoring import score_words
from recnb.llm.tuning import Example

QUESTION = "Which of these does the same visitor choose next? Answer with its letter alone."


@dataclass
class LlamaRec:
    """Scores by letters; ``order`` (C,) says which letter stands at each place of the list."""

    name: str
    model: Any
    prompts: RankingPrompts
    order: np.ndarray
    learned: Learned = field(default_factory=Learned)
    answer: Answer = "letter"

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> Prompt:
        """A letter in front of each candidate."""
        return self.prompts.build(history, candidates)

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) log-probability of each candidate's letter."""
        groups = np.repeat(np.arange(len(items)), items.shape[1])
        letters = self.prompts.letters[self.order]
        return score_words(self.model, prompts_of(self, histories, items), letters, groups=groups).reshape(items.shape)


def lettered(bench: Bench, order: np.ndarray) -> RankingPrompts:
    """Prompts whose list carries letters in this order.

    Raises:
        RecipeError: more candidates than letters.
    """
    if len(order) > len(ascii_uppercase):
        most = len(ascii_uppercase)
        raise RecipeError(f"candidates.size = {len(order)}: llamarec has {most} letters; expected no more candidates")
    return bench.saying(question=QUESTION, labels=tuple(f"({ascii_uppercase[place]})" for place in order))


def rankers(bench: Bench) -> list[Ranker]:
    """Untuned, tuned on text, and tuned with letters that stand in another order than in training."""
    size = bench.sets.items.shape[2]
    plain, mixed = np.arange(size), np.random.default_rng([bench.seed, 61]).permutation(size)
    prompts = lettered(bench, plain)
    end = prompts.answers[0][-1]

    def examples_of(stage: int, kind: str) -> list[Example]:
        cases = bench.cases(stage, bench.examples)
        places = (cases.candidates == cases.targets[:, None]).argmax(1)
        answers = np.stack([prompts.letters[places], np.full(len(places), end)], axis=1)
        rows = zip(cases.histories, cases.candidates, answers, cases.targets.tolist(), strict=True)
        return [Example(prompts.build(seen, shown), answer, item) for seen, shown, answer, item in rows]

    model, learned = bench.tuned("llamarec", bench.text_only, examples_of)
    return [
        LlamaRec("llamarec/untuned", bench.load(), prompts, plain),
        LlamaRec("llamarec", model, prompts, plain, learned),
        LlamaRec("llamarec/mixed-letters", model, lettered(bench, mixed), mixed, learned),
    ]
