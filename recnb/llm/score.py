"""Scores by reading prompt and item outright: the slow, obvious twin of the beam search (:mod:`recnb.llm.beam`)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recnb.index.trie import Trie
from recnb.llm.backbone import device_of, inference, pad_left

Normalisation = Literal["full", "index", "trie"]
Rivals = Callable[[list[int]], Any]
AT_ONCE = 64  # items per forward pass


def score_items(model: nn.Module, prompts: Sequence[np.ndarray], trie: Trie, normalisation: Normalisation = "full",
                items: Sequence[int] | None = None, exclude: Any | None = None) -> np.ndarray:
    """Log-probability of every item after every prompt, by reading prompt + item as plain text: slow and obvious.

    Args:
        model, prompts, trie, normalisation, exclude: as of :func:`recnb.llm.beam.beam_search`.
        items: score only these; None: all N.

    Returns:
        (B, N) float32, or (B, M) for M ``items``; -inf where excluded.
    """
    return score_tokens(model, prompts, trie, normalisation, items, exclude).sum(-1, dtype=np.float32)


def score_tokens(model: nn.Module, prompts: Sequence[np.ndarray], trie: Trie, normalisation: Normalisation = "full",
                 items: Sequence[int] | None = None, exclude: Any | None = None) -> np.ndarray:
    """What :func:`score_items` adds up: (B, M, L) float32, the log-probability of each token of each item."""
    ids, mask = pad_left(prompts)
    wanted = np.arange(trie.n_items) if items is None else np.asarray(items)
    excluded = np.zeros((len(ids), trie.n_items), bool)
    if exclude is not None:
        excluded |= (exclude.toarray() if hasattr(exclude, "toarray") else np.asarray(exclude)) != 0
    scores = np.full((len(ids), len(wanted), trie.depth), -np.inf, np.float32)
    rows = trie.item_tokens().cpu()
    with inference(model) as causal:
        for row, (prompt, real) in enumerate(zip(ids, mask, strict=True)):
            rivals = _rivals(trie, excluded[row], normalisation)
            keep = np.flatnonzero(~excluded[row][wanted])
            for part in np.array_split(keep, max(1, -(-len(keep) // AT_ONCE))):
                answers = rows[torch.from_numpy(wanted[part])]
                scores[row, part] = _teacher_forced(causal, prompt[real.bool()], answers, rivals)
    return scores


def _teacher_forced(causal: Any, prompt: Tensor, answers: Tensor, rivals: Rivals) -> np.ndarray:
    """Log-probability (M, L) of each token of the answers (M, L) after one prompt (S,), among its prefix's rivals."""
    device = device_of(causal)
    whole = torch.cat([prompt.expand(len(answers), -1), answers], dim=1).to(device)
    found = causal(input_ids=whole, use_cache=False, logits_to_keep=answers.shape[1] + 1)
    logits = found.logits[:, :-1].float().cpu()  # (M, L, V)
    scores = np.zeros(answers.shape, np.float32)
    for row, answer in enumerate(answers.tolist()):
        for level, token in enumerate(answer):
            step = logits[row, level]
            scores[row, level] = float(step[token] - step[rivals(answer[:level])].logsumexp(0))
    return scores


def _rivals(trie: Trie, excluded: np.ndarray, normalisation: Normalisation) -> Rivals:
    """Prefix -> the tokens over which the probabilities of the next one sum to one."""
    rows = trie.item_tokens().cpu()
    if normalisation == "full":
        return lambda prefix: slice(None)
    if normalisation == "index":
        everything = torch.unique(rows)
        return lambda prefix: everything
    allowed = rows[torch.from_numpy(~excluded)]

    def legal(prefix: list[int]) -> Tensor:
        begins_so = (allowed[:, : len(prefix)] == torch.tensor(prefix, dtype=torch.long)).all(dim=1)
        return torch.unique(allowed[begins_so, len(prefix)])

    return legal
