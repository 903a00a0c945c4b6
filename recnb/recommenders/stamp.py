"""STAMP: attention over a session's items by its last one and its mean (Liu et al., KDD 2018)."""

import torch
from torch import Tensor, nn

from recnb.recommenders.session_model import Encoded, SessionModel, uniform_start
from recnb.recommenders.settings import SessionModelConfig


class STAMP(SessionModel):
    """STAMP: ``score(v) = <tanh(W_s m_a + b_s), tanh(W_t x_T + b_t), v>`` (equations 2 to 8).

    The long view is ``m_a = sum_i a_i x_i`` with ``a_i = w . sigmoid(W_1 x_i + W_2 x_T + W_3 m_s + b)``, ``m_s`` the
    mean of the x; the short view is the newest item's vector x_T. No graph, no recurrence, no softmax over the clicks.
    The public code adds m_s to m_a and has no b_s and b_t; the paper's sigmoid around a score, before the softmax over
    items, stands in neither.
    """

    title = "STAMP"

    def __init__(self, n_items: int, config: SessionModelConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        width, self.joined = config.width, None
        self.each, self.newest = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.mean, self.weight = nn.Linear(width, width, bias=False), nn.Linear(width, 1, bias=False)
        self.long, self.short = nn.Linear(width, width), nn.Linear(width, width)
        uniform_start(self, width)

    def encode(self, windows: Tensor, table: Tensor) -> Encoded:
        """See :meth:`SessionModel.encode`."""
        items, real = self.vectors(windows, table), windows >= 0
        mean = items.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        inner = self.each(items) + (self.newest(items[:, -1]) + self.mean(mean))[:, None]
        weights = self.weight(torch.sigmoid(inner))  # (B, T, 1); items at fill places are zero
        return Encoded((weights * items).sum(1), items[:, -1], items, real, table)

    def join(self, long: Tensor, short: Tensor) -> Tensor:
        """(B, d) tanh(W_s m_a + b_s) * tanh(W_t x_T + b_t)."""
        return torch.tanh(self.long(long)) * torch.tanh(self.short(short))
