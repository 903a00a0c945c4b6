"""Losses over many items: sampled softmax with its sampler, and InfoNCE."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(query: Tensor, items: Tensor, target: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE of projected summaries, query (B, d), against item embeddings (N, d) of unit length (§4).

    -log exp(q·e⁺/τ) / (exp(q·e⁺/τ) + Σ_j exp(q·e_j/τ)), cosine similarity, mean over samples; 0 if there are none. e⁺
    are the targets (B,), e_j the negatives (M,), a sample's own positive among them left out.
    """
    if not len(target):
        return query.sum() * 0.0
    query = F.normalize(query, dim=1)
    positive = (query * items[target]).sum(1, keepdim=True)  # (B, 1)
    against = query @ items[negatives].T  # (B, M)
    against = against.masked_fill(negatives[None, :] == target[:, None], float("-inf"))
    logits = torch.cat([positive, against], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


class NegativeSampler:
    """Draws items shared by a batch, half by popularity and half uniformly, and knows how likely each was.

    Popular negatives are the hard ones; the uniform half makes every item a negative now and then and bounds the
    correction: q(i) = (count(i) / n + 1 / N) / 2, from training events only.

    Args:
        events: (n,) item numbers of the training events; n_items: N.
        rng: a generator; drawing advances it.
    """

    def __init__(self, events: np.ndarray, n_items: int, rng: np.random.Generator) -> None:
        counts = np.bincount(events, minlength=n_items)
        q = 0.5 * counts / max(1, counts.sum()) + 0.5 / n_items
        self.q = q / q.sum()
        self._cumulative = np.cumsum(self.q)
        self._rng = rng

    def draw(self, count: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """``count`` items with replacement: (M,) int64, and log(M q) of each, (M,) float32."""
        drawn = np.searchsorted(self._cumulative, self._rng.random(count) * self._cumulative[-1], side="right")
        drawn = np.minimum(drawn, len(self.q) - 1)
        expected = np.log(count * self.q[drawn]).astype(np.float32)
        return torch.from_numpy(drawn).to(device), torch.from_numpy(expected).to(device)


def sampled_softmax(
    positive: Tensor, negative: Tensor, log_expected: Tensor, hits: Tensor, sure: Tensor | None = None
) -> Tensor:
    """Losses (B,): cross-entropy against a sample of the items, with log-q correction.

    ``loss = -s+ + log(exp(s+) + sum_j exp(s_j - log(M q_j)))`` over the M drawn items that are not the positive. The
    sum is an unbiased estimate of the softmax's denominator over all other items (Bengio and Senecal, 2008); the
    positive is always there, so it is not corrected.

    Args:
        positive: (B,) scores of the targets; negative: (B, M) of the drawn items.
        log_expected: (M,) log of how often each drawn item is expected in the sample, log(M q).
        hits: (B, M) True where the drawn item is the row's own target or a sure candidate; such entries do not count.
        sure: (B, S) scores of items that are candidates whatever is drawn, and so not corrected; -inf: no item.
    """
    corrected = (negative - log_expected).masked_fill(hits, -torch.inf)
    logits = torch.cat([positive[:, None], corrected, *(() if sure is None else (sure,))], dim=1)
    return logits.logsumexp(1) - positive
