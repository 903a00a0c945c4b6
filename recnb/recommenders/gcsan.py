"""GC-SAN: SR-GNN's graph layer, then self-attention over the clicks (Xu et al., IJCAI 2019)."""

from torch import Tensor, nn
from torch.nn import functional

from recnb.recommenders.session_model import Encoded, SessionModel, uniform_start
from recnb.recommenders.settings import GcsanConfig
from recnb.recommenders.srgnn import GraphLayer, node_states


class AttentionBlock(nn.Module):
    """F = softmax(H W_Q (H W_K)^T / sqrt(d)) H W_V;  E = ReLU(F W_1 + b_1) W_2 + b_2 + F (equations 6 and 7)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.asks, self.answers = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.gives = nn.Linear(width, width, bias=False)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """(B, T, d) of states (B, T, d): each click sees all clicks of its session."""
        asks, answers, gives = self.asks(states), self.answers(states), self.gives(states)
        hidden = (~real)[:, None, :] * -1e9  # added, (B, 1, T)
        seen = functional.scaled_dot_product_attention(asks, answers, gives, attn_mask=hidden.to(states.dtype))
        return self.dropout(self.outer(self.inner(seen).relu())) + seen


class GCSAN(SessionModel):
    """GC-SAN: ``s = w E_T + (1 - w) h_T``: the newest click's attended state (long), mixed with its node (short)."""

    title = "GC-SAN"

    def __init__(self, n_items: int, config: GcsanConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.joined, self.mix = None, config.mix
        self.layer = GraphLayer(config.width)
        self.blocks = nn.ModuleList(AttentionBlock(config.width, config.dropout) for _ in range(config.blocks))
        uniform_start(self, config.width)

    def encode(self, windows: Tensor, table: Tensor) -> Encoded:
        """See :meth:`SessionModel.encode`."""
        states, real = node_states(self, self.layer, windows, table), windows >= 0
        attended = states
        for block in self.blocks:
            attended = block(attended, real)
        return Encoded(attended[:, -1], states[:, -1], states, real, table)

    def join(self, long: Tensor, short: Tensor) -> Tensor:
        """(B, d) the mixture (equation 9)."""
        return self.mix * long + (1 - self.mix) * short
