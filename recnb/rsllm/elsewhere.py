"""A tuned model in a catalogue that it has never met: titles alone, no vectors. Shown in ``rsllm/07_rank``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recnb.data.held_out import read_windows
from recnb.data.schema import check_titles
from recnb.evaluation.candidates import draw_candidates, ranks_of
from recnb.llm.ranking_prompts import RankingPrompts
from recnb.rsllm.rank import Reader, Reduce


@dataclass(frozen=True)
class Elsewhere:
    """Ranks in another catalogue.

    Attributes:
        model: (U, D) of the model.
        popularity: (U, D) of a count of its training events; None where it has none.
        items, events: N, and the training events that were counted.
    """

    model: NDArray[np.float64]
    popularity: NDArray[np.float64] | None
    items: int
    events: int


def rank_elsewhere(
    reader: Reader, folder: Path, noun: str, length: int, size: int, users: int, seed: int, reduce: Reduce = "sum"
) -> Elsewhere:
    """Ask a model about the test windows of another catalogue, among uniform candidates.

    Args:
        reader: whose model it is; its own catalogue's vectors stay out of the prompts.
        folder: as :func:`recnb.data.held_out.read_windows` reads it.
        noun: what its items are called; length: T; size: C.
        users: this many of the test users, drawn once.

    Raises:
        DataError: the folder holds no such data, or an item without a title.
    """
    dataset, held = read_windows(folder, length)
    check_titles(dataset)
    chosen = np.sort(np.random.default_rng([seed, 79]).permutation(len(held.users["test"]))[:users])
    sets = draw_candidates(held.owned_by("test")[chosen], held.targets["test"][chosen], size, 1, "uniform", seed)
    own = reader.prompts
    config = own.config.model_copy(update={"noun": noun})
    prompts = RankingPrompts(own.tokenizer, dataset.items["title"].tolist(), own.rows, config, own.wording)
    asked = replace(reader, prompts=prompts, kind="text")
    scores = asked.likelihood(held.histories["test"][chosen], sets.items, reduce)
    popularity = np.bincount(held.train.items, minlength=dataset.n_items)
    common = ranks_of(popularity[sets.items], sets) if popularity.any() else None
    return Elsewhere(ranks_of(scores, sets), common, dataset.n_items, len(held.train.items))
