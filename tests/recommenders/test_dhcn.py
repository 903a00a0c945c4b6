"""S2-DHCN against its formulas, with dense matrices and loops over sessions and items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sessions_small import N, T, filled, samples, slow_readout, windows
from torch.nn import functional

from recnb.data.schema import Sequences
from recnb.data.sessions import every_prefix
from recnb.recommenders.dhcn import DHCN, contrast, line_graph
from recnb.recommenders.session_graph import distinct_items
from recnb.recommenders.session_model import train_session_model
from recnb.recommenders.settings import DhcnConfig

WIDTH = 8


def model(**changes) -> DHCN:
    torch.manual_seed(0)
    net = DHCN(N, DhcnConfig(**{"width": WIDTH, **changes}), T)
    net.learn_structure(samples())
    return net.eval()


def slow_hypergraph() -> torch.Tensor:
    """(N, N) (D^-1 H)(B^-1 H^T), a hyperedge per training input."""
    train = samples()
    edges = [set(train.items[a:b].tolist()) for a, b in zip(train.start, train.end, strict=True)]
    spread = torch.zeros(N, N)
    for i in range(N):
        mine = [edge for edge in edges if i in edge]
        for edge in mine:
            for j in edge:
                spread[i, j] += 1 / len(mine) / len(edge)
    return spread


def slow_table(net: DHCN, spread: torch.Tensor) -> torch.Tensor:
    layers = [net.items.weight[:N]]
    for _ in range(3):
        layers.append(torch.stack([sum(spread[i, j] * layers[-1][j] for j in range(N)) for i in range(N)]))
    return sum(layers) / 4


def slow_lines(sessions: list[list[int]]) -> torch.Tensor:
    weights = torch.tensor([[len(set(a) & set(b)) / len(set(a) | set(b)) for b in sessions] for a in sessions])
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize("views", ["both", "long"])
@torch.no_grad()
def test_scores_are_those_of_the_formulas(views):
    net, rows = model(views=views), windows()
    table, scores = slow_table(net, slow_hypergraph()), []
    for session in filled(rows):
        states = [table[item] for item in session]
        long = slow_readout(net.attention, states)
        scores.append(table @ (net.joined(torch.cat([long, states[-1]])) if views == "both" else long))
    torch.testing.assert_close(net.table(), table, atol=1e-5, rtol=0)
    torch.testing.assert_close(net(rows), torch.stack(scores), atol=1e-5, rtol=0)


def test_the_second_loss_is_that_of_the_formulas():
    net, rows = model(contrast=0.7), windows()
    encoded, graph = net.encode(rows, net.table()), slow_lines(filled(rows))
    means = torch.stack([net.items.weight[session].mean(0) for session in filled(rows)])
    lines = sum([means, graph @ means, graph @ graph @ means, graph @ graph @ graph @ means]) / 4
    torch.manual_seed(5)
    found = net.extra_loss(encoded, rows)
    torch.manual_seed(5)
    order, columns = torch.randperm(len(rows)), torch.randperm(WIDTH)
    slow = 0.0
    for b in range(len(rows)):
        noise = encoded.long[order[b]][columns]
        slow += -torch.log(torch.sigmoid(encoded.long[b] @ lines[b])) - torch.log(1 - torch.sigmoid(noise @ lines[b]))
    torch.testing.assert_close(found, 0.7 * slow / len(rows), atol=1e-5, rtol=0)


def test_the_line_graph_is_jaccard_with_rows_of_one():
    rows = windows(9)
    torch.testing.assert_close(line_graph(distinct_items(rows)[0]), slow_lines(filled(rows)))


def test_scores_do_not_depend_on_the_batch():
    net, rows = model(), windows(9)
    together = net.scores(rows.numpy())
    alone = np.concatenate([net.scores(row[None].numpy()) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_targets_and_other_parts_are_no_hyperedges():
    both = every_prefix(Sequences(np.array([0, 3, 6]), np.array([0, 1, 2, 5, 6, 7], np.int32)))
    net = model()
    net.learn_structure(both.take(both.session == 0))
    assert set(net.columns.tolist()) == {0, 1}, "neither the last target, 2, nor the other session"
    assert net.degree[:3].tolist() == [2, 1, 1]


def test_a_dropped_pair_is_light_for_both_items():
    full, least = slow_hypergraph(), 0.08
    net = model(least_weight=least)
    dense = torch.zeros(N, N)
    rows = torch.repeat_interleave(torch.arange(N), net.offsets.diff())
    dense[rows, net.columns.long()] = net.weights / net.degree[rows]
    kept = torch.maximum(full, full.T) >= least
    assert 0 < (~kept & (full > 0)).sum() < (full > 0).sum()
    torch.testing.assert_close(dense, torch.where(kept, full, 0.0))


def test_both_losses_reach_the_items_and_every_parameter_learns():
    net, rows = model(repeat_bias=True).train(), windows(30)
    encoded = net.encode(rows, net.table())
    (items,) = torch.autograd.grad(net.extra_loss(encoded._replace(long=encoded.long.detach()), rows), net.items.weight)
    assert items.abs().sum() > 0, "the line graph's way"
    encoded = net.encode(rows, net.table())
    (functional.cross_entropy(net.score(rows, encoded), torch.arange(30) % N) + net.extra_loss(encoded, rows)).backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_the_gradient_of_the_table_is_right():
    net, spread = model(), slow_hypergraph()
    pull = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((net.table() * pull).sum(), net.items.weight)
    (slow,) = torch.autograd.grad((slow_table(net, spread) * pull).sum(), net.items.weight)
    torch.testing.assert_close(found, slow, atol=1e-5, rtol=0)


def test_noise_that_is_its_own_session_is_no_error():
    one = torch.ones(1, 3)
    torch.testing.assert_close(contrast(one, one), 3 + 2 * torch.log1p(torch.exp(torch.tensor(-3.0))))


def test_a_session_of_one_item_has_scores():
    assert torch.isfinite(model()(torch.tensor([[3], [N - 1]]))).all()


def test_without_the_graph_there_are_plain_items_and_no_second_loss():
    net, rows = model(graph=False), windows()
    torch.testing.assert_close(net.table(), net.items.weight[:N])
    assert net.extra_loss(net.encode(rows, net.table()), rows) is None


def test_it_learns_what_follows_what():
    steps = np.tile(np.arange(N, dtype=np.int32), 60)
    train = every_prefix(Sequences(np.arange(0, len(steps) + 1, 6), steps))
    config = DhcnConfig(width=16, epochs=12, batch_size=32, learning_rate=1e-2)
    net = train_session_model(train, N, config, T, seed=0, model=DHCN)
    hits = net.scores(train.inputs(T)).argmax(1) == train.targets
    assert net.log[-1]["loss"] < net.log[0]["loss"] and hits.mean() > 0.9
