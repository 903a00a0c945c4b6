"""What a comparison judges: how often each validation user's item stands first in its sets of uniform candidates.

:mod:`recnb.studies.comparisons` asks here, by the names in the recipe. As in the table, it is HR@1, a user's mean over
sets; intervals are over users.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recnb.artifacts import Artifacts
from recnb.data.held_out import read_held_out
from recnb.data.schema import item_text, read_dataset
from recnb.evaluation.candidates import CandidateSets, candidate_metrics, ranks_of
from recnb.llm.ranking_prompts import prompts_for
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.interface import scores_among
from recnb.rsllm.rank import meet_users, open_reader
from recnb.rsllm.recipe import MAIN, RSLLM

VALID = "candidates_valid_uniform.npy"


def model_ranks(stage: Artifacts, recipe: RSLLM, judged: str, users: int = 0) -> NDArray[np.float64]:
    """HR@1 by likelihood of the recipe's own model, as 06_tune left it.

    Args:
        stage: the last one of the run, opened to look at.
        users: this many users, drawn once, the same for every run; 0: all.

    Returns:
        (U,) float64, means over sets; a tie counts half.
    """
    histories, sets = _asked(stage, users)
    prompts = prompts_for(recipe.llm, read_dataset(stage).items["title"].tolist(), recipe.prompts)
    meet_users(prompts, stage.path("03_candidates", "models"), recipe.slots.table)
    reader = open_reader(recipe.llm, stage.path("06_tune", "arms") / MAIN, recipe.tune, prompts, stage.runtime.device)
    return _first(ranks_of(reader.likelihood(histories, sets.items, recipe.evaluate.reduce), sets))


def baseline_ranks(stage: Artifacts, recipe: RSLLM, judged: str, users: int = 0) -> NDArray[np.float64]:
    """The same for a recommender without a language model, fitted on the training events. What it chooses it chooses on
    all validation users, so this is what tuning has to look at and not an estimate of quality."""
    dataset, held = read_dataset(stage), read_held_out(stage.path("03_candidates", "cases"))
    fitted, _ = fit_baseline(
        judged, held.train, dataset.n_items, recipe.models, recipe.data.max_history, seed=recipe.seed,
        validation=(held.histories["choose"], held.targets["choose"]),
        texts=item_text(dataset.items, recipe.models.words.fields), device=stage.runtime.device,
        progress=stage.runtime.progress, trained=stage.path("03_candidates", "models"),
    )  # fmt: skip
    histories, sets = _asked(stage, users)
    return _first(ranks_of(scores_among(fitted, histories, sets.items), sets))


def _asked(stage: Artifacts, users: int) -> tuple[NDArray[np.int32], CandidateSets]:
    """Histories and sets of validation users, all or some that are drawn once."""
    held = read_held_out(stage.path("03_candidates", "cases"))
    items, targets = stage.read("03_candidates", VALID), held.targets["valid"]
    drawn = np.sort(np.random.default_rng(41).permutation(len(items))[: users or None])
    return held.histories["valid"][drawn], CandidateSets(items[drawn], targets[drawn], "uniform")


def _first(ranks: np.ndarray) -> NDArray[np.float64]:
    """(U,) share of a user's ranks (U, D) that are the first."""
    return candidate_metrics(ranks, [1])["HR@1"]
