"""RSLLM's two contrastive losses (CALRec, arXiv 2405.02429, section 4.2; rows of a batch are each other's negatives).

    L = nip L_NIP + tt L_TT + ut L_UT

L_TT compares the target in context (the answer's states) with the target alone, L_UT the user (the history's states)
with the target alone. Which pairs RSLLM itself contrasts is not said; derived in ``notebooks/rsllm/06_tune.ipynb``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from recnb.llm.settings import TuneConfig
from recnb.llm.tuning import Extra


def pooled(states: Tensor, span: Tensor) -> Tensor:
    """(B, d) float32 mean of states (B, S, d) over a span (B, S); zeros where it is empty."""
    weights = span.float() / span.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("bs,bsd->bd", weights, states.float())


def contrast(queries: Tensor, targets: Tensor, items: Tensor, temperature: float, both_ways: bool = False) -> Tensor:
    """-(1/B) sum_i log exp(cos(q_i, t_i) / tau) / sum_j exp(cos(q_j, t_i) / tau), CALRec's: for each target the sum is
    over the batch's queries. A query whose item is the target's own is no negative.

    Args:
        queries: (B, d) vectors in context; targets: (B, d) vectors of the targets alone.
        items: (B,) the target items; temperature: tau.
        both_ways: the mean with the sum over targets for each query.
    """
    with torch.autocast(queries.device.type, enabled=False):
        scores = F.normalize(targets, dim=1) @ F.normalize(queries, dim=1).T / temperature  # (target i, query j)
    place = torch.arange(len(items), device=items.device)
    twin = (items[:, None] == items) & (place[:, None] != place)
    scores = scores.masked_fill(twin, -torch.inf)
    one = F.cross_entropy(scores, place)
    return (one + F.cross_entropy(scores.T, place)) / 2 if both_ways else one


def compared(
    name: str, temperature: float, both_ways: bool,
    states: Tensor, alone: Tensor, spans: Mapping[str, Tensor], items: Tensor,
) -> Tensor:  # fmt: skip
    """:func:`contrast` of what stands in the span ``name`` with the targets alone: an extra loss of
    :func:`recnb.llm.tuning.tune`, once its first three arguments are given."""
    return contrast(pooled(states, spans[name]), pooled(alone, spans["alone"]), items, temperature, both_ways)


def rsllm_losses(config: TuneConfig) -> dict[str, Extra]:
    """L_TT and L_UT by the names of their weights."""
    spans = {"tt": "answer", "ut": "history"}
    return {name: partial(compared, span, config.temperature, config.both_ways) for name, span in spans.items()}
