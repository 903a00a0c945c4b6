"""Readings of one tuned model: likelihood, constrained and free text, retrieval, and the whole catalogue.

All take histories (U, T) padded with -1 and, where there is a list, candidates (U, D, C), and give scores in the shape
of the candidates, larger is better. Shown in ``notebooks/rsllm/07_rank.ipynb``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recnb.errors import ArtifactError
from recnb.index.trie import Trie
from recnb.llm.backbone import causal_lm
from recnb.llm.beam import recommend
from recnb.llm.packed import Told, told_answers
from recnb.llm.ranker import load_ranker
from recnb.llm.ranking_prompts import Kind, Prompt, RankingPrompts
from recnb.llm.scoring import beginnings, match_titles, pooled_states, write
from recnb.llm.settings import BackboneConfig, DecodeConfig, TuneConfig
from recnb.llm.slots import SlotEmbedding, words_of
from recnb.recommenders.content import unit
from recnb.recommenders.session_models import load_session_model

Reduce = Literal["sum", "mean", "contrast"]
Change = Callable[[Prompt], np.ndarray]  # a prompt -> the ids that are read in its place


@dataclass(frozen=True)
class Written:
    """What was written, and what it names.

    Attributes:
        texts: U * D answers, a user's sets one after the other.
        columns: (U, D) the candidate that each names, -1: none, or not one alone.
        scores: (U, D, C) 1 at that candidate, else 0.
    """

    texts: list[str]
    columns: NDArray[np.int64]
    scores: NDArray[np.float32]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(U, D) whether exactly one candidate was named; its mean is LLaRA's ValidRatio."""
        return self.columns >= 0


@dataclass(frozen=True)
class Reader:
    """A tuned model and the prompts it is asked with.

    Attributes:
        model: as :func:`recnb.llm.ranker.load_ranker` gives it.
        prompts: of its tokenizer and catalogue.
        kind: titles, titles with vectors, or vectors alone.
    """

    model: Any
    prompts: RankingPrompts
    kind: Kind

    def asked(self, histories: np.ndarray, items: np.ndarray) -> list[Prompt]:
        """U * D prompts, a user's sets one after the other."""
        pairs = zip(histories, items, strict=True)
        return [self.prompts.build(history, listed, self.kind) for history, sets in pairs for listed in sets]

    def likelihood(
        self, histories: np.ndarray, items: np.ndarray, reduce: Reduce = "sum", change: Change | None = None
    ) -> NDArray[np.float32]:
        """(U, D, C) log-probability of each candidate's title behind the prompt.

        Args:
            reduce: ``sum`` over the title's tokens, their ``mean``, or ``contrast``: the sum less that after no
                history.
            change: what to read in the place of each prompt; none: the prompt.
        """
        told = self._told(histories, items, change)
        if reduce == "contrast":
            return told.sum().reshape(items.shape) - self._worth_to_anybody(histories, items, change)
        return (told.sum() if reduce == "sum" else told.mean()).reshape(items.shape)

    def likelihoods(self, histories: np.ndarray, items: np.ndarray) -> dict[str, NDArray[np.float32]]:
        """:meth:`likelihood` in all three ways, for the price of two."""
        told = self._told(histories, items)
        found = {"sum": told.sum().reshape(items.shape), "mean": told.mean().reshape(items.shape)}
        return found | {"contrast": found["sum"] - self._worth_to_anybody(histories, items)}

    def _worth_to_anybody(self, histories: np.ndarray, items: np.ndarray, change: Change | None = None) -> np.ndarray:
        return self.likelihood(np.full_like(histories, -1), items, "sum", change)

    def _told(self, histories: np.ndarray, items: np.ndarray, change: Change | None = None) -> Told:
        asked = self.asked(histories, items)
        ids = [prompt.ids if change is None else change(prompt) for prompt in asked]
        users = np.repeat(np.arange(len(items)), items.shape[1])  # a user's sets share the history, read once
        flat = items.reshape(-1, items.shape[-1])
        return told_answers(self.model, beginnings(ids, users), self.prompts.answers, flat)

    def constrained(self, histories: np.ndarray, items: np.ndarray) -> Written:
        """What is written greedily where nothing but the candidates' titles may be: always valid."""
        flat = items.reshape(-1, items.shape[-1])
        allowed = [[self.prompts.answers[item] for item in row] for row in flat.tolist()]
        return self._named(self._write(histories, items, allowed), items)

    def free(self, histories: np.ndarray, items: np.ndarray) -> Written:
        """What is written greedily where anything may be, and which candidate it names."""
        return self._named(self._write(histories, items, None), items)

    def _write(self, histories: np.ndarray, items: np.ndarray, allowed: Any) -> list[str]:
        ids = [prompt.ids for prompt in self.asked(histories, items)]
        tokenizer, longest = self.prompts.tokenizer, max(map(len, self.prompts.answers))
        stops = {int(self.prompts.answers[0][-1]), tokenizer.eos_token_id} - {None}
        found = write(self.model, ids, longest, sorted(stops), allowed)
        return [tokenizer.decode(one, skip_special_tokens=True).strip() for one in found]

    def _named(self, texts: list[str], items: np.ndarray) -> Written:
        columns = match_titles(texts, self.prompts.titles, items.reshape(-1, items.shape[-1])).reshape(items.shape[:2])
        scores = np.arange(items.shape[2]) == columns[..., None]
        return Written(texts, columns, scores.astype(np.float32))

    @cached_property
    def titles(self) -> NDArray[np.float32]:
        """(N, d) v_T: the mean state of each item by itself."""
        alone = [self.prompts.alone(item, self.kind) for item in range(len(self.prompts.titles))]
        return pooled_states(self.model, alone, [slice(0, len(ids)) for ids in alone])

    def users(self, histories: np.ndarray) -> NDArray[np.float32]:
        """(U, d) v_U: the mean state over the history's span, before any list."""
        asked = [self.prompts.build(history, None, self.kind) for history in histories]
        return pooled_states(self.model, [one.ids for one in asked], [one.spans["history"] for one in asked])

    def retrieval(self, histories: np.ndarray) -> NDArray[np.float32]:
        """(U, N) cosine of user and title: what L_UT trains. One prefill a user, whatever N."""
        found: NDArray[np.float32] = unit(self.users(histories)) @ unit(self.titles).T
        return found

    def open_lists(self, histories: np.ndarray, width: int) -> NDArray[np.int64]:
        """(U, W) the best titles of the whole catalogue behind the open prompt: beam search in the trie of all titles.

        Probabilities are among the titles that a beginning leaves open, so that what is forced costs nothing.
        """
        ids = [self.prompts.build(history, None, self.kind).ids for history in histories]
        decode = DecodeConfig(beam=width, normalisation="trie", batch_size=16)
        return recommend(self.model, ids, title_trie(self.prompts.answers), decode)[0]


def title_trie(answers: list[np.ndarray]) -> Trie:
    """The trie of all answers, the short ones filled with their end."""
    filled = np.full((len(answers), max(map(len, answers))), int(answers[0][-1]), np.int64)
    for row, ids in zip(filled, answers, strict=True):
        row[: len(ids)] = ids
    return Trie.from_tokens(filled)


def kind_of(config: TuneConfig) -> Kind:
    """What the prompts of a trained model show: as in the last of its stages; a curriculum ends hybrid."""
    last = config.stages[-1].prompt
    return "hybrid" if last == "curriculum" else last


def meet_users(prompts: RankingPrompts, models: Path, table: str) -> None:
    """Let slots of users, where prompts have some, hold the states of the recommender ``models/<table>``."""
    if prompts.users is not None:
        prompts.users.states_of = load_session_model(models / table).states


def open_reader(llm: BackboneConfig, folder: Path, config: TuneConfig, prompts: RankingPrompts, device: str) -> Reader:
    """An arm of 06_tune, ready to read.

    Args:
        folder: ``arms/<name>``; config: how it was trained.

    Raises:
        ArtifactError: it lies not there, was tuned on another backbone, or has another number of rows than the prompts.
    """
    model = load_ranker(llm, folder, device)
    if (rows := len(words_of(model).weight)) != prompts.rows:
        raise ArtifactError(f"{folder}: a table of {rows:,} rows, and prompts of {prompts.rows:,}: tune it again")
    if isinstance(layer := causal_lm(model).get_input_embeddings(), SlotEmbedding):
        layer.users = prompts.users
    return Reader(model, prompts, kind_of(config))
