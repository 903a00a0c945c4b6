"""DIN: how much an item of the history counts depends on the item in question (Zhou et al., KDD 2018).

The paper asks a small network for the weight of each pair, one candidate at a time, for clicks. To score all N items at
every position, the weight is here a product of two positive vectors, k(h)^T q(i), as in linear attention
(Katharopoulos et al., ICML 2020): sums over a history are then made once for all candidates. As in the paper weights do
not add up to 1, and there is no order. Windows, loop and scoring: :mod:`recnb.recommenders.next_item`. Used in
``rsllm/03_candidates``.
"""

import numpy as np
import torch
from torch import Tensor, nn

from recnb.recommenders.next_item import NextItemEncoder
from recnb.recommenders.settings import DinConfig


class DIN(NextItemEncoder):
    """DIN: ``score(h, i) = sum_t k(h_t)^T q(i) <V E[h_t], E[i]>``, k and q softmax over a few ``interests``.

    With one interest all weights are 1 and the history is a bag. Arguments as of
    :class:`recnb.recommenders.next_item.NextItemEncoder`.
    """

    title = "DIN"

    def __init__(self, n_items: int, config: DinConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.key, self.query = (nn.Linear(config.width, config.interests) for _ in range(2))
        self.value = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.items.weight, std=config.width**-0.5)

    def forward(self, windows: Tensor) -> Tensor:
        """States (B, T, interests * d) of windows (B, T) int64, filled with -1 on the left: sums up to each place."""
        vectors = self.dropout(self.vectors_of(windows))
        outer = torch.einsum("btr,btd->btrd", self.key(vectors).softmax(-1), self.value(vectors)).flatten(2)
        return outer.masked_fill(windows[..., None] < 0, 0.0).cumsum(1)

    def item_vectors(self) -> Tensor:
        """(N, interests * d): what a state is multiplied with."""
        table = super().item_vectors()
        return torch.einsum("nr,nd->nrd", self.query(table).softmax(-1), table).flatten(1)

    @torch.no_grad()
    def item_table(self) -> np.ndarray:
        """The item table E (N, d), as float32 numpy."""
        return super().item_vectors().float().cpu().numpy().copy()
