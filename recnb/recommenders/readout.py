"""GRU4Rec and SASRec as session models: two views of their states, so that LLM4SBR can align them.

LLM4SBR says of SR-GNN alone what its two views are. Here the short view of both is the state at the newest click and
the long view SR-GNN's soft attention over all states; both become one session vector as in SR-GNN.
"""

from __future__ import annotations

from torch import Tensor

from recnb.recommenders.gru4rec import GRU4Rec
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.session_model import Encoded, SessionModel, SoftAttention
from recnb.recommenders.settings import Gru4recViewsConfig, SasrecViewsConfig


class GRU4RecViews(SessionModel, GRU4Rec):
    """The recurrent network of :class:`GRU4Rec`, trained on samples."""

    title = "GRU4Rec, two views"

    def __init__(self, n_items: int, config: Gru4recViewsConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.attention = SoftAttention(config.width, config.attention == "softmax")

    def encode(self, windows: Tensor, table: Tensor) -> Encoded:
        """See :meth:`SessionModel.encode`."""
        states, real = GRU4Rec.forward(self, windows), windows >= 0
        return Encoded(self.attention(states, real), states[:, -1], states, real, table)


class SASRecViews(SessionModel, SASRec):
    """The Transformer of :class:`SASRec`, trained on samples."""

    title = "SASRec, two views"

    def __init__(self, n_items: int, config: SasrecViewsConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.attention = SoftAttention(config.width, config.attention == "softmax")

    def encode(self, windows: Tensor, table: Tensor) -> Encoded:
        """See :meth:`SessionModel.encode`."""
        states, real = SASRec.forward(self, windows), windows >= 0
        return Encoded(self.attention(states, real), states[:, -1], states, real, table)
