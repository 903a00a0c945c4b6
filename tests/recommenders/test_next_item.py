"""GRU4Rec, BERT4Rec, Caser and DIN: what every encoder owes (no leaks, fill, seeds, early stopping), and what is theirs alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recnb.data.schema import Sequences
from recnb.evaluation.metrics import rank_bounds
from recnb.recommenders.bert4rec import BERT4Rec
from recnb.recommenders.caser import Caser
from recnb.recommenders.din import DIN
from recnb.recommenders.gru4rec import GRU4Rec
from recnb.recommenders.next_item import NextItemEncoder, _target_losses, train_sequential
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.settings import (
    Bert4recConfig,
    CaserConfig,
    DinConfig,
    Gru4recConfig,
    SasrecConfig,
    SequentialConfig,
)

N, T = 12, 8
SHARED = {"width": 16, "batch_size": 16, "learning_rate": 1e-2, "dropout": 0.1}
ENCODERS: dict[str, tuple[type[NextItemEncoder], SequentialConfig]] = {
    "sasrec": (SASRec, SasrecConfig(**SHARED, blocks=1, epochs=10)),
    "gru4rec": (GRU4Rec, Gru4recConfig(**SHARED, hidden=16, epochs=12)),
    "bert4rec": (BERT4Rec, Bert4recConfig(**SHARED, blocks=1, epochs=36, mask_share=0.3, last_share=0.3)),
    "caser": (Caser, CaserConfig(**SHARED, reach=3, filters=4, vertical=2, epochs=12)),
    "din": (DIN, DinConfig(**SHARED, interests=4, epochs=30)),
}
each_encoder = pytest.mark.parametrize("name", ENCODERS)


def walks(users: int = 60, length: int = 14, seed: int = 0) -> Sequences:
    """Everyone walks the same circle of items, one step in ten at random: order says what comes next."""
    rng = np.random.default_rng(seed)
    steps = np.where(rng.random((users, length)) < 0.1, rng.integers(0, N, (users, length)), 1)
    items = (rng.integers(0, N, (users, 1)) + np.cumsum(steps, axis=1)) % N
    return Sequences(np.arange(0, users * length + 1, length), items.ravel().astype(np.int32))


def fitted(name: str, seed: int = 0, validation=None, **changes) -> NextItemEncoder:
    encoder, config = ENCODERS[name]
    settings = config.model_copy(update=changes)
    return train_sequential(walks(), N, settings, T, seed=seed, encoder=encoder, validation=validation)


def untrained(name: str) -> NextItemEncoder:
    torch.manual_seed(0)
    encoder, config = ENCODERS[name]
    return encoder(N, config, T).eval()


def recall(scores: np.ndarray, targets: np.ndarray, cutoff: int) -> float:
    """Share of users whose target is among the best of all items; a tie counts against us."""
    return float((rank_bounds(scores, targets)[1] < cutoff).mean())


@pytest.mark.parametrize(
    ("name", "negatives"),
    [("sasrec", 0), ("sasrec", 6), ("gru4rec", 0), ("gru4rec", 6), ("bert4rec", 0), ("caser", 0), ("din", 0)],
)
def test_learns_the_order_that_popularity_cannot_see(name: str, negatives: int) -> None:
    others = walks(seed=1).pad(T)
    following = (others[:, -1] + 1) % N
    epochs = 2 * ENCODERS[name][1].epochs  # far enough that neither the seed nor the processor decides
    model = fitted(name, negatives=negatives, epochs=epochs)
    reached = recall(model.scores(others), following, 1)
    popular = (following == np.bincount(walks().items).argmax()).mean()
    assert reached > (0.6 if name == "din" else 0.8) > 0.3 > popular  # DIN reads a bag: it infers the order
    assert model.log[-1]["loss"] < model.log[0]["loss"] and len(model.log) == epochs and not model.training
    assert model.item_table().shape[0] == N


@each_encoder
def test_scores_depend_on_the_users_own_history_alone(name: str) -> None:
    model, rng = untrained(name), np.random.default_rng(0)
    histories = rng.integers(0, N, (6, T))
    histories[1, :5] = -1
    others = rng.integers(0, N, (6, T))
    others[:2] = histories[:2]
    scores = model.scores(histories)
    np.testing.assert_allclose(model.scores(others)[:2], scores[:2], atol=1e-6)
    np.testing.assert_allclose(model.scores(histories[1:2]), scores[1:2], atol=1e-6)
    np.testing.assert_allclose(model.scores(np.pad(histories, ((0, 0), (3, 0)), constant_values=5)), scores, atol=1e-6)
    assert not np.allclose(model.scores(others)[2:], scores[2:])


@each_encoder
def test_fill_is_never_read(name: str) -> None:
    """Neither what "no item" looks like nor how much fill there is changes a score."""
    model = untrained(name)
    histories = np.array([[-1] * 5 + [4, 5, 6], [-1] * 8])
    before = model.scores(histories)
    assert np.isfinite(before).all()
    np.testing.assert_allclose(model.scores(histories[:1, 3:]), before[:1], atol=1e-6)
    with torch.no_grad():
        model.items.weight[-1] += 5.0
    np.testing.assert_allclose(model.scores(histories)[:1], before[:1], atol=1e-6)


@each_encoder
def test_the_same_seed_the_same_bits(name: str) -> None:
    histories = walks().pad(T)
    scores = []
    for state in (0, 1):
        torch.manual_seed(state)
        scores.append(fitted(name, seed=4, epochs=2, negatives=5).scores(histories))
        assert torch.initial_seed() == state, "torch's own generator is left alone"
    np.testing.assert_array_equal(*scores)
    assert np.abs(fitted(name, seed=5, epochs=2, negatives=5).scores(histories) - scores[0]).max() > 0.01


@each_encoder
def test_early_stopping_keeps_the_best_epoch(name: str) -> None:
    histories = walks().pad(T)
    impossible = np.random.default_rng(1).integers(0, N, len(histories))
    model = fitted(name, validation=(histories, impossible), epochs=40, patience=2, learning_rate=3e-3)
    reached = [row["R@10"] for row in model.log]
    assert len(reached) < 40 and int(np.argmax(reached)) == len(reached) - 3
    assert recall(model.scores(histories), impossible, 10) == max(reached)


@each_encoder
def test_validation_in_batches_is_the_same_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, histories = untrained(name), walks().pad(T)
    targets = np.random.default_rng(0).integers(0, N, len(histories))
    whole = recall(model.scores(histories), targets, 3)
    assert model.recall(histories, targets, 3) == whole
    monkeypatch.setattr("recnb.recommenders.next_item._CELLS", 7 * N)
    assert model.recall(histories, targets, 3) == whole


def test_validation_counts_ties_against_us() -> None:
    model = untrained("sasrec")
    with torch.no_grad():
        model.items.weight[:] = 1.0
    assert model.recall(np.zeros((4, T), np.int64), np.arange(4), N - 1) == 0.0
    assert model.recall(np.zeros((4, T), np.int64), np.arange(4), N) == 1.0


# --- each its own ----------------------------------------------------------------------------------------------------


def test_gru_never_looks_ahead_and_starts_at_the_first_item() -> None:
    model = untrained("gru4rec")
    window = torch.tensor([[-1, -1, 1, 2, 3, 4, 5, 6]])
    changed = window.clone()
    changed[0, 6:] = 0
    torch.testing.assert_close(model(window)[:, 2:6], model(changed)[:, 2:6])
    assert (model(window)[:, 6:] - model(changed)[:, 6:]).abs().max() > 1e-3
    torch.testing.assert_close(model(window)[:, 2:], model(window[:, 2:]))


def test_bert_sees_both_sides_but_not_what_is_hidden() -> None:
    model, window = untrained("bert4rec"), torch.tensor([[1, 2, 3, 4, 5]])
    gap = torch.tensor([[False, False, True, False, False]])

    def state(item: int, place: int) -> torch.Tensor:
        changed = window.clone()
        changed[0, place] = item
        return model(changed, gap)[0, 2]

    torch.testing.assert_close(state(9, 2), state(3, 2))
    assert all((state(9, place) - state(3, 2)).abs().max() > 1e-3 for place in (0, 1, 3, 4))


def test_gaps_are_as_many_as_asked_at_least_one_and_never_fill() -> None:
    torch.manual_seed(0)
    model = BERT4Rec(N, Bert4recConfig(width=8, blocks=1, mask_share=0.25, last_share=0.0), T)
    windows = torch.randint(0, N, (4000, T + 1))
    windows[2000:, :6] = -1
    hidden = model.draw_gaps(windows)
    assert not hidden[windows < 0].any() and hidden.any(1).all()
    expected = [0.25 + 0.75 ** (T + 1) / (T + 1), 0.25 + 0.75**3 / 3]  # one where chance gives none
    shares = [float(hidden[:2000].float().mean()), float(hidden[2000:, 6:].float().mean())]
    assert shares == pytest.approx(expected, abs=0.015)
    model.last_share = 1.0
    hidden = model.draw_gaps(windows)
    assert hidden[:, -1].all() and int(hidden.sum()) == len(windows)


def test_bert_learns_what_was_hidden_and_its_scores_have_a_bias() -> None:
    torch.manual_seed(0)
    model = untrained("bert4rec")
    windows = torch.randint(0, N, (5, T + 1))
    torch.manual_seed(1)
    losses = _target_losses(model, windows, 0, None)
    torch.manual_seed(1)
    hidden = model.draw_gaps(windows)
    logits = model(windows, hidden)[hidden] @ model.items.weight[:N].T + model.bias
    torch.testing.assert_close(losses, torch.nn.functional.cross_entropy(logits, windows[hidden], reduction="none"))
    histories = np.zeros((1, T), np.int64)
    before = model.scores(histories)
    with torch.no_grad():
        model.bias[3] += 2.0
    np.testing.assert_allclose(model.scores(histories) - before, 2.0 * (np.arange(N) == 3)[None], atol=1e-5)


# --- SASRec's temperature --------------------------------------------------------------------------------------------


def test_with_a_temperature_scores_are_cosines_over_it() -> None:
    torch.manual_seed(0)
    model = SASRec(N, SasrecConfig(width=16, blocks=1, temperature=0.1), T).eval()
    histories = walks().pad(T)
    with torch.no_grad():
        states, table = model(torch.from_numpy(histories.astype(np.int64)))[:, -1].numpy(), model.items.weight[:N].numpy()
    cosines = (states @ table.T) / np.linalg.norm(states, axis=1)[:, None] / np.linalg.norm(table, axis=1)
    np.testing.assert_allclose(model.scores(histories), cosines / 0.1, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(model.item_table(), axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("negatives", [0, 6])
def test_training_and_scoring_share_the_temperature(negatives: int) -> None:
    model = fitted("sasrec", temperature=0.1, negatives=negatives)
    others = walks(seed=1).pad(T)
    assert recall(model.scores(others), (others[:, -1] + 1) % N, 1) > 0.9
    assert np.abs(model.scores(others)).max() <= 10.001


def test_caser_is_its_filters_at_every_place() -> None:
    """The slow twin: each position's picture apart, each filter height in a loop, fill as zeros."""
    model = untrained("caser")
    window = [-1, -1, 1, 2, 3, 4, 5, 6]
    with torch.no_grad():
        states = model(torch.tensor([window]))[0]
        for place in range(T):
            latest = ([-1] * 3 + window[: place + 1])[-3:]
            picture = torch.stack([model.items.weight[item] if item >= 0 else torch.zeros(16) for item in latest])
            found = []
            for height, conv in enumerate(model.across, start=1):
                kernel = conv.weight.permute(0, 2, 1)  # (filters, height, d)
                sums = [(kernel * picture[top : top + height]).sum((1, 2)) for top in range(3 - height + 1)]
                found.append((torch.stack(sums) + conv.bias).relu().max(0).values)
            found.append((picture.T @ model.down.weight.T).relu().flatten())
            torch.testing.assert_close(states[place], model.join(torch.cat(found)), atol=1e-6, rtol=1e-5)


def test_din_weighs_each_item_of_the_history_for_each_candidate() -> None:
    """The slow twin: one pair at a time."""
    model = untrained("din")
    history, table = [1, 2, 3, 3, 6], model.items.weight.detach()[:N]
    torch.nn.init.normal_(model.key.weight)
    torch.nn.init.normal_(model.query.weight)
    with torch.no_grad():
        scores = model.scores(np.array([[-1] * 3 + history]))[0]
        for item in range(N):
            query = model.query(table[item]).softmax(0)
            weights = [float(model.key(table[known]).softmax(0) @ query) for known in history]
            parts = [w * float(model.value(table[h]) @ table[item]) for w, h in zip(weights, history, strict=True)]
            assert scores[item] == pytest.approx(sum(parts), abs=1e-5)
    assert np.ptp(weights) > 0.01, "items of the history weigh differently"
    assert model.item_table().shape == (N, 16)
