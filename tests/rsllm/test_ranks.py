"""What comparisons judge of RSLLM: HR@1 of validation users over all their sets, the same as the models' own scores'."""

from __future__ import annotations

import re
import shutil

import nbformat
import numpy as np
import pytest
from sandbox import ROOT
from shelf import Shelf

from recnb.data.held_out import hold_out, write_held_out
from recnb.data.schema import write_dataset
from recnb.data.sources import load_dataset
from recnb.evaluation.candidates import draw_candidates
from recnb.evaluation.intervals import outcomes_of
from recnb.llm.ranker import open_backbone, save_ranker
from recnb.llm.ranking_prompts import prompts_for
from recnb.llm.slots import add_slots
from recnb.recommenders import fit
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.session_models import save_session_model
from recnb.rsllm import ranks
from recnb.rsllm.rank import Reader
from recnb.rsllm.recipe import MAIN, RSLLM
from recnb.workflow.recipe import load_recipe


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A run of the toy up to 06, its model as it was drawn."""
    recipe = load_recipe("params/rsllm/toy.yaml", ["data.toy.users=30", "split.validation_users=20", "prompts.history=3"])
    found = Shelf(recipe, tmp_path_factory.mktemp("shelf"))
    dataset = load_dataset(recipe.data, found.folder, recipe.seed)
    write_dataset(dataset, found)
    held = hold_out(dataset, recipe.split, recipe.data.max_history, recipe.seed)
    found.path("03_candidates", "cases").mkdir(parents=True)
    write_held_out(held, found.path("03_candidates", "cases"))
    sets = draw_candidates(held.owned_by("valid"), held.targets["valid"], 8, 2, "uniform", 1)
    prompts = prompts_for(recipe.llm, dataset.items["title"].tolist(), recipe.prompts)
    model = open_backbone(recipe.llm, prompts.tokenizer, recipe.seed)
    add_slots(model, np.random.default_rng(0).normal(size=(dataset.n_items, 4)), recipe.slots, prompts.title_ids, seed=1)
    found.path("06_tune", "arms").mkdir(parents=True)
    save_ranker(model, found.path("06_tune", "arms") / MAIN, recipe.llm)
    reader = Reader(model, prompts, "hybrid")
    popularity = np.bincount(held.train.items, minlength=dataset.n_items)
    found.kept |= {ranks.VALID: sets.items, "held": held, "reader": reader, "popularity": popularity}
    return found


def first(scores: np.ndarray, items: np.ndarray, targets: np.ndarray) -> list[float]:
    """The slow twin: in how many of a user's sets nothing is above the target; one that shares the place is half."""
    found = []
    for sets, listed, target in zip(scores, items, targets, strict=True):
        hits = []
        for row, own in zip(sets, listed, strict=True):
            value = row[list(own).index(target)]
            above, equal = sum(row > value), sum(row == value) - 1
            hits.append(0.0 if above else {0: 1.0, 1: 0.5}.get(equal, 0.0))
        found.append(float(np.mean(hits)))
    return found


def test_the_model_is_judged_by_its_likelihoods_in_all_sets(shelf: Shelf) -> None:
    held, items = shelf.kept["held"], shelf.kept[ranks.VALID]
    scores = shelf.kept["reader"].likelihood(held.histories["valid"], items)
    found = ranks.model_ranks(shelf, shelf.recipe, "model")
    assert found.tolist() == first(scores, items, held.targets["valid"]) and set(found.tolist()) >= {0.0, 0.5}


def test_a_baseline_is_judged_by_its_scores_in_all_sets(shelf: Shelf) -> None:
    held, items = shelf.kept["held"], shelf.kept[ranks.VALID]
    found = ranks.baseline_ranks(shelf, shelf.recipe, "popularity")
    assert found.tolist() == first(shelf.kept["popularity"][items], items, held.targets["valid"])
    assert outcomes_of(found).keys() == {"R@1"}, "a comparison judges it by HR@1"


def test_a_baseline_chooses_on_all_validation_users(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen_on, fit = [], ranks.fit_baseline
    monkeypatch.setattr(ranks, "fit_baseline", lambda *a, **k: chosen_on.append(len(k["validation"][1])) or fit(*a, **k))
    found = ranks.baseline_ranks(shelf, shelf.recipe, "popularity")
    assert (len(found), chosen_on) == (20, [30])


def test_what_03_has_trained_is_not_trained_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("params/rsllm/toy.yaml", ["models.sasrec.epochs=1"])
    told, train, held = [], fit.train_sequential, shelf.kept["held"]
    monkeypatch.setattr(fit, "train_sequential", lambda *a, **k: told.append(k["encoder"]) or train(*a, **k))
    fresh = ranks.baseline_ranks(shelf, recipe, "sasrec")
    model, _ = fit.fit_baseline(
        "sasrec", held.train, len(shelf.kept["popularity"]), recipe.models, recipe.data.max_history,
        seed=recipe.seed, validation=(held.histories["choose"], held.targets["choose"]),
    )  # fmt: skip
    folder = shelf.path("03_candidates", "models")
    save_session_model(model, folder / "sasrec")
    try:
        kept = ranks.baseline_ranks(shelf, recipe, "sasrec")
    finally:
        shutil.rmtree(folder)
    assert np.array_equal(fresh, kept) and told == [SASRec, SASRec]  # never for ``kept``


@pytest.mark.parametrize("notebook", ["rsllm/03_candidates", "rsllm/07_rank", "gallery/one_table"])
def test_notebooks_choose_on_all_validation_users(notebook: str) -> None:
    cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    (name,) = set(re.findall(r"validation=(\w+)", text))
    (given,) = re.findall(rf"^{name}(?:, \w+)? = (.*)$", text, re.MULTILINE)
    assert 'histories["choose"]' in given and 'targets["choose"]' in given


def test_some_users_are_the_same_for_every_judge(shelf: Shelf) -> None:
    all_of_them, some = (ranks.baseline_ranks(shelf, shelf.recipe, "popularity", users) for users in (0, 10))
    chosen = np.sort(np.random.default_rng(41).permutation(len(all_of_them))[:10])
    assert np.array_equal(all_of_them[chosen], some)


def test_the_recipe_names_them_all() -> None:
    for name, judged in RSLLM.judged.items():
        assert hasattr(ranks, judged.ranks.partition(":")[2]) and not judged.sessions, name
