"""Before any step of the language model: its projector learns to bring item vectors near their titles.

Shown in ``notebooks/rsllm/05_align.ipynb``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from recnb.llm.slots import SlotEmbedding

BATCH = 128  # items that are told apart in one step
RATE = 1e-3


def contrast_ids(projected: Tensor, titles: Tensor, temperature: float) -> Tensor:
    """L_ID = -(1/B) sum_i log [ exp(cos(p_i, t_i)/tau) / sum_j exp(cos(p_i, t_j)/tau) ], scalar.

    Args:
        projected: (B, d) slots of different items.
        titles: (B, d) vectors of their titles.
        temperature: tau.
    """
    cosines = F.normalize(projected, dim=1) @ F.normalize(titles, dim=1).T  # (B, B)
    return F.cross_entropy(cosines / temperature, torch.arange(len(titles), device=titles.device))


def warm_up(
    slots: SlotEmbedding, titles: np.ndarray, items: np.ndarray, epochs: int, temperature: float, seed: int
) -> pd.DataFrame:
    """Train the projector alone with :func:`contrast_ids`; nothing else of the model is touched.

    Args:
        slots: whose projector it is; its ``length`` is to be set again afterwards.
        titles: (N, d) vectors of all titles, frozen.
        items: (n,) those that are learned from.
        epochs: passes over them; 0: nothing happens.
        temperature: tau.
        seed: of the order.

    Returns:
        a row per epoch: ``epoch`` from 1, ``loss`` (mean over steps).
    """
    rng, wanted = np.random.default_rng([seed, 67]), torch.from_numpy(titles).to(slots.table)
    optimizer = torch.optim.Adam(slots.projector.parameters(), lr=RATE)
    log = []
    for epoch in range(1, epochs + 1):
        order = torch.from_numpy(rng.permutation(items)).to(wanted.device)
        losses = []
        for batch in order.split(BATCH):
            loss = contrast_ids(slots.vectors(batch), wanted[batch], temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        log.append({"epoch": epoch, "loss": float(torch.stack(losses).mean())})
    return pd.DataFrame(log, columns=["epoch", "loss"])


@torch.no_grad()
def nearest_titles(slots: SlotEmbedding, titles: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n,) rank, from 1, of each item's own title among all N by cosine with its slot; ``titles``: (N, d)."""
    every = F.normalize(torch.from_numpy(titles).to(slots.table), dim=1)
    chosen = torch.from_numpy(items).to(every.device)
    cosines = F.normalize(slots.vectors(chosen), dim=1) @ every.T  # (n, N)
    own = cosines.gather(1, chosen[:, None])
    return (1 + (cosines > own).sum(1)).cpu().numpy()
