"""Caser: convolutions over the latest items as over a small picture (Tang and Wang, WSDM 2018).

Horizontal filters, h items high, look for what h neighbouring items have in common and keep where they find most of it
(max over places); vertical ones weigh the places of the window. Without the paper's user vector, which nobody has who
was not in training, and with one item table for reading and scoring, as all models here. Windows, loop and scoring:
:mod:`recnb.recommenders.next_item`. Used in ``rsllm/03_candidates``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recnb.recommenders.next_item import NextItemEncoder
from recnb.recommenders.settings import CaserConfig


class Caser(NextItemEncoder):
    """Caser: ``score(h, i) = <W [max_t relu(F_h * E[h]); relu(v^T E[h])], E[i]>`` over the latest ``reach`` items.

    Every position of a window is read with the ``reach`` items up to it, so that each item after the first is a target.
    Arguments as of :class:`recnb.recommenders.next_item.NextItemEncoder`.
    """

    title = "Caser"

    def __init__(self, n_items: int, config: CaserConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.reach = config.reach
        heights = range(1, config.reach + 1)
        self.across = nn.ModuleList([nn.Conv1d(config.width, config.filters, height) for height in heights])
        self.down = nn.Linear(config.reach, config.vertical, bias=False)  # weights of the places
        self.join = nn.Linear(config.reach * config.filters + config.vertical * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.items.weight, std=config.width**-0.5)

    def forward(self, windows: Tensor) -> Tensor:
        """States (B, T, d) of windows (B, T) int64, filled with -1 on the left."""
        filled = functional.pad(windows, (self.reach - 1, 0), value=-1)
        vectors = self.vectors_of(filled).masked_fill(filled[..., None] < 0, 0.0)  # fill: zeros, as in the paper
        pictures = vectors.unfold(1, self.reach, 1).flatten(0, 1)  # (B * T, d, reach)
        found = [functional.relu(conv(pictures)).amax(-1) for conv in self.across]  # each (B * T, filters)
        weighed = functional.relu(self.down(pictures)).flatten(1)  # (B * T, d * vertical)
        states = self.join(self.dropout(torch.cat([*found, weighed], dim=1)))
        return states.view(*windows.shape, -1)
