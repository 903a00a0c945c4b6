"""Baselines against naive twins; cornac's SASRec against ours."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from cornac_oracle import cornac_sasrec
from hypothesis import given, settings, strategies as st
from scipy import sparse

from recnb.data.schema import Sequences
from recnb.eager_llm.recipe import EvaluateConfig
from recnb.evaluation.intervals import paired_bootstrap
from recnb.evaluation.metrics import metrics, per_user, rank_bounds, target_ranks
from recnb.recommenders import counting, fit, interface, next_item, tiger
from recnb.recommenders.counting import ItemKNN, Popularity, interaction_matrix, item_neighbours
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.interface import ranked_lists, tied_ranks, top_items
from recnb.recommenders.next_item import train_sequential
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.settings import (
    Bert4recConfig,
    CaserConfig,
    DinConfig,
    Gru4recConfig,
    SasrecConfig,
    SasrecSampledConfig,
)


def random_sequences(users: int, items: int, seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, users)
    return Sequences(np.append(0, np.cumsum(lengths)), rng.integers(0, items, lengths.sum()).astype(np.int32))


def test_docstrings_tell_the_truth() -> None:
    assert not any(doctest.testmod(module).failed for module in (counting, fit, interface, next_item, tiger))


# --- lists ------------------------------------------------------------------------------------------------------------


def naive_top(scores: np.ndarray, width: int, exclude: np.ndarray) -> list[list[int]]:
    lists = []
    for row, out in zip(scores, exclude, strict=True):
        order = [i for i in sorted(range(len(row)), key=lambda i: (-row[i], i)) if not out[i] and row[i] > -np.inf]
        lists.append((order + [-1] * width)[:width])
    return lists


@settings(max_examples=60, deadline=None)
@given(users=st.integers(1, 12), items=st.integers(1, 15), levels=st.integers(1, 20), seed=st.integers(0, 2**16),
       data=st.data())  # fmt: skip
def test_top_items_is_the_sorted_list(users: int, items: int, levels: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    scores, out = rng.integers(0, levels, (users, items)) / 7.0, rng.random((users, items)) < 0.4
    width = data.draw(st.integers(1, items))
    assert top_items(scores, width, sparse.csr_matrix(out)).tolist() == naive_top(scores, width, out)
    assert top_items(scores, width).tolist() == naive_top(scores, width, np.zeros_like(out))


def test_top_items_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, out = rng.integers(0, 5, (23, 11)).astype(np.float32), sparse.csr_matrix(rng.random((23, 11)) < 0.3)
    whole = top_items(scores, 6, out)
    monkeypatch.setattr(interface, "CELLS", 25)
    assert np.array_equal(top_items(scores, 6, out), whole)


def test_top_items_leaves_its_input_alone_and_takes_no_users() -> None:
    scores = np.array([[1.0, 2.0, 3.0]])
    assert top_items(scores, 1, sparse.csr_matrix([[False, False, True]])).tolist() == [[1]]
    assert scores.tolist() == [[1.0, 2.0, 3.0]]
    assert top_items(np.zeros((0, 4)), 2).shape == (0, 2)


def test_top_items_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(ValueError, match="between 1 and N = 3"):
        top_items(np.zeros((1, 3)), 4)
    with pytest.raises(ValueError, match="not a number"):
        top_items(np.array([[0.0, np.nan]]), 1)
    with pytest.raises(ValueError, match="exclude has shape"):
        top_items(np.zeros((2, 3)), 1, sparse.csr_matrix((1, 3)))


# --- counting ---------------------------------------------------------------------------------------------------------


def test_popularity_counts_training_events_only_and_everyone_gets_the_same() -> None:
    train = Sequences(np.array([0, 2, 5]), np.array([1, 3, 3, 3, 0], np.int32))
    valid = (np.zeros((2, 2), int), np.zeros(2, int))
    everyone = fit_baseline("popularity", train, 5, EvaluateConfig(), 2, seed=0, validation=valid)[0]
    assert isinstance(everyone, Popularity) and everyone.counts.tolist() == [1, 1, 0, 3, 0]
    assert top_items(everyone.scores(np.zeros((3, 2), int)), 3).tolist() == [[3, 0, 1]] * 3


def naive_itemknn(train: Sequences, n_items: int, neighbours: int, histories: np.ndarray) -> np.ndarray:
    """Sets and loops."""
    users = [set(train.items[a:b].tolist()) for a, b in zip(train.offsets, train.offsets[1:], strict=False)]
    who = [{u for u, items in enumerate(users) if i in items} for i in range(n_items)]
    scores = np.zeros((len(histories), n_items))
    for u, history in enumerate(histories):
        for i in set(history[history >= 0].tolist()):
            cosine = {
                j: len(who[i] & who[j]) / np.sqrt(len(who[i]) * len(who[j]))
                for j in range(n_items)
                if j != i and who[i] & who[j]
            }
            for j in sorted(cosine, key=lambda j: (-round(cosine[j], 9), j))[:neighbours]:
                scores[u, j] += cosine[j]
    return scores


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), neighbours=st.integers(1, 12))
def test_itemknn_is_the_naive_one(seed: int, neighbours: int) -> None:
    train, histories = random_sequences(12, 10, seed), np.random.default_rng(seed).integers(-1, 10, (3, 4))
    ours = ItemKNN(train, 10, neighbours).scores(histories)
    theirs = naive_itemknn(train, 10, neighbours, histories)
    # which of two equally near items is kept may hang on the last bit of a cosine; what a user gets in all does not
    assert ours.sum(axis=1) == pytest.approx(theirs.sum(axis=1), abs=1e-5)
    if neighbours >= 9:
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_itemknn_by_hand() -> None:
    train = Sequences(np.array([0, 2, 4, 7]), np.array([0, 1, 0, 1, 0, 2, 3], np.int32))
    scores = ItemKNN(train, 5, 2).scores(np.array([[-1, 0], [-1, -1], [4, 4]]))
    # item 0 stands with three users, item 1 with two of them, items 2 and 3 with one
    assert scores[0] == pytest.approx([0, 2 / np.sqrt(6), 1 / np.sqrt(3), 0, 0])
    assert not scores[1].any(), "no history, no votes"
    assert not scores[2].any(), "an item without training events has no neighbours"


def test_neighbours_in_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train = random_sequences(30, 17, 1)
    matrix = interaction_matrix(train.offsets, train.items, 17)
    whole = item_neighbours(matrix, 4).toarray()
    monkeypatch.setattr(counting, "CELLS", 40)
    assert item_neighbours(matrix, 4).toarray() == pytest.approx(whole)
    assert (np.diag(whole) == 0).all() and ((whole > 0).sum(axis=1) <= 4).all()


def test_interactions_are_binary_however_often_they_happen_and_the_sequence_keeps_its_order() -> None:
    items = np.array([2, 2, 0], np.int32)
    assert interaction_matrix(np.array([0, 3]), items, 4).toarray().tolist() == [[1, 0, 1, 0]]
    assert items.tolist() == [2, 2, 0]


def test_places_counted_from_votes_are_those_of_the_dense_lists() -> None:
    """Ties, items without any vote, users without a history: the order by score, then by item number."""
    rng = np.random.default_rng(3)
    items, users = 30, 200
    train = Sequences(np.arange(0, 121, 4), rng.integers(0, items, 120).astype(np.int32))
    knn, histories = ItemKNN(train, items, 4), rng.integers(-1, items, (users, 3))
    histories[0] = -1
    targets = rng.integers(0, items, users)
    dense = target_ranks(top_items(knn.scores(histories), items), targets)
    assert (knn.scores(histories)[np.arange(users), targets] == 0).any()
    np.testing.assert_array_equal(knn.ranks(histories, targets), dense)


def test_the_window_is_chosen_by_what_follows() -> None:
    """Chains: only the latest item says what comes next, older ones vote for other things."""
    items, pairs = 40, [(i, i + 1) for i in range(0, 40, 2)]
    flat = np.array([item for pair in pairs for item in pair] + [0] * 40, np.int32)
    train = Sequences(np.append(np.arange(0, 41, 2), np.arange(41, 81)), flat)
    knn, rng = ItemKNN(train, items, 5), np.random.default_rng(2)
    latest = rng.integers(0, 20, 30) * 2
    histories = np.concatenate([rng.integers(0, 40, (30, 9)), latest[:, None]], axis=1)
    knn.choose_window(histories, latest + 1, [10, 5, 1])
    assert knn.window == 1
    np.testing.assert_array_equal(knn.scores(histories), ItemKNN(train, items, 5).scores(latest[:, None]))


# --- SASRec -----------------------------------------------------------------------------------------------------------


def cyclic(users: int, items: int, length: int, seed: int) -> Sequences:
    """Each user walks the items in a circle, with one step in ten at random: order says what comes next."""
    rng = np.random.default_rng(seed)
    steps = np.where(rng.random((users, length)) < 0.1, rng.integers(0, items, (users, length)), 1)
    walked = (rng.integers(0, items, (users, 1)) + np.cumsum(steps, axis=1)) % items
    return Sequences(np.arange(0, users * length + 1, length), walked.ravel().astype(np.int32))


def leave_last(train: Sequences, length: int, history: int) -> tuple[Sequences, tuple, tuple]:
    """Training, validation and test of sequences of one length."""
    walked = train.items.reshape(-1, length)
    users = len(walked)
    kept = Sequences(np.arange(0, users * (length - 2) + 1, length - 2), walked[:, :-2].ravel())
    return kept, (walked[:, -2 - history : -2], walked[:, -2]), (walked[:, -1 - history : -1], walked[:, -1])


def test_cornac_and_ours_agree_on_a_learnable_catalogue() -> None:
    """Two implementations of SASRec by different people, on the same split: both find the rule that was put there."""
    train, valid, test = leave_last(cyclic(60, 20, 12, 0), 12, 6)
    shared = {"width": 32, "blocks": 1, "batch_size": 32, "learning_rate": 5e-3, "patience": 100}
    ours = train_sequential(train, 20, SasrecConfig(epochs=70, **shared), 6, seed=0, encoder=SASRec, validation=valid)
    theirs = cornac_sasrec(train, 20, SasrecConfig(epochs=8, negatives=64, **shared), 6, test[0])
    ranks = [target_ranks(top_items(scores, 10), test[1]) for scores in (ours.scores(test[0]), theirs)]
    hits = [per_user(rank, 5)[0] for rank in ranks]  # chance: 0.25
    assert hits[0].mean() > 0.8 and hits[1].mean() > 0.8, [metrics(rank) for rank in ranks]
    gap = paired_bootstrap(*hits, 500, 0)
    assert gap["low"] < 0.02 and gap["high"] > -0.02, "no clear difference"


# --- one way in -------------------------------------------------------------------------------------------------------

NAMES = ("popularity", "itemknn", "sasrec", "sasrec-sampled", "gru4rec", "bert4rec", "caser", "din")  # with scores
SMALL = {"width": 8, "epochs": 2, "batch_size": 32}


@pytest.mark.parametrize("name", NAMES)
def test_every_baseline_of_a_recipe_fits_and_lists(name: str) -> None:
    train, valid, test = leave_last(cyclic(20, 12, 8, 4), 8, 5)
    config = EvaluateConfig(
        itemknn_neighbours=3, sasrec=SasrecConfig(**SMALL, blocks=1), bert4rec=Bert4recConfig(**SMALL, blocks=1),
        sasrec_sampled=SasrecSampledConfig(**SMALL, negatives=4), gru4rec=Gru4recConfig(**SMALL, hidden=8),
        caser=CaserConfig(**SMALL), din=DinConfig(**SMALL),
    )  # fmt: skip
    fitted, chosen = fit_baseline(name, train, 12, config, 5, seed=0, validation=valid)
    seen = interaction_matrix(train.offsets, train.items, 12)
    lists = ranked_lists(fitted, test[0], 4, seen, users=7)
    assert chosen and np.array_equal(lists, top_items(fitted.scores(test[0]), 4, seen))
    bounds = tied_ranks(fitted, test[0], test[1], users=7)
    assert np.array_equal(bounds, rank_bounds(np.asarray(fitted.scores(test[0])), test[1]))
    again, _ = fit_baseline(name, train, 12, config, 5, seed=0, validation=valid)
    assert np.array_equal(fitted.scores(test[0]), again.scores(test[0])), "the same seed, the same baseline"


def test_sampled_softmax_is_not_full_cross_entropy() -> None:
    train, valid, test = leave_last(cyclic(20, 12, 8, 4), 8, 5)
    same = {"width": 8, "blocks": 1, "dropout": 0.0, "epochs": 1, "learning_rate": 1e-3}
    config = EvaluateConfig(sasrec=SasrecConfig(**same), sasrec_sampled=SasrecSampledConfig(**same, negatives=2))
    full, sampled = (fit_baseline(name, train, 12, config, 5, seed=0, validation=valid)[0]
                     for name in ("sasrec", "sasrec-sampled"))  # fmt: skip
    assert not np.allclose(full.scores(test[0]), sampled.scores(test[0]))
