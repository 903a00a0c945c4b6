"""A batch of sessions as graphs, without a loop: sort, cumulative sum, scatter.

SR-GNN section 3.1 (Wu et al., AAAI 2019): the nodes of a session are its distinct items, and an edge leads from each
item to the one that was clicked next. Drawn in ``06_session_models``.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class SessionGraph(NamedTuple):
    """Graphs of B sessions, of n nodes each; those that a session does not need have item -1 and no edge.

    Attributes:
        nodes: (B, n) items.
        alias: (B, T) node of each click; that of a fill place is without meaning.
        inward: (B, n, n) share of the edges into node v that come from u, at [v, u].
        outward: (B, n, n) share of the edges out of node u that lead to v, at [u, v].
    """

    nodes: Tensor
    alias: Tensor
    inward: Tensor
    outward: Tensor


def session_graphs(windows: Tensor) -> SessionGraph:
    """The graphs of sessions (B, T), items with -1 on the left; nodes in the order of their item numbers.

    >>> session_graphs(torch.tensor([[-1, 7, 3, 7]])).nodes.tolist()
    [[3, 7, -1]]
    """
    nodes, alias = distinct_items(windows)
    edges = adjacency(windows, alias, nodes.shape[1])
    inward = edges.mT / edges.sum(1)[:, :, None].clamp(min=1)
    return SessionGraph(nodes, alias, inward, edges / edges.sum(2)[:, :, None].clamp(min=1))


def distinct_items(windows: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct items of each row, ascending, (B, n) filled with -1; and where in it each place stands, (B, T)."""
    fill = torch.iinfo(windows.dtype).max
    ordered, order = torch.where(windows < 0, fill, windows).sort(dim=1)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    number = new.cumsum(1) - 1  # (B, T) node of each place in order
    alias = torch.empty_like(order).scatter_(1, order, number)
    nodes = ordered.new_full((len(windows), int(number.max()) + 1), -1)
    return nodes.scatter_(1, number, torch.where(ordered == fill, -1, ordered)), alias


def adjacency(windows: Tensor, alias: Tensor, nodes: int) -> Tensor:
    """(B, n, n) float: 1 at [u, v] where some click on v follows one on u directly."""
    step = alias[:, :-1] * nodes + alias[:, 1:]
    step = torch.where(windows[:, :-1] < 0, nodes * nodes, step)  # a place that is thrown away
    edges = torch.zeros(len(windows), nodes * nodes + 1, device=windows.device)
    return edges.scatter_(1, step, 1.0)[:, :-1].view(-1, nodes, nodes)
