"""TODO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from recnb.data.schema import Sequences
    from recnb.recommenders.settings import SasrecConfig


# --- SASRec ----------------------------------------------------------------------------------------------------------


def train_sasrec_cornac(
    train: Sequences,
    n_items: int,
    config: SasrecConfig,
    length: int,
    *,
    seed: int,
    validation: tuple[np.ndarray, np.ndarray],
    device: str = "cpu",
) -> CornacSasrec:
    """SASRec as cornac 3 has it, on our split: the library's word beside :func:`recnb.recommenders.next_item.train_sequential`.

    cornac turns every prefix of a sequence into a training sample of its own (T forward passes where a causal one
    needs one), and its cross-entropy runs over the batch's targets plus popularity-sampled negatives without log-q
    correction; it has no loss over the full catalogue. Recall@10 on validation chooses the epoch, computed by cornac.

    Args:
        train: training sequences.
        n_items: N.
        config: ``negatives`` 0 means cornac's 2048; its ``patience`` is not known to cornac, all epochs are run.
        length: T.
        seed: of initialisation, order and negatives; torch's own generator is left as it was.
        validation: histories (U, T) and targets (U,).
        device: ``cpu`` or ``cuda``.
    """
    from cornac.models import SASRec

    model = SASRec(
        embedding_dim=config.width, loss="ce", batch_size=config.batch_size, learning_rate=config.learning_rate,
        n_sample=config.negatives or 2048, n_epochs=config.epochs, max_len=length, num_blocks=config.blocks,
        num_heads=config.heads, dropout=config.dropout, device=device, seed=seed, model_selection="best",
        val_eval_every=1, val_k=10,
    )  # fmt: skip
    histories, targets = validation
    with torch.random.fork_rng(devices=range(torch.cuda.device_count() if device.startswith("cuda") else 0)):
        sessions = _cornac_sessions(train.offsets, train.items, n_items)
        model.fit(sessions, _cornac_validation(histories, targets, n_items))
    return CornacSasrec(model, n_items)


class CornacSasrec:
    """A fitted cornac SASRec that scores all users at once (cornac's own ``score`` takes one)."""

    def __init__(self, model: Any, n_items: int) -> None:
        self.model, self.n_items = model, n_items

    def scores(self, histories: np.ndarray, batch_size: int = 512) -> np.ndarray:
        """(U, N) float32 for histories (U, T) padded with -1."""
        network = self.model.model.eval()
        everything = torch.arange(self.n_items, device=network.dev)
        filled = torch.as_tensor(np.where(histories < 0, self.model.pad_idx, histories)[:, -self.model.max_len :])
        with torch.no_grad():
            parts = [network(None, rows.long().to(network.dev), everything).cpu() for rows in filled.split(batch_size)]
        return torch.cat(parts).numpy()


def _cornac_sessions(offsets: np.ndarray, items: np.ndarray, n_items: int) -> Any:
    """One session per user; item numbers stay as they are, also those of items that training does not hold."""
    from collections import OrderedDict

    from cornac.data import SequentialDataset

    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)).tolist()
    rows = list(zip(user, user, items.tolist(), range(len(items)), strict=True))
    same = OrderedDict((item, item) for item in range(n_items))
    return SequentialDataset.build(rows, fmt="USIT", global_iid_map=same)


def _cornac_validation(histories: np.ndarray, targets: np.ndarray, n_items: int) -> Any:
    whole = np.concatenate([histories, np.asarray(targets)[:, None]], axis=1)
    offsets = np.concatenate([[0], np.cumsum((whole >= 0).sum(axis=1))])
    return _cornac_sessions(offsets, whole[whole >= 0], n_items)
