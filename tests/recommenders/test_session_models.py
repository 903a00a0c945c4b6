"""What every session model owes, and each against a slow twin: loops over sessions, clicks and nodes, in double precision."""

from __future__ import annotations

import doctest
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from recnb.data.schema import Sequences
from recnb.data.sessions import Samples, every_prefix
from recnb.errors import ArtifactError
from recnb.evaluation.metrics import rank_bounds
from recnb.recommenders import session_graph as graphs, session_model, tagnn
from recnb.recommenders.counting import Popularity
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.gru4rec import GRU4Rec
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.session_model import SessionModel, SoftAttention, like_lengths, train_session_model
from recnb.recommenders.session_models import (
    SAVED,
    SESSION_MODELS,
    config_of,
    load_session_model,
    save_session_model,
)
from recnb.recommenders.settings import BaselinesConfig, SrgnnConfig
from recnb.recommenders.srgnn import SRGNN, GraphLayer
from recnb.speed.sessions import written_out_scores

N, T = 12, 8
SMALL = {"width": 16, "batch_size": 64, "learning_rate": 1e-2, "dropout": 0.1, "patience": 4}
each_model = pytest.mark.parametrize("name", SESSION_MODELS)
Weights = dict[str, np.ndarray]


def walks(users: int = 60, length: int = 10, seed: int = 0) -> Sequences:
    """Everyone walks the same circle of items, one step in ten at random: order says what comes next."""
    rng = np.random.default_rng(seed)
    steps = np.where(rng.random((users, length)) < 0.1, rng.integers(0, N, (users, length)), 1)
    items = (rng.integers(0, N, (users, 1)) + np.cumsum(steps, axis=1)) % N
    return Sequences(np.arange(0, users * length + 1, length), items.ravel().astype(np.int32))


def some_sessions(count: int = 40, seed: int = 0) -> list[list[int]]:
    """Sessions of 1 to T clicks on few items, so that repeats are many; the first ones by hand."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, 5 + number % (N - 4), rng.integers(1, T + 1)).tolist() for number in range(count)]
    return [[3], [4, 4], [1, 2, 1], [1, 2, 1, 2, 1, 2], [5, 0, 5, 5, 7], list(range(T)), *drawn]


def padded(sessions: list[list[int]], length: int = T) -> np.ndarray:
    return np.array([[-1] * (length - len(session)) + session for session in sessions])


def untrained(name: str, seed: int = 0, **changes) -> SessionModel:
    torch.manual_seed(seed)
    model = SESSION_MODELS[name](N, config_of(name)(**SMALL | changes), T)
    model.learn_structure(every_prefix(walks()))
    return model.eval()


def fitted(name: str, seed: int = 0, samples: Samples | None = None, **changes) -> SessionModel:
    config = config_of(name)(**SMALL | {"epochs": 2} | changes)
    known = every_prefix(walks()) if samples is None else samples
    return train_session_model(known, N, config, T, seed=seed, model=SESSION_MODELS[name])


def numbers(model: torch.nn.Module) -> Weights:
    return {name: part.detach().double().numpy() for name, part in model.named_parameters()}


def test_docstrings_tell_the_truth() -> None:
    assert not doctest.testmod(graphs).failed


# --- the contract -----------------------------------------------------------------------------------------------------


@each_model
def test_shapes(name: str) -> None:
    model, windows = untrained(name), torch.from_numpy(padded(some_sessions()))
    found = model.encode(windows, model.table())
    B, d = len(windows), SMALL["width"]
    assert found.long.shape == found.short.shape == model.read(windows).shape == (B, d)
    assert model.item_table().shape == (N, d)
    scores = model.scores(windows.numpy())
    assert scores.shape == (B, N) and scores.dtype == np.float32 and np.isfinite(scores).all()
    assert np.abs(model(windows).detach().numpy() - scores).max() < 1e-5
    assert model.scores(np.zeros((0, T), int)).shape == (0, N)


@each_model
def test_fill_on_the_left_changes_nothing(name: str) -> None:
    model, sessions = untrained(name), [[1, 2, 1], [0, 5, 7], [4, 4, 4], [9, 8, 3]]
    bare = model(torch.tensor(sessions)).detach().numpy()
    for length in range(4, T + 1):
        assert np.abs(model(torch.from_numpy(padded(sessions, length))).detach().numpy() - bare).max() < 1e-5
    assert np.abs(model.scores(padded(sessions, T + 5)) - bare).max() < 1e-5


@each_model
def test_only_the_latest_items_count(name: str) -> None:
    model, sessions = untrained(name), padded(some_sessions())
    before = np.random.default_rng(0).integers(0, N, (len(sessions), 3))
    full = sessions[(sessions >= 0).all(1)]
    assert len(full) > 3
    assert np.array_equal(model.scores(np.hstack([before[: len(full)], full])), model.scores(full))


@each_model
def test_a_session_is_scored_alike_in_every_batch(name: str) -> None:
    model, sessions = untrained(name), padded(some_sessions())
    together, order = model.scores(sessions), np.random.default_rng(1).permutation(len(sessions))
    assert np.abs(model.scores(sessions[order]) - together[order]).max() < 1e-5
    alone = np.concatenate([model.scores(sessions[row : row + 1]) for row in range(len(sessions))])
    assert np.abs(alone - together).max() < 1e-5
    assert np.abs(model.scores(sessions, batch_size=7) - together).max() < 1e-5


@each_model
def test_scoring_leaves_the_model_in_the_mode_it_was_in(name: str) -> None:
    model = untrained(name).train()
    assert np.array_equal(*(model.scores(padded([[1, 2, 3]])) for _ in range(2))), "no dropout"
    assert model.training


@each_model
def test_a_session_without_any_click_has_scores(name: str) -> None:
    model = untrained(name)
    assert np.isfinite(model.scores(padded([[], [1, 2]]))).all() and np.isfinite(model.scores(padded([[]]))).all()


@each_model
def test_sessions_of_one_item_are_told_apart(name: str) -> None:
    scores = untrained(name).scores(padded([[item] for item in range(N)]))
    assert len(np.unique(scores.round(6), axis=0)) == N


@each_model
def test_gradient_reaches_every_parameter(name: str) -> None:
    model = untrained(name, repeat_bias=True)
    windows = torch.from_numpy(padded(some_sessions()))
    encoded = model.encode(windows, model.table())
    loss = torch.nn.functional.cross_entropy(model.score(windows, encoded), windows[:, -1])
    extra = model.extra_loss(encoded, windows)
    (loss if extra is None else loss + extra).backward()
    still = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.abs().max() > 0]
    assert not still


@each_model
def test_save_and_load(name: str, tmp_path: Path) -> None:
    model, sessions = fitted(name), padded(some_sessions())
    save_session_model(model, tmp_path / "one")
    loaded = load_session_model(tmp_path / "one")
    assert type(loaded) is type(model) and loaded.log == model.log and not loaded.training
    assert np.array_equal(loaded.scores(sessions), model.scores(sessions))
    save_session_model(loaded, tmp_path / "two")
    assert {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()
    }


@pytest.mark.parametrize("name", sorted({*SAVED} - {*SESSION_MODELS}))
def test_plain_encoders_are_saved_and_loaded_too(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SAVED[name](N, config_of(name)(width=16), T).eval()
    model.log.append({"epoch": 1.0, "loss": 2.0, "R@10": 0.5})
    save_session_model(model, tmp_path / "model")
    loaded, sessions = load_session_model(tmp_path / "model"), padded(some_sessions())
    assert type(loaded) is type(model) and loaded.log == model.log
    assert np.array_equal(loaded.scores(sessions), model.scores(sessions))


@each_model
def test_a_seed_decides_everything(name: str) -> None:
    sessions, state = padded(some_sessions()), torch.get_rng_state()
    one, again, other = (fitted(name, seed).scores(sessions) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@each_model
def test_early_stopping_keeps_the_best_epoch_and_beats_popularity(name: str) -> None:
    train, valid, test = walks(), every_prefix(walks(20, seed=1)), every_prefix(walks(20, seed=2))
    config = config_of(name)(**SMALL | {"epochs": 25})
    known = (valid.inputs(T), valid.targets)
    model = train_session_model(every_prefix(train), N, config, T, seed=0, model=SESSION_MODELS[name], validation=known)
    assert model.recall(*known, 10) == max(row["R@10"] for row in model.log)
    popular = Popularity(np.bincount(train.items, minlength=N))
    ranks = (rank_bounds(system.scores(test.inputs(T)), test.targets)[1] for system in (model, popular))
    ours, theirs = ((rank < 1).mean() for rank in ranks)
    assert ours > 3 * theirs


# --- the trainer ------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 900), size=st.integers(1, 50), seed=st.integers(0, 99))
def test_an_epoch_is_every_sample_once_in_as_few_batches_as_can_be(count: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = list(like_lengths(rng.integers(1, 30, count), size, rng))
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert len(batches) == -(-count // size)


def test_batches_hold_sessions_of_like_length_in_an_order_that_is_drawn() -> None:
    lengths = np.random.default_rng(0).geometric(0.15, 6400)
    batches = list(like_lengths(lengths, 100, np.random.default_rng(1)))
    spread = [np.ptp(np.sort(lengths[batch])[5:-5]) for batch in batches]
    assert np.median(spread) <= 1
    longest = [lengths[batch].max() for batch in batches]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)
    again = list(like_lengths(lengths, 100, np.random.default_rng(2)))
    assert any(not np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_the_step_schedule_divides_the_rate_by_ten_after_every_three_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    epoch = session_model.EpochTraining._epoch

    def spied(self, *args):
        seen.append((type(self.optimizer), self.optimizer.param_groups[0]["lr"]))
        return epoch(self, *args)

    monkeypatch.setattr(session_model.EpochTraining, "_epoch", spied)
    fitted("srgnn", epochs=7, schedule="step", learning_rate=1e-3, batch_size=7)
    assert {kind for kind, _ in seen} == {torch.optim.Adam}
    assert np.allclose([rate for _, rate in seen], [1e-3] * 3 + [1e-4] * 3 + [1e-5])


def test_a_baseline_is_trained_on_the_samples_it_is_given_or_else_on_every_prefix() -> None:
    config = BaselinesConfig(srgnn=SrgnnConfig(**SMALL | {"epochs": 1}))
    train, valid = walks(), (padded(some_sessions()), np.zeros(len(some_sessions()), int))
    last = every_prefix(train).take(np.arange(8, 540, 9))
    same = {"seed": 0, "validation": valid}
    scores = []
    for samples in (None, every_prefix(train), last):
        model, choice = fit_baseline("srgnn", train, N, config, T, samples=samples, **same)
        assert choice == "epoch 1 of 1 run (at most 1)"
        scores.append(model.scores(valid[0]))
    assert np.array_equal(scores[0], scores[1]) and not np.array_equal(scores[0], scores[2])


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model": "srgn"}, "unknown model 'srgn'; nearest: 'srgnn'"), ({"settings": {"widht": 3}}, "widht"),
     ({"n_items": N + 1}, "size mismatch"), ({"length": "x"}, "no model as save_session_model writes it")],
)  # fmt: skip
def test_a_folder_that_is_no_model_says_what_is_wrong(tmp_path: Path, change: dict, said: str) -> None:
    save_session_model(untrained("sasrec-views"), tmp_path / "model")
    page = tmp_path / "model" / "model.json"
    page.write_text(json.dumps(json.loads(page.read_text()) | change))
    with pytest.raises(ArtifactError, match=f"{tmp_path}(.|\n)*{said}"):
        load_session_model(tmp_path / "model")


def test_missing_or_damaged_weights_are_told(tmp_path: Path) -> None:
    save_session_model(untrained("srgnn"), tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0rubbish!")
    for _ in range(2):
        with pytest.raises(ArtifactError, match="no model as save_session_model writes it"):
            load_session_model(tmp_path / "model")
        (tmp_path / "model" / "weights.safetensors").unlink(missing_ok=True)


# --- slow twins -------------------------------------------------------------------------------------------------------


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max())
    return shifted / shifted.sum()


def naive_graph(session: list[int]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Nodes in order, shares of edges in [v, u] and out [u, v]."""
    nodes = sorted(set(session))
    edges = np.zeros((len(nodes), len(nodes)))
    for one, following in zip(session[:-1], session[1:], strict=True):
        edges[nodes.index(one), nodes.index(following)] = 1
    inward, outward = np.zeros_like(edges), np.zeros_like(edges)
    for u in range(len(nodes)):
        for v in range(len(nodes)):
            if edges[u, v]:
                inward[v, u], outward[u, v] = 1 / edges[:, v].sum(), 1 / edges[u].sum()
    return nodes, inward, outward


def gru_step(x: np.ndarray, h: np.ndarray, weights: Weights, name: str, after: str = "") -> np.ndarray:
    """r = sigma(..), z = sigma(..), n = tanh(.. + r * (..)), h' = (1 - z) n + z h."""
    of = {part: weights[f"{name}.{part}{after}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    xs = np.split(of["weight_ih"] @ x + of["bias_ih"], 3)
    hs = np.split(of["weight_hh"] @ h + of["bias_hh"], 3)
    reset, update = sigmoid(xs[0] + hs[0]), sigmoid(xs[1] + hs[1])
    new = np.tanh(xs[2] + reset * hs[2])
    return (1 - update) * new + update * h


def naive_clicks(session: list[int], w: Weights) -> list[np.ndarray]:
    """Node vector of each click after one step of the graph network."""
    nodes, inward, outward = naive_graph(session)
    table, after = w["items.weight"], {}
    for v in range(len(nodes)):
        message = [np.zeros(table.shape[1]), np.zeros(table.shape[1])]
        for u in range(len(nodes)):
            message[0] += inward[v, u] * (w["layer.inward.weight"] @ table[nodes[u]] + w["layer.inward.bias"])
            message[1] += outward[v, u] * (w["layer.outward.weight"] @ table[nodes[u]] + w["layer.outward.bias"])
        said = np.concatenate(message) + w["layer.bias"]
        after[nodes[v]] = gru_step(said, table[nodes[v]], w, "layer.cell")
    return [after[item] for item in session]


def naive_attention(states: list[np.ndarray], w: Weights, normalise: bool) -> np.ndarray:
    newest = w["attention.newest.weight"] @ states[-1] + w["attention.newest.bias"]
    each = [w["attention.each.weight"] @ h + w["attention.each.bias"] for h in states]
    weights = np.array([w["attention.weight.weight"][0] @ sigmoid(newest + other) for other in each])
    weights = softmax(weights) if normalise else weights
    return sum(a * h for a, h in zip(weights, states, strict=True))


def joined(long: np.ndarray, short: np.ndarray, w: Weights) -> np.ndarray:
    return w["joined.weight"] @ np.concatenate([long, short]) + w.get("joined.bias", 0)


def slow_srgnn(session: list[int], w: Weights, normalise: bool = False) -> np.ndarray:
    states = naive_clicks(session, w)
    return w["items.weight"][:N] @ joined(naive_attention(states, w, normalise), states[-1], w)


def slow_tagnn(session: list[int], w: Weights) -> np.ndarray:
    states, scores = naive_clicks(session, w), []
    s = joined(naive_attention(states, w, True), states[-1], w)
    for v in w["items.weight"][:N]:
        weights = softmax(np.array([v @ w["target.weight"] @ h for h in states]))
        target = sum(b * h for b, h in zip(weights, states, strict=True))
        scores.append((s + target) @ v)
    return np.array(scores)


def slow_gcsan(session: list[int], w: Weights) -> np.ndarray:
    states, mix = naive_clicks(session, w), 0.6
    attended, blocks = states, len({name.split(".")[1] for name in w if name.startswith("blocks.")})
    for number in range(blocks):
        of = {name.removeprefix(f"blocks.{number}."): part for name, part in w.items() if name.startswith(f"blocks.{number}.")}
        before, attended = attended, []
        for one in before:
            alike = [(of["asks.weight"] @ one) @ (of["answers.weight"] @ other) / np.sqrt(len(one)) for other in before]
            seen = sum(a * (of["gives.weight"] @ other) for a, other in zip(softmax(np.array(alike)), before, strict=True))
            inner = np.maximum(of["inner.weight"] @ seen + of["inner.bias"], 0)
            attended.append(of["outer.weight"] @ inner + of["outer.bias"] + seen)
    return w["items.weight"][:N] @ (mix * attended[-1] + (1 - mix) * states[-1])


def slow_stamp(session: list[int], w: Weights) -> np.ndarray:
    x = [w["items.weight"][item] for item in session]
    mean, long = sum(x) / len(x), np.zeros_like(x[0])
    for one in x:
        inner = w["each.weight"] @ one + w["newest.weight"] @ x[-1] + w["mean.weight"] @ mean + w["each.bias"]
        long += (w["weight.weight"][0] @ sigmoid(inner)) * one
    hs, ht = np.tanh(w["long.weight"] @ long + w["long.bias"]), np.tanh(w["short.weight"] @ x[-1] + w["short.bias"])
    return np.array([(hs * ht * v).sum() for v in w["items.weight"][:N]])


def recurrence(session: list[int], w: Weights) -> list[np.ndarray]:
    states, h = [], np.zeros(w["gru.weight_hh_l0"].shape[1])
    for item in session:
        h = gru_step(w["items.weight"][item], h, w, "gru", "_l0")
        states.append(h)
    return states


def slow_narm(session: list[int], w: Weights) -> np.ndarray:
    states = recurrence(session, w)
    return w["items.weight"][:N] @ joined(naive_attention(states, w, False), states[-1], w)


def slow_gru4rec(session: list[int], w: Weights) -> np.ndarray:
    states = [w["projection.weight"] @ h + w["projection.bias"] for h in recurrence(session, w)]
    return w["items.weight"][:N] @ joined(naive_attention(states, w, False), states[-1], w)


TWINS: dict[str, Callable[[list[int], Weights], np.ndarray]] = {
    "srgnn": slow_srgnn, "tagnn": slow_tagnn, "gcsan": slow_gcsan, "stamp": slow_stamp, "narm": slow_narm,
    "gru4rec-views": slow_gru4rec,
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_scores_are_those_of_the_slow_twin(name: str) -> None:
    model, sessions = untrained(name), some_sessions()
    with torch.no_grad():  # away from the start, where many weights of a softmax are alike
        for part in model.parameters():
            part.mul_(1.5)
    slow = np.stack([TWINS[name](session, numbers(model)) for session in sessions])
    assert np.abs(model.scores(padded(sessions)) - slow).max() < 1e-5 * max(1, np.abs(slow).max())
    assert np.abs(slow - slow[0]).max() > 1e-3


def test_scores_of_more_blocks_and_of_a_softmax_are_those_of_the_slow_twin() -> None:
    sessions = some_sessions()
    for name, changes, twin in (
        ("gcsan", {"blocks": 3}, slow_gcsan),
        ("srgnn", {"attention": "softmax"}, lambda session, w: slow_srgnn(session, w, normalise=True)),
    ):
        model = untrained(name, **changes)
        slow = np.stack([twin(session, numbers(model)) for session in sessions])
        assert np.abs(model.scores(padded(sessions)) - slow).max() < 1e-5


def test_the_views_of_sasrec_read_its_states_one_session_at_a_time() -> None:
    model, sessions = untrained("sasrec-views"), some_sessions()
    for session, found in zip(sessions, model.scores(padded(sessions)), strict=True):
        states = list(SASRec.forward(model, torch.tensor([session]))[0].detach().double().numpy())
        w = numbers(model)
        slow = w["items.weight"][:N] @ joined(naive_attention(states, w, False), states[-1], w)
        assert np.abs(found - slow).max() < 1e-5


def test_without_its_graph_srgnn_reads_the_items_themselves() -> None:
    model, sessions = untrained("srgnn", graph=False), some_sessions()
    assert not any(name.startswith("layer") for name in numbers(model))
    for session, found in zip(sessions, model.scores(padded(sessions)), strict=True):
        w = numbers(model)
        states = [w["items.weight"][item] for item in session]
        slow = w["items.weight"][:N] @ joined(naive_attention(states, w, False), states[-1], w)
        assert np.abs(found - slow).max() < 1e-5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=T), min_size=1, max_size=9), st.integers(0, 3))
def test_graphs_of_a_batch_are_those_of_a_loop(sessions: list[list[int]], more: int) -> None:
    windows = torch.from_numpy(padded(sessions, max(map(len, sessions)) + more))
    found = graphs.session_graphs(windows)
    for row, session in enumerate(sessions):
        nodes, inward, outward = naive_graph(session)
        n = len(nodes)
        assert [item for item in found.nodes[row].tolist() if item >= 0] == nodes == found.nodes[row, :n].tolist()
        clicked = windows[row] >= 0
        assert found.nodes[row][found.alias[row][clicked]].tolist() == session
        for slow, fast in ((inward, found.inward[row]), (outward, found.outward[row])):
            assert np.allclose(fast[:n, :n], slow) and not fast[n:].any() and not fast[:, n:].any()


def test_a_step_of_the_graph_network_is_the_formula() -> None:
    torch.manual_seed(0)
    layer, session, table = GraphLayer(6), [1, 2, 1, 3, 3, 2], torch.randn(5, 6)
    torch.nn.init.normal_(layer.bias)
    graph = graphs.session_graphs(torch.tensor([session]))
    fast = layer(table[graph.nodes], graph)[0].detach().numpy()
    w = {f"layer.{name}": part for name, part in numbers(layer).items()} | {"items.weight": table.double().numpy()}
    slow = dict(zip(session, naive_clicks(session, w), strict=True))
    assert np.allclose(fast, [slow[item] for item in graph.nodes[0].tolist()], atol=1e-6)


@pytest.mark.parametrize("cells", [1, 300, 2**21])
def test_both_forms_of_tagnn_have_the_same_scores_and_gradients(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagnn, "CELLS", cells)
    model, windows = untrained("tagnn"), torch.from_numpy(padded(some_sessions()))
    found = []
    for form in (model, partial(written_out_scores, model)):
        model.zero_grad()
        scores = form(windows)
        torch.nn.functional.cross_entropy(scores, windows[:, -1]).backward()
        found.append([scores.detach(), *(part.grad.clone() for part in model.parameters())])
    for small, large in zip(*found, strict=True):
        assert torch.allclose(small, large, atol=1e-5)


def test_soft_attention_leaves_fill_places_out() -> None:
    for normalise in (False, True):
        torch.manual_seed(0)
        attention, states = SoftAttention(4, normalise), torch.randn(1, 5, 4)
        alone = attention(states[:, 2:], torch.ones(1, 3, dtype=torch.bool))
        real = torch.tensor([[False, False, True, True, True]])
        assert torch.allclose(attention(states, real), alone, atol=1e-6)


def test_two_views_change_nothing_in_the_states_that_they_read() -> None:
    model = untrained("gru4rec-views")
    plain = GRU4Rec(N, model.config, T)
    plain.load_state_dict({name: part for name, part in model.state_dict().items() if name in plain.state_dict()})
    windows = torch.from_numpy(padded(some_sessions()))
    found = model.encode(windows, model.table())
    assert torch.equal(found.states, plain.eval()(windows)) and torch.equal(found.short, found.states[:, -1])


def test_the_public_names_are_the_models_of_the_recipe() -> None:
    assert SESSION_MODELS["srgnn"] is SRGNN
    assert all(name in BaselinesConfig(baselines=[name]).baselines for name in SESSION_MODELS)
