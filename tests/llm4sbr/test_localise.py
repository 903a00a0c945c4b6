"""Answers become blends of items: against the formula written out, an item's own title, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from small import catalogue

from recnb.errors import DataError, RecipeError
from recnb.llm4sbr import localise as module
from recnb.llm4sbr.localise import check_catalogue, embed_answers, localised, nearest_cosines
from recnb.llm4sbr.recipe import LocaliseConfig
from recnb.recommenders.settings import WordsConfig


def vectors(seed: int, n: int, width: int = 6) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, width)) + 1).astype(np.float32)


def written_out(answers: np.ndarray, items: np.ndarray, config: LocaliseConfig) -> np.ndarray:
    """Equations 4 and 5, one answer and one item at a time."""
    middle = items.mean(0) if config.centre else np.zeros(items.shape[1])
    blended = []
    for answer in answers:
        cosines = []
        for item in items:
            a, e = answer - middle, item - middle
            cosines.append(float(a @ e / np.sqrt((a @ a) * (e @ e))))
        best = sorted(range(len(items)), key=lambda j: -cosines[j])[: config.k]
        weights = [cosines[j] for j in best]
        if config.weights == "softmax":
            powers = [np.exp(w / config.temperature) for w in weights]
            weights = [power / sum(powers) for power in powers]
        total = sum(w * items[j] for w, j in zip(weights, best, strict=True))
        blended.append(total / config.k if config.scale == "mean" else total)
    return np.array(blended)


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("scale", ["sum", "mean"])
@pytest.mark.parametrize("weights", ["cosine", "softmax"])
def test_is_the_formula_in_any_block(weights: str, scale: str, centre: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, items = vectors(0, 7), vectors(1, 9)
    config = LocaliseConfig(k=3, weights=weights, scale=scale, centre=centre)
    expected = written_out(answers, items, config)
    np.testing.assert_allclose(localised(answers, items, config), expected, atol=1e-5)
    monkeypatch.setattr(module, "CELLS", 18)  # blocks of two answers
    np.testing.assert_allclose(localised(answers.astype(np.float16), items, config), expected, atol=2e-3)


def test_an_exact_title_gives_that_item() -> None:
    items = vectors(2, 8)
    blended = localised(3 * items[[5, 0]], items, LocaliseConfig(k=1))
    np.testing.assert_allclose(blended, items[[5, 0]], rtol=1e-5)  # its cosine is 1


def test_an_answer_does_not_depend_on_what_else_is_asked() -> None:
    answers, items = vectors(7, 700, 64), vectors(8, 90, 64)
    whole = localised(answers, items, LocaliseConfig(k=5))
    for first in (1, 40, 257, 600):
        assert np.array_equal(localised(answers[:first], items, LocaliseConfig(k=5)), whole[:first])


def test_no_neighbours_leave_the_answer_alone() -> None:
    answers = vectors(3, 4)
    assert np.array_equal(localised(answers, vectors(4, 2), LocaliseConfig(k=0)), answers)
    assert localised(answers[:0], vectors(4, 9), LocaliseConfig(k=5)).shape == (0, 6)


def test_a_catalogue_smaller_than_k_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"localise\.k = 5: the catalogue has 4 items"):
        localised(vectors(0, 2), vectors(1, 4), LocaliseConfig(k=5))


def test_a_catalogue_that_no_later_stage_can_use_is_refused() -> None:
    config, words, silent = LocaliseConfig(), WordsConfig(), catalogue(12).assign(title="", categories=[[]] * 12)
    check_catalogue(catalogue(12), config, words)
    with pytest.raises(DataError, match="has 9 items: expected at least 10"):
        check_catalogue(catalogue(9), config, words)
    with pytest.raises(RecipeError, match=r"localise\.k = 13: the catalogue has 12 items"):
        check_catalogue(catalogue(12), LocaliseConfig(k=13), words)
    with pytest.raises(DataError, match=r"localise\.fields: no item has text in title"):
        check_catalogue(silent, config, words)
    with pytest.raises(DataError, match="no word stands in two of the 12 items' texts"):
        check_catalogue(silent.assign(title=[f"x{i}" for i in range(12)]), config, words)


def test_answers_are_read_once_each_and_empty_ones_never() -> None:
    asked: list[list[str]] = []

    def encode(texts: list[str]) -> np.ndarray:
        asked.append(list(texts))
        return np.array([[len(text), 1.0] for text in texts])

    found, number = embed_answers(["Heat", "", "Casino\n", " Heat", "  "], encode)
    assert asked == [["Casino", "Heat"]]
    assert number.tolist() == [1, -1, 0, 1, -1] and found.tolist() == [[6, 1], [4, 1]]
    assert embed_answers(["", " "], encode)[1].tolist() == [-1, -1] and len(asked) == 1


def test_the_cosine_to_the_nearest_item(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, items = vectors(5, 6), vectors(6, 4)
    slow = [max(float(t @ e / np.linalg.norm(t) / np.linalg.norm(e)) for e in items) for t in texts]
    monkeypatch.setattr(module, "CELLS", 8)
    np.testing.assert_allclose(nearest_cosines(texts, items), slow, rtol=1e-5)
    assert nearest_cosines(texts[:0], items).shape == (0,)
