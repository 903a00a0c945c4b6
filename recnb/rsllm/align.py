"""Before any step of the language model: its projector learns to bring item vectors near their titles.

Shown in ``notebooks/rsllm/05_align.ipynb``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from recnb.llm.slots import SlotEmbedding
from recnb.rsllm.losses import contrast

BATCH = 128  # items that are told apart in one step
RATE = 1e-3  # Adam's
TEMPERATURE = 0.07  # as of the other contrasts


@torch.no_grad()
def title_means(words: Any, title_ids: Sequence[np.ndarray]) -> NDArray[np.float32]:
    """(N, d) mean of what an embedding layer returns for a title's tokens, less the mean over all titles.

    Without that mean all titles point nearly the same way, and cosines hardly tell them apart.
    """
    flat = torch.from_numpy(np.concatenate(list(title_ids))).to(words.weight.device)
    counts = np.array([len(ids) for ids in title_ids])
    sums = np.add.reduceat(words(flat).float().cpu().numpy(), np.cumsum(counts) - counts, axis=0)
    means = sums / counts[:, None]
    return np.asarray(means - means.mean(0), np.float32)


def warm_up(slots: SlotEmbedding, titles: np.ndarray, items: np.ndarray, epochs: int, seed: int) -> pd.DataFrame:
    """Train the projector alone, so that each slot points to its own title among those of a batch: a row per ``epoch``
    with its mean ``loss``.

    L_ID = -(1/B) sum_i log [ exp(cos(p_i, t_i) / tau) / sum_j exp(cos(p_i, t_j) / tau) ], p: slots, t: titles, both
    (B, d). Adam; nothing else of the model is touched. The slots' length may change: set it again afterwards.

    Args:
        titles: (N, d) vectors of all titles, fixed; items: (n,) different ones, those that are learned from.
        epochs: passes over them; 0: nothing happens; seed: of their order.
    """
    rng, wanted = np.random.default_rng([seed, 67]), torch.from_numpy(titles).to(slots.table)
    optimizer = torch.optim.Adam(slots.projector.parameters(), lr=RATE)
    log = []
    for epoch in range(1, epochs + 1):
        losses = []
        for batch in torch.from_numpy(rng.permutation(items)).to(wanted.device).split(BATCH):
            loss = contrast(wanted[batch], slots.vectors(batch), batch, TEMPERATURE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        log.append({"epoch": epoch, "loss": float(torch.stack(losses).mean())})
    return pd.DataFrame(log, columns=["epoch", "loss"])


@torch.no_grad()
def title_ranks(slots: SlotEmbedding, titles: np.ndarray, items: np.ndarray) -> NDArray[np.int64]:
    """(n,) rank, from 1, of each item's own title among all titles (N, d), by the cosine with its slot."""
    every = F.normalize(torch.from_numpy(titles).to(slots.table), dim=1)
    chosen = torch.from_numpy(items).to(every.device)
    cosines = F.normalize(slots.vectors(chosen), dim=1) @ every.T  # (n, N)
    ranks: NDArray[np.int64] = (1 + (cosines > cosines.gather(1, chosen[:, None])).sum(1)).cpu().numpy()
    return ranks
