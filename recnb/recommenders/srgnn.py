"""SR-GNN: a gated graph network over one session's items (Wu et al., AAAI 2019).

Graphs: :mod:`recnb.recommenders.session_graph`; training and scoring: :mod:`recnb.recommenders.session_model`.
"""

import torch
from torch import Tensor, nn

from recnb.recommenders.session_graph import SessionGraph, session_graphs
from recnb.recommenders.session_model import SessionModel, SoftAttention, uniform_start
from recnb.recommenders.settings import SrgnnConfig


class GraphLayer(nn.Module):
    """One step of the gated graph network (equations 1 to 5): H <- GRU([A_in (H W_i) + b; A_out (H W_o) + b'], H)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(width, width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(2 * width))
        self.cell = nn.GRUCell(2 * width, width)

    def forward(self, nodes: Tensor, graph: SessionGraph) -> Tensor:
        """(B, n, d) node vectors after the step."""
        read = [graph.inward @ self.inward(nodes), graph.outward @ self.outward(nodes)]
        message = torch.cat(read, dim=-1) + self.bias  # (B, n, 2d)
        return self.cell(message.flatten(0, 1), nodes.flatten(0, 1)).view_as(nodes)


class SRGNN(SessionModel):
    """SR-GNN: items that a session moves between tell each other where they stand; soft attention sums them up."""

    title = "SR-GNN"

    def __init__(self, n_items: int, config: SrgnnConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.layer = GraphLayer(config.width) if config.graph else None
        self.attention = SoftAttention(config.width, config.attention == "softmax")
        uniform_start(self, config.width)

    def click_states(self, windows: Tensor, table: Tensor) -> Tensor:
        """(B, T, d) node vector of each click; without the graph, the item's own."""
        return self.vectors(windows, table) if self.layer is None else node_states(self, self.layer, windows, table)


def node_states(model: SessionModel, layer: GraphLayer, windows: Tensor, table: Tensor) -> Tensor:
    """(B, T, d) what a layer makes of the node of each click in windows (B, T)."""
    graph = session_graphs(windows)
    nodes = layer(model.vectors(graph.nodes, table), graph)
    return nodes.gather(1, graph.alias[..., None].expand(-1, -1, nodes.shape[-1]))
