"""TAGNN: SR-GNN whose session vector depends on the item that is scored (Yu et al., SIGIR 2020).

The public code computes a session vector per session and item, (B, N, d). The same scores come from two products of
shape (B, T, N), block by block over items.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recnb.recommenders.session_model import Encoded, uniform_start
from recnb.recommenders.settings import TagnnConfig
from recnb.recommenders.srgnn import SRGNN

CELLS = 2**19  # places of one block (B, T, n)


class TAGNN(SRGNN):
    """TAGNN: ``score(v) = s . v + sum_i b_i (h_i . v)``, with ``b = softmax_i(v . W_t h_i)`` (equations 7 to 10).

    Equal to ``(s + sum_i b_i h_i) . v``, in 2 B N T d operations. The softmax is over the clicks; in the public code
    it is over the fill places of the batch as well.
    """

    title = "TAGNN"

    def __init__(self, n_items: int, config: TagnnConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.target = nn.Linear(config.width, config.width, bias=False)
        uniform_start(self, config.width)

    def logits(self, session: Tensor, encoded: Encoded) -> Tensor:
        """See :meth:`SessionModel.logits`; what a block needs is computed again for its gradient, not kept."""
        states, asked = encoded.states.flatten(0, 1), self.target(encoded.states).flatten(0, 1)  # (B T, d)
        size = max(1, CELLS // len(states))
        parts = [
            checkpoint(target_part, part, states, asked, encoded.real, use_reentrant=False, preserve_rng_state=False)
            for part in encoded.table.split(size)
        ]
        return session @ encoded.table.T + torch.cat(parts, dim=1)


def target_part(items: Tensor, states: Tensor, asked: Tensor, real: Tensor) -> Tensor:
    """(B, n) sum_i b_i (h_i . v) for items v (n, d), states h (B T, d) and W_t h (B T, d), real clicks (B, T)."""
    weights = (asked @ items.T).view(*real.shape, -1)  # (B, T, n)
    weights = weights.masked_fill(~real[..., None], torch.finfo(weights.dtype).min).softmax(1)
    return (weights * (states @ items.T).view_as(weights)).sum(1)
