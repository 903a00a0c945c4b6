"""GRU4Rec and SASRec as session models: two views of their states, so that LLM4SBR can align them.

LLM4SBR says of SR-GNN alone what its two views are. Here the short view of both is the state at the newest click and
the long view SR-GNN's soft attention over all states; both become one session vector as in SR-GNN.
"""

from torch import Tensor

from recnb.recommenders.gru4rec import GRU4Rec
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.session_model import SessionModel, SoftAttention
from recnb.recommenders.settings import SoftAttentionConfig


class TwoViews(SessionModel):
    """A sequential model, the next base of a class, trained on samples: soft attention over its states beside them."""

    def __init__(self, n_items: int, config: SoftAttentionConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.attention = SoftAttention(config.width, config.attention == "softmax")

    def click_states(self, windows: Tensor, table: Tensor) -> Tensor:
        """(B, T, d) the states of the sequential model."""
        return super(SessionModel, self).forward(windows)


class GRU4RecViews(TwoViews, GRU4Rec):
    """The recurrent network of :class:`GRU4Rec`."""

    title = "GRU4Rec, two views"


class SASRecViews(TwoViews, SASRec):
    """The Transformer of :class:`SASRec`."""

    title = "SASRec, two views"
