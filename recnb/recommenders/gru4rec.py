"""GRU4Rec: a recurrent network over item sequences (Hidasi et al., ICLR 2016), with today's loss.

The original ranked each target against the other targets of its batch; its authors found soon that the loss and more
negatives decide (Hidasi and Karatzoglou, CIKM 2018). Here it is trained as SASRec is, on whole windows with
cross-entropy over all items or over a log-q-corrected sample. Windows, loop and scoring:
:mod:`recnb.recommenders.next_item`. Used in ``06_evaluate``.
"""

import torch
from torch import Tensor, nn

from recnb.recommenders.next_item import NextItemEncoder
from recnb.recommenders.settings import Gru4recConfig


class GRU4Rec(NextItemEncoder):
    """GRU4Rec: ``score(h, i) = <W GRU(E[h])_last, E[i]>``.

    Dropout acts on what goes into the first layer, between layers, and on what comes out of the last. Arguments as of
    :class:`recnb.recommenders.next_item.NextItemEncoder`.
    """

    title = "GRU4Rec"

    def __init__(self, n_items: int, config: Gru4recConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(config.width, config.hidden, config.layers, batch_first=True, dropout=between)
        self.projection = nn.Linear(config.hidden, config.width)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.items.weight, std=config.width**-0.5)

    def forward(self, windows: Tensor) -> Tensor:
        """States (B, T, d) of windows (B, T) int64, filled with -1 on the left."""
        moved, back = fill_last(windows)
        states = self.projection(self.dropout(self.gru(self.dropout(self.vectors_of(moved)))[0]))
        return states.gather(1, back[..., None].expand_as(states))


def fill_last(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Windows (B, T) with the fill behind the items, and where each place of the old ones stands in them, (B, T).

    So a recurrence starts at the first item and never reads the fill.
    """
    steps = torch.arange(windows.shape[1], device=windows.device)
    missing = (windows < 0).sum(1, keepdim=True)  # (B, 1)
    return windows.gather(1, (steps + missing) % len(steps)), (steps - missing) % len(steps)
