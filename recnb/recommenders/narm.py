"""NARM: a recurrent network, its last state, and attention over all of its states (Li et al., CIKM 2017)."""

import torch
from torch import Tensor, nn

from recnb.recommenders.gru4rec import fill_last
from recnb.recommenders.session_model import SessionModel, SoftAttention, uniform_start
from recnb.recommenders.settings import NarmConfig


class NARM(SessionModel):
    """NARM: ``score(v) = v B [c_l; c_g]`` over the states h of a GRU (equations 4 to 10).

    The short view is the last state h_T, which the paper calls global; the long view is ``sum_i a_i h_i`` with ``a_i =
    q . sigmoid(A_1 h_T + A_2 h_i)``, which it calls local. :class:`SoftAttention` has a bias inside the sigmoid.
    """

    title = "NARM"

    def __init__(self, n_items: int, config: NarmConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.joined = nn.Linear(2 * config.width, config.width, bias=False)
        self.gru = nn.GRU(config.width, config.width, batch_first=True)
        self.attention = SoftAttention(config.width, config.attention == "softmax")
        self.view_dropout = nn.Dropout(config.view_dropout)
        uniform_start(self, config.width)

    def click_states(self, windows: Tensor, table: Tensor) -> Tensor:
        """(B, T, d) the network's state at each click."""
        moved, back = fill_last(windows)
        states = self.gru(self.vectors(moved, table))[0]
        return states.gather(1, back[..., None].expand_as(states))

    def join(self, long: Tensor, short: Tensor) -> Tensor:
        """(B, d) B [c_l; c_g]."""
        return self.joined(self.view_dropout(torch.cat([long, short], dim=1)))  # type: ignore[misc]
