"""What a comparison judges: the place of each validation sample's target, by a model with texts or by one without.

:mod:`recnb.studies.comparisons` asks here, by the names in the system's recipe.
"""

from __future__ import annotations

import numpy as np

from recnb.artifacts import Artifacts
from recnb.data.schema import item_text, read_dataset
from recnb.data.sessions import Samples, read_sessions, samples_of
from recnb.evaluation.metrics import target_ranks
from recnb.llm4sbr.align import load_arm
from recnb.llm4sbr.recipe import LLM4SBR, MAIN
from recnb.llm4sbr.sources import read_texts
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.interface import ranked_lists

WIDTH = 20  # of a list


def arm_ranks(stage: Artifacts, recipe: LLM4SBR, judged: str, users: int = 0) -> np.ndarray:
    """Ranks of the recipe's own model with texts, as 07_align left it.

    Args:
        stage: 07_align, opened to look at.
        recipe: of the run; judged: there is one.
        users: so many samples, drawn once, the same for every run; 0: all.

    Returns:
        (M,) int64 from 0, among all items.
    """
    samples = asked_of(stage, recipe, users)
    texts = read_texts(stage, recipe.align.every_arm, recipe.seed)[MAIN]
    return load_arm(stage.path("07_align", "arms") / MAIN, stage.runtime.device).ranks(samples, texts)


def baseline_ranks(stage: Artifacts, recipe: LLM4SBR, judged: str, users: int = 0) -> np.ndarray:
    """The same for a recommender without texts, fitted on the training sessions as ``models`` says; ``stage`` is
    03_sessions. Whatever it chooses it chooses on all validation samples.

    Returns:
        (M,) int64 from 0; 20 (or N) where the list of so many items does not hold the target.
    """
    dataset, sessions, length = read_dataset(stage), read_sessions(stage), recipe.data.max_history
    train, valid = (samples_of(sessions, part, recipe.sessions.augment) for part in ("train", "valid"))
    fitted, _ = fit_baseline(
        judged, sessions.sequences("train"), dataset.n_items, recipe.models, length, seed=recipe.seed,
        validation=(valid.inputs(length), valid.targets), device=stage.runtime.device,
        progress=stage.runtime.progress, samples=train, texts=item_text(dataset.items, recipe.models.words.fields),
    )  # fmt: skip
    samples = asked_of(stage, recipe, users)
    lists = ranked_lists(fitted, samples.inputs(length), min(WIDTH, dataset.n_items))
    return target_ranks(lists, samples.targets)


def session_numbers(stage: Artifacts, recipe: LLM4SBR, judged: str, users: int = 0) -> np.ndarray:
    """(M,) session of each rank: samples of one session belong together."""
    return asked_of(stage, recipe, users).session


def asked_of(stage: Artifacts, recipe: LLM4SBR, count: int) -> Samples:
    """Validation samples: ``count`` of them, drawn once, or all."""
    valid = samples_of(read_sessions(stage), "valid", recipe.sessions.augment)
    if not count or count >= len(valid):
        return valid
    return valid.take(np.sort(np.random.default_rng([0, 7]).permutation(len(valid))[:count]))
