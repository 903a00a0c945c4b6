"""TALLRec (Bao et al., RecSys 2023, arXiv 2305.00447): one item at a time, "would they choose it?", yes or no.

Few examples are meant to be enough. Every row here takes as many steps; what differs is how many *distinct* examples
they go through, again and again: 16, 64, 256 (the paper's), or each once. Half of them are answered with yes: about
what was chosen next, the others about another item; or, by the recipe (``gallery.labels: liked``), about what was rated
above 3, the others about what was rated lower, which is the paper's task. It also lists liked and disliked titles
apart; a row of this table is told items alone. Loss on the answer; the release's is on the prompt, too. Questions about
one history are branches behind it, which is read once. What an item is worth after no history is taken off in the row
``contrast``. Control: popularity, by AUC and UAUC (:mod:`recnb.evaluation.areas`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recnb.gallery.interface import Answer, Bench, Learned, Ranker
from recnb.llm.ranking_prompts import Kind, Prompt, RankingPrompts
from recnb.llm.scoring import score_words
from recnb.llm.training_cases import rated_cases
from recnb.llm.tuning import Example

QUESTIONS = {  # what differs last: the rest is read once
    "chosen": "Answer Yes or No: does the same visitor choose this next?{item}",
    "liked": "Answer Yes or No: would the same visitor like this?{item}",
}
SHOTS, LIKED = (16, 64, 256), 3  # ratings above it
Asked = tuple[np.ndarray, np.ndarray, np.ndarray]  # (n, T) histories, (n,) items asked about, (n,) bool: yes


@dataclass
class TALLRec:
    """Scores by how much more probable yes is than no; ``contrast``: less what it is after no history at all."""

    name: str
    model: Any
    prompts: RankingPrompts
    learned: Learned = field(default_factory=Learned)
    kind: Kind = "text"
    answer: Answer = "yes or no"
    contrast: bool = False

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> Prompt:
        """The question about the first candidate."""
        return self.prompts.build(history, None, self.kind, int(candidates[0]))

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) log-odds of yes against no."""
        found = self._log_odds(histories, items)
        if not self.contrast:
            return found
        every, places = np.unique(items, return_inverse=True)  # after no history all users are one
        nobody = self._log_odds(np.full_like(histories[:1], -1), every[None, None])[0, 0]
        return found - nobody[places].reshape(items.shape)

    def _log_odds(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        groups = np.repeat(np.arange(len(items)), items[0].size)
        asked = zip(groups.tolist(), items.reshape(-1, 1), strict=True)
        prompts = [self.prompt(histories[user], item).ids for user, item in asked]
        yes, no = score_words(self.model, prompts, self.prompts.yes_no, groups=groups).T
        return (yes - no).reshape(items.shape)


def asked(bench: Bench, stage: int, shots: int) -> Asked:
    """What is asked in training, one yes and one no in turn."""
    if bench.gallery.labels == "liked":
        length = bench.held.histories["valid"].shape[1]
        return rated_cases(bench.held.train, bench.ratings, LIKED, shots, length, bench.seed + 1000 * stage)
    cases = bench.cases(stage, shots)
    others = np.where(cases.candidates[:, 0] == cases.targets, cases.candidates[:, 1], cases.candidates[:, 0])
    yes = np.arange(shots) % 2 == 0
    return cases.histories, np.where(yes, cases.targets, others), yes


def questions(prompts: RankingPrompts, asked: Asked, count: int, kind: Kind) -> list[Example]:
    """``count`` examples that go through what is asked again and again."""
    yes, no = (np.array([word, prompts.answers[0][-1]]) for word in prompts.yes_no)
    rows = zip(asked[0], asked[1].tolist(), asked[2], strict=True)
    made = [Example(prompts.build(seen, None, kind, item), yes if said else no, item) for seen, item, said in rows]
    return [made[place % len(made)] for place in range(count)]


def tuned(bench: Bench, prompts: RankingPrompts, shots: int) -> tuple[Any, Learned]:
    """A model after as many steps as the recipe has, on so many different examples."""

    def examples_of(stage: int, kind: Kind) -> list[Example]:
        return questions(prompts, asked(bench, stage, shots), bench.examples, kind)

    return bench.tuned(f"tallrec-{shots}", bench.text_only, examples_of)


def rankers(bench: Bench) -> list[Ranker]:
    """Untuned, ever more examples, and the last of these against no history."""
    prompts, every = bench.saying(open=QUESTIONS[bench.gallery.labels]), bench.examples
    counts = {f"tallrec/{shots} shots": shots for shots in SHOTS if shots < every} | {"tallrec": every}
    found: list[Ranker] = [TALLRec("tallrec/untuned", bench.load(), prompts)]
    for name, shots in counts.items():
        model, learned = tuned(bench, prompts, shots)
        found.append(TALLRec(name, model, prompts, learned))
    return [*found, TALLRec("tallrec/contrast", model, prompts, learned, contrast=True)]
