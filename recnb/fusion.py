"""Two recommenders in one list: a baseline's scores enter the trie as a prior, its weight chosen on validation.

Ours, not the paper's: EAGER-LLM learns from behaviour only through tokens, while the encoder that could vouch for an
item directly is thrown away after the index is built. A mixture is a system of its own and stands in its own row, with
the name of its partner. Shown in ``notebooks/06_evaluate.ipynb``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from recnb.baselines import Scorer
from recnb.evaluate import metrics, recommend_lists, target_ranks
from recnb.recipe import DecodeConfig
from recnb.trie import Trie


def fused_lists(
    model: Any,
    prompts: Sequence[np.ndarray],
    histories: np.ndarray,
    trie: Trie,
    decode: DecodeConfig,
    partner: Scorer,
    weight: float,
    exclude: Any = None,
    progress: bool = False,
) -> np.ndarray:
    """Lists of the model with a partner's scores in the trie (:class:`recnb.decode.Prior`).

    Args:
        model, prompts, trie, decode, exclude, progress: as of :func:`recnb.evaluate.recommend_lists`.
        histories: (U, T) the same histories, for the partner.
        partner: its scores are read as logits.
        weight: of the partner; 0: the model alone, whatever the partner says.

    Returns:
        (U, W) int64.
    """
    prior = (lambda rows: partner.scores(histories[rows])) if weight else None
    return recommend_lists(model, prompts, trie, decode, exclude, progress, prior=prior, prior_weight=weight)


def choose_weight(
    model: Any,
    prompts: Sequence[np.ndarray],
    histories: np.ndarray,
    targets: np.ndarray,
    trie: Trie,
    decode: DecodeConfig,
    partner: Scorer,
    weights: Sequence[float],
    progress: bool = False,
) -> pd.DataFrame:
    """What each weight gives on validation, the best by N@10 first; to be called with validation users only.

    Args:
        targets: (U,) validation items; the others as of :func:`fused_lists`.
        weights: candidates; 0, the model alone, is always among them, so a useless partner is not used.

    Returns:
        columns weight, R@10, N@10; equal N@10: the smaller weight first.
    """
    rows = []
    for weight in sorted({0.0, *weights}):
        lists = fused_lists(model, prompts, histories, trie, decode, partner, weight, progress=progress)
        found = metrics(target_ranks(lists, targets), [10])
        rows.append({"weight": weight, **found})
    return pd.DataFrame(rows).sort_values("N@10", ascending=False, kind="stable", ignore_index=True)
