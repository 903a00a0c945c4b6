"""TIGER: beams against scoring every item outright, exclusion, no leaks, seeds, early stopping, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from recnb.data.schema import Sequences
from recnb.eager_llm.recipe import EagerLLM as Recipe, EvaluateConfig
from recnb.errors import RecipeError
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.interface import Lister, ranked_lists
from recnb.recommenders.settings import TigerConfig
from recnb.recommenders.tiger import START, TIGER, _Prefixes, told_apart, train_tiger

N, T = 12, 6
CONFIG = TigerConfig(width=16, head_width=8, heads=2, encoder_layers=1, decoder_layers=2, feedforward=32, dropout=0.0,
                     epochs=9, batch_size=32, learning_rate=1e-2, validation_users=30)  # fmt: skip
CODES = {
    2: np.stack([np.arange(N) // 4, np.arange(N) % 4], axis=1),
    3: np.stack([np.arange(N) % 2, np.arange(N) // 2 % 3, np.arange(N) // 6], axis=1),  # the last level has one child
    4: np.stack([np.arange(N) % 2, np.arange(N) // 2 % 2, np.arange(N) // 4 % 2, np.arange(N) // 8], axis=1),
}


def walks(users: int = 60, length: int = 12, seed: int = 0) -> Sequences:
    """Everyone walks the same circle of items, from different starts."""
    starts = np.random.default_rng(seed).integers(0, N, users)
    items = (starts[:, None] + np.arange(length)) % N
    return Sequences(np.arange(0, users * length + 1, length), items.ravel().astype(np.int32))


def untrained(levels: int = 2, seed: int = 0) -> TIGER:
    torch.manual_seed(seed)
    return TIGER(CODES[levels], CONFIG, T).eval()


def histories(users: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.integers(0, N, (users, T))
    found[np.arange(T) < rng.integers(0, T, (users, 1))] = -1
    return found


@torch.no_grad()
def outright(model: TIGER, shown: np.ndarray) -> np.ndarray:
    """(U, N) log-probability of every item: its tokens read as labels, by transformers alone."""
    scores = np.zeros((len(shown), N))
    for row, history in enumerate(shown):
        tokens = model.tokens[torch.from_numpy(history[history >= 0])].reshape(1, -1)
        tokens = tokens if tokens.numel() else torch.tensor([[START]])
        for item in range(N):
            labels = model.tokens[item][None]
            logits = model.network(input_ids=tokens, labels=labels.clone()).logits.log_softmax(-1)
            scores[row, item] = float(logits.gather(2, labels[..., None]).sum())
    return scores


@pytest.mark.parametrize("levels", CODES)
def test_a_beam_as_wide_as_the_catalogue_is_scoring_every_item(levels: int) -> None:
    model, shown = untrained(levels), histories()
    shown[2] = -1  # nothing is known
    scores = outright(model, shown)
    lists = model.lists(shown, N, batch_size=3)
    np.testing.assert_array_equal(lists, np.argsort(-scores, axis=1))
    assert {tuple(sorted(row)) for row in lists.tolist()} == {tuple(range(N))}


@pytest.mark.parametrize("levels", CODES)
def test_given_items_are_scored_as_if_each_was_read_alone(levels: int) -> None:
    model, shown = untrained(levels), histories()
    shown[0] = -1
    items = np.random.default_rng(1).permuted(np.tile(np.arange(N), (len(shown), 1)), axis=1)[:, :5]
    expected = np.take_along_axis(outright(model, shown), items, axis=1)
    np.testing.assert_allclose(model.scores_of(shown, items, batch_size=3), expected, atol=1e-4)


@pytest.mark.parametrize("levels", CODES)
def test_excluded_items_are_left_out_and_the_others_keep_their_order(levels: int) -> None:
    model, shown = untrained(levels), histories()
    out = np.random.default_rng(1).random((len(shown), N)) < 0.4
    out[0], out[1, 1:] = True, True
    out[1, 0] = False
    expected = [[i for i in np.argsort(-row) if not gone[i]] for row, gone in zip(outright(model, shown), out, strict=True)]
    for exclude in (sparse.csr_matrix(out), out):
        lists = model.lists(shown, N, exclude, batch_size=3)
        assert [[i for i in row if i >= 0] for row in lists.tolist()] == expected
    assert (lists[0] == -1).all() and lists[1].tolist() == [0] + [-1] * (N - 1)


@pytest.mark.parametrize("levels", CODES)
def test_a_narrow_beam_is_the_plain_beam_search(levels: int) -> None:
    """Step by step on full re-reads: keep the best W prefixes, by transformers alone."""
    model, shown, width = untrained(levels), histories(), 3
    rows = model.tokens.tolist()
    for history, found in zip(shown, model.lists(shown, width).tolist(), strict=True):
        tokens = model.tokens[torch.from_numpy(history[history >= 0])].reshape(1, -1)
        beams = {(): 0.0}
        for depth in range(levels):
            ways = {}
            for prefix, score in beams.items():
                with torch.no_grad():
                    said = model.network(input_ids=tokens, decoder_input_ids=torch.tensor([[START, *prefix]])).logits
                for item in rows:
                    if tuple(item[:depth]) == prefix:
                        ways[tuple(item[: depth + 1])] = score + float(said[0, -1].log_softmax(-1)[item[depth]])
            beams = dict(sorted(ways.items(), key=lambda way: -way[1])[:width])
        assert found == [rows.index(list(prefix)) for prefix in beams]


def test_a_list_depends_on_the_users_own_latest_items_alone() -> None:
    model, shown = untrained(), histories()
    whole = model.lists(shown, 5)
    np.testing.assert_array_equal(model.lists(shown[3:4], 5), whole[3:4])
    np.testing.assert_array_equal(model.lists(np.pad(shown, ((0, 0), (4, 0)), constant_values=2), 5), whole)
    assert model.lists(shown[:0], 5).shape == (0, 5)


def test_every_prefix_is_a_sample_once_per_epoch() -> None:
    train = Sequences(np.array([0, 1, 4, 12]), np.arange(12, dtype=np.int32))
    samples = _Prefixes(train, 3)
    seen = []
    for shown, targets in samples.batches(4, np.random.default_rng(0)):
        assert shown.shape[1] == max(1, int((shown >= 0).sum(1).max())), "no column of nothing but fill"
        seen += [(tuple(i for i in h if i >= 0), t) for h, t in zip(shown.tolist(), targets.tolist(), strict=True)]
    expected = [(tuple(range(max(first, i - 3), i)), i) for first, last in ((1, 4), (4, 12)) for i in range(first + 1, last)]
    assert sorted(seen) == sorted(expected) and len(samples) == len(expected)


def test_learns_the_order_that_popularity_cannot_see_and_keeps_the_best_epoch() -> None:
    train, shown = walks(), walks(seed=1).pad(T)
    following = (shown[:, -1] + 1) % N
    model = train_tiger(train, CODES[2], CONFIG, T, seed=0)
    popular = np.bincount(train.items).argmax()
    assert (model.lists(shown, 1)[:, 0] == following).mean() > 0.9 > 0.3 > (following == popular).mean()
    assert model.log[-1]["loss"] < model.log[0]["loss"] and not model.training


def test_early_stopping_keeps_the_best_epoch_of_the_drawn_users() -> None:
    shown = walks().pad(T)
    impossible = np.random.default_rng(1).integers(0, N, len(shown))
    config = CONFIG.model_copy(update={"epochs": 30, "patience": 2, "validation_users": 0, "learning_rate": 1e-3})
    model = train_tiger(walks(), CODES[2], config, T, seed=0, validation=(shown, impossible))
    reached = [row["R@10"] for row in model.log]
    assert len(reached) < 30 and int(np.argmax(reached)) == len(reached) - 3
    assert (model.lists(shown, N)[:, :10] == impossible[:, None]).any(1).mean() == max(reached)
    few = config.model_copy(update={"epochs": 1, "validation_users": 7})
    log = train_tiger(walks(), CODES[2], few, T, seed=0, validation=(shown, impossible)).log
    assert log[0]["R@10"] * 7 == pytest.approx(round(log[0]["R@10"] * 7))


def test_the_same_seed_the_same_weights_and_torchs_generator_is_left_alone() -> None:
    states = []
    config = CONFIG.model_copy(update={"epochs": 1, "dropout": 0.1})
    for state in (0, 1):
        torch.manual_seed(state)
        states.append(train_tiger(walks(), CODES[2], config, T, seed=3).state_dict())
        assert torch.initial_seed() == state
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_it_is_a_baseline_that_makes_lists() -> None:
    train, shown = walks(), walks().pad(T)
    config = EvaluateConfig(tiger=CONFIG.model_copy(update={"epochs": 1}))
    valid = (shown, (shown[:, -1] + 1) % N)
    fitted, chosen = fit_baseline("tiger", train, N, config, T, seed=0, validation=valid, codes=CODES[2])
    seen = sparse.csr_matrix(np.eye(N, dtype=bool)[shown[:, -1]])
    lists = ranked_lists(fitted, shown, 4, seen)
    assert isinstance(fitted, Lister) and "epoch 1 of 1" in chosen
    assert lists.shape == (len(shown), 4) and not (lists == shown[:, -1:]).any()


def test_equal_codes_are_told_apart_by_one_more_token() -> None:
    codes = np.array([[1, 7], [2, 7], [1, 7], [1, 7]])
    assert told_apart(codes).tolist() == [[1, 7, 0], [2, 7, 0], [1, 7, 1], [1, 7, 2]]
    assert told_apart(CODES[2]) is CODES[2]
    tiger = TIGER(codes, CONFIG, T)
    assert tiger.trie.n_items == 4 and tiger.trie.depth == 3
    assert sorted(tiger.eval().lists(np.array([[-1, 0]]), 4)[0].tolist()) == [0, 1, 2, 3]


def test_what_it_refuses() -> None:
    valid = (walks().pad(T), np.zeros(60, int))
    for codes in (None, np.empty((N, 0), np.int32)):
        with pytest.raises(RecipeError, match=r"evaluate\.baselines: tiger needs .* index\.source"):
            fit_baseline("tiger", walks(), N, EvaluateConfig(), T, seed=0, validation=valid, codes=codes)
    with pytest.raises(ValueError, match="codes of 5 items, expected 12"):
        fit_baseline("tiger", walks(), N, EvaluateConfig(), T, seed=0, validation=valid, codes=CODES[2][:5])
    with pytest.raises(ValueError, match="between 1 and N = 12"):
        untrained().lists(histories(), 13)


@pytest.mark.parametrize("source", ["behaviour", "random"])
def test_a_recipe_without_semantic_codes_is_refused_before_anything_starts(source: str) -> None:
    recipe = {"name": "mine", "index": {"source": source}, "evaluate": {"baselines": ["popularity", "tiger"]}}
    with pytest.raises(ValueError, match=rf"evaluate\.baselines: tiger .* index\.source = {source}"):
        Recipe.model_validate(recipe)
    Recipe.model_validate(recipe | {"index": {"source": "semantic"}})
