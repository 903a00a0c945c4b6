"""SASRec: a small causal Transformer over item sequences (Kang and McAuley, ICDM 2018).

Trained with full cross-entropy or sampled softmax it is the honest bar for every generative recommender, far above the
original's one-negative binary loss (Klenitskiy and Vasilev, RecSys 2023; Petrov and Macdonald, RecSys 2023). Windows,
loop and scoring: :mod:`recnb.recommenders.next_item`. A baseline in ``06_evaluate``, and a behavioural encoder (its
item table) in ``02_embeddings``.
"""

import torch
from torch import Tensor, nn

from recnb.recommenders.next_item import NextItemEncoder
from recnb.recommenders.settings import SasrecConfig


class SASRec(NextItemEncoder):
    """SASRec: items of a window in, at every position a score for every item as the next one.

    ``score(h, i) = <Transformer(E[h] + P)_last, E[i]>``. Blocks normalise first; the feed-forward layer is as wide as
    the table, as in the paper. Arguments as of :class:`recnb.recommenders.next_item.NextItemEncoder`.
    """

    title = "SASRec"

    def __init__(self, n_items: int, config: SasrecConfig, length: int) -> None:
        super().__init__(n_items, config, length, config.temperature)
        width, self.heads = config.width, config.heads
        self.positions = nn.Parameter(torch.zeros(length, width))
        self.blocks = transformer(width, width, config.blocks, config.heads, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.items.weight, std=width**-0.5)
        nn.init.normal_(self.positions, std=width**-0.5)

    def forward(self, windows: Tensor) -> Tensor:
        """Hidden states (B, T, d) of windows (B, T) int64, filled with -1 on the left."""
        x = self.vectors_of(windows) + self.positions[-windows.shape[1] :]
        later = torch.ones(windows.shape[1], windows.shape[1], dtype=torch.bool, device=windows.device).triu(1)
        return self.blocks(self.dropout(x), mask=attention_mask(later | (windows < 0)[:, None, :], self.heads))


def transformer(width: int, feedforward: int, blocks: int, heads: int, dropout: float) -> nn.TransformerEncoder:
    """Transformer blocks that normalise first, with GELU and a last normalisation; batch first."""
    layer = nn.TransformerEncoderLayer(
        width, heads, feedforward, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, blocks, nn.LayerNorm(width), enable_nested_tensor=False)


def attention_mask(hidden: Tensor, heads: int) -> Tensor:
    """(B * heads, T, T) mask for torch's Transformer from (B, T, T), True: not seen; every position sees itself.

    A fill position sees nothing else, and without itself its softmax would have nothing to add up to 1 and give NaN.
    """
    hidden = hidden & ~torch.eye(hidden.shape[-1], dtype=torch.bool, device=hidden.device)
    return hidden.repeat_interleave(heads, dim=0)
