"""What is turned round before a row is believed: nothing else changes, and a verdict can fall either way."""

from __future__ import annotations

import numpy as np
import pytest

from recnb.errors import RecipeError
from recnb.llm.ranking_prompts import Prompt
from recnb.rsllm import checks

V = 100


def prompt(ids: list[int], **spans: slice) -> Prompt:
    return Prompt(np.array(ids), spans, V)


def test_other_vectors_move_the_candidates_vectors_alone() -> None:
    one = prompt([1, V + 7, 2, V + 3, 4, V + 5, 6, V + 9], history=slice(0, 2), candidates=slice(2, 8))
    assert checks.other_vectors(one).tolist() == [1, V + 7, 2, V + 9, 4, V + 3, 6, V + 5]
    assert one.ids.tolist() == [1, V + 7, 2, V + 3, 4, V + 5, 6, V + 9], "the prompt stays as it is"


def test_without_vectors_at_candidates_those_of_the_history_move_and_text_stays() -> None:
    bare = prompt([1, V + 7, 2, V + 3, 4], history=slice(0, 4), candidates=slice(4, 5))
    assert checks.other_vectors(bare).tolist() == [1, V + 3, 2, V + 7, 4]
    assert checks.other_vectors(prompt([1, 2, 3], candidates=slice(0, 3))).tolist() == [1, 2, 3]


def test_a_shuffled_history_has_the_same_items_and_its_padding_on_the_left() -> None:
    histories = np.array([[-1, -1, 4, 5, 6], [1, 2, 3, 4, 5], [-1, -1, -1, -1, -1]])
    found = checks.shuffled_histories(histories, 4, seed=3)
    assert found.shape == (3, 4) and np.array_equal(np.sort(found), np.sort(histories[:, -4:]))
    assert found[0, 0] == -1 and (found[2] == -1).all()
    assert any(not np.array_equal(checks.shuffled_histories(histories, 4, seed), histories[:, -4:]) for seed in range(3))


def test_each_of_the_latest_items_is_left_out_once() -> None:
    found = checks.without_each(np.array([-1, 9, 4, 5, 6]), 3)
    assert found.tolist() == [[-1, -1, -1, 5, 6], [-1, -1, -1, 4, 6], [-1, -1, -1, 4, 5]]
    assert checks.without_each(np.array([-1, -1]), 3).shape == (0, 2)


def test_the_target_stands_at_each_place_and_the_others_keep_their_order() -> None:
    items, targets = np.array([[3, 7, 1, 9], [5, 2, 8, 6]]), np.array([1, 5])
    found = checks.moved(items, targets, np.array([0, 2, 3]))
    assert found[0].tolist() == [[1, 3, 7, 9], [3, 7, 1, 9], [3, 7, 9, 1]]
    assert found[1].tolist() == [[5, 2, 8, 6], [2, 8, 5, 6], [2, 8, 6, 5]]
    with pytest.raises(ValueError, match="must hold its target"):
        checks.moved(items, np.array([4, 5]), np.array([0]))


def test_places_are_those_of_llmrank_and_fit_short_lists() -> None:
    assert checks.places_of(20).tolist() == [0, 5, 10, 15, 19]
    assert checks.places_of(3).tolist() == [0, 1, 2] and checks.places_of(2).tolist() == [0, 1]


def test_averaging_orders_is_the_mean_over_the_same_items() -> None:
    rng = np.random.default_rng(5)
    items = np.stack([[rng.permutation([4, 8, 15, 16]) for _ in range(3)] for _ in range(2)])
    scores = rng.normal(size=items.shape)
    means, order = checks.averaged(scores, items)
    for user in range(2):
        for column, item in enumerate(order[user, 0]):
            expected = np.mean([scores[user, p][items[user, p] == item].item() for p in range(3)])
            assert means[user, 0, column] == pytest.approx(expected)


def test_diversity_by_hand() -> None:
    popularity = np.array([50, 10, 30, 20])
    found = checks.diversity(np.array([[0, 0], [0, 2]]), popularity)
    assert found["distinct"] == 2 and found["percentile"] == pytest.approx((1 + 1 + 1 + 2 / 3) / 4)
    assert checks.diversity(np.array([[0, 1], [2, 3]]), popularity)["gini"] == 0 < found["gini"]
    scores, items = np.array([[[0.1, 0.9, 0.9]]]), np.array([[[5, 6, 7]]])
    assert checks.first_items(scores, items).tolist() == [[6]]


@pytest.mark.parametrize(
    ("one", "other", "wanted", "verdict"),
    [(0.8, 0.1, "above", checks.HOLDS), (0.1, 0.8, "above", checks.FAILS), (0.5, 0.5, "above", checks.OPEN),
     (0.1, 0.8, "not above", checks.HOLDS), (0.5, 0.5, "not above", checks.HOLDS), (0.8, 0.1, "not above", checks.FAILS)],
)  # fmt: skip
def test_a_check_can_hold_fail_or_stay_open(one: float, other: float, wanted: str, verdict: str) -> None:
    rng = np.random.default_rng(1)
    draws = [(rng.random(300) < share).astype(float) for share in (one, other)]
    found = checks.checked("it", *draws, wanted, 500, seed=2)  # type: ignore[arg-type]
    assert found["verdict"] == verdict
    said = checks.believed([found])
    assert (said == "All checks hold.") == (verdict == checks.HOLDS)
    figures = f"of 1 checks 1 not passed: it: {verdict}, {found['diff']:+.3f} ["
    assert (figures in said) == (verdict != checks.HOLDS), "what is missed is said with its figures"
    assert "believe no row" in checks.believed([])


def test_somebody_who_is_not_tested_is_named_with_a_neighbour():
    tested = np.array([7, 3, 12])
    assert checks.tested_rows([12, 7], tested) == [2, 0]
    with pytest.raises(RecipeError, match=r"cases\.users: user 9 is not tested; of 3 who are, 7 is the nearest"):
        checks.tested_rows([9], tested)
