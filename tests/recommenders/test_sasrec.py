import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from recnb.data.schema import Sequences
from recnb.recommenders.bert4rec import BERT4Rec
from recnb.recommenders.losses import NegativeSampler, sampled_softmax
from recnb.recommenders.next_item import _target_losses, train_sequential, windows_of
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.settings import Bert4recConfig, SasrecConfig


def cycles(users=60, n_items=12, length=14, seed=0):
    """Everyone walks the same circle of items, from different starts: the next item is certain."""
    starts = np.random.default_rng(seed).integers(0, n_items, users)
    items = (starts[:, None] + np.arange(length)) % n_items
    return Sequences(np.arange(0, users * length + 1, length), items.ravel().astype(np.int32))


ONE = SasrecConfig(width=16, blocks=1, dropout=0.0)
TWO = SasrecConfig(width=16, blocks=2, heads=2, dropout=0.0)


def config(**changes):
    return SasrecConfig(**{"width": 16, "blocks": 1, "epochs": 8, "batch_size": 16, "learning_rate": 1e-2, **changes})


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 17), min_size=1, max_size=6), length=st.integers(1, 6), data=st.data())
def test_windows_hold_every_transition_exactly_once(lengths, length, data):
    shift = data.draw(st.integers(0, length - 1))
    items = np.arange(sum(lengths), dtype=np.int32)  # all different, so that a transition names its place
    train = Sequences(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items)
    windows = windows_of(train, length, shift)
    assert windows.shape[1] == length + 1
    found = [(a, b) for row in windows.tolist() for a, b in zip(row[:-1], row[1:], strict=True) if a >= 0]
    expected = [(int(a), int(a) + 1) for s, e in zip(train.offsets[:-1], train.offsets[1:], strict=True)
                for a in range(s, e - 1)]  # fmt: skip
    assert sorted(found) == expected
    assert all(-1 not in row[np.argmax(row >= 0) :] for row in windows), "the fill stands on the left"
    assert all((row >= 0).sum() >= 2 for row in windows)


def test_a_later_item_is_never_looked_at():
    torch.manual_seed(0)
    model = SASRec(9, TWO, 6).eval()
    window = torch.tensor([[1, 2, 3, 4, 5, 6]])
    changed = window.clone()
    changed[0, 4:] = 0
    torch.testing.assert_close(model(window)[:, :4], model(changed)[:, :4], atol=1e-6, rtol=0)
    assert (model(window)[:, 4:] - model(changed)[:, 4:]).abs().max() > 1e-3


def test_training_and_evaluation_compute_the_same_without_dropout():
    """torch has a separate inference path for Transformer layers; it must see the same mask."""
    torch.manual_seed(0)
    model = SASRec(9, TWO, 6)
    window = torch.tensor([[-1, -1, -1, 4, 5, 6], [1, 2, 3, 4, 5, 6]])
    trained = model.train()(window)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(window)[0, 3:], trained[0, 3:], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.eval()(window)[1], trained[1], atol=1e-5, rtol=1e-4)


def test_scores_use_the_latest_items_and_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    model = SASRec(9, SasrecConfig(width=16, blocks=1, dropout=0.1), 4)
    histories = np.random.default_rng(0).integers(0, 9, (7, 10))
    whole = model.scores(histories)
    assert whole.shape == (7, 9)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(model.scores(histories, batch_size=2), whole, atol=1e-5)
    np.testing.assert_array_equal(model.scores(histories[:, -4:]), whole)
    assert model.training, "scoring leaves the mode as it was"
    assert model.scores(histories[:0]).shape == (0, 9)


class Drawn:
    """A sampler that draws what it is told."""

    def __init__(self, items):
        self.items = torch.tensor(items)

    def draw(self, count, device):
        return self.items, torch.zeros(len(self.items))


@pytest.mark.parametrize(("encoder", "settings"), [(SASRec, SasrecConfig), (BERT4Rec, Bert4recConfig)])
@pytest.mark.parametrize("sampler", [None, Drawn(list(range(9)))])
def test_repeats_are_candidates_of_every_target_once(encoder, settings, sampler):
    """Against the plain formula; where every item is drawn once with log q = 0, the sample is the whole catalogue."""
    torch.manual_seed(0)
    model = encoder(9, settings(width=16, blocks=1, heads=1, dropout=0.0, repeat_bias=True), 4).eval()
    with torch.no_grad():
        model.repeat += 1.5
    windows = torch.tensor([[-1, 3, 4, 3, 4], [1, 2, 1, 1, 8]])
    torch.manual_seed(1)
    states, targets, seen = model.lesson(windows)
    expected = []
    for state, target, row in zip(states, targets, seen.tolist(), strict=True):
        scores = (model.queries(state) @ model.item_vectors().T).clone()
        for item in set(row) - {-1}:
            scores[item] = scores[item] + model.repeat
        expected.append(-torch.log_softmax(scores, 0)[target])
    torch.manual_seed(1)
    torch.testing.assert_close(_target_losses(model, windows, 9, sampler), torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_what_was_seen_before_a_target():
    model = SASRec(9, ONE, 4).eval()
    _, targets, seen = model.lesson(torch.tensor([[-1, -1, 3, 4, 5]]))
    assert targets.tolist() == [4, 5] and seen.tolist() == [[-1, -1, 3, -1], [-1, -1, 3, 4]]


def test_repeats_shift_the_scores_of_the_window_alone():
    torch.manual_seed(0)
    model = SASRec(9, ONE, 4).eval()
    histories = np.array([[5, 1, 2, 2, 4], [-1, -1, -1, -1, 3]])
    before = model.scores(histories)
    torch.manual_seed(0)
    model = SASRec(9, ONE.model_copy(update={"repeat_bias": True}), 4).eval()
    np.testing.assert_array_equal(model.scores(histories), before)  # a repetition is worth nothing at first
    with torch.no_grad():
        model.repeat -= 2.0
    shift = np.zeros((2, 9))
    shift[0, [1, 2, 4]] = shift[1, 3] = -2.0  # item 5 is outside the model's window
    np.testing.assert_allclose(model.scores(histories) - before, shift, atol=1e-5)


@pytest.mark.parametrize("negatives", [0, 6])
def test_how_likely_a_repetition_is_gets_learned(negatives):
    never = train_sequential(cycles(), 12, config(negatives=negatives, repeat_bias=True), 8, seed=0, encoder=SASRec)
    items = np.repeat(np.arange(12, dtype=np.int32), 9)  # everyone takes one thing again and again
    again = Sequences(np.arange(0, 109, 9), items)
    always = train_sequential(again, 12, config(negatives=negatives, repeat_bias=True), 8, seed=0, encoder=SASRec)
    assert never.repeat.item() < -0.1 and always.repeat.item() > 0.05


def test_every_real_position_is_a_target():
    torch.manual_seed(0)
    model = SASRec(9, ONE, 4).eval()
    windows = torch.tensor([[-1, -1, 3, 4, 5], [1, 2, 3, 4, 5]])
    losses = _target_losses(model, windows, 0, None)
    expected = []
    for row in windows.tolist():
        for place in range(4):
            if row[place] >= 0:
                logits = model(torch.tensor([row[:4]]))[0, place] @ model.item_vectors().T
                expected.append(-torch.log_softmax(logits, 0)[row[place + 1]])
    torch.testing.assert_close(losses, torch.stack(expected), atol=1e-5, rtol=1e-4)


# --- sampled softmax -------------------------------------------------------------------------------------------------


def naive_sampled_softmax(positive, negative, drawn, targets, q):
    """The formula of the docstring, one number at a time."""
    losses = []
    for row in range(len(positive)):
        total = np.exp(positive[row])
        for column, item in enumerate(drawn):
            if item != targets[row]:
                total += np.exp(negative[row, column]) / (len(drawn) * q[item])
        losses.append(np.log(total) - positive[row])
    return losses


def test_log_q_correction_against_a_naive_implementation():
    rng = np.random.default_rng(0)
    sampler = NegativeSampler(rng.integers(0, 10, 100), 12, rng)
    drawn, log_expected = sampler.draw(25)
    targets = rng.integers(0, 12, 8)
    positive, negative = rng.normal(size=8), rng.normal(size=(8, 25))
    got = sampled_softmax(
        torch.tensor(positive), torch.tensor(negative), log_expected, torch.tensor(targets)[:, None] == drawn
    )
    np.testing.assert_allclose(
        got, naive_sampled_softmax(positive, negative, drawn.tolist(), targets, sampler.q), rtol=1e-6
    )


def test_corrected_denominator_is_unbiased():
    """Averaged over many samples, the denominator is the full softmax's, though popular items are drawn more often."""
    rng = np.random.default_rng(1)
    sampler = NegativeSampler(np.repeat(np.arange(8), np.arange(8) ** 2), 8, rng)
    scores = torch.tensor(rng.normal(size=8), dtype=torch.float32)
    target = torch.tensor([3])
    total = []
    for _ in range(4000):
        drawn, log_expected = sampler.draw(5)
        loss = sampled_softmax(scores[target], scores[drawn][None], log_expected, target[:, None] == drawn)
        total.append(float((loss + scores[target]).exp()))
    assert np.mean(total) == pytest.approx(float(scores.exp().sum()), rel=0.02)


def test_a_sample_of_nothing_but_the_target_costs_nothing():
    hits = torch.ones(1, 4, dtype=torch.bool)
    loss = sampled_softmax(torch.tensor([0.3]), torch.zeros(1, 4), torch.zeros(4), hits)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_sampler_draws_as_often_as_it_says():
    sampler = NegativeSampler(np.repeat([0, 1, 2], [60, 30, 10]), 5, np.random.default_rng(2))
    np.testing.assert_allclose(sampler.q, 0.5 * np.array([0.6, 0.3, 0.1, 0, 0]) + 0.1)
    drawn, log_expected = sampler.draw(200_000)
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 200_000, sampler.q, atol=0.005)
    np.testing.assert_allclose(log_expected.exp(), 200_000 * sampler.q[drawn], rtol=1e-5)
