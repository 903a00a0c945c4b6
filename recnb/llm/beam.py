"""Constrained beam search that returns items: exactly W distinct ones, by their log-probability (eager-llm.md, 6).

What makes it fast and keeps it exact:

- **One prefill per prompt**, and one cache for all its beams (:mod:`recnb.llm.token_tree`).
- **A true trie.** Only prefixes of items are ever scored, so no beam can die and none returns a string that is no item.
- **Forced tails.** Where every beam has one way on, the remaining tokens are fed as chains and scored in one pass.
- **Logits only where a token is chosen**, in float32, a bounded number of rows at a time.

:func:`recnb.llm.score.score_items` is the slow, obvious twin that reads every item outright, without trie or cache.
Both are compared in ``06_evaluate``; ``07_case_studies`` draws the tree that a search walked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from tqdm import tqdm

from recnb import distributed
from recnb.errors import RecipeError, RecnbError
from recnb.evaluation.metrics import NO_ITEM
from recnb.index.trie import Trie
from recnb.llm.backbone import device_of, head_logits, inference, pad_left, rows_at_once
from recnb.llm.prior import Prior, PriorMass
from recnb.llm.score import Normalisation
from recnb.llm.settings import DecodeConfig
from recnb.llm.token_tree import SharedPrefix, TokenTree, read_shared


@dataclass(frozen=True)
class Level:
    """What one step of the search kept; beams stand in trie order.

    Attributes:
        depth: tokens chosen so far, 1..L.
        nodes: (B, w) node of each kept beam on this depth.
        parents: (B, w) column of its parent in the level before.
        tokens: (B, w) token chosen last.
        scores: (B, w) float32 log-probability so far; -inf marks an empty place.
        legal: (B,) prefixes that stood for choice.
        forced: True if no beam had a choice here.
    """

    depth: int
    nodes: np.ndarray
    parents: np.ndarray
    tokens: np.ndarray
    scores: np.ndarray
    legal: np.ndarray
    forced: bool


@dataclass(frozen=True)
class Beams:
    """Result of :func:`beam_search`.

    Attributes:
        items: (B, W) int64 distinct items, best first.
        scores: (B, W) float32 log-probability of each item's tokens; ties stand in item order.
        trace: one :class:`Level` per token.
    """

    items: np.ndarray
    scores: np.ndarray
    trace: tuple[Level, ...]


def beam_search(
    model: nn.Module,
    prompts: Sequence[np.ndarray],
    trie: Trie,
    width: int,
    normalisation: Normalisation = "full",
    exclude: Any | None = None,
    prior: Prior | None = None,
    shared: SharedPrefix | None = None,
) -> Beams:
    """The W most probable items after each prompt, by beam search over the trie: exactly W distinct ones.

    Args:
        model: a decoder-only transformers model with a language-model head, also wrapped by peft.
        prompts: B arrays of token ids, any lengths; trie: the items' tokens; width: W.
        normalisation: log-softmax over the whole vocabulary (``full``, the paper), over all tokens of the trie
            (``index``), or over the legal children of each prefix (``trie``).
        exclude: (B, N) boolean, sparse or dense: items that must not be returned (seen ones, say).
        prior: another recommender's opinion of the items, one row per prompt; scores then hold both.
        shared: what all prompts begin with, already read (see :func:`read_shared`); they are still given whole.

    Raises:
        RecnbError: fewer than W items are allowed, or the model's scores are not finite.
    """
    ids, mask = pad_left(prompts if shared is None else shared.rest_of(prompts))
    with inference(model) as causal:
        device = device_of(causal)
        trie = trie.to(device)
        remaining = trie.remaining(exclude)
        _check_width(trie, width, len(ids), remaining)
        tree = TokenTree(causal, ids.to(device), mask.to(device), shared)
        opinion = None if prior is None else PriorMass(trie, prior, remaining)
        search = _Search(trie, tree, TokenScorer(causal, trie, normalisation), width, remaining, opinion)
        leaves, scores, trace = search.run()
        items = trie.order[leaves].long().cpu().numpy()
    return _ranked(items, scores.cpu().numpy(), tuple(trace))


def recommend(
    model: nn.Module,
    prompts: Sequence[np.ndarray],
    trie: Trie,
    config: DecodeConfig,
    exclude: csr_matrix | None = None,
    prior: Callable[[np.ndarray], Prior] | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Items (U, W) int64 and scores (U, W) float32 of :func:`beam_search` over many prompts, in batches of similar
    length.

    Several processes share the batches. A beam wider than the catalogue is cut to it; a user who has fewer items left
    gets a beam as wide as they are many, and the list ends with -1 and -inf.

    Args:
        model, prompts (U of them), trie: as of :func:`beam_search`; config: beam width, normalisation and batch size.
        exclude: (U, N) items that must not be returned; None: none.
        prior: rows (B,) of ``prompts`` -> another recommender's opinion, asked batch by batch: (U, N) is never held.
        progress: show a bar.
    """
    left = np.full(len(prompts), trie.n_items) if exclude is None else trie.n_items - exclude.getnnz(axis=1)
    widths, lengths = np.minimum(left, config.beam), np.array([len(prompt) for prompt in prompts])
    shared = read_shared(model, prompts) if len(prompts) > config.batch_size else None
    trie = trie.to(device_of(model))  # once, not batch by batch
    shape = (len(prompts), min(config.beam, trie.n_items))
    items, scores = np.full(shape, NO_ITEM, np.int64), np.full(shape, -np.inf, np.float32)
    batches = _batches(widths, lengths, config.batch_size)
    for rows in tqdm(distributed.share(batches), desc="decode", unit="batch", disable=not progress):
        width = int(widths[rows[0]])
        found = beam_search(
            model, [prompts[row] for row in rows], trie, width, config.normalisation,
            None if exclude is None else exclude[rows], None if prior is None else prior(rows), shared,
        )  # fmt: skip
        items[rows, :width], scores[rows, :width] = found.items, found.scores
    return distributed.gather_rows(items, batches), distributed.gather_rows(scores, batches)


def _batches(widths: np.ndarray, lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Row numbers that are searched together: beams of one width, prompts of similar length, the longest first."""
    batches = []
    for width in np.unique(widths[widths > 0]):  # nearly always one value
        rows = np.flatnonzero(widths == width)
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
        batches += [rows[start : start + size] for start in range(0, len(rows), size)]
    return batches


def list_width(beam: int, n_items: int, cutoffs: Iterable[int]) -> int:
    """How long the lists are: the beam, or the whole catalogue where that is smaller.

    Raises:
        RecipeError: shorter than the largest cutoff, so that a metric would silently be one of a shorter list.
    """
    width, needed = min(beam, n_items), max(cutoffs)
    if width < needed:
        raise RecipeError(
            f"evaluate.cutoffs: R@{needed} needs lists of {needed} items, but decode.beam = {beam} and the catalogue "
            f"has {n_items}: lower the cutoff, or raise decode.beam"
        )
    return width


@dataclass(frozen=True)
class _Step:
    nodes: Tensor  # (B, w)
    tokens: Tensor  # (B, w)
    parents: Tensor  # (B, w)
    scores: Tensor  # (B, w)
    legal: Tensor  # (B,)

    def level(self, depth: int, scores: Tensor, forced: bool) -> Level:
        nodes, parents, tokens = (part.cpu().numpy() for part in (self.nodes, self.parents, self.tokens))
        return Level(depth, nodes, parents, tokens, scores.cpu().numpy(), self.legal.cpu().numpy(), forced)


@dataclass(frozen=True)
class _Search:
    """Down the trie, with the W best prefixes of each depth."""

    trie: Trie
    tree: TokenTree
    scorer: TokenScorer
    width: int
    remaining: Tensor | None
    prior: PriorMass | None

    def run(self) -> tuple[Tensor, Tensor, list[Level]]:
        """Leaves (B, W), scores (B, W) and the trace.

        ``pending`` holds tokens chosen but not yet read by the model, so that a choice and the forced tokens behind it
        are read in one pass; ``states[i]`` is the hidden state that predicts token i of the chain, or the next choice.
        """
        nodes = torch.zeros(self.tree.batch, 1, dtype=torch.long, device=self.trie.order.device)  # (B, 1): the root
        scores = torch.zeros(nodes.shape, device=nodes.device)
        pending: list[Tensor] = []
        trace: list[Level] = []
        while len(trace) < self.trie.depth:
            chain = self.forced_chain(len(trace), nodes, scores)
            ends = len(trace) + len(chain) == self.trie.depth
            unread = pending + [step.tokens for step in chain]
            if ends:  # nothing follows the last token, and forced tokens cost nothing if only legal ones count
                unread = [] if self.scorer.forced_are_free else unread[:-1]
            states = ([] if pending else [self.tree.prompt_state]) + self.tree.read(unread)
            for i, step in enumerate(chain):
                if not self.scorer.forced_are_free:
                    scores = scores + self.scorer(states[i], step.tokens[..., None])[..., 0]
                nodes = step.nodes
                trace.append(step.level(len(trace) + 1, scores, forced=True))
            if not ends:
                step = self.choose(len(trace), nodes, scores, states[len(chain)])
                self.tree.follow(step.parents)
                nodes, scores, pending = step.nodes, step.scores, [step.tokens]
                trace.append(step.level(len(trace) + 1, scores, forced=False))
        return nodes, scores, trace

    def forced_chain(self, depth: int, nodes: Tensor, scores: Tensor) -> list[_Step]:
        """The steps from here that leave no live beam a choice."""
        chain: list[_Step] = []
        live = scores > -torch.inf
        own = torch.arange(nodes.shape[1], device=nodes.device).expand_as(nodes)
        for level in range(depth, self.trie.depth):
            branches = self.trie.branches(level, nodes, self.remaining)
            if bool(((branches.legal.sum(-1) > 1) & live).any()):
                break
            only = branches.legal.int().argmax(-1, keepdim=True)  # an empty place follows its first child, in vain
            nodes = branches.nodes.gather(-1, only)[..., 0]
            tokens = branches.tokens.gather(-1, only)[..., 0]
            chain.append(_Step(nodes, tokens, own, scores, live.sum(1)))
        return chain

    def choose(self, depth: int, nodes: Tensor, scores: Tensor, state: Tensor) -> _Step:
        """Score every legal child of every beam and keep the best W, in trie order.

        A prior changes nothing where there is no choice (all its mass goes on), so forced tokens need not ask it.
        """
        branches = self.trie.branches(depth, nodes, self.remaining)
        legal = branches.legal & (scores > -torch.inf)[..., None]
        gained = self.scorer(state, branches.tokens, legal)
        if self.prior is not None:
            gained = gained + self.prior.gain(depth, nodes, branches.nodes)
        totals = (scores[..., None] + gained).masked_fill(~legal, -torch.inf).flatten(1)  # (B, w * C)
        kept = best_columns(totals, self.width)
        return _Step(
            branches.nodes.flatten(1).gather(1, kept),
            branches.tokens.flatten(1).gather(1, kept),
            kept // branches.legal.shape[-1],
            totals.gather(1, kept),
            legal.flatten(1).sum(1),
        )


def best_columns(totals: Tensor, width: int) -> Tensor:
    """Columns of the ``width`` largest entries of each row, ascending; of equal ones the leftmost.

    ``topk`` alone leaves open which of several equal entries it returns.
    """
    width = min(width, totals.shape[1])
    least = totals.topk(width, dim=1).values[:, -1:]
    above, equal = totals > least, totals == least
    keep = above | (equal & (equal.cumsum(1) <= width - above.sum(1, keepdim=True)))
    columns = keep.nonzero()[:, 1]
    if len(columns) != len(totals) * width:
        raise RecnbError("the model's scores are not numbers (NaN): has training diverged?")
    return columns.view(-1, width)


class TokenScorer:
    """Hidden states -> log-probabilities of given tokens, in float32, under one normalisation."""

    def __init__(self, causal: Any, trie: Trie, normalisation: Normalisation) -> None:
        self.causal = causal
        self.normalisation = normalisation
        self.vocabulary = trie.vocabulary
        self.forced_are_free = normalisation == "trie"

    def __call__(self, states: Tensor, tokens: Tensor, legal: Tensor | None = None) -> Tensor:
        """states (B, w, d), tokens (B, w, C), legal (B, w, C) bool -> (B, w, C) float32."""
        batch, beams, count = tokens.shape
        rows, wanted = states.reshape(batch * beams, -1), tokens.reshape(batch * beams, count)
        parts = zip(*(part.split(rows_at_once(self.causal)) for part in (rows, wanted)), strict=True)
        raw = torch.cat([self._part(part, ids) for part, ids in parts]).view(batch, beams, count)
        if self.normalisation != "trie":
            return raw
        raw = raw if legal is None else raw.masked_fill(~legal, -torch.inf)
        return (raw - raw.logsumexp(-1, keepdim=True)).nan_to_num(nan=-torch.inf)

    def _part(self, states: Tensor, wanted: Tensor) -> Tensor:
        if self.normalisation == "full":
            logits = head_logits(self.causal, states)
        else:
            logits = head_logits(self.causal, states, self.vocabulary)
            wanted = torch.searchsorted(self.vocabulary, wanted.contiguous())
        if self.normalisation != "trie":
            logits = logits.log_softmax(-1)  # one fused pass; logsumexp takes four, half as long as the head itself
        return logits.gather(1, wanted)


def _check_width(trie: Trie, width: int, batch: int, remaining: Tensor | None) -> None:
    if width < 1:
        raise RecnbError(f"beam width {width}: expected at least 1")
    if width > trie.n_items:
        raise RecnbError(f"beam width {width} is more than the {trie.n_items} items; nearest valid: {trie.n_items}")
    if remaining is None:
        return
    if len(remaining) != batch:
        raise RecnbError(f"exclude has {len(remaining)} rows, expected one per prompt ({batch})")
    left, row = (int(found) for found in remaining[:, -1].min(0))
    if left < width:
        raise RecnbError(
            f"prompt {row}: {left} items are left after exclusion, fewer than the beam width {width}; "
            f"nearest valid width: {left}"
        )


def _ranked(items: np.ndarray, scores: np.ndarray, trace: tuple[Level, ...]) -> Beams:
    if not np.isfinite(scores).all():
        raise RecnbError("the model's scores are not finite: has training diverged?")
    best_first = np.lexsort((items, -scores), axis=-1)
    return Beams(np.take_along_axis(items, best_first, 1), np.take_along_axis(scores, best_first, 1), trace)
