"""SASRec as cornac 3 has it, on our split: another people's word beside ours.

cornac turns every prefix of a sequence into a training sample of its own, and its cross-entropy runs over the batch's
targets plus popularity-sampled negatives; it has no loss over the full catalogue. It knows no patience: all epochs run.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from cornac.data import SequentialDataset
from cornac.models import SASRec

from recnb.data.schema import Sequences
from recnb.recommenders.settings import SasrecConfig


def cornac_sasrec(
    train: Sequences, n_items: int, config: SasrecConfig, length: int, histories: np.ndarray
) -> np.ndarray:
    """Scores (U, N) of histories (U, T) without fill, by cornac's SASRec fitted with our settings."""
    model = SASRec(
        embedding_dim=config.width, loss="ce", batch_size=config.batch_size, learning_rate=config.learning_rate,
        n_sample=config.negatives, n_epochs=config.epochs, max_len=length, num_blocks=config.blocks,
        num_heads=config.heads, dropout=config.dropout, seed=0,
    )  # fmt: skip
    user = np.repeat(np.arange(len(train)), train.lengths).tolist()
    rows = list(zip(user, user, train.items.tolist(), range(len(user)), strict=True))  # one session per user
    same = OrderedDict((item, item) for item in range(n_items))  # item numbers stay as they are
    model.fit(SequentialDataset.build(rows, fmt="USIT", global_iid_map=same))
    return np.stack([model.score(0, history.tolist()) for history in histories])
