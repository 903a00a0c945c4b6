"""What a comparison judges: the rank of the next item of validation samples, in the lists of a model or a baseline.

Items of the session are kept, as in the paper. :mod:`recnb.studies.comparisons` asks here, by the names in the recipe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recnb.artifacts import Artifacts
from recnb.data.schema import item_text, read_dataset
from recnb.data.sessions import Samples, read_sessions, samples_of
from recnb.evaluation.sessions import sample_ranks
from recnb.llm4sbr.align import load_arm
from recnb.llm4sbr.infer import LLMInfer, WithTexts, questions
from recnb.llm4sbr.recipe import LLM4SBR, MAIN
from recnb.llm4sbr.sources import read_texts
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.interface import ranked_lists

WIDTH = 20  # places of a list


def model_ranks(stage: Artifacts, recipe: LLM4SBR, judged: str, users: int = 0) -> np.ndarray:
    """Ranks of the recipe's own model, with its texts, as 07_align left it.

    Args:
        stage: the last one of the run, opened to look at.
        users: this many samples, drawn once, the same for every run; 0: all.

    Returns:
        (M,) int64 from 0; 20 where a list of so many items (or N) does not hold the target.
    """
    samples = _samples(stage, recipe, users)
    texts = read_texts(stage, recipe.intents.source, recipe.align.every_arm, recipe.seed)[MAIN]
    model = load_arm(stage.path("07_align", "arms") / MAIN, stage.runtime.device)
    lists = ranked_lists(
        WithTexts(model, texts), questions(samples, recipe.data.max_history), min(WIDTH, model.backbone.n_items)
    )
    return sample_ranks(lists, samples.targets, WIDTH)


def infer_ranks(stage: Artifacts, recipe: LLM4SBR, judged: str, users: int = 0) -> np.ndarray:
    """The same for the texts of the recipe's own model alone (LLM-Infer): nothing is trained."""
    samples = _samples(stage, recipe, users)
    texts = read_texts(stage, recipe.intents.source, recipe.align.every_arm, recipe.seed)[MAIN]
    items = stage.read("05_localise", "semantic.npy")
    asked = questions(samples, recipe.data.max_history)
    lists = ranked_lists(LLMInfer(texts, items), asked, min(WIDTH, len(items)))
    return sample_ranks(lists, samples.targets, WIDTH)


def baseline_ranks(stage: Artifacts, recipe: LLM4SBR, judged: str, users: int = 0) -> np.ndarray:
    """The same for a recommender without texts, fitted on the training sessions. What it chooses it chooses on all
    validation samples, so this is what tuning has to look at and not an estimate of quality."""
    dataset, sessions, length = read_dataset(stage), read_sessions(stage), recipe.data.max_history
    every, samples = _samples(stage, recipe, 0), _samples(stage, recipe, users)
    fitted, _ = fit_baseline(
        judged, sessions.sequences("train"), dataset.n_items, recipe.models, length, seed=recipe.seed,
        validation=(every.inputs(length), every.targets), texts=item_text(dataset.items, recipe.models.words.fields),
        samples=samples_of(sessions, "train", *recipe.sessions.samples), device=stage.runtime.device,
        progress=stage.runtime.progress,
    )  # fmt: skip
    lists = ranked_lists(fitted, samples.inputs(length), min(WIDTH, dataset.n_items))
    return sample_ranks(lists, samples.targets, WIDTH)


def whose(stage: Artifacts, recipe: LLM4SBR, judged: str, users: int = 0) -> NDArray[np.int64]:
    """(M,) session of each judged sample: those of one session stand together."""
    return _samples(stage, recipe, users).session


def _samples(stage: Artifacts, recipe: LLM4SBR, users: int) -> Samples:
    """Validation samples, all or some that are drawn once."""
    found = samples_of(read_sessions(stage), "valid", *recipe.sessions.samples)
    drawn = np.random.default_rng(41).permutation(len(found))[: users or None]
    return found.take(np.sort(drawn))
