"""Constrained beam search that returns items: exactly W distinct ones, by their log-probability (eager-llm.md, 6).

What makes it fast and keeps it exact:

- **What all prompts begin with is read once** (the instruction), and its keys and values serve every batch.
- **One prefill per prompt.** All beams share the prompt's keys and values. The beams' tokens are appended to the same
  cache as a tree; a mask lets each token see the prompt and its own ancestors, nothing else. The cache is never
  repeated per beam and never reordered.
- **A true trie.** Only prefixes of items are ever scored, so no beam can die and none returns a string that is no item.
- **Forced tails.** Where every beam has one way on, the remaining tokens are fed as chains and scored in one pass.
- **Logits only where a token is chosen**, in float32, a bounded number of rows at a time.
- **A second opinion, exactly** (:class:`Prior`, ours, not the paper's): another recommender's distribution over items
  enters at every node of the trie, so that a beam is judged by both before it is cut.

:func:`score_items` is the slow, obvious twin: it reads every item outright, without trie, cache or tree. Both are
compared in ``06_evaluate``; ``07_case_studies`` draws the tree that a search walked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import DynamicCache

from recnb import distributed
from recnb.errors import RecipeError, RecnbError
from recnb.evaluation.metrics import NO_ITEM
from recnb.index.trie import Trie
from recnb.llm.backbone import Prompts, head_logits, inference, pad_left
from recnb.llm.score import Normalisation
from recnb.llm.settings import DecodeConfig

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from recnb.index.trie import Trie
    from recnb.llm.settings import DecodeConfig


ItemScores = Callable[[np.ndarray], np.ndarray]
SHORTEST_SHARED = 4  # tokens: a shorter common beginning is not worth the detour
PRIOR_FLOOR = 1e-6  # share of a prior that is spread over all items: no item is ever impossible
LOGITS_AT_ONCE = 2**26  # 256 MiB of float32: rows x V never exceeds it, whatever the vocabulary


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
        trace: one :class:`Level` per token, or empty.
    """

    items: np.ndarray
    scores: np.ndarray
    trace: tuple[Level, ...] = ()


def beam_search(
    model: nn.Module,
    prompts: Prompts,
    trie: Trie,
    width: int,
    normalisation: Normalisation = "full",
    pad_id: int = 0,
    exclude: Any | None = None,
    return_trace: bool = False,
    shared: SharedPrefix | None = None,
    prior: Prior | None = None,
) -> Beams:
    """The W most probable items after each prompt, by beam search over the trie.

    Args:
        model: a decoder-only transformers model with a language-model head, also wrapped by peft.
        prompts: B arrays of token ids, or left-padded ``(ids (B, S), mask (B, S))``.
        trie: the items' tokens.
        width: W, beams kept per step and items returned.
        normalisation: log-softmax over the whole vocabulary (``full``, the paper), over all tokens of the trie
            (``index``), or over the legal children of each prefix (``trie``).
        pad_id: fills shorter prompts; masked, so any valid id will do.
        exclude: (B, N) boolean, sparse or dense: items that must not be returned (seen ones, say). A prefix stays
            legal as long as one item below it is allowed.
        return_trace: keep what each step kept, for :mod:`recnb.eager_llm.explain`.
        shared: what all prompts begin with, already read (see :func:`read_shared`); they are still given whole.
        prior: another recommender's opinion of the items, one row per prompt; scores then hold both (:class:`Prior`).

    Returns:
        :class:`Beams` with exactly W distinct items per prompt.

    Raises:
        RecnbError: fewer than W items are allowed, or the model's scores are not finite.
    """
    ids, mask = pad_left(prompts if shared is None else shared.rest_of(prompts), pad_id)
    with inference(model) as causal:
        device = next(causal.parameters()).device
        trie = trie.to(device)
        remaining = trie.remaining(exclude)
        _check_width(trie, width, len(ids), remaining)
        tree = _TokenTree(causal, ids.to(device), mask.to(device), shared)
        scorer = _Scorer(causal, trie, normalisation)
        opinion = None if prior is None else _PriorMass(trie, prior, remaining)
        leaves, scores, trace = _search(tree, scorer, trie, width, remaining, opinion)
        items = trie.order[leaves].long().cpu().numpy()
    return _ranked(items, scores.cpu().numpy(), tuple(trace) if return_trace else ())


def recommend(
    model: nn.Module,
    prompts: Sequence[np.ndarray],
    trie: Trie,
    config: DecodeConfig,
    exclude: Any | None = None,
    progress: bool = False,
    pad_id: int = 0,
    prior: ItemScores | None = None,
    prior_weight: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`beam_search` over many prompts, in batches of similar length; several processes share the batches.

    Args:
        model, trie, pad_id: as in :func:`beam_search`.
        prompts: U arrays of token ids, any lengths.
        config: beam width, normalisation and batch size.
        exclude: (U, N) sparse boolean of items that must not be returned, or None.
        progress: show a bar.
        prior: row numbers (B,) of ``prompts`` -> another recommender's scores (B, N), asked batch by batch so that
            (U, N) is never held; None: the model alone.
        prior_weight: of :class:`Prior`.

    Returns:
        items (U, W) int64 and scores (U, W) float32, in the order of ``prompts``.
    """
    shared = read_shared(model, prompts) if len(prompts) > config.batch_size else None
    items = np.empty((len(prompts), config.beam), np.int64)
    scores = np.empty((len(prompts), config.beam), np.float32)
    by_length = np.argsort([-len(prompt) for prompt in prompts], kind="stable")  # the largest batch comes first
    batches = [by_length[start : start + config.batch_size] for start in range(0, len(prompts), config.batch_size)]
    for rows in tqdm(distributed.share(batches), desc="decode", unit="batch", disable=not progress):
        found = beam_search(
            model, [prompts[row] for row in rows], trie, config.beam, config.normalisation, pad_id,
            exclude=None if exclude is None else exclude[rows], shared=shared,
            prior=None if prior is None else Prior(prior(rows), prior_weight),
        )  # fmt: skip
        items[rows], scores[rows] = found.items, found.scores
    return distributed.gather_rows(items, batches), distributed.gather_rows(scores, batches)


@dataclass(frozen=True)
class Prior:
    """Another recommender's scores of all items, to be multiplied with the model's probabilities along the trie.

    With q = softmax(scores), a little of it spread over all items, a prefix is judged by
    ``log p(prefix) + weight * log q(all items below it)``, so that a finished item has
    ``log p(item) + weight * log q(item)``: late fusion over the whole catalogue, without a list of candidates. At the
    root this is a prior over first tokens; further down it is what the other recommender says within the branch. Not
    part of EAGER-LLM: what is decoded so must be named as a mixture.

    Attributes:
        scores: (B, N), larger is better, any scale that a softmax understands (logits).
        weight: 0 leaves the model alone.
    """

    scores: np.ndarray
    weight: float = 1.0

    def log_probabilities(self) -> np.ndarray:
        """(B, N) float64 log q.

        Raises:
            RecnbError: a score is not finite, or the weight is negative.
        """
        scores = np.asarray(self.scores, dtype=np.float64)
        if not np.isfinite(scores).all() or not self.weight >= 0:
            raise RecnbError("prior: expected finite scores (B, N) and a weight of at least 0")
        q = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.log((1 - PRIOR_FLOOR) * q / q.sum(axis=1, keepdims=True) + PRIOR_FLOOR / scores.shape[1])


@dataclass(frozen=True)
class SharedPrefix:
    """The tokens that all prompts begin with, read once.

    Attributes:
        ids: (P,) token ids.
        layers: keys and values of each layer, (1, heads, P, d_head).
    """

    ids: np.ndarray
    layers: tuple[tuple[Tensor, Tensor], ...]

    def rest_of(self, prompts: Prompts) -> list[np.ndarray]:
        """The prompts without their common beginning.

        Raises:
            RecnbError: a prompt begins otherwise, or ends with it; or the prompts come padded.
        """
        if isinstance(prompts, tuple) or not all(
            len(prompt) > len(self.ids) and np.array_equal(prompt[: len(self.ids)], self.ids) for prompt in prompts
        ):
            raise RecnbError(f"shared prefix: expected prompts that begin with its {len(self.ids)} tokens and go on")
        return [prompt[len(self.ids) :] for prompt in prompts]


def read_shared(model: nn.Module, prompts: Sequence[np.ndarray], least: int = SHORTEST_SHARED) -> SharedPrefix | None:
    """Read what all prompts begin with; None if that is fewer than ``least`` tokens, or the whole of a prompt."""
    first = prompts[0]
    length = min(map(len, prompts)) - 1
    for prompt in prompts:
        differs = np.flatnonzero(prompt[:length] != first[:length])
        length = int(differs[0]) if len(differs) else length
        if length < least:
            return None
    with inference(model) as causal:
        cache = DynamicCache()  # without a config every layer keeps everything, as in the tree
        ids = torch.from_numpy(np.asarray(first[:length], np.int64))[None].to(next(causal.parameters()).device)
        causal.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
        return SharedPrefix(first[:length], tuple((layer.keys, layer.values) for layer in cache.layers))


def _search(
    tree: _TokenTree, scorer: _Scorer, trie: Trie, width: int, remaining: Tensor | None, prior: _PriorMass | None
) -> tuple[Tensor, Tensor, list[Level]]:
    """Walk down the trie; returns leaves (B, W), scores (B, W) and the trace.

    ``pending`` holds tokens chosen but not yet read by the model, so that a choice and the forced tokens behind it are
    read in one pass; ``states[i]`` is the hidden state that predicts token i of the chain, or the next choice.
    """
    nodes = torch.zeros(tree.batch, 1, dtype=torch.long, device=trie.order.device)  # (B, 1): the root
    scores = torch.zeros(nodes.shape, device=nodes.device)
    pending: list[Tensor] = []
    trace: list[Level] = []
    while len(trace) < trie.depth:
        chain = _forced_chain(trie, len(trace), nodes, scores, remaining)
        ends = len(trace) + len(chain) == trie.depth
        unread = pending + [step.tokens for step in chain]
        if ends:  # nothing follows the last token, and forced tokens cost nothing if only legal ones count
            unread = [] if scorer.forced_are_free else unread[:-1]
        states = ([] if pending else [tree.prompt_state]) + tree.read(unread)
        for i, step in enumerate(chain):
            if not scorer.forced_are_free:
                scores = scores + scorer(states[i], step.tokens[..., None])[..., 0]
            nodes = step.nodes
            trace.append(_level(len(trace) + 1, step, scores, forced=True))
        if not ends:
            step = _choose(trie, len(trace), nodes, scores, states[len(chain)], scorer, width, remaining, prior)
            tree.follow(step.parents)
            nodes, scores, pending = step.nodes, step.scores, [step.tokens]
            trace.append(_level(len(trace) + 1, step, scores, forced=False))
    return nodes, scores, trace


@dataclass(frozen=True)
class _Step:
    nodes: Tensor  # (B, w)
    tokens: Tensor  # (B, w)
    parents: Tensor  # (B, w)
    scores: Tensor  # (B, w)
    legal: Tensor  # (B,)


def _forced_chain(trie: Trie, depth: int, nodes: Tensor, scores: Tensor, remaining: Tensor | None) -> list[_Step]:
    """The steps from here that leave no live beam a choice."""
    chain: list[_Step] = []
    live = scores > -torch.inf
    own = torch.arange(nodes.shape[1], device=nodes.device).expand_as(nodes)
    for level in range(depth, trie.depth):
        branches = trie.branches(level, nodes, remaining)
        if bool(((branches.legal.sum(-1) > 1) & live).any()):
            break
        only = branches.legal.int().argmax(-1, keepdim=True)  # an empty place follows its first child: never returned
        nodes = branches.nodes.gather(-1, only)[..., 0]
        tokens = branches.tokens.gather(-1, only)[..., 0]
        chain.append(_Step(nodes, tokens, own, scores, live.sum(1)))
    return chain


def _choose(
    trie: Trie,
    depth: int,
    nodes: Tensor,
    scores: Tensor,
    state: Tensor,
    scorer: _Scorer,
    width: int,
    remaining: Tensor | None,
    prior: _PriorMass | None,
) -> _Step:
    """Score every legal child of every beam and keep the best W, in trie order.

    A prior changes nothing where there is no choice (all its mass goes on), so forced tokens need not ask it.
    """
    branches = trie.branches(depth, nodes, remaining)
    legal = branches.legal & (scores > -torch.inf)[..., None]
    gained = scorer(state, branches.tokens, legal)
    if prior is not None:
        gained = gained + prior.gain(depth, nodes, branches.nodes)
    totals = (scores[..., None] + gained).masked_fill(~legal, -torch.inf).flatten(1)  # (B, w * C)
    kept = _best(totals, width)
    return _Step(
        branches.nodes.flatten(1).gather(1, kept),
        branches.tokens.flatten(1).gather(1, kept),
        kept // branches.legal.shape[-1],
        totals.gather(1, kept),
        legal.flatten(1).sum(1),
    )


def _best(totals: Tensor, width: int) -> Tensor:
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


class _TokenTree:
    """The prompts' keys and values, and the beams' tokens behind them as a tree, in one growing cache.

    Attributes:
        prompt_state: (B, 1, d) hidden state at each prompt's last token.
        visible: (B, w, S') bool: which cache entries each beam may see (its prompt and its own ancestors).
        key_positions: (B, S') position of each cache entry in its own sequence.
        next_position: (B,) position of the next token, the same for all beams of a prompt.
    """

    def __init__(self, causal: Any, ids: Tensor, mask: Tensor, shared: SharedPrefix | None = None) -> None:
        self.backbone = causal.base_model
        self.config = causal.config.get_text_config(decoder=True)
        self.dtype = next(causal.parameters()).dtype
        _check_attention(self.config)
        # without a config every layer keeps everything: a sliding layer would drop what a sibling beam still needs
        self.cache = DynamicCache()
        self.batch = len(ids)
        known = 0 if shared is None else len(shared.ids)
        positions = known + (mask.cumsum(1) - 1).clamp(min=0)
        self.visible = F.pad(mask.bool(), (known, 0), value=True)[:, None]  # (B, 1, P + S)
        self.key_positions = torch.cat([torch.arange(known, device=ids.device).expand(len(ids), -1), positions], dim=1)
        self.next_position = known + mask.sum(1)
        prefill_mask: Tensor | dict[str, Tensor] = mask
        if shared is not None:
            for number, (keys, values) in enumerate(shared.layers):
                self.cache.update(keys.expand(len(ids), -1, -1, -1), values.expand(len(ids), -1, -1, -1), number)
            until_here = torch.ones(ids.shape[1], self.visible.shape[-1], device=ids.device).tril(known).bool()
            prefill_mask = self._masks(self.visible & until_here, positions)
        self.prompt_state = self._run(ids, positions, prefill_mask)[:, -1:]

    def read(self, steps: list[Tensor]) -> list[Tensor]:
        """Read c tokens per beam, given as c steps (B, w), in one pass; returns the c states (B, w, d) after each."""
        if not steps:
            return []
        tokens = torch.stack(steps, dim=-1)  # (B, w, c)
        batch, beams, length = tokens.shape
        positions = (self.next_position[:, None] + torch.arange(length, device=tokens.device)).repeat(1, beams)
        self.key_positions = torch.cat([self.key_positions, positions], dim=1)
        self.next_position = self.next_position + length
        seen = self._sees(beams, length)  # (B, w * c, S')
        self.visible = seen.view(batch, beams, length, -1)[:, :, -1]
        hidden = self._run(tokens.flatten(1), positions, self._masks(seen, positions))
        return list(hidden.view(batch, beams, length, -1).unbind(2))

    def follow(self, parents: Tensor) -> None:
        """The beams (B, w) that go on descend from the beams in these columns."""
        columns = parents[..., None].expand(-1, -1, self.visible.shape[-1])
        self.visible = self.visible.gather(1, columns)

    def _sees(self, beams: int, length: int) -> Tensor:
        """(B, w * c, S') bool: what each new token sees: what its beam saw, and the chain up to itself."""
        device = self.visible.device
        chain = torch.ones(length, length, device=device).tril()
        own = torch.kron(torch.eye(beams, device=device), chain).bool()  # (w * c, w * c)
        before = self.visible.repeat_interleave(length, dim=1)
        return torch.cat([before, own.expand(self.batch, -1, -1)], dim=-1)

    def _masks(self, seen: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """4D additive masks; one per kind of layer where a model mixes full and sliding attention (Gemma 3)."""
        window = getattr(self.config, "sliding_window", None)
        kinds = set(getattr(self.config, "layer_types", None) or [])
        near = seen
        if window is not None:
            near = seen & (positions[:, :, None] - self.key_positions[:, None] < window)
        if "sliding_attention" in kinds:
            masks = {"full_attention": seen, "sliding_attention": near}
            return {kind: self._additive(masks[kind]) for kind in kinds}
        # Mistral and Phi 3 slide everywhere and name no kinds; a kind "full" with a window means it is switched off
        return self._additive(seen if kinds else near)

    def _additive(self, seen: Tensor) -> Tensor:
        blocked = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        return blocked.masked_fill_(~seen, torch.finfo(self.dtype).min)[:, None]  # (B, 1, w * c, S')

    def _run(self, ids: Tensor, positions: Tensor, mask: Tensor | dict[str, Tensor]) -> Tensor:
        output = self.backbone(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            return_dict=True,
        )
        return output.last_hidden_state


class _Scorer:
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
        at_once = max(1, LOGITS_AT_ONCE // self.causal.config.get_text_config(decoder=True).vocab_size)
        parts = zip(rows.split(at_once), wanted.split(at_once), strict=True)
        raw = torch.cat([self._part(part, ids) for part, ids in parts]).view(batch, beams, count)
        if self.normalisation != "trie":
            return raw
        raw = raw if legal is None else raw.masked_fill(~legal, -torch.inf)
        return (raw - raw.logsumexp(-1, keepdim=True)).nan_to_num(nan=-torch.inf)

    def _part(self, states: Tensor, wanted: Tensor) -> Tensor:
        if self.normalisation == "full":
            logits = head_logits(self.causal, states)
            if states.dtype != torch.float32:
                logits[:, self.vocabulary] = head_logits(self.causal, states, self.vocabulary)
        else:
            logits = head_logits(self.causal, states, self.vocabulary)
            wanted = torch.searchsorted(self.vocabulary, wanted.contiguous())
        if self.normalisation != "trie":
            logits = logits.log_softmax(-1)  # one fused pass; logsumexp takes four, half as long as the head itself
        return logits.gather(1, wanted)


class _PriorMass:
    """A prior summed over the items below each node: the items of a node are neighbours, so one running sum serves."""

    def __init__(self, trie: Trie, prior: Prior, remaining: Tensor | None) -> None:
        logs = torch.from_numpy(prior.log_probabilities()).to(trie.order.device)
        if logs.shape[1] != trie.n_items:
            raise RecnbError(f"prior: expected scores of {trie.n_items} items, found {logs.shape[1]}")
        q = logs[:, trie.order.long()].exp()
        if remaining is not None:
            q = q * remaining.diff(dim=1)  # an excluded item takes no mass
        self.trie, self.weight = trie, prior.weight
        self.running = F.pad(q.cumsum(1), (1, 0))  # (B, N + 1) float64

    def gain(self, depth: int, nodes: Tensor, children: Tensor) -> Tensor:
        """What the prior adds on the way from nodes (B, w) of this depth to their children (B, w, C): float32."""
        step = self._log_mass(depth + 1, children) - self._log_mass(depth, nodes)[..., None]
        return (self.weight * step).float()

    def _log_mass(self, depth: int, nodes: Tensor) -> Tensor:
        return self.trie.items_below(depth, nodes, self.running).clamp(min=torch.finfo(torch.float64).tiny).log()


def _check_attention(config: Any) -> None:
    """Beams as a tree need an attention that takes any mask; refuse others before work starts."""
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if kinds:
        raise RecnbError(f"beam search over a shared cache: layers of kind {sorted(kinds)} take no tree mask")
    if config._attn_implementation not in ("sdpa", "eager"):
        raise RecnbError(
            f"beam search over a shared cache needs attn_implementation 'sdpa' or 'eager', found "
            f"'{config._attn_implementation}': call model.set_attn_implementation('sdpa') first"
        )


def _check_width(trie: Trie, width: int, batch: int, remaining: Tensor | None) -> None:
    if width < 1:
        raise RecnbError(f"beam width {width}: expected at least 1")
    if width > trie.n_items:
        raise RecnbError(f"beam width {width} is more than the {trie.n_items} items; nearest valid: {trie.n_items}")
    if remaining is None:
        return
    if len(remaining) != batch:
        raise RecnbError(f"exclude has {len(remaining)} rows, expected one per prompt ({batch})")
    left = remaining[:, -1]
    if int(left.min()) < width:
        row = int(left.argmin())
        raise RecnbError(
            f"prompt {row}: {int(left[row])} items are left after exclusion, fewer than the beam width {width}; "
            f"nearest valid width: {int(left[row])}"
        )


def _level(depth: int, step: _Step, scores: Tensor, forced: bool) -> Level:
    nodes, parents, tokens = (array.cpu().numpy() for array in (step.nodes, step.parents, step.tokens))
    return Level(depth, nodes, parents, tokens, scores.cpu().numpy(), step.legal.cpu().numpy(), forced)


def _ranked(items: np.ndarray, scores: np.ndarray, trace: tuple[Level, ...]) -> Beams:
    if not np.isfinite(scores).all():
        raise RecnbError("the model's scores are not finite: has training diverged?")
    best_first = np.lexsort((items, -scores), axis=-1)
    return Beams(np.take_along_axis(items, best_first, 1), np.take_along_axis(scores, best_first, 1), trace)


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


def recommend_lists(
    model: Any,
    prompts: Sequence[np.ndarray],
    trie: Trie,
    config: DecodeConfig,
    exclude: csr_matrix | None = None,
    progress: bool = False,
    pad_id: int = 0,
    prior: Callable[[np.ndarray], np.ndarray] | None = None,
    prior_weight: float = 1.0,
) -> np.ndarray:
    """:func:`recnb.llm.beam.recommend`, also for users who have fewer items left than the beam is wide.

    Such a user's beam is as wide as there are items left; the list ends with -1. Under ``accelerate launch`` the
    processes share the users, and each returns all lists.

    Args:
        model, prompts, trie, progress, pad_id, prior, prior_weight: as there.
        config: a beam wider than the catalogue is cut to it.
        exclude: (U, N) items to leave out; None: none.

    Returns:
        (U, W) int64 with W = min(beam, N).
    """
    from recnb.llm.beam import recommend  # torch: the metrics alone need none of it

    width = min(config.beam, trie.n_items)
    removed = np.zeros(len(prompts), dtype=np.int64) if exclude is None else np.diff(exclude.indptr)
    room = np.minimum(width, trie.n_items - removed)
    lists = np.full((len(prompts), width), NO_ITEM, dtype=np.int64)
    for places in np.unique(room[room > 0]).tolist():  # nearly always one value
        users = np.flatnonzero(room == places)
        beam = config.model_copy(update={"beam": places})
        left_out = None if exclude is None else exclude[users]
        opinion = None if prior is None else lambda rows, users=users: prior(users[rows])
        asked = [prompts[int(user)] for user in users]
        found, _ = recommend(model, asked, trie, beam, left_out, progress, pad_id, opinion, prior_weight)
        lists[users, :places] = found
    return lists
