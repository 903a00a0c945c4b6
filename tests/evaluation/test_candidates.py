"""Candidate sets: what is in them, how they are drawn, ranks inside them against a plain restatement."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from recnb.errors import DataError
from recnb.evaluation import candidates
from recnb.evaluation.candidates import CandidateSets, candidate_metrics, draw_candidates, ranks_of
from recnb.evaluation.settings import RULES

U, N, C, D = 30, 50, 8, 3


def owned_and_targets(users: int = U) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Every user has ten items, one of them the target."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(N)[:10] for _ in range(users)])
    matrix = np.zeros((users, N), bool)
    np.put_along_axis(matrix, rows, True, axis=1)
    return sparse.csr_matrix(matrix), rows[:, 0].astype(np.int32)


def draw(rule: str, users: int = U, draws: int = D, size: int = C, seed: int = 0) -> CandidateSets:
    owned, targets = owned_and_targets(users)
    rng = np.random.default_rng(5)
    popularity, scores = rng.integers(1, 100, N), rng.standard_normal((users, N))
    scores[np.arange(users), targets] += 1.5  # better than chance, not always among the best
    return draw_candidates(owned, targets, size, draws, rule, seed, popularity=popularity, scores=scores)


def digest() -> str:
    return hashlib.sha256(draw("popularity").items.tobytes()).hexdigest()


@pytest.mark.parametrize("rule", RULES)
def test_a_set_holds_distinct_items_and_nothing_else_that_its_user_has(rule):
    owned, targets = owned_and_targets()
    sets = draw(rule)
    assert sets.items.shape == (U, D, C) and sets.items.dtype == np.int32
    for user in range(U):
        for one in sets.items[user]:
            assert len(set(one.tolist())) == C
            assert set(one.tolist()) & set(owned[user].indices.tolist()) <= {int(targets[user])}
    inside = (sets.items == targets[:, None, None]).any(axis=-1)
    assert np.array_equal(inside, sets.place >= 0)
    assert inside.all() if rule != "retrieved" else 0 < inside.mean() < 1
    row, number = np.nonzero(inside)
    assert (sets.items[row, number, sets.place[row, number]] == targets[row]).all()
    assert len(np.unique(sets.place[inside])) == C  # it may stand anywhere


@pytest.mark.parametrize("rule", RULES)
def test_a_set_hangs_on_seed_row_and_draw_alone(rule, monkeypatch):
    sets = draw(rule)
    assert np.array_equal(sets.items[:, :2], draw(rule, draws=2).items)
    if rule != "retrieved":  # there scores of fewer users are other scores
        assert np.array_equal(sets.items[:10], draw(rule, users=10).items)
    monkeypatch.setattr(candidates, "_CELLS", 4 * N)
    assert np.array_equal(sets.items, draw(rule).items)
    assert not np.array_equal(sets.items, draw(rule, seed=1).items)


def test_two_processes_draw_the_same():
    path = [str(Path(__file__).parent), *sys.path]
    code = f"import sys; sys.path[:] = {path!r}; from test_candidates import digest; print(digest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()


def test_uniform_and_popular_others_come_as_often_as_they_should():
    nothing, target = sparse.csr_matrix(([True], ([0], [0])), shape=(1, N)), np.array([0], np.int32)
    popularity = np.arange(N, dtype=float)
    even, skewed = (
        draw_candidates(nothing, target, 2, 8000, rule, 0, popularity=popularity).items for rule in RULES[:2]
    )
    others = [np.bincount(each[each > 0], minlength=N)[1:] / 8000 for each in (even, skewed)]
    assert np.abs(others[0] - 1 / (N - 1)).max() < 5 * np.sqrt(1 / (N - 1) / 8000)
    share = popularity[1:] / popularity.sum()
    assert np.abs((others[1] - share) / np.sqrt(share / 8000)).max() < 5


def test_retrieved_sets_are_the_best_of_what_may_be_listed():
    owned, targets = owned_and_targets()
    scores = np.random.default_rng(5).standard_normal((U, N))
    sets = draw_candidates(owned, targets, C, D, "retrieved", 0, scores=scores)
    for user in range(U):
        may = [item for item in range(N) if not owned[user, item] or item == targets[user]]
        best = sorted(may, key=lambda item: -scores[user, item])[:C]
        assert all(set(one.tolist()) == set(best) for one in sets.items[user])


def test_a_set_larger_than_what_is_left_is_refused():
    with pytest.raises(DataError, match=r"row \d+ of the test needs 41 items, and 40 of N = 50 .* smaller by 1 fits"):
        draw("uniform", size=42)
    assert draw("uniform", size=41).items.shape == (U, D, 41)
    with pytest.raises(DataError, match="nobody met in training"):
        owned, targets = owned_and_targets()
        draw_candidates(owned, targets, 3, 1, "popularity", 0, popularity=np.eye(N)[0])


def test_ranks_and_metrics_against_the_slow_twin():
    sets = draw("retrieved")
    scores = np.random.default_rng(2).integers(0, 5, sets.items.shape).astype(float)
    ranks = ranks_of(scores, sets)
    for user in range(U):
        for number in range(D):
            place = sets.place[user, number]
            if place < 0:
                assert ranks[user, number] == C + 1
                continue
            others = np.delete(scores[user, number], place)
            own = scores[user, number, place]
            assert ranks[user, number] == 1 + (others > own).sum() + 0.5 * (others == own).sum()
    found = candidate_metrics(ranks, [3, C])
    assert list(found) == ["HR@1", "N@3", f"N@{C}", "MRR"]
    for user in range(U):
        hits = [max(0.0, min(1.0, 2 - rank)) for rank in ranks[user]]
        assert found["HR@1"][user] == pytest.approx(np.mean(hits))
        both = [(np.floor(rank), np.ceil(rank)) for rank in ranks[user]]
        gains = [np.mean([1 / np.log2(g + 1) if g <= 3 else 0 for g in pair]) for pair in both]
        assert found["N@3"][user] == pytest.approx(np.mean(gains))
        assert found["MRR"][user] == pytest.approx(np.mean([1 / r if r <= C else 0 for r in ranks[user]]))


def test_ranks_do_not_hang_on_the_order_of_a_set():
    sets = draw("uniform")
    scores = np.random.default_rng(2).standard_normal((U, N))
    by_item = np.take_along_axis(scores[:, None].repeat(D, 1), sets.items.astype(int), axis=2)
    order = np.random.default_rng(3).permutation(C)
    turned = CandidateSets(sets.items[:, :, order], sets.targets, sets.rule)
    assert np.array_equal(ranks_of(by_item, sets), ranks_of(by_item[:, :, order], turned))


def test_scores_that_are_none_are_refused():
    sets = draw("uniform")
    with pytest.raises(ValueError, match="expected scores"):
        ranks_of(np.zeros((U, D, C - 1)), sets)
    with pytest.raises(ValueError, match="without nan"):
        ranks_of(np.full(sets.items.shape, np.nan), sets)


def test_the_target_is_no_other_item_even_where_it_is_not_owned():
    nobody, targets = sparse.csr_matrix((U, N), dtype=bool), owned_and_targets()[1]
    sets = draw_candidates(nobody, targets, N, 2, "uniform", 0)
    assert np.array_equal(np.sort(sets.items, axis=2), np.broadcast_to(np.arange(N), (U, 2, N)))
