"""Chat-Rec (Gao et al., 2023, arXiv 2303.14524), small: a recommender's list, re-ranked by what somebody asks for.

A language model reads history, list and request; an item moves by what the request changes in the log-probability of
its title: log p(title | history, list, request) - log p(title | history, list). That change is added to the
recommender's own log-probability, and is the whole "reason" given: no free talk. A request is a stranger's text: it is
spelt as the characters it has, and can be no mark of a chat. Shown in ``notebooks/gallery/chat.ipynb``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax

from recnb.errors import RecnbError
from recnb.llm.ranking_prompts import Prompt, RankingPrompts
from recnb.llm.scoring import score_answers
from recnb.recommenders.interface import Scorer, top_items
from recnb.style import plain

MOST = 400  # characters of a request


@dataclass(frozen=True)
class Reply:
    """What a request does to a list.

    Attributes:
        items: (U, C) the recommender's list, best first.
        before: (U, C) its log-probability among the list.
        change: (U, C) what the request adds.
    """

    items: np.ndarray
    before: np.ndarray
    change: np.ndarray

    @property
    def order(self) -> np.ndarray:
        """(U, C) places in ``items``, best first, after the request; equals stand as the recommender had them."""
        return np.argsort(-(self.before + self.change), axis=1, kind="stable")


def request_prompt(prompts: RankingPrompts, history: np.ndarray, items: np.ndarray, request: str) -> Prompt:
    """History (T,), list (C,), and what is asked for, if anything is; spans as everywhere, and ``request``."""
    head, listed = (prompts.said(f"{words}\n") for words in (prompts.wording.head, prompts.wording.listed))
    parts = [("", head), ("history", prompts.history(history, "text"))]
    parts += [("", listed), ("candidates", prompts.lines(items, "text", "candidates"))]
    if request:
        said = np.array(prompts.plain.encode([f" {plain(request, MOST)}"])[0], np.int64)
        parts += [("question", prompts.said("The visitor asks for:")), ("request", said), ("", prompts.newline)]
    return prompts.join([*parts, ("question", prompts.said(prompts.wording.question))])


def chat(
    model: Any, prompts: RankingPrompts, recommender: Scorer, histories: np.ndarray, request: str, size: int = 20
) -> Reply:
    """A recommender's best ``size`` items for histories (U, T) padded with -1, and how a request moves them.

    Raises:
        RecnbError: an empty request.
    """
    if not plain(request, MOST).strip():
        raise RecnbError("the request is empty: expected words, such as 'a comedy'")
    scores = recommender.scores(histories)
    items = top_items(scores, size)
    before = log_softmax(np.take_along_axis(np.asarray(scores, np.float64), items, axis=1), axis=1)
    asked = [request_prompt(prompts, *pair, said).ids for said in (request, "")
             for pair in zip(histories, items, strict=True)]  # fmt: skip
    same, users = np.concatenate([items, items]), np.tile(np.arange(len(items)), 2)  # history and list are read once
    told, idle = np.split(score_answers(model, asked, prompts.answers, same, groups=users), 2)
    return Reply(items, before, told - idle)
