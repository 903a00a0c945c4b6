"""Exported models in the table: indexing retrievers (EAGER-LLM, LC-Rec, P5-CID), restricted to the candidates.

A notebook opens the folders (``recnb.load_export``); what is asked of them is the log-probability of an item's tokens
after the history. They were trained by recipes of their own: on everybody's events but the last two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from recnb.errors import ArtifactError, RecipeError
from recnb.gallery.interface import Answer, Learned
from recnb.gallery.recipe import seen_in_training


class Export(Protocol):
    """What is asked of an opened export (:class:`recnb.export.load.Exported`)."""

    @property
    def item_ids(self) -> list[str]:
        """N ids."""

    @property
    def about(self) -> Any:
        """What its page says."""

    def scores(self, histories: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]]) -> np.ndarray:
        """(U, M) log-probability of candidates after each history."""


@dataclass
class ExportRow:
    """An exported model as a row of the table; ``ids`` (N,) are those of the table's items."""

    name: str
    model: Export
    ids: np.ndarray
    learned: Learned
    answer: Answer = "index"

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> None:
        """Its own, of index tokens."""

    def scores(self, histories: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(U, D, C) log-probability of each candidate; all sets of a user are read behind one prompt."""
        known = [self.ids[history[history >= 0]].tolist() for history in histories]
        return self.model.scores(known, self.ids[items.reshape(len(items), -1)].tolist()).reshape(items.shape)


def export_row(model: Export, item_ids: Sequence[str], split: Any) -> ExportRow:
    """The row of an export on a data set of these items.

    Args:
        model: the opened export; item_ids: (N,) of the data set.
        split: the recipe's section; it must hold out what the export has not seen.

    Raises:
        ArtifactError: the export knows other items.
        RecipeError: the recipe tests on events that the export was trained on.
    """
    facts = model.about.model_dump()
    if lacking := sorted(set(item_ids) - set(model.item_ids)):
        expected = "expected an export of this data set"
        raise ArtifactError(f"gallery.exports: {facts['name']} knows no item {lacking[0]!r}; {expected}")
    if wrong := seen_in_training(split):
        raise RecipeError(wrong)
    pairs = facts["data"]["interactions"] - 3 * facts["data"]["users"]  # of neighbours in training
    learned = Learned(facts["training"]["parameters"], facts["training"]["epochs"] * pairs)
    return ExportRow(facts["name"], model, np.array(item_ids, object), learned)
