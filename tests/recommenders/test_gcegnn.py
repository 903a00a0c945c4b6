"""GCE-GNN against its formulas, written out in loops over sessions, nodes and neighbours."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from sessions_small import N, T, filled, samples, slow_readout, windows
from torch.nn import functional

from recnb.data.schema import Sequences
from recnb.data.sessions import every_prefix
from recnb.recommenders.gcegnn import GCEGNN, global_neighbours
from recnb.recommenders.session_model import train_session_model
from recnb.recommenders.settings import GcegnnConfig

WIDTH = 8


def model(**changes) -> GCEGNN:
    torch.manual_seed(0)
    net = GCEGNN(N, GcegnnConfig(**{"width": WIDTH, "neighbours": 4, **changes}), T)
    net.learn_structure(samples())
    return net.eval()


def slow_neighbours(lists: list[list[int]], reach: int, keep: int) -> list[list[tuple[int, int]]]:
    """For each item its most frequent neighbours and their counts."""
    near = [Counter() for _ in range(N)]
    for session in lists:
        for place, item in enumerate(session):
            for other in session[place + 1 : place + 1 + reach]:
                near[item][other] += 1
                near[other][item] += 1
    return [sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))[:keep] for counter in near]


def slow_local(net: GCEGNN, session: list[int], table: torch.Tensor) -> dict[int, torch.Tensor]:
    """The local state of each distinct item of one session."""
    steps, states = set(zip(session[:-1], session[1:], strict=True)), {}
    for u in set(session):
        scores, others = [], []
        for v in set(session):
            kind = 0 if u == v else 3 if (u, v) in steps and (v, u) in steps else 1 if (u, v) in steps else 2
            if u == v or (u, v) in steps or (v, u) in steps:
                scores.append(functional.leaky_relu(net.local.kinds[kind] @ (table[u] * table[v]), 0.2))
                others.append(table[v])
        states[u] = torch.stack(scores).softmax(0) @ torch.stack(others)
    return states


def slow_global(net: GCEGNN, item: int, mean: torch.Tensor, table: torch.Tensor, hops: int, near) -> torch.Tensor:
    """One item as the graph of all sessions sees it from so many hops away, for a session of this mean."""
    if hops == 0:
        return table[item]
    layer, message = net.hops[hops - 1], torch.zeros(WIDTH)
    states = [slow_global(net, other, mean, table, hops - 1, near) for other, _ in near[item]]
    if states:
        features = [torch.cat([mean * h, torch.tensor([float(w)])]) for h, (_, w) in zip(states, near[item], strict=True)]
        scores = torch.stack([layer.weight(functional.leaky_relu(layer.each(f), 0.2))[0] for f in features])
        message = sum(weight * h for weight, h in zip(scores.softmax(0), states, strict=True))
    own = slow_global(net, item, mean, table, hops - 1, near)
    return torch.relu(layer.joined(torch.cat([own, message])))


@torch.no_grad()
def slow_scores(net: GCEGNN, rows: torch.Tensor) -> torch.Tensor:
    near = slow_neighbours(filled(torch.tensor(samples().whole_sessions().pad(20))), 3, 4)
    table, scores = net.items.weight[:N], []
    for session in filled(rows):
        mean = torch.stack([table[item] for item in session]).mean(0)
        local = slow_local(net, session, table)
        states = [local[item] + slow_global(net, item, mean, table, len(net.hops), near) for item in session]
        long = slow_readout(net.attention, states)
        joined = net.joined(torch.cat([long, states[-1]])) if net.views == "both" else long
        scores.append(table @ joined)
    return torch.stack(scores)


@pytest.mark.parametrize("changes", [{}, {"views": "long"}, {"hops": 2}])
def test_scores_are_those_of_the_formulas(changes):
    net, rows = model(**changes), windows()
    torch.testing.assert_close(net(rows), slow_scores(net, rows), atol=1e-5, rtol=0)


def test_neighbours_are_the_most_frequent_within_reach_counted_both_ways():
    whole = samples().whole_sessions()
    items, counts = global_neighbours(whole, N, 3, 4)
    lists = [whole.items[a:b].tolist() for a, b in zip(whole.offsets[:-1], whole.offsets[1:], strict=True)]
    slow = slow_neighbours(lists, 3, 4)
    assert [[(i, c) for i, c in zip(*row, strict=True) if i >= 0] for row in zip(items.tolist(), counts, strict=True)] == slow
    assert (items[N - 1] == -1).all() and (counts[N - 1] == 0).all(), "an item that nobody met has none"
    assert items.dtype == np.int64 and counts.dtype == np.float32


def test_neighbours_by_hand():
    items, counts = global_neighbours(Sequences(np.array([0, 3, 5]), np.array([0, 1, 2, 0, 1], np.int32)), 4, 1, 2)
    assert items.tolist() == [[1, -1], [0, 2], [1, -1], [-1, -1]]
    assert counts.tolist() == [[2, 0], [2, 1], [1, 0], [0, 0]]


def test_the_graph_is_that_of_the_training_sessions_alone():
    both = every_prefix(Sequences(np.array([0, 3, 6]), np.array([0, 1, 2, 5, 6, 7], np.int32)))
    net = model()
    net.learn_structure(both.take(both.session == 0))
    assert set(net.neighbours.unique().tolist()) == {-1, 0, 1, 2}
    net.learn_structure(both.take((both.session == 0) & (both.end == 1)))
    assert set(net.neighbours.unique().tolist()) == {-1, 0, 1}, "a session ends at the last target that is a sample"


def test_a_session_of_one_item_has_scores():
    assert torch.isfinite(model()(torch.tensor([[3], [N - 1]]))).all()


def test_every_parameter_learns():
    net, rows = model(repeat_bias=True, hops=2).train(), windows(30)
    functional.cross_entropy(net(rows), torch.arange(30) % N).backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_without_the_graph_a_state_is_the_item():
    net, rows = model(graph=False), windows()
    torch.testing.assert_close(net.click_states(rows, net.table())[:, -1], net.items.weight[rows[:, -1]])


def test_it_learns_what_follows_what():
    steps = np.tile(np.arange(N, dtype=np.int32), 60)
    train = every_prefix(Sequences(np.arange(0, len(steps) + 1, 6), steps))
    config = GcegnnConfig(width=16, neighbours=4, epochs=12, batch_size=32, learning_rate=1e-2)
    net = train_session_model(train, N, config, T, seed=0, model=GCEGNN)
    hits = net.scores(train.inputs(T)).argmax(1) == train.targets
    assert net.log[-1]["loss"] < net.log[0]["loss"] and hits.mean() > 0.9
