"""What every system of the gallery is to the table: rows that score candidates, and never see which one is the target.

A system is a file of this wing with one function, ``rankers(bench)``: it trains what is to be trained on what lies on
the bench, and returns its rows, controls among them. Shown in ``notebooks/gallery/one_table.ipynb``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from recnb.errors import RecipeError, nearest

if TYPE_CHECKING:
    from recnb.data.schema import Sequences
    from recnb.evaluation.candidates import CandidateSets
    from recnb.llm.ranking_prompts import Prompt, RankingPrompts
    from recnb.llm.settings import SlotsConfig, TuneConfig
    from recnb.recommenders.interface import Scorer

Answer = Literal["title", "letter", "yes or no", "order", "vector", "item head", "index"]
_OWN = {"__init__", "interface", "recipe", "figures", "table", "cost", "exports"}  # files that are no system
SYSTEMS: tuple[str, ...] = tuple(
    sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in _OWN)
)


@dataclass(frozen=True)
class Learned:
    """What a row was trained on: how many ``parameters``, from how many ``examples``; none: zero-shot."""

    parameters: int = 0
    examples: int = 0


@dataclass(frozen=True)
class Bench:
    """What every system may use. Nothing of the test lies here.

    Attributes:
        prompts: titles, templates and token ids.
        train: sequences (validation and test items are not in them).
        histories, sets: (U, T) of the validation users, and their candidates (U, D, C) with targets.
        models: fitted recommenders by name; ``popularity`` and ``sasrec`` are always among them.
        load: makes a fresh copy of the language model, in evaluation mode.
        slots, tune: settings of vectors in prompts, and of training.
        keep: folder for trainings that may be broken off, and for what they end with.
        seed: of everything drawn.
        batch_tokens: about how many tokens a model holds at once.
    """

    prompts: RankingPrompts
    train: Sequences
    histories: np.ndarray
    sets: CandidateSets
    models: Mapping[str, Scorer]
    load: Callable[[], Any]
    slots: SlotsConfig
    tune: TuneConfig
    keep: Path
    seed: int
    batch_tokens: int = 4096

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.prompts.titles)


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


def prompts_of(ranker: Ranker, histories: np.ndarray, items: np.ndarray) -> list[np.ndarray]:
    """Token ids of all U * D prompts, a user's sets one after the other."""
    pairs = [(history, one) for history, sets in zip(histories, items, strict=True) for one in sets]
    found = [ranker.prompt(*pair) for pair in pairs]
    return [one.ids for one in found if one is not None]


def of_candidates(catalogue: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(U, D, C) float32 of scores (U, N) of all items."""
    rows = np.arange(len(items))[:, None, None]
    return np.asarray(catalogue)[rows, items].astype(np.float32)
