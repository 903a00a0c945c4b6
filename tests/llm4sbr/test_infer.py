"""LLM-Infer against the formula in loops, and questions that carry a sample's number."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from recnb.data.schema import Sequences
from recnb.data.sessions import every_prefix
from recnb.llm4sbr import infer
from recnb.llm4sbr.infer import ByWindow, LLMInfer, infer_scores, questions
from recnb.llm4sbr.sources import Texts
from recnb.recommenders.interface import ranked_lists


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else 0.0


def test_docstrings_tell_the_truth() -> None:
    assert doctest.testmod(infer) == (0, 1)


def test_scores_are_the_sum_of_both_cosines() -> None:
    rng = np.random.default_rng(0)
    long, short, items = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), rng.normal(size=(9, 4))
    short[2], items[5] = 0, 0  # no text
    expected = [[cosine(long[m], e) + cosine(short[m], e) for e in items] for m in range(6)]
    assert infer_scores([long, short], items) == pytest.approx(np.array(expected), abs=1e-6)


def test_texts_are_those_of_the_samples_number_and_a_missing_view_adds_nothing() -> None:
    rng = np.random.default_rng(1)
    vectors, items = rng.normal(size=(3, 4)).astype(np.float16), rng.normal(size=(5, 4))
    rows = np.array([[0, 1], [2, -1], [-1, -1]], np.int32)
    asked = np.array([[1, -1, 4], [2, 3, 4], [0, 3, 4]])
    found = LLMInfer(Texts(vectors, rows), items).scores(asked)
    assert found[0] == pytest.approx(infer_scores([vectors[[2]]], items)[0], abs=1e-6)
    assert not found[1].any() and found.dtype == np.float32
    assert found[2] == pytest.approx(infer_scores([vectors[[0]], vectors[[1]]], items)[0], abs=1e-6)


class Window:
    """Scores the last item of a window highest."""

    def scores(self, histories: np.ndarray) -> np.ndarray:
        return (histories[:, -1:] == np.arange(6)).astype(np.float32)


def test_a_question_is_a_number_and_a_window() -> None:
    samples = every_prefix(Sequences(np.array([0, 3, 5]), np.array([5, 4, 3, 2, 1], np.int32)))
    some = samples.take(np.array([2, 1]))
    asked = questions(some, 3)
    assert asked.tolist() == [[2, -1, -1, 2], [1, -1, 5, 4]]
    assert np.array_equal(ranked_lists(ByWindow(Window()), asked, 4), ranked_lists(Window(), some.inputs(3), 4))
