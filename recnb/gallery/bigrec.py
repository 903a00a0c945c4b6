"""BIGRec (Bao et al., 2023, arXiv 2308.08434): write any title, then take the items that mean most nearly the same.

Tuned on open prompts (no candidates). What was written is read by the *untuned* model; an item's score is
-distance * (1 + w)^-gamma, with the L2 distance to its title's vector and w in [0, 1], what SASRec says (equation 3).
The release chooses a gamma per metric and cutoff; **ours** is one, by N@10 on validation. Controls: gamma 0, the text
alone; and the state at the prompt's end in place of a written title. With no text at all (all distances equal) the row
would be SASRec's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recnb.evaluation.candidates import candidate_metrics, ranks_of
from recnb.gallery.interface import Answer, Bench, Learned, Ranker, of_candidates
from recnb.gallery.llmseqsim import title_vectors
from recnb.llm.scoring import ground, pooled_states, write

if TYPE_CHECKING:
    from recnb.llm.ranking_prompts import Prompt

GAMMAS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass
class BIGRec:
    """Scores all items by the vector that stands for an answer: ``vectors_of`` (U, T) -> (U, d), and tokens written."""

    name: str
    bench: Bench
    vectors_of: Callable[[np.ndarray], tuple[np.ndarray, int]]
    table: np.ndarray
    learned: Learned
    gamma: float = 0.0
    answer: Answer = "title"
    written: int = 0  # tokens, so far

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> Prompt:
        """The open prompt: no candidates."""
        return self.bench.prompts.build(history)

    def catalogue(self, histories: np.ndarray) -> np.ndarray:
        """(U, N) scores."""
        vectors, tokens = self.vectors_of(histories)
        self.written += tokens
        return self._grounded(vectors, histories)

    def _grounded(self, vectors: np.ndarray, histories: np.ndarray) -> np.ndarray:
        return ground(vectors, self.table, self.bench.models["sasrec"].scores(histories), self.gamma)

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) of the candidates."""
        return of_candidates(self.catalogue(histories), items)

    def choose(self) -> BIGRec:
        """Itself, with the gamma of the highest N@10 among the candidates of the validation users."""
        histories, sets = self.bench.held.histories["valid"], self.bench.sets
        vectors, reached = self.vectors_of(histories)[0], []
        for self.gamma in GAMMAS:
            ranks = ranks_of(of_candidates(self._grounded(vectors, histories), sets.items), sets)
            reached.append(candidate_metrics(ranks, [10])["N@10"].mean())
        self.gamma = GAMMAS[int(np.argmax(reached))]
        return self


def written(bench: Bench, model: Any, base: Any, histories: np.ndarray) -> tuple[np.ndarray, int]:
    """(U, d) what the untuned model ``base`` makes of the titles that the tuned one writes; and how many tokens."""
    prompts, end = bench.prompts, int(bench.prompts.answers[0][-1])
    asked = [prompts.build(history).ids for history in histories]
    texts = write(model, asked, prompts.config.title_tokens + 1, [end])
    read = [np.concatenate([prompts.lead, text[text != end] if len(text) > 1 else text]) for text in texts]
    return pooled_states(base, read, [slice(len(prompts.lead), len(ids)) for ids in read]), sum(map(len, texts))


def rankers(bench: Bench) -> list[Ranker]:
    """Written and grounded with a chosen gamma; with none; and grounded without writing."""
    model, learned = bench.tuned("bigrec", bench.text_only, partial(bench.titled, listed=False))
    base = bench.load()
    table = title_vectors(base, bench.prompts)

    def unwritten(histories: np.ndarray) -> tuple[np.ndarray, int]:
        asked = [bench.prompts.build(history).ids for history in histories]
        return pooled_states(model, asked, [slice(len(ids) - 1, len(ids)) for ids in asked]), 0

    told = partial(written, bench, model, base)
    return [
        BIGRec("bigrec", bench, told, table, learned).choose(),
        BIGRec("bigrec/text-alone", bench, told, table, learned),
        BIGRec("bigrec/unwritten", bench, unwritten, table, learned, answer="vector").choose(),
    ]
