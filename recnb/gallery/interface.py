"""What every system of the gallery is to the table: rows that score candidates, and never see which one is the target.

A system is a file of this wing with one function, ``rankers(bench)``: it trains what is to be trained on what lies on
the bench, and returns its rows, controls among them. Shown in ``notebooks/gallery/one_table.ipynb``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from recnb.data.held_out import HeldOut
from recnb.errors import RecipeError, nearest
from recnb.evaluation.candidates import CandidateSets
from recnb.gallery.recipe import SYSTEMS, GalleryConfig
from recnb.llm.ranker import adapt, trained_parameters
from recnb.llm.ranking_prompts import Kind, Prompt, RankingPrompts, Wording
from recnb.llm.scoring import pooled_states, score_answers
from recnb.llm.settings import BackboneConfig, LossWeights, SlotsConfig, TuneConfig, TuneStage
from recnb.llm.slots import add_slots
from recnb.llm.training_cases import TrainingCases, titled, training_cases
from recnb.llm.tuning import Example, Examples, tune
from recnb.recommenders.interface import Scorer

Answer = Literal["title", "letter", "yes or no", "vector", "item head", "index", "no language model"]


@dataclass(frozen=True)
class Learned:
    """What a row was trained on: how many ``parameters``, from how many ``examples``; none: zero-shot."""

    parameters: int = 0
    examples: int = 0


@dataclass(frozen=True)
class Bench:
    """What every system may use. No target of the test lies here.

    Attributes:
        titles: (N,) what items are called.
        prompts: the same as token ids, with the words that RSLLM asks in; :meth:`saying` has others.
        held: training sequences and validation users; its test part is taken out (:func:`without_test`).
        sets: candidates (U, D, C) of the validation users, with targets.
        models: fitted recommenders by name; ``popularity`` and ``sasrec`` are always among them.
        load: makes a fresh copy of the language model, in evaluation mode.
        llm, slots, tune: settings of the model, of vectors in prompts, and of training.
        keep: folder for trainings that may be broken off, and for what they end with.
        seed: of everything drawn.
        gallery: settings of systems that have their own.
        ratings: (n,) of the events of ``held.train``, nan: unknown; None: the source has none.
    """

    titles: Sequence[str]
    prompts: RankingPrompts
    held: HeldOut
    sets: CandidateSets
    models: Mapping[str, Scorer]
    load: Callable[[], Any]
    llm: BackboneConfig
    slots: SlotsConfig
    tune: TuneConfig
    keep: Path
    seed: int
    gallery: GalleryConfig = field(default_factory=GalleryConfig)
    ratings: np.ndarray | None = None

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.titles)

    @property
    def text_only(self) -> TuneConfig:
        """The same training without a vector or a loss that compares: one stage of all examples on titles."""
        return self.one_stage("text")

    def one_stage(self, prompt: Literal["text", "hybrid", "slots", "curriculum"]) -> TuneConfig:
        """A training on all examples in one kind of prompt, by the loss on the answer alone."""
        stage = TuneStage(prompt=prompt, examples=self.examples, weights=LossWeights(nip=1, tt=0, ut=0))
        return self.tune.model_copy(update={"stages": [stage]})

    @property
    def examples(self) -> int:
        """How many the recipe trains on, all stages together."""
        return sum(stage.examples for stage in self.tune.stages)

    def saying(self, **words: Any) -> RankingPrompts:
        """Prompts that say something else (:class:`recnb.llm.ranking_prompts.Wording`)."""
        own = self.prompts
        return RankingPrompts(own.tokenizer, self.titles, own.rows, own.config, Wording(**words))

    def cases(self, stage: int, examples: int) -> TrainingCases:
        """What a stage trains on, the same cases for every system: as long and as many as in the test."""
        length, size = self.held.histories["valid"].shape[1], self.sets.items.shape[2]
        return training_cases(self.held, examples, length, size, self.seed + 1000 * stage)

    @property
    def others(self) -> np.ndarray:
        """(N,) another item for each, drawn once: whose vector controls show in the place of its own."""
        return np.random.default_rng([self.seed, 73]).permutation(self.n_items)

    @cached_property
    def untuned(self) -> np.ndarray:
        """:func:`title_vectors` of the language model as it came: read once for all systems."""
        return title_vectors(self.load(), self.prompts)

    def titled(self, stage: int, kind: Kind, listed: bool = True) -> list[Example]:
        """The cases of a stage, answered with a title behind the list of candidates; not ``listed``: without it."""
        return titled(self.prompts, self.cases(stage, self.examples), kind, listed)

    def tuned(
        self, name: str, config: TuneConfig, examples_of: Examples, table: np.ndarray | None = None
    ) -> tuple[Any, Learned]:
        """A fresh model, tuned, with slots for a ``table`` (N, d_rec); what is there already of a training of this
        ``name`` is taken up."""
        model = adapt(self.load(), self.llm, config, self.seed)
        if table is not None:
            add_slots(model, table, self.slots, self.prompts.title_ids, self.seed)
        learned = Learned(trained_parameters(model), sum(stage.examples for stage in config.stages))
        tune(model, examples_of, config, seed=self.seed, keep=self.keep / name)
        return model.eval(), learned


def without_test(held: HeldOut) -> HeldOut:
    """What may lie on the bench: nothing says any more who is tested, after what, on which item."""
    users, histories, targets = (
        {part: found for part, found in each.items() if part != "test"}
        for each in (held.users, held.histories, held.targets)
    )
    return replace(held, users=users, histories=histories, targets=targets)


class Ranker(Protocol):
    """One row of the table.

    Attributes:
        name: of the row: the system's, or ``system/variant``.
        answer: what the model is asked for.
        learned: what it was trained on.
    """

    name: str
    answer: Answer
    learned: Learned

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> Prompt | None:
        """What the model reads for a history (T,) padded with -1 and candidates (C,); None: it reads no prompt."""

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) float32, larger is better, of candidates (U, D, C) after histories (U, T) padded with -1."""


@runtime_checkable
class Retriever(Protocol):
    """A row that scores the whole catalogue, too."""

    def catalogue(self, histories: np.ndarray) -> np.ndarray:
        """(U, N), larger is better, for histories (U, T) padded with -1."""


def rankers(system: str, bench: Bench) -> list[Ranker]:
    """The rows of a system, trained (or taken from ``bench.keep``) and ready to score.

    Args:
        system: a file of this wing, by its name.

    Raises:
        RecipeError: there is no such system.
    """
    if system not in SYSTEMS:
        known = ", ".join(SYSTEMS)
        raise RecipeError(f"gallery.systems: unknown system '{system}'{nearest(system, SYSTEMS)}; expected {known}")
    found: list[Ranker] = import_module(f"recnb.gallery.{system}").rankers(bench)
    return found


def title_vectors(model: Any, prompts: RankingPrompts) -> np.ndarray:
    """(N, d) float32: the mean of the last hidden states over each title by itself."""
    alone = [prompts.alone(item) for item in range(len(prompts.titles))]
    return pooled_states(model, alone, [slice(len(prompts.lead), len(ids)) for ids in alone])


def prompts_of(ranker: Ranker, histories: np.ndarray, items: np.ndarray) -> list[np.ndarray]:
    """Token ids of all U * D prompts, a user's sets one after the other."""
    pairs = [(history, one) for history, sets in zip(histories, items, strict=True) for one in sets]
    found = [ranker.prompt(*pair) for pair in pairs]
    return [one.ids for one in found if one is not None]


def title_scores(ranker: Any, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(U, D, C) summed log-probability of each title behind a row's prompts; what the sets of a user begin with alike
    is read once. The row has a ``model`` and its ``prompts``."""
    asked, rows = prompts_of(ranker, histories, items), items.reshape(-1, items.shape[-1])
    groups = np.repeat(np.arange(len(items)), items.shape[1])
    return score_answers(ranker.model, asked, ranker.prompts.answers, rows, groups=groups).reshape(items.shape)


def of_candidates(catalogue: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(U, D, C) float32 of scores (U, N) of all items."""
    rows = np.arange(len(items))[:, None, None]
    return np.asarray(catalogue)[rows, items].astype(np.float32)
