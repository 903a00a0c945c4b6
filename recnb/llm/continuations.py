"""What a language model goes on to write, greedily, behind many endings of few beginnings.

A *list* is a beginning (a heading and one line per item, say); a *fork* sees the first tokens of one list, up to its
cut, and reads an ending of its own behind them. Every list is read once: all of its forks share the keys and values,
whatever their cuts, and a mask hides from each what lies behind its cut and what its siblings wrote. What comes out is
what the model would write after ``list[:cut] + ending`` alone. Shown in ``notebooks/llm4sbr/04_intents.ipynb``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recnb.errors import RecnbError
from recnb.llm.backbone import device_of, head_logits, inference, length_batches, pad_left, rows_at_once
from recnb.llm.token_tree import SHORTEST_SHARED, SharedPrefix, TokenTree, read_shared

NO_TOKEN = -1
SPARED = 256  # tokens: what lists begin with is read apart if at least so many are then not read again


@dataclass(frozen=True)
class Forks:
    """What to continue: F forks of the lists.

    Attributes:
        lists: token ids of each list, oldest first.
        rows: (F,) the list of each fork.
        cuts: (F,) how many tokens of its list each fork sees, at least one.
        endings: token ids that each fork reads behind its cut, at least one.
    """

    lists: Sequence[np.ndarray]
    rows: np.ndarray
    cuts: np.ndarray
    endings: Sequence[np.ndarray]

    def __post_init__(self) -> None:
        """Refuse cuts outside their list."""
        lengths = np.array([len(one) for one in self.lists], np.int64)[self.rows]
        wrong = np.flatnonzero((self.cuts < 1) | (self.cuts > lengths))
        if len(wrong):
            fork = int(wrong[0])
            raise RecnbError(f"fork {fork}: cut {self.cuts[fork]}, expected 1 to {lengths[fork]}, its list's tokens")

    @property
    def prompts(self) -> list[np.ndarray]:
        """The F prompts written out, one by one: what a model reads that shares nothing."""
        pairs = zip(self.rows, self.cuts, self.endings, strict=True)
        return [np.concatenate([self.lists[row][:cut], ending]).astype(np.int64) for row, cut, ending in pairs]

    def take(self, chosen: np.ndarray) -> Forks:
        """Some of the forks, by their numbers; the lists stay."""
        endings = [self.endings[fork] for fork in chosen.tolist()]
        return Forks(self.lists, self.rows[chosen], self.cuts[chosen], endings)

    def places(self) -> np.ndarray:
        """(lists, w) the forks of each list in any order, -1 behind the last; w is the most that one list has."""
        order = np.argsort(self.rows, kind="stable")
        counts = np.bincount(self.rows, minlength=len(self.lists))
        column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.full((len(self.lists), counts.max(initial=0)), -1, np.int64)
        places[self.rows[order], column] = order
        return places

    def batches(self, own: int | np.ndarray, batch_tokens: int) -> list[np.ndarray]:
        """Lists that are read together, ``own`` (F,) tokens are held behind each ending."""
        size = np.array([len(ending) for ending in self.endings], np.int64) + own
        forked = np.bincount(self.rows, weights=size, minlength=len(self.lists))
        asked = np.flatnonzero(forked)
        lengths = np.array([len(one) for one in self.lists], np.int64)
        return [asked[part] for part in length_batches((lengths + forked)[asked], len(asked), batch_tokens)]


@dataclass(frozen=True)
class Continuations:
    """What was written.

    Attributes:
        ids: (F, max_tokens) int64 token ids, the one that ended it among them; -1 behind that.
        scores: (F,) float32 log-probability of those tokens, summed.
    """

    ids: np.ndarray
    scores: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(F,) tokens written."""
        return (self.ids != NO_TOKEN).sum(1)


def continuations(
    model: nn.Module, forks: Forks, stops: Sequence[int], max_tokens: int, batch_tokens: int
) -> Continuations:
    """The most probable next token, again and again, behind every fork: greedy, whatever settings a model came with.

    Args:
        model: a decoder-only transformers model with a language-model head, also wrapped by peft.
        forks: what to continue; stops: ids that end an answer (end of text, line breaks).
        max_tokens: most tokens of an answer, at least one.
        batch_tokens: about how many tokens are held at once (lists, endings and answers together).

    Raises:
        RecnbError: the model's attention takes no mask of that kind, or its scores are not numbers.
    """
    ids = np.full((len(forks.rows), max_tokens), NO_TOKEN, np.int64)
    scores = np.zeros(len(forks.rows), np.float32)
    for causal, batch in opened(model, forks, max_tokens, batch_tokens):
        for step, fork, token, gain in _written(causal, batch, stops, max_tokens):
            ids[fork, step] = token
            scores[fork] += gain
    if not np.isfinite(scores).all():
        raise RecnbError("the model's scores are not numbers (NaN)")
    return Continuations(ids, scores)


def fork_states(model: nn.Module, forks: Forks, batch_tokens: int) -> np.ndarray:
    """(F, d) float32 hidden state at the end of each fork: what the model has in mind before it writes a word."""
    found = [np.zeros((0, 0), np.float32)]
    which = [np.zeros(0, np.int64)]
    for _, batch in opened(model, forks, 0, batch_tokens):
        live = batch.place >= 0
        found.append(batch.tree.read_on(batch.tokens, batch.real)[:, :, -1][live].float().cpu().numpy())
        which.append(batch.place[live].cpu().numpy())
    return np.concatenate(found[1:] or found)[np.argsort(np.concatenate(which))]


@dataclass
class Opened:
    """A batch of lists that are read, and what their forks are to read next.

    Attributes:
        tree: the lists in the cache.
        place: (B, w) fork numbers, -1 where a list has fewer.
        tokens, real: (B, w, c) endings, padded on the left where not ``real``.
    """

    tree: TokenTree
    place: Tensor
    tokens: Tensor
    real: Tensor


def opened(model: nn.Module, forks: Forks, own: int | np.ndarray, batch_tokens: int) -> Iterator[tuple[Any, Opened]]:
    """The causal LM and each batch of lists, read; ``own`` (F,) tokens will be held behind each fork's ending."""
    places, empty = forks.places(), np.zeros(1, np.int64)
    shared = _shared(model, forks.lists)
    lists = forks.lists if shared is None else shared.rest_of(forks.lists)
    with inference(model) as causal:
        device = device_of(causal)
        for rows in forks.batches(own, batch_tokens):
            place = places[rows][:, : (places[rows] >= 0).sum(1).max()]  # (B, w)
            ids, mask = pad_left([lists[row] for row in rows])
            tokens, real = pad_left([forks.endings[fork] if fork >= 0 else empty for fork in place.flat])
            cuts = torch.from_numpy(np.where(place >= 0, forks.cuts[place], 1))
            tree = TokenTree(causal, ids.to(device), mask.to(device), shared, cuts.to(device))
            tokens, real = (part.view(*place.shape, -1).to(device) for part in (tokens, real.bool()))
            yield causal, Opened(tree, torch.from_numpy(place).to(device), tokens, real)


def _shared(model: nn.Module, lists: Sequence[np.ndarray]) -> SharedPrefix | None:
    """What all lists begin with, read, where that spares enough to be worth a pass of its own."""
    others = len(lists) - 1
    return read_shared(model, lists, max(SHORTEST_SHARED, SPARED // others)) if others > 0 else None


def _written(
    causal: Any, opened: Opened, stops: Sequence[int], max_tokens: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """One batch of lists, step by step: the step, the forks that still write (n,), their tokens and log-probabilities.

    What has ended is not read on: its column is given to a sibling, and its list goes when half of them are done.
    """
    tree, here, tokens, real = opened.tree, opened.place, opened.tokens, opened.real
    ends = torch.tensor(sorted(stops), device=here.device)
    for step in range(max_tokens):
        states = tree.read_on(tokens, real)[:, :, -1]  # (B, w, d)
        live = here >= 0
        chosen, gains = likeliest(causal, states[live])
        yield step, here[live].cpu().numpy(), chosen.cpu().numpy(), gains.cpu().numpy()
        tokens = torch.zeros_like(here).masked_scatter(live, chosen)
        here = here.masked_fill(torch.isin(tokens, ends), NO_TOKEN)
        writing = (here >= 0).sum(1)
        if step == max_tokens - 1 or not bool(writing.any()):
            return
        if 2 * int((writing > 0).sum()) <= len(here):
            kept = writing.nonzero()[:, 0]
            tree.keep(kept)
            here, tokens = here[kept], tokens[kept]
        first = (here < 0).int().argsort(dim=1, stable=True)[:, : int(writing.max())]  # those that still write
        tree.follow(first)
        here, tokens = here.gather(1, first), tokens.gather(1, first)[..., None]
        real = torch.ones_like(tokens, dtype=torch.bool)


def likeliest(causal: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable next token after each state (n, d), and its log-probability: (n,) int64 and (n,) float32."""
    found = []
    for part in states.split(rows_at_once(causal)):
        logits = head_logits(causal, part)
        best = logits.max(-1)
        found.append((best.indices, best.values - logits.logsumexp(-1)))
    tokens, gains = zip(*found, strict=True)
    return torch.cat(tokens), torch.cat(gains)
