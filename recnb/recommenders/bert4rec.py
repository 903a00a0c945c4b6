"""BERT4Rec: a Transformer that fills gaps from both sides (Sun et al., CIKM 2019).

Training hides items of a window and asks for them (the cloze task); some windows hide their last item only, which is
what is asked at test time: a gap is appended to the history, and its state scores the next item. One item in so many
is a target where SASRec has them all, so it wants more epochs (Petrov and Macdonald, RecSys 2022). Windows, loop and
scoring: :mod:`recnb.recommenders.next_item`. Used in ``06_evaluate``.
"""

import torch
from torch import Tensor, nn

from recnb.recommenders.next_item import NextItemEncoder
from recnb.recommenders.sasrec import attention_mask, transformer
from recnb.recommenders.settings import Bert4recConfig


class BERT4Rec(NextItemEncoder):
    """BERT4Rec: ``score(h, i) = <head(Transformer(E[h], gap)_gap), E[i]> + b_i``.

    The head is a linear layer, GELU and normalisation, as in BERT. Blocks normalise first, as in our SASRec; the
    feed-forward layer is four times as wide as the table, as in the paper.

    Arguments as of :class:`recnb.recommenders.next_item.NextItemEncoder`; a window has one place more than T.
    """

    title = "BERT4Rec"

    def __init__(self, n_items: int, config: Bert4recConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        width, self.heads = config.width, config.heads
        self.mask_share, self.last_share = config.mask_share, config.last_share
        self.positions = nn.Parameter(torch.zeros(length + 1, width))
        self.gap = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.blocks = transformer(width, 4 * width, config.blocks, config.heads, config.dropout)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.dropout = nn.Dropout(config.dropout)
        for table in (self.items.weight, self.positions, self.gap):
            nn.init.normal_(table, std=width**-0.5)

    def forward(self, windows: Tensor, hidden: Tensor) -> Tensor:
        """States (B, S, d) of windows (B, S), S <= T + 1, filled with -1 on the left.

        Where ``hidden`` (B, S) is True there is a gap: what item stands there is not read.
        """
        x = torch.where(hidden[..., None], self.gap, self.vectors_of(windows)) + self.positions[-windows.shape[1] :]
        fill = ((windows < 0) & ~hidden)[:, None, :].expand(-1, windows.shape[1], -1)
        return self.head(self.blocks(self.dropout(x), mask=attention_mask(fill, self.heads)))

    def read(self, windows: Tensor) -> Tensor:
        """(B, d) state of a gap behind each window (B, T)."""
        longer = torch.nn.functional.pad(windows, (0, 1))
        hidden = torch.zeros_like(longer, dtype=torch.bool)
        hidden[:, -1] = True
        return self(longer, hidden)[:, -1]

    def lesson(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States (n, d) of gaps drawn in windows (B, T + 1), the items (n,) hidden there, and the rest (n, T + 1)."""
        hidden = self.draw_gaps(windows)
        around = windows.masked_fill(hidden, -1)[hidden.nonzero()[:, 0]]
        return self(windows, hidden)[hidden], windows[hidden], around

    def draw_gaps(self, windows: Tensor) -> Tensor:
        """(B, T + 1) bool: a share of each window's items, at least one; in some windows the last item and no other."""
        chance = torch.rand(windows.shape).to(windows.device)  # on the CPU: the same gaps on every device
        alone = torch.rand(len(windows)).to(windows.device) < self.last_share
        chance = chance.masked_fill(windows < 0, 2.0)
        hidden = (chance < self.mask_share) | (chance == chance.min(1, keepdim=True).values)
        last = torch.arange(windows.shape[1], device=windows.device) == windows.shape[1] - 1
        return torch.where(alone[:, None], last, hidden)

    def queries(self, states: Tensor) -> Tensor:
        """(..., d + 1): a last column of ones, for the bias."""
        return torch.cat([states, torch.ones_like(states[..., :1])], dim=-1)

    def item_vectors(self) -> Tensor:
        """(N, d + 1): the item table, and each item's bias as its last column."""
        return torch.cat([self.items.weight[: self.n_items], self.bias[:, None]], dim=-1)
