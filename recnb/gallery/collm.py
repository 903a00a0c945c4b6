"""CoLLM (Zhang et al., 2023, arXiv 2310.19488): TALLRec's question, with a vector of the user and one of the item.

Both are SASRec's: its state after the history, its row of the item. First LoRA on text alone (the row ``tallrec``),
then the projector alone, LoRA frozen. Question: does the language model add to the recommender whose vectors it reads?
Controls: ``sasrec``, whose score these vectors are; the vectors of other items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from recnb.gallery.interface import Bench, Learned, Ranker
from recnb.gallery.llara import vectors_of_others
from recnb.gallery.tallrec import QUESTIONS, TALLRec, asked, questions, tuned
from recnb.llm.ranker import trained_parameters
from recnb.llm.ranking_prompts import Kind, RankingPrompts, Wording
from recnb.llm.slots import add_slots
from recnb.llm.tuning import Example, tune
from recnb.recommenders.sasrec import SASRec


@dataclass
class CoLLM(TALLRec):
    """TALLRec with vectors; ``order`` (N,): whose vector stands behind the title."""

    order: np.ndarray | None = None

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) log-odds of yes against no."""
        assert self.order is not None
        with vectors_of_others(self.model, self.order):
            return super().scores(histories, items)


def rankers(bench: Bench) -> list[Ranker]:
    """CoLLM, and the same model with the vectors of other items."""
    own, cases, sasrec = bench.prompts, asked(bench, 0, bench.examples), cast(SASRec, bench.models["sasrec"])
    config = own.config.model_copy(update={"slots": ["user"]})  # and at the item that is asked about
    words = Wording(open=QUESTIONS[bench.gallery.labels])
    prompts = RankingPrompts(own.tokenizer, bench.titles, own.rows, config, words)
    assert prompts.users is not None
    prompts.users.states_of = sasrec.states

    def examples_of(stage: int, kind: Kind) -> list[Example]:
        return questions(prompts, cases, bench.examples, kind)

    model, first = tuned(bench, prompts, bench.examples)
    model.requires_grad_(False)
    slots = add_slots(model, sasrec.item_table(), bench.slots, prompts.title_ids, bench.seed)
    slots.users = prompts.users
    tune(model, examples_of, bench.one_stage("hybrid"), seed=bench.seed, keep=bench.keep / "collm")
    learned = Learned(first.parameters + trained_parameters(slots.projector), 2 * first.examples)
    orders = [np.arange(bench.n_items), bench.others]
    return [
        CoLLM(name, model.eval(), prompts, learned, "hybrid", order=order)
        for name, order in zip(("collm", "collm/other-vectors"), orders, strict=True)
    ]
