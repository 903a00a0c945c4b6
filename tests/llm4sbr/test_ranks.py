"""What comparisons judge of LLM4SBR: ranks of validation samples, the same as the models' own, and whose they are."""

from __future__ import annotations

import numpy as np
import pytest
from shelf import Shelf

from recnb.data.schema import write_dataset
from recnb.data.sessions import make_sessions, samples_of, write_sessions
from recnb.data.sources import load_dataset
from recnb.llm4sbr import ranks
from recnb.llm4sbr.align import save_arm, train_arm
from recnb.llm4sbr.recipe import LLM4SBR, MAIN
from recnb.llm4sbr.sources import Texts
from recnb.recommenders.session_model import train_session_model
from recnb.recommenders.srgnn import SRGNN
from recnb.workflow.recipe import load_recipe


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A run of the toy up to 07, its texts drawn."""
    changes = ["models.srgnn.epochs=1", "models.srgnn.width=8", "align.arms={}", "intents.source=retrieval"]
    recipe = load_recipe("params/llm4sbr/toy.yaml", changes)
    found = Shelf(recipe, tmp_path_factory.mktemp("shelf"))
    dataset = load_dataset(recipe.data, found.folder, recipe.seed)
    sessions = make_sessions(dataset, recipe.sessions, recipe.seed)
    write_dataset(dataset, found)
    write_sessions(sessions, found)
    train, valid = (samples_of(sessions, part, *recipe.sessions.samples) for part in ("train", "valid"))
    rng, every = np.random.default_rng(0), samples_of(sessions, None, *recipe.sessions.samples)
    texts = Texts(rng.normal(size=(30, 6)).astype(np.float16), rng.integers(-1, 30, (len(every), 3)).astype(np.int32))
    found.kept |= {"vectors_retrieval.npy": texts.vectors, "rows_retrieval.npy": texts.rows}
    config, length = recipe.models.srgnn, recipe.data.max_history
    checked = valid.inputs(length), valid.targets
    plain = train_session_model(train, dataset.n_items, config, length, seed=recipe.seed, model=SRGNN, validation=checked)
    arm = train_arm(recipe.align.every_arm[MAIN], "srgnn", config, train, dataset.n_items, length, texts, valid, seed=1)
    save_arm(found.path("07_align", "arms") / MAIN, arm, MAIN)
    found.kept |= {"model": arm, "plain": plain, "valid": valid, "texts": texts}
    return found


def test_the_models_ranks_are_its_own(shelf: Shelf) -> None:
    model, valid = shelf.kept["model"], shelf.kept["valid"]
    expected = np.minimum(model.ranks(valid, shelf.kept["texts"]), ranks.WIDTH)
    found = ranks.model_ranks(shelf, shelf.recipe, "model")
    assert np.array_equal(found, expected) and len(set(found.tolist())) > 3


def test_texts_alone_rank_by_their_cosines(shelf: Shelf) -> None:
    valid, texts = shelf.kept["valid"], shelf.kept["texts"]
    items = np.random.default_rng(3).normal(size=(shelf.kept["model"].backbone.n_items, 6)).astype(np.float32)
    shelf.kept["semantic.npy"] = items
    unit = items / np.linalg.norm(items, axis=1, keepdims=True)
    found = ranks.infer_ranks(shelf, shelf.recipe, "llm-infer")
    for number, target, rank in zip(valid.number, valid.targets, found, strict=True):
        said = [texts.vectors[row].astype(float) for row in texts.rows[number, :2] if row >= 0]
        scores = sum((unit @ text / np.linalg.norm(text) for text in said), np.zeros(len(items)))
        above = (scores > scores[target] + 1e-5).sum()
        assert above >= ranks.WIDTH == rank or abs(rank - above) <= (abs(scores - scores[target]) < 1e-5).sum()


def test_a_session_models_ranks_are_those_of_its_scores(shelf: Shelf) -> None:
    plain, valid = shelf.kept["plain"], shelf.kept["valid"]
    scores = plain.scores(valid.inputs(shelf.recipe.data.max_history))
    own = scores[np.arange(len(valid)), valid.targets][:, None]
    found = ranks.baseline_ranks(shelf, shelf.recipe, "srgnn")
    assert np.array_equal(found, np.minimum((scores > own).sum(1), ranks.WIDTH))


def test_some_samples_are_the_same_for_every_judge_and_know_their_session(shelf: Shelf) -> None:
    all_of_them, some = (ranks.whose(shelf, shelf.recipe, "model", users) for users in (0, 40))
    judged = ranks.baseline_ranks(shelf, shelf.recipe, "srgnn", 40)
    assert len(some) == len(judged) == 40 and np.array_equal(all_of_them, shelf.kept["valid"].session)
    assert set(some) <= set(all_of_them) and len(set(some)) > 3
    assert len(ranks.baseline_ranks(shelf, shelf.recipe, "rules", 40)) == 40


def test_the_recipe_names_them_all() -> None:
    for name, judged in LLM4SBR.judged.items():
        assert hasattr(ranks, judged.ranks.partition(":")[2]) and judged.sessions.endswith(":whose"), name
    assert LLM4SBR.over == "sessions"
