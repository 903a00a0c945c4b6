import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from matplotlib import pyplot as plt

from recnb.data.schema import Sequences
from recnb.data.settings import DataConfig, ToyConfig
from recnb.data.sources import load_dataset
from recnb.data.split import replace_heldout, training_sequences
from recnb.embeddings import figures
from recnb.embeddings.agreement import agreement, cosine_neighbours, label_agreement, linear_cka, shared_neighbours
from recnb.embeddings.behaviour import (
    ActivationUnit,
    DeepInterestNetwork,
    behaviours_before,
    cooccurrence,
    embed_behaviour,
    positive_pmi,
    svd_embedding,
    train_din,
)
from recnb.embeddings.settings import BehaviourConfig
from recnb.errors import DataError

ENCODERS = ["din", "svd", "sasrec"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    config = DataConfig(source="toy", toy=ToyConfig(users=150, items=40, groups=4, noise=0.05))
    return load_dataset(config, tmp_path_factory.mktemp("toy"), 3)


def small(encoder="din", **changes):
    return BehaviourConfig(
        **{"encoder": encoder, "width": 16, "window": 6, "epochs": 2, "batch_size": 128, "negatives": 20, **changes}
    )


def random_sequences(rng, users=30, n_items=15):
    lengths = rng.integers(1, 12, users)
    return Sequences(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        rng.integers(0, n_items, lengths.sum()).astype(np.int32),
    )


@pytest.mark.parametrize("encoder", ENCODERS)
def test_only_training_interactions_enter(toy, encoder):
    poisoned = replace_heldout(toy, np.random.default_rng(0))
    assert (poisoned.sequence != toy.sequence).any()
    tables = [embed_behaviour(training_sequences(d), d.n_items, small(encoder), seed=1)[0] for d in (toy, poisoned)]
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_same_seed_same_bits_whatever_the_global_generators_say(toy, encoder):
    train = training_sequences(toy)
    tables = []
    for state in (0, 1):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002 - the global generator must not matter
        tables.append(embed_behaviour(train, toy.n_items, small(encoder), seed=5)[0])
    assert torch.initial_seed() == 1, "torch's own generator is left as it was"
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize("encoder", ["din", "sasrec"])
def test_another_seed_gives_another_table(toy, encoder):
    train = training_sequences(toy)
    a, b = (embed_behaviour(train, toy.n_items, small(encoder), seed=seed)[0] for seed in (1, 2))
    assert np.abs(a - b).max() > 0.01


@pytest.mark.parametrize(("encoder", "epochs"), [("din", 15), ("svd", 1), ("sasrec", 15)])
def test_neighbours_find_the_hidden_groups(toy, encoder, epochs):
    """Users of the toy stay in one group, so items of a group must come out alike."""
    config = small(encoder, epochs=epochs, learning_rate=1e-2, width=8)
    table, log = embed_behaviour(training_sequences(toy), toy.n_items, config, seed=1)
    assert table.shape == (40, 8)
    assert table.dtype == np.float32
    assert [row["epoch"] for row in log] == ([] if encoder == "svd" else list(range(1, epochs + 1)))
    groups = [{brand} for brand in toy.items["brand"]]  # a brand is a group
    found = label_agreement(cosine_neighbours(table, 5), groups).mean()
    rng = np.random.default_rng(0)
    chance = label_agreement(cosine_neighbours(rng.normal(size=table.shape), 5), groups).mean()
    assert found > chance + 0.3


@pytest.mark.parametrize("encoder", ENCODERS)
def test_item_never_met_in_training_gets_the_mean_of_the_others(encoder):
    train = random_sequences(np.random.default_rng(0))
    table, _ = embed_behaviour(train, 17, small(encoder), seed=1)
    np.testing.assert_allclose(table[15:], np.broadcast_to(table[:15].mean(0), (2, 16)), atol=1e-6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_nothing_to_learn_from_is_an_error(encoder):
    single = Sequences(np.arange(4, dtype=np.int64), np.array([0, 1, 2], np.int32))
    with pytest.raises(DataError, match="no user has two training interactions"):
        embed_behaviour(single, 3, small(encoder), seed=1)


# --- DIN -------------------------------------------------------------------------------------------------------------


def concatenated_unit(unit, behaviour, target):
    """The activation unit as the paper draws it: one MLP over [b; t; b * t]."""
    weight = torch.cat([unit.behaviour.weight, unit.target.weight, unit.product.weight], dim=1)
    joined = torch.cat([behaviour, target, behaviour * target], dim=-1)
    hidden = torch.nn.functional.leaky_relu(joined @ weight.T + unit.target.bias, 0.1)
    return (hidden @ unit.output.weight.T + unit.output.bias).squeeze(-1)


def test_factored_activation_unit_equals_the_mlp_over_the_concatenation():
    torch.manual_seed(0)
    unit = ActivationUnit(12, 7)
    behaviours, targets = torch.randn(9, 12), torch.randn(5, 12)
    every = behaviours[:, None].expand(9, 5, 12), targets[None].expand(9, 5, 12)
    expected = concatenated_unit(unit, *every)
    torch.testing.assert_close(unit.grid(behaviours, targets), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(unit(*every), expected, atol=1e-6, rtol=1e-5)


def slow_din_score(model, window, target):
    """One user, one target, one behaviour at a time."""
    interest = torch.zeros(model.items.weight.shape[1])
    for place, item in enumerate(window):
        if item >= 0:
            behaviour = model.items.weight[item]
            weight = concatenated_unit(model.unit, behaviour, model.items.weight[target])
            interest = interest + model.recency[place] * weight * behaviour
    return interest @ model.items.weight[target] + model.bias[target]


def test_shared_and_single_scores_equal_the_slow_din():
    torch.manual_seed(1)
    model = DeepInterestNetwork(11, 6, 4)
    torch.nn.init.normal_(model.bias)
    torch.nn.init.normal_(model.recency)
    windows = torch.tensor([[-1, -1, -1, 3], [0, 3, 3, 10], [-1, 0, 1, 2], [-1, -1, -1, -1]])
    expected = torch.stack(
        [torch.stack([slow_din_score(model, row, t) for t in range(11)]) for row in windows.tolist()]
    )
    torch.testing.assert_close(model.shared(windows, torch.arange(11)), expected, atol=1e-5, rtol=1e-4)
    targets = torch.tensor([4, 4, 0, 9])
    torch.testing.assert_close(model(windows, targets), expected[torch.arange(4), targets], atol=1e-5, rtol=1e-4)


def test_din_training_lowers_the_loss(toy):
    log = train_din(training_sequences(toy), toy.n_items, small(epochs=6, learning_rate=1e-2), seed=0).log
    assert log[-1]["loss"] < log[0]["loss"] - 0.3


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 7))
def test_behaviours_before_against_slices(seed, count):
    rng = np.random.default_rng(seed)
    train = random_sequences(rng)
    events = rng.integers(0, len(train.items), 20)
    got = behaviours_before(train, events, count)
    for event, row in zip(events, got, strict=True):
        start = max(o for o in train.offsets if o <= event)
        expected = train.items[start:event][-count:].tolist()
        assert row.tolist() == [-1] * (count - len(expected)) + expected


# --- SVD -------------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), window=st.integers(2, 6))
def test_cooccurrence_against_counting_pairs(seed, window):
    train = random_sequences(np.random.default_rng(seed))
    expected = np.zeros((15, 15))
    for start, end in zip(train.offsets[:-1], train.offsets[1:], strict=True):
        own = train.items[start:end]
        for i in range(len(own)):
            for j in range(i + 1, min(i + window, len(own))):
                if own[i] != own[j]:
                    expected[own[i], own[j]] += 1
                    expected[own[j], own[i]] += 1
    np.testing.assert_array_equal(cooccurrence(train, 15, window).toarray(), expected)


def test_positive_pmi_against_its_definition():
    counts = cooccurrence(random_sequences(np.random.default_rng(4)), 15, 3)
    dense = counts.toarray()
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(dense * dense.sum() / np.outer(dense.sum(1), dense.sum(0)))
    np.testing.assert_allclose(positive_pmi(counts).toarray(), np.nan_to_num(np.maximum(pmi, 0)), atol=1e-12)


def test_svd_embedding_against_a_dense_svd():
    train = random_sequences(np.random.default_rng(2))
    matrix = positive_pmi(cooccurrence(train, 15, 4)).toarray()
    left, strength, _ = np.linalg.svd(matrix)
    expected = (left * np.sqrt(strength))[:, :5]
    got = svd_embedding(train, 15, 5, 4, seed=0)
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-4)
    assert (got[np.abs(got).argmax(0), np.arange(5)] > 0).all()


def test_svd_wider_than_the_catalogue_is_filled_with_zeros():
    table = svd_embedding(random_sequences(np.random.default_rng(2)), 15, 20, 4, seed=0)
    assert table.shape == (15, 20)
    assert not table[:, 14:].any()


# --- agreement -------------------------------------------------------------------------------------------------------


def test_cosine_neighbours_against_sklearn():
    from sklearn.neighbors import NearestNeighbors

    vectors = np.random.default_rng(0).normal(size=(60, 5))
    expected = NearestNeighbors(metric="cosine").fit(vectors).kneighbors(n_neighbors=7, return_distance=False)
    np.testing.assert_array_equal(cosine_neighbours(vectors, 7), expected)


def test_chunks_of_rows_change_nothing(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(60, 5))
    whole = cosine_neighbours(vectors, 7)
    monkeypatch.setattr("recnb.embeddings.agreement._ROWS", 7)
    np.testing.assert_array_equal(cosine_neighbours(vectors, 7), whole)


def test_neighbours_need_a_sensible_k():
    with pytest.raises(ValueError, match="expected 1 to N - 1 = 3"):
        cosine_neighbours(np.eye(4), 4)


def test_shared_neighbours_against_sets():
    rng = np.random.default_rng(3)
    a, b = (np.stack([rng.permutation(20)[:6] for _ in range(25)]) for _ in range(2))
    assert shared_neighbours(a, b).tolist() == [len(set(x) & set(y)) for x, y in zip(a, b, strict=True)]


def test_agreement_of_an_embedding_with_itself_rotated_is_full():
    rng = np.random.default_rng(5)
    a = rng.normal(size=(80, 6))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    found = agreement(a, 3 * a @ rotation)
    assert found.overlap == pytest.approx(1)
    assert found.cka == pytest.approx(1)
    assert found.cka_chance < 0.5
    assert found.as_dict()["items"] == 80


def test_agreement_of_unrelated_embeddings_is_chance():
    rng = np.random.default_rng(6)
    found = agreement(rng.normal(size=(600, 20)), rng.normal(size=(600, 30)))
    assert found.overlap == pytest.approx(found.overlap_chance, abs=0.006)
    assert found.cka == pytest.approx(found.cka_chance, abs=0.01)


def test_linear_cka_against_its_kernel_form():
    """HSIC of the two Gram matrices, normalised: the definition before the shortcut for linear kernels."""
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(40, 4)), rng.normal(size=(40, 9))
    b[:, :4] += a
    centre = np.eye(40) - 1 / 40
    k, m = centre @ a @ a.T @ centre, centre @ b @ b.T @ centre
    expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert linear_cka(a, b) == pytest.approx(expected)
    assert linear_cka(a, np.ones((40, 2))) == 0.0


def test_label_agreement_against_sets():
    labels = [{"a"}, {"a", "b"}, set(), {"b", "c"}]
    neighbours = np.array([[1, 2], [0, 3], [0, 1], [2, 1]])
    expected = [(1 / 2 + 0) / 2, (1 / 2 + 1 / 3) / 2, 0, (0 + 1 / 3) / 2]
    np.testing.assert_allclose(label_agreement(neighbours, labels), expected, rtol=1e-6)
    assert label_agreement(neighbours, [set()] * 4).tolist() == [0, 0, 0, 0]


# --- figures -----------------------------------------------------------------------------------------------------------


def test_din_is_drawn_with_its_weights_and_the_softmax_of_its_logits():
    weights, logits = np.array([0.5, -0.25]), np.array([1.0, 0.0, 2.0])
    diagram, bars = figures.din_diagram(weights, logits).axes
    said = " ".join(text.get_text() for text in diagram.texts)
    assert "0.50" in said and "-0.25" in said and "= 1.00" in said
    widths = [a.arrow_patch.get_linewidth() for a in diagram.texts if getattr(a, "arrow_patch", None)]
    assert max(widths) == 5 and 3 in widths, "the strongest behaviour has the widest arrow, half of it in proportion"
    assert np.allclose([bar.get_width() for bar in bars.patches], torch.tensor(logits).softmax(0))
    assert [label.get_text() for label in bars.get_yticklabels()] == ["target", "negative 1", "negative 2"]
    plt.close("all")


def test_an_item_keeps_its_colour_in_every_cloud():
    cloud = np.random.default_rng(0).normal(size=(5, 2))
    panels = figures.clouds_figure({"A": cloud, "B": cloud[::-1]}).axes
    assert [panel.get_title() for panel in panels] == ["A", "B"]
    for panel, points in zip(panels, (cloud, cloud[::-1]), strict=True):
        assert np.allclose(panel.collections[0].get_offsets(), points)
        assert np.allclose(panel.collections[0].get_array(), cloud[:, 0])
    plt.close("all")
