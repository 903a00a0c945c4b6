"""GCE-GNN: one session's graph, and beside it a graph of all training sessions (Wang et al., SIGIR 2020).

Readout: :mod:`recnb.recommenders.reversed_readout`; training and scoring: :mod:`recnb.recommenders.session_model`.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recnb.data.schema import Sequences
from recnb.data.sessions import Samples
from recnb.recommenders.reversed_readout import ReadoutModel, mean_state
from recnb.recommenders.rules import near_counts
from recnb.recommenders.session_graph import adjacency, distinct_items
from recnb.recommenders.session_model import uniform_start
from recnb.recommenders.settings import GcegnnConfig

SLOPE = 0.2  # of LeakyReLU below zero


class LocalLayer(nn.Module):
    """ "Local-level item representation": h_u <- sum over v of softmax_v(LeakyReLU(a_r . (h_u * h_v))) h_v.

    v runs over u and its neighbours in the session's graph, r is the kind of the edge: u itself, u to v, v to u, both.
    Written out, (B, n, n, d) products are held; (H * a_r) H^T are the same numbers, four matrix products. The public
    code marks "both" in one of the two directions only; here it is marked in both, as the paper says.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kinds = nn.Parameter(torch.zeros(4, width))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """(B, n, d) node vectors after the layer; edges (B, n, n) 1 at [u, v] where v follows u."""
        kinds = edge_kinds(edges)
        alike = (nodes[:, None] * self.kinds[:, None]) @ nodes[:, None].mT  # (B, 4, n, n)
        weights = functional.leaky_relu((alike * kinds).sum(1), SLOPE)
        return weights.masked_fill(~kinds.any(1), -torch.inf).softmax(-1) @ nodes


def edge_kinds(edges: Tensor) -> Tensor:
    """(B, 4, n, n) bool of edges (B, n, n): whether v is u, follows u, is followed by u, or both, at [:, r, u, v].

    >>> edge_kinds(torch.tensor([[[0, 1.0], [0, 0]]])).int().argmax(1).tolist()
    [[[0, 1], [2, 0]]]
    """
    out = edges > 0
    into, self_ = out.mT, torch.eye(out.shape[1], dtype=torch.bool, device=out.device).expand_as(out)
    return torch.stack([self_, out & ~into, into & ~out, out & into], dim=1) & torch.stack([self_, *3 * [~self_]], 1)


class GlobalLayer(nn.Module):
    """ "Global-level item representation": h <- ReLU(W [h; sum over j of p_j h_j]), j the item's global neighbours.

    p = softmax over j of q . LeakyReLU(W' [s * h_j; w_j]), with s the mean of the session's item vectors and w_j how
    often j stood near the item. Fewer neighbours than places: the public code draws some of them again, here the
    softmax leaves the empty places out; none: the sum is zero.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.each = nn.Linear(width + 1, width, bias=False)
        self.weight = nn.Linear(width, 1, bias=False)
        self.joined = nn.Linear(2 * width, width, bias=False)

    def forward(self, own: Tensor, near: Tensor, counts: Tensor, session: Tensor) -> Tensor:
        """(B, n, d) of own (B, n, d), near (B, n, K, d), counts (B, n, K; 0: no neighbour) and session (B, d)."""
        features = torch.cat([session[:, None, None] * near, counts[..., None]], dim=-1)
        weights = self.weight(functional.leaky_relu(self.each(features), SLOPE))[..., 0]
        weights = weights.masked_fill(counts == 0, -1e9).softmax(-1) * (counts > 0)
        message = (weights[..., None] * near).sum(2)
        return torch.relu(self.joined(torch.cat([own, message], dim=-1)))


class GCEGNN(ReadoutModel):
    """GCE-GNN: an item's state is what its session's graph says of it, plus what all training sessions say.

    Attributes:
        neighbours: (N+1, K) int64 global neighbours of each item, -1 where there are no more; the last row is that of
            item -1. counts: (N+1, K) float32, how often each stood near.
    """

    title = "GCE-GNN"
    neighbours: Tensor
    counts: Tensor

    def __init__(self, n_items: int, config: GcegnnConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.reach, hops = config.reach, config.hops if config.graph else 0
        self.local = LocalLayer(config.width) if config.graph else None
        self.hops = nn.ModuleList(GlobalLayer(config.width) for _ in range(hops))
        self.global_dropout = nn.Dropout(config.global_dropout)
        self.register_buffer("neighbours", torch.full((n_items + 1, config.neighbours), -1))
        self.register_buffer("counts", torch.zeros(n_items + 1, config.neighbours))
        uniform_start(self, config.width)

    def learn_structure(self, samples: Samples) -> None:
        """Find every item's neighbours in the sessions of the training samples."""
        near, counts = global_neighbours(samples.whole_sessions(), self.n_items, self.reach, self.neighbours.shape[1])
        self.neighbours[:-1] = torch.from_numpy(near)
        self.counts[:-1] = torch.from_numpy(counts)

    def click_states(self, windows: Tensor, table: Tensor) -> Tensor:
        """(B, T, d) state of each click's node."""
        if self.local is None:
            return self.vectors(windows, table)
        nodes, alias = distinct_items(windows)
        local = self.local(self.vectors(nodes, table), adjacency(windows, alias, nodes.shape[1]))
        session = mean_state(functional.embedding(windows.clamp(min=0), table), windows >= 0)
        states = local + self.global_dropout(self.global_states(nodes, session, table, len(self.hops)))
        return states.gather(1, alias[..., None].expand(-1, -1, states.shape[-1]))

    def global_states(self, nodes: Tensor, session: Tensor, table: Tensor, hops: int) -> Tensor:
        """(B, n, d) nodes (B, n) as seen from so many hops away, for sessions of mean vector (B, d)."""
        if hops == 0:
            return functional.embedding(nodes.clamp(min=0), table)
        near = self.neighbours[nodes]  # (B, n, K)
        own, others = (self.global_states(items, session, table, hops - 1) for items in (nodes, near.flatten(1)))
        return self.hops[hops - 1](own, others.view(*near.shape, -1), self.counts[nodes], session)


def global_neighbours(sessions: Sequences, n_items: int, reach: int, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Which items stand near each item most often: at most ``reach`` clicks before or after it.

    Args:
        sessions: training sessions; n_items: N; neighbours: K, how many are kept.

    Returns:
        items (N, K) int64, most frequent first and, of equal ones, the lower number, -1 where there are no more; and
        their counts (N, K) float32. An item that follows itself is its own neighbour, as in the public code.
    """
    counts = near_counts(sessions, n_items, reach)
    rows = np.repeat(np.arange(n_items), np.diff(counts.indptr))
    order = np.lexsort((counts.indices, -counts.data, rows))
    rank = np.arange(len(rows)) - counts.indptr[rows]
    rows, columns, values = (part[rank < neighbours] for part in (rows, counts.indices[order], counts.data[order]))
    items, often = np.full((n_items, neighbours), -1, np.int64), np.zeros((n_items, neighbours), np.float32)
    items[rows, rank[rank < neighbours]] = columns
    often[rows, rank[rank < neighbours]] = values
    return items, often
