"""The long view of GCE-GNN and S2-DHCN: soft attention over clicks whose places are counted from the newest one.

GCE-GNN, "session representation layer" (Wang et al., SIGIR 2020); S2-DHCN has it word for word (Xia et al., AAAI 2021).
"""

import torch
from torch import Tensor, nn

from recnb.recommenders.session_model import SessionModel, weighted_sum
from recnb.recommenders.settings import ReadoutConfig


class ReversedReadout(nn.Module):
    """s = sum of b_i h_i, with b_i = q . sigmoid(W4 z_i + W5 mean(h) + c) and z_i = tanh(W [p_i; h_i]).

    p_0 belongs to the newest click, whatever the length. The originals sum raw weights; ``normalise`` puts a softmax
    over them.

    Args:
        width: d; length: T, the most places there are.
    """

    def __init__(self, width: int, length: int, normalise: bool) -> None:
        super().__init__()
        self.places = nn.Embedding(length, width)
        self.placed = nn.Linear(2 * width, width, bias=False)
        self.each, self.whole = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.weight, self.normalise = nn.Linear(width, 1, bias=False), normalise

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """(B, d) of states (B, T, d), those at fill places left out."""
        places = self.places.weight[: states.shape[1]].flip(0).expand_as(states)
        placed = torch.tanh(self.placed(torch.cat([places, states], dim=-1)))
        whole = self.whole(mean_state(states, real))[:, None]
        weights = self.weight(torch.sigmoid(self.each(placed) + whole))[..., 0]  # (B, T)
        return weighted_sum(weights, states, real, self.normalise)


class ReadoutModel(SessionModel):
    """A session model with this readout as its long view."""

    def __init__(self, n_items: int, config: ReadoutConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.views = config.views
        if self.views == "long":
            self.joined = None
        self.attention = ReversedReadout(config.width, length, config.attention == "softmax")

    def join(self, long: Tensor, short: Tensor) -> Tensor:
        """See :meth:`SessionModel.join`; the originals score with the readout alone (``views: long``)."""
        return long if self.views == "long" else super().join(long, short)


def mean_state(states: Tensor, real: Tensor) -> Tensor:
    """(B, d) mean over the places of states (B, T, d) that are real (B, T)."""
    return (states * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
