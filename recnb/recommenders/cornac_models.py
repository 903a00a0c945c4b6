"""S-POP and FPMC as cornac fits them, read out as arrays: its own scoring goes user by user.

Extra ``sessions`` installs cornac; nothing is imported before a model is asked for.
"""

from collections import OrderedDict
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from recnb.data.schema import Sequences
from recnb.errors import ModelNotFoundError
from recnb.recommenders.recency import recency_weights
from recnb.recommenders.settings import FpmcConfig


@dataclass(frozen=True)
class SessionPopularity:
    """S-POP (Hidasi et al., 2016): what the history has most often, then what training has most often.

    Attributes:
        counts: (N,) training events of each item.
    """

    counts: np.ndarray

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) float32 for histories (B, T) padded with -1: occurrences + counts / their maximum."""
        share = (self.counts / max(self.counts.max(initial=0), 1)).astype(np.float32)
        return recency_weights(histories, len(self.counts), 1.0).toarray() + share


@dataclass(frozen=True)
class FPMC:
    """FPMC (Rendle et al., 2010) without users: score(j) = <last[h_0], following[j]> + bias[j], h_0 the newest item.

    Attributes:
        last: (N, d) factors of items as the last one.
        following: (N, d) factors of items as the next one.
        bias: (N,), all that an empty history has.
    """

    last: np.ndarray
    following: np.ndarray
    bias: np.ndarray

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) float32 for histories (B, T) padded with -1 on the left."""
        return recency_weights(histories, len(self.bias), 0.0) @ self.last @ self.following.T + self.bias


def fit_spop(train: Sequences, n_items: int) -> SessionPopularity:
    """cornac's SPop on training sequences of N = ``n_items`` items."""
    cornac = _cornac("spop")
    frequency = cornac.models.SPop().fit(_sessions(cornac, train, n_items)).item_freq
    counts = np.zeros(n_items, np.int64)
    counts[list(frequency)] = list(frequency.values())
    return SessionPopularity(counts)


def fit_fpmc(
    train: Sequences, n_items: int, config: FpmcConfig, *, seed: int, device: str = "cpu", progress: bool = False
) -> FPMC:
    """cornac's FPMC on the pairs of neighbouring items; every sequence is given to one and the same user.

    What that user likes is then a number per item and joins the bias.
    """
    cornac = _cornac("fpmc")
    model = cornac.models.FPMC(
        embedding_dim=config.width, loss=config.loss, batch_size=config.batch_size, n_sample=config.negatives,
        learning_rate=config.learning_rate, n_epochs=config.epochs, seed=seed, device=device, verbose=progress,
    ).fit(_sessions(cornac, train, n_items)).model  # fmt: skip
    tables = (model.LI_emb, model.IL_emb, model.IU_emb, model.UI_emb, model.item_biases)
    last, following, liked, user, bias = (table.weight.detach().cpu().numpy() for table in tables)
    return FPMC(last[:n_items], following[:n_items], bias[:n_items, 0] + liked[:n_items] @ user[0])


def _sessions(cornac: ModuleType, train: Sequences, n_items: int) -> Any:
    """cornac's data set: a session per sequence, one user, items under their own numbers (those without events too)."""
    session = np.repeat(np.arange(len(train)), train.lengths).tolist()
    rows = list(zip([0] * len(session), session, train.items.tolist(), range(len(session)), strict=True))
    same = OrderedDict((item, item) for item in range(n_items))
    return cornac.data.SequentialDataset.build(rows, fmt="USIT", global_iid_map=same)


def _cornac(name: str) -> ModuleType:
    try:
        import cornac.data
        import cornac.models
    except ModuleNotFoundError as error:
        raise ModelNotFoundError(
            f"{name} is cornac's, and cornac is not here ({error}): pip install 'recnb[sessions]', or leave {name} out"
        ) from error
    return cornac
