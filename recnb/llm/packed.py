"""Candidates of a prompt read in one packed row behind its keys and values: what each of their tokens is worth.

What titles begin with alike is read once (:mod:`recnb.llm.answer_tree`); the first token of a title follows from the
prompt's own state, and its last one is never read. Every number is that of prompt and answer read alone, one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recnb.errors import RecnbError
from recnb.llm.answer_tree import AnswerTree, Asked
from recnb.llm.backbone import head_logits, rows_at_once
from recnb.llm.continuations import Forks, Opened, opened
from recnb.llm.token_tree import chain

BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Told:
    """What each token of each candidate is worth behind its prompt.

    Attributes:
        tokens: (B, C, L) float32 log-probabilities, 0 behind an answer's end.
        nodes: (B, C, L) int64: equal numbers within a row are the same beginning; -1 behind an answer's end.
    """

    tokens: np.ndarray
    nodes: np.ndarray

    def sum(self) -> np.ndarray:
        """(B, C) log-probability of each answer; favours short ones."""
        return self.tokens.sum(-1, dtype=np.float32)

    def mean(self) -> np.ndarray:
        """(B, C) log-probability per token; favours long predictable ones."""
        return self.sum() / (self.nodes >= 0).sum(-1)

    def chosen(self) -> np.ndarray:
        """(B,) the candidate that is written greedily where nothing but candidates may be; equals stand in order."""
        alive = np.ones(self.nodes.shape[:2], bool)
        for depth in range(self.nodes.shape[2]):
            here = alive & (self.nodes[..., depth] >= 0)  # an answer that has ended loses to one that goes on
            gains = np.where(here, self.tokens[..., depth], -np.inf)
            best = np.take_along_axis(self.nodes[..., depth], gains.argmax(1)[:, None], 1)
            alive = np.where(here.any(1, keepdims=True), here & (self.nodes[..., depth] == best), alive)
        return alive.argmax(1)


def told_answers(
    model: nn.Module,
    forks: Forks,
    answers: Sequence[np.ndarray],
    candidates: np.ndarray,
    batch_tokens: int = BATCH_TOKENS,
) -> Told:
    """Log-probability of every token of given answers behind each fork.

    Args:
        model: a decoder-only transformers model with a language-model head, also wrapped by peft.
        forks: F prompts; :func:`recnb.llm.scoring.beginnings` makes them of plain ones.
        answers: N arrays of token ids; candidates: (F, C) places in them of those that each fork is asked about.
        batch_tokens: about how many tokens are held at once.

    Raises:
        RecnbError: a candidate that is no answer, an answer without tokens, scores that are not numbers.
    """
    tree = AnswerTree.of(answers)
    asked = Asked.of(tree, np.asarray(candidates))
    gains = np.zeros(len(asked.fork) + 1, np.float32)  # the last: what stands behind an answer's end
    for causal, batch in opened(model, forks, asked.reads, batch_tokens):
        states, edges, rows = _read(batch, tree, asked)
        tokens = torch.from_numpy(tree.tokens[asked.node[edges]]).to(states.device)
        gains[edges] = _log_probabilities(causal, states, rows, tokens).cpu().numpy()
    if not np.isfinite(gains).all():
        raise RecnbError("the model's scores are not numbers (NaN)")
    return Told(gains[asked.edges], tree.prefixes[candidates])


def _read(batch: Opened, tree: AnswerTree, asked: Asked) -> tuple[Tensor, np.ndarray, Tensor]:
    """Read endings and inner nodes of a batch in one row. Returns states (n, d) that are asked, edges (E',) of the
    batch, and the state (E',) that each follows, ascending.
    """
    place, device = batch.place.cpu().numpy(), batch.tokens.device
    inner = np.where(place[..., None] >= 0, asked.inner[place], -1)  # (B, w, P)
    inner = inner[..., : (inner >= 0).sum(-1).max(initial=0)]
    own, depths = _branches(batch.real, torch.from_numpy(inner).to(device), tree)
    words = torch.from_numpy(np.where(inner >= 0, tree.tokens[inner], 0)).to(device)
    hidden = batch.tree.read_branches(torch.cat([batch.tokens, words], dim=-1), depths, own)
    wanted = np.concatenate([(place >= 0)[..., None], inner >= 0], axis=-1)  # the ending's last state, then the nodes
    states = hidden[:, :, batch.tokens.shape[-1] - 1 :][torch.from_numpy(wanted).to(device)]
    forks = place[place >= 0]
    edges, slots = asked.of_forks(forks)
    sizes = asked.reads[forks] + 1
    rows = (np.cumsum(sizes) - sizes)[slots] + 1 + asked.above[edges]
    return states, edges, torch.from_numpy(rows).to(device)


def _branches(real: Tensor, inner: Tensor, tree: AnswerTree) -> tuple[Tensor, Tensor]:
    """Who sees whom among an ending (B, w, c) and the nodes (B, w, P) behind it, (B, w, c + P, c + P), and depths."""
    depths, ancestors = (torch.from_numpy(part).to(real.device) for part in (tree.depths, tree.ancestors))
    behind = torch.where(inner >= 0, depths[inner], 0)
    ways = ancestors[inner]  # (B, w, P, L)
    length, count = real.shape[-1], inner.shape[-1]
    above = ways.gather(-1, behind[..., None, :].expand(*inner.shape, count)) == inner[..., None, :]
    above = above & (inner[..., None, :] >= 0) | torch.eye(count, dtype=torch.bool, device=real.device)
    before = torch.cat([chain(real), real.new_zeros(*real.shape, count)], dim=-1)
    after = torch.cat([real[..., None, :].expand(*inner.shape, length), above], dim=-1)
    places = torch.cat([real.cumsum(-1) - 1, real.sum(-1, keepdim=True) + behind], dim=-1)
    return torch.cat([before, after], dim=-2), places


def _log_probabilities(causal: Any, states: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """(E,) log-probability of tokens (E,) after the states (n, d) in these rows (E,), ascending."""
    at_once, found = rows_at_once(causal), []
    for start in range(0, len(states), at_once):
        logits = head_logits(causal, states[start : start + at_once])
        first, last = torch.searchsorted(rows, torch.tensor([start, start + at_once], device=rows.device)).tolist()
        here = rows[first:last] - start
        found.append(logits[here, tokens[first:last]] - logits.logsumexp(-1)[here])
    return torch.cat(found)
