"""Which cases are chosen, and what an answer names."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from recnb.errors import RecipeError
from recnb.llm4sbr import figures
from recnb.llm4sbr.cases import (
    KINDS,
    answer_kinds,
    asked_cases,
    case_record,
    choose_cases,
    nearest_titles,
    shared_items,
)  # fmt: skip

TITLES = ["Alien", "Heat", "Fargo", "Heat"]  # two items of one title


def test_an_answer_is_of_the_session_of_the_catalogue_or_of_nobody() -> None:
    inputs = np.array([[-1, 0, 1], [-1, -1, 2], [-1, -1, 0], [0, 1, 2], [-1, -1, 3], [-1, -1, -1]])
    found = answer_kinds(["heat", "Heat", "The Matrix", " ", "Heat", "Alien"], inputs, TITLES)
    assert found.tolist() == [
        "in the session", "in the catalogue", "invented", "nothing", "in the session", "in the catalogue",
    ]  # fmt: skip


def test_no_answer_at_all() -> None:
    assert answer_kinds([], np.empty((0, 3), int), TITLES).tolist() == []


def test_a_session_that_is_asked_for_is_shown_whole_or_refused_with_the_range() -> None:
    sessions = np.array([7, 7, 8, 9, 9, 9])
    assert asked_cases([9, 7], sessions) == {5: "asked for", 1: "asked for"} and asked_cases([], sessions) == {}
    with pytest.raises(RecipeError, match=r"cases\.sessions: 3: .* test sessions are 7 to 9"):
        asked_cases([8, 3], sessions)


def test_cases_are_one_of_each_kind_and_some_drawn() -> None:
    ours, plain = np.array([0, 0, 30, 30, 0, 30]), np.array([0, 30, 0, 30, 30, 30])
    told = np.array([True, False, True, True, True, True])
    chosen = choose_cases(ours, plain, told, 10, 2, seed=0)
    assert {row: why for row, why in chosen.items() if why != "drawn"} == {
        4: "only ours hits", 2: "only the plain model hits", 3: "both miss",
    }  # fmt: skip
    assert 1 not in chosen and len(chosen) >= 3
    assert choose_cases(ours, plain, told, 10, 2, seed=0) == chosen
    silent = choose_cases(ours, plain, np.zeros(6, bool), 10, 0, seed=0)
    assert silent[1] == "only ours hits", "where nobody has a text, all may be chosen"


def test_nearest_titles_point_the_same_way() -> None:
    items = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert nearest_titles(np.array([[5.0, 4.0], [0.0, 2.0]]), items, ["a", "b", "c"], 2) == [["c", "a"], ["b", "c"]]
    assert len(nearest_titles(items[:1], items, ["a", "b", "c"], 9)[0]) == 3


def test_a_record_knows_where_the_target_stands() -> None:
    record = case_record("drawn", 7, ["Alien"], "Heat", {"long": ("x", "invented", "Heat")}, {"one": ["Fargo", "Heat"], "two": ["Alien"]})
    assert record["places"] == {"one": 2, "two": None} and record["lists"]["two"] == ["Alien"]
    assert record["answers"] == {"long": {"said": "x", "kind": "invented", "nearest": "Heat"}}


def test_shared_items_are_counted_whatever_their_order() -> None:
    one, other = np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([[4, 3, 9, 1], [0, 1, 2, 3]])
    expected = np.mean([len(set(a) & set(b)) / 4 for a, b in zip(one.tolist(), other.tolist(), strict=True)])
    assert shared_items(one, other) == expected == 3 / 8 and shared_items(one[:0], other[:0]) == 1


def test_figures_show_hostile_titles_as_they_are() -> None:
    hostile = "$\\frac{1}{0}$ <b>x</b>\n" + "y" * 500
    answers = {view: (hostile, kind, "Heat") for view, kind in zip(("long", "short"), KINDS, strict=False)}
    drawn = figures.case([hostile] * 30, answers, {"srgnn": [hostile, "Heat"], "llm4sbr": []}, "Heat")
    drawn.canvas.draw()
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert any("frac" in text for text in texts) and max(map(len, texts)) < 40
    framed = [text.get_text() for text in drawn.axes[0].texts if text.get_bbox_patch()]
    assert framed == ["Heat"] * 3
    shares = pd.DataFrame([[0.5, 0.2, 0.3, 0.0]], columns=list(KINDS), index=["long"])
    bars = figures.kinds_drawn(shares).axes[0].patches
    assert sum(bar.get_width() for bar in bars) == 1
    plt.close("all")
