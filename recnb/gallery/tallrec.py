"""TALLRec (Bao et al., RecSys 2023, arXiv 2305.00447): one item at a time, "would they choose it?", yes or no.

Few examples are meant to be enough. Every row here takes as many steps; what differs is how many *distinct* examples
they go through, again and again: 16, 64, 256 (the paper's), or each once. Half of them ask about what was chosen, half
about another item (the paper: ratings above 3, and not). Loss on the answer; the release's is on the prompt, too.
Questions about one history are branches behind it, which is read once. Control: popularity, by AUC and UAUC
(:func:`recnb.evaluation.areas.areas`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recnb.gallery.interface import Answer, Bench, Learned, Ranker
from recnb.llm.scoring import score_words
from recnb.llm.tuning import Example

if TYPE_CHECKING:
    from recnb.llm.ranking_prompts import Kind, Prompt, RankingPrompts
    from recnb.llm.training_cases import TrainingCases

QUESTION = "Would the same visitor choose{item} next? Answer Yes or No."
SHOTS = (16, 64, 256)


@dataclass
class TALLRec:
    """Scores by how much more probable yes is than no."""

    name: str
    model: Any
    prompts: RankingPrompts
    learned: Learned = field(default_factory=Learned)
    kind: Kind = "text"
    answer: Answer = "yes or no"

    def prompt(self, history: np.ndarray, candidates: np.ndarray, user: int = 0) -> Prompt:
        """The question about the first candidate."""
        return self.prompts.build(history, None, self.kind, int(candidates[0]), user)

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) log-odds of yes against no."""
        groups = np.repeat(np.arange(len(items)), items[0].size)
        asked = zip(groups.tolist(), items.reshape(-1, 1), strict=True)
        prompts = [self.prompt(histories[user], item, user).ids for user, item in asked]
        yes, no = score_words(self.model, prompts, self.prompts.yes_no, groups=groups).T
        return (yes - no).reshape(items.shape)


def questions(prompts: RankingPrompts, cases: TrainingCases, count: int, kind: Kind) -> list[Example]:
    """``count`` examples that go through the cases again and again: every other one asks about what was chosen."""
    yes, no = (np.array([word, prompts.answers[0][-1]]) for word in prompts.yes_no)
    others = np.where(cases.candidates[:, 0] == cases.targets, cases.candidates[:, 1], cases.candidates[:, 0])
    asked, made = np.where(np.arange(len(others)) % 2, others, cases.targets).tolist(), []
    for place, (history, item) in enumerate(zip(cases.histories, asked, strict=True)):
        made.append(Example(prompts.build(history, None, kind, item, place), no if place % 2 else yes, item))
    return [made[place % len(made)] for place in range(count)]


def tuned(bench: Bench, prompts: RankingPrompts, shots: int) -> tuple[Any, Learned]:
    """A model after as many steps as the recipe has, on so many different examples."""

    def examples_of(stage: int, kind: Kind) -> list[Example]:
        return questions(prompts, bench.cases(stage, shots), bench.examples, kind)

    return bench.tuned(f"tallrec-{shots}", bench.text_only, examples_of)


def rankers(bench: Bench) -> list[Ranker]:
    """Untuned, then ever more examples."""
    prompts, every = bench.saying(open=QUESTION), bench.examples
    counts = {f"tallrec/{shots} shots": shots for shots in SHOTS if shots < every} | {"tallrec": every}
    found: list[Ranker] = [TALLRec("tallrec/untuned", bench.load(), prompts)]
    for name, shots in counts.items():
        model, learned = tuned(bench, prompts, shots)
        found.append(TALLRec(name, model, prompts, learned))
    return found
