"""Two recommenders in one list: a baseline's scores enter the trie as a prior, its weight chosen on validation.

Ours, not the paper's: EAGER-LLM learns from behaviour only through tokens, while the encoder that could vouch for an
item directly is thrown away after the index is built. A mixture is a system of its own and stands in its own row, with
the name of its partner. Shown in ``06_evaluate``.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from recnb.data.schema import Sequences
from recnb.eager_llm.model import NEXT
from recnb.errors import ArtifactError
from recnb.evaluation.metrics import metrics, target_ranks
from recnb.index.trie import Trie
from recnb.llm.backbone import device_of, inference, pad_left
from recnb.llm.beam import recommend
from recnb.llm.prior import Prior
from recnb.llm.settings import DecodeConfig
from recnb.recommenders.interface import Scorer, top_items
from recnb.recommenders.next_item import marks


class ItemHead:
    """A partner without a second model: scores of all items from the model's own state after a history.

    The state goes through the item head's linear map and is compared with every item's behavioural embedding (cosine
    over the temperature), as in training (:class:`recnb.eager_llm.model.Recommender`).

    Args:
        model: the trained model, with its adapter or without.
        folder: what :func:`recnb.eager_llm.checkpoint.save_model` wrote; items: (N, d) behavioural embeddings.
        temperature: the one it was trained with; prompts: histories (B, T) -> B arrays of token ids.

    Raises:
        ArtifactError: the model was trained without the head.
    """

    def __init__(
        self, model: Any, folder: Path, items: np.ndarray, temperature: float,
        prompts: Callable[[np.ndarray], Sequence[np.ndarray]],
    ) -> None:  # fmt: skip
        path = folder / "projectors.safetensors"
        stored = load_file(path) if path.is_file() else {}
        if f"{NEXT}.weight" not in stored:
            raise ArtifactError(f"{path}: no item head; train with train.lambda_next > 0 (04_train)")
        self.model, self.prompts, self.temperature = model, prompts, temperature
        self.weight, self.bias = stored[f"{NEXT}.weight"], stored[f"{NEXT}.bias"]
        self.items = F.normalize(torch.as_tensor(items, dtype=torch.float32), dim=1)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) float32 for histories (B, T) padded with -1."""
        with inference(self.model) as causal:
            device = device_of(causal)
            ids, mask = (part.to(device) for part in pad_left(self.prompts(histories)))
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            body = causal.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
            states = body.last_hidden_state[:, -1].float().cpu()
        query = F.normalize(F.linear(states, self.weight, self.bias), dim=1)
        return (query @ self.items.T / self.temperature).numpy()


class Repeats:
    """A partner that knows one thing: how often people take again what they had, counted in the training sequences.

    It gives the items of a history that share of all probability, evenly, and the rest to all other items. A generator
    learns tokens, and an item that was just taken has the tokens of its neighbours: nothing tells them apart.

    Args:
        train: training sequences; an event counts as a repetition if its user had the item before.
        n_items: N.
    """

    def __init__(self, train: Sequences, n_items: int) -> None:
        owner, events = np.repeat(np.arange(len(train)), train.lengths), len(train.items)
        again = events - len(np.unique(owner * n_items + train.items))
        chances = events - int((train.lengths > 0).sum())
        self.n_items, self.share = n_items, (again + 1) / (chances + 2)  # never 0, never 1

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) float32 log-probabilities for histories (B, T) padded with -1."""
        seen = marks(torch.from_numpy(histories.astype(np.int64)), self.n_items).numpy()
        known = seen.sum(axis=1, keepdims=True)
        once, other = self.share / np.maximum(known, 1), (1 - self.share) / np.maximum(self.n_items - known, 1)
        return np.where(seen, np.log(once), np.log(other)).astype(np.float32)


class Joint:
    """Several partners as one: their log-probabilities, a share of each, add up (a product of experts)."""

    def __init__(self, parts: Sequence[Scorer], shares: Sequence[float]) -> None:
        self.parts, self.shares = parts, shares

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) for histories (B, T) padded with -1."""
        return sum(share * logs(part, histories) for part, share in zip(self.parts, self.shares, strict=True))


def logs(part: Scorer, histories: np.ndarray) -> Any:
    """(B, N) log-probabilities of a scorer whose scores are logits, histories (B, T) padded with -1."""
    return torch.from_numpy(np.array(part.scores(histories))).log_softmax(dim=1).numpy()


def partner_of(names: str, fitted: Mapping[str, Any]) -> Scorer:
    """The partner that a recipe names: a fitted recommender, or several with a plus between them as :class:`Joint`."""
    parts = [fitted[name] for name in names.split("+")]
    return parts[0] if len(parts) == 1 else Joint(parts, [1.0] * len(parts))


def fused_lists(
    model: Any, prompts: Sequence[np.ndarray], histories: np.ndarray, trie: Trie, decode: DecodeConfig,
    partner: Scorer, weight: float, exclude: Any = None, progress: bool = False,
) -> np.ndarray:  # fmt: skip
    """Lists of :func:`recnb.llm.beam.recommend` with a partner's scores in the trie (:class:`recnb.llm.prior.Prior`).

    Args:
        histories: (U, T), those of the prompts, for the partner; its scores are read as logits.
        weight: of the partner; 0: the model alone, whatever the partner says.

    Returns:
        (U, W) int64.
    """
    prior = (lambda rows: Prior(partner.scores(histories[rows]), weight)) if weight else None
    return recommend(model, prompts, trie, decode, exclude, prior, progress)[0]


def choose_weight(
    model: Any, prompts: Sequence[np.ndarray], histories: np.ndarray, targets: np.ndarray, trie: Trie,
    decode: DecodeConfig, partner: Scorer, weights: Sequence[float], progress: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """What each weight gives on validation, the best by N@10 first; to be called with validation users only.

    Args:
        targets: (U,) validation items; the others as of :func:`fused_lists`.
        weights: candidates; 0, the model alone, is always among them, so a useless partner is not used.

    Returns:
        columns weight, R@10, N@10; equal N@10: the smaller weight first.
    """
    ranks = {}
    for weight in sorted({0.0, *weights}):
        lists = fused_lists(model, prompts, histories, trie, decode, partner, weight, progress=progress)
        ranks[weight] = target_ranks(lists, targets)
    return _best_first(ranks)


def choose_share(
    pair: Sequence[Scorer], histories: np.ndarray, targets: np.ndarray, weights: Sequence[float], users: int = 1024
) -> pd.DataFrame:
    """Two scorers mixed without a model: what each share of the second gives on validation, the best by N@10 first.

    The control of every mixture: two lists are often better than one, whoever made them, so what tokens
    add shows beside a mixture that has none. Returns what :func:`choose_weight` does.

    Args:
        pair: their scores are read as logits; the first has share 1.
        histories: (U, T); targets: (U,), both of validation; ``users`` are scored at a time.
        weights: candidates for the second's share, each and its inverse, so that neither of the two is preferred; 0,
            the first alone, is always among them.
    """
    shares = sorted({0.0, *weights, *(1 / weight for weight in weights if weight)})
    ranks: dict[float, list[np.ndarray]] = {share: [] for share in shares}
    for start in range(0, len(targets), users):
        rows = slice(start, start + users)
        first, second = (logs(part, histories[rows]) for part in pair)
        for share in shares:
            lists = top_items(first + share * second, min(10, first.shape[1]))
            ranks[share].append(target_ranks(lists, targets[rows]))
    return _best_first({share: np.concatenate(found) for share, found in ranks.items()})


def _best_first(ranks: Mapping[float, np.ndarray]) -> pd.DataFrame:
    """What each weight gives, from the ranks of the targets under it; equal N@10: the one that was tried first."""
    tried = [{"weight": weight, **metrics(found, [10])} for weight, found in ranks.items()]
    return pd.DataFrame(tried).sort_values("N@10", ascending=False, kind="stable", ignore_index=True)
