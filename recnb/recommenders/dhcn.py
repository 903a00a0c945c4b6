"""S2-DHCN: sessions as hyperedges, and a second network over the batch that contradicts the first (Xia et al., 2021).

Readout: :mod:`recnb.recommenders.reversed_readout`; training and scoring: :mod:`recnb.recommenders.session_model`.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from recnb.data.sessions import Samples
from recnb.recommenders.counting import interaction_matrix
from recnb.recommenders.reversed_readout import ReadoutModel, mean_state
from recnb.recommenders.session_graph import distinct_items
from recnb.recommenders.session_model import Encoded, uniform_start
from recnb.recommenders.settings import DhcnConfig


class DHCN(ReadoutModel):
    """S2-DHCN: an item's vector is that of the training inputs that it stands in, layer upon layer.

    A hyperedge holds the distinct items of a training input. With H (N, M) which item is in which, D how many an item
    is in and B how many each holds: X_l = D^-1 H B^-1 H^T X_(l-1), X_0 = E, X = mean over layers; an item that no input
    has keeps E / (layers + 1). Items are read and scored with X, which no batch changes. H B^-1 H^T is symmetric, so
    that one sparse matrix serves forward and backward.

    In training, sessions of the batch that share items form a line graph over which means of E are spread; that vector
    should be like the readout of its own session and unlike noise (:func:`contrast`). The public code loses the
    gradient of these means; here it reaches E on both ways.

    Attributes:
        offsets, columns, weights: H B^-1 H^T, rows compressed. degree: (N,) D, or 1 where it is 0.
    """

    title = "S2-DHCN"
    offsets: Tensor
    columns: Tensor
    weights: Tensor
    degree: Tensor

    def __init__(self, n_items: int, config: DhcnConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.layers, self.beta, self.least = config.layers, config.contrast, config.least_weight
        if not config.graph:
            self.layers, self.beta = 0, 0.0
        self.register_buffer("offsets", torch.zeros(n_items + 1, dtype=torch.int32))
        self.register_buffer("columns", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(0))
        self.register_buffer("degree", torch.ones(n_items))
        uniform_start(self, config.width)

    def learn_structure(self, samples: Samples) -> None:
        """Make the hypergraph of the training inputs; their targets are no part of it."""
        inputs = samples.whole_inputs()
        shared, degree = shared_hyperedges(interaction_matrix(inputs.offsets, inputs.items, self.n_items))
        shared = without_small(shared, degree, self.least)
        arrays = {"offsets": shared.indptr, "columns": shared.indices, "weights": shared.data, "degree": degree}
        for name, array in arrays.items():
            setattr(self, name, torch.from_numpy(array).to(getattr(self, name)))

    def table(self) -> Tensor:
        """(N, d) X: the mean over layers of the hypergraph's network."""
        matrix = compressed(self.offsets, self.columns, self.weights)
        return layers_mean(super().table(), self.layers, lambda x: _Symmetric.apply(matrix, x) / self.degree[:, None])

    def click_states(self, windows: Tensor, table: Tensor) -> Tensor:
        """(B, T, d) X of each click."""
        return self.vectors(windows, table)

    def extra_loss(self, encoded: Encoded, windows: Tensor) -> Tensor | None:
        """beta times how well readouts and line-graph vectors of the batch tell their own session from noise."""
        if not self.beta:
            return None
        graph = line_graph(distinct_items(windows)[0])
        means = mean_state(self.items(windows.clamp(min=0)), windows >= 0)
        return self.beta * contrast(encoded.long, layers_mean(means, self.layers, lambda x: graph @ x))


class _Symmetric(torch.autograd.Function):
    """A constant symmetric sparse matrix times x; torch's own backward would transpose it anew at every step."""

    @staticmethod
    def forward(context: Any, matrix: Tensor, x: Tensor) -> Tensor:
        context.matrix = matrix
        return matrix @ x

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        return None, context.matrix @ gradient


def layers_mean(first: Tensor, layers: int, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean of X_0 = ``first`` and X_l = layer(X_(l-1)) up to l = ``layers``."""
    total = newest = first
    for _ in range(layers):
        newest = layer(newest)
        total = total + newest
    return total / (layers + 1)


def compressed(offsets: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
    """A square matrix, rows compressed."""
    size = (len(offsets) - 1, len(offsets) - 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(offsets, columns, weights, size, check_invariants=False)


def shared_hyperedges(edges: sparse.csr_matrix) -> tuple[sparse.csr_matrix, np.ndarray]:
    """H B^-1 H^T (N, N) of hyperedges H^T (M, N), 0 or 1; and D (N,), 1 for items without a hyperedge."""
    held = np.asarray(edges.sum(axis=1)).ravel()
    shared = (edges.T @ sparse.diags(1.0 / np.maximum(held, 1)) @ edges).tocsr()
    shared.sort_indices()
    return shared, np.maximum(np.asarray(edges.sum(axis=0)).ravel(), 1)


def without_small(shared: sparse.csr_matrix, degree: np.ndarray, least: float) -> sparse.csr_matrix:
    """Without the pairs that weigh less than ``least`` in the rows of both of their items (row i is divided by D_i)."""
    rows = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
    kept = shared.data >= least * np.minimum(degree[rows], degree[shared.indices])
    matrix = sparse.csr_matrix((shared.data[kept], (rows[kept], shared.indices[kept])), shape=shared.shape)
    matrix.sort_indices()
    return matrix


def line_graph(nodes: Tensor) -> Tensor:
    """(B, B) of the distinct items (B, n) of sessions, -1 for none: items shared / items of both, rows summing to 1.

    A session shares all with itself, which is the identity matrix that the paper adds.

    >>> line_graph(torch.tensor([[1, 2], [2, -1]]))
    tensor([[0.6667, 0.3333],
            [0.3333, 0.6667]])
    """
    distinct, place = nodes.unique(return_inverse=True)
    member = torch.zeros(len(distinct), len(nodes), device=nodes.device)  # 1: the item is in the session
    member[place, torch.arange(len(nodes), device=nodes.device)[:, None]] = 1.0
    member[distinct < 0] = 0.0
    shared = functional.embedding_bag(place, member, mode="sum")
    sizes = (nodes >= 0).sum(1)
    weights = shared / (sizes[:, None] + sizes - shared)
    return weights / weights.sum(1, keepdim=True)


def contrast(sessions: Tensor, lines: Tensor) -> Tensor:
    """Mean over B of -log sigmoid(h . t) - log(1 - sigmoid(h' . t)); h' is h (B, d), rows and columns permuted.

    The public code sums over a batch of 100, so that its beta of 0.01 is 1 here, whatever the batch.
    """
    rows, columns = (torch.randperm(size, device=sessions.device) for size in sessions.shape)
    alike, noise = (sessions * lines).sum(1), (sessions[rows][:, columns] * lines).sum(1)
    return -(functional.logsigmoid(alike) + functional.logsigmoid(-noise)).mean()
