"""TIGER: an encoder-decoder that writes the next item's semantic code (Rajput et al., NeurIPS 2023; arXiv 2305.05065).

The network is transformers' T5, trained from scratch on (history, next item) for every prefix of every sequence; an
item is one token per level, ``<level, code>``. The codes are the semantic columns of the run's own index (balanced
k-means) in place of the paper's RQ-VAE, so that what is compared is the recommender and not the index; they are unique,
so no token is spent on telling clashes apart (with a published index that has clashes one is, as in the paper). There
are no user tokens (in the paper 2,000 hashed ones): every system here sees the history alone.

Lists come from a beam search over :class:`recnb.index.trie.Trie`. The encoder reads each history once, and all beams of
a user stand side by side in one decoder pass: a mask lets each token see its own ancestors only, and corrects T5's
relative positions to depths in the tree. Used in ``06_evaluate``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from recnb.data.schema import Sequences, left_padded
from recnb.index.trie import Trie
from recnb.recommenders.epochs import EpochModel, EpochTraining, seeded
from recnb.recommenders.session_model import trimmed
from recnb.recommenders.settings import TigerConfig

START = 0  # T5's padding and the decoder's first token
VALIDATION_BEAM = 20  # W of the lists that choose the epoch
_ALIKE = 64  # batches whose samples are sorted by length together: little padding, and still a fresh mix every epoch


class TIGER(EpochModel):
    """A T5 and the codes it speaks.

    Args:
        codes: (N, L) integers from 0, one row per item; a level is added if rows are equal (:func:`told_apart`).
        config: sizes; length: T, items of a history.

    Attributes:
        network: transformers' T5 with a language-model head.
        tokens: (N, L) int64, the tokens of each item, from 1; 0 is :data:`START`.
        trie: the same as a tree.
    """

    title = "TIGER"

    def __init__(self, codes: np.ndarray, config: TigerConfig, length: int) -> None:
        super().__init__(length)
        codes = told_apart(codes)
        levels = codes.max(axis=0).astype(np.int64) + 1  # codes in use on each level
        tokens = codes.astype(np.int64) + 1 + np.concatenate([[0], np.cumsum(levels)[:-1]])
        self.trie = Trie.from_tokens(tokens)
        self.register_buffer("tokens", torch.from_numpy(tokens), persistent=False)
        sizes = T5Config(
            vocab_size=1 + int(levels.sum()), d_model=config.width, d_kv=config.head_width, d_ff=config.feedforward,
            num_layers=config.encoder_layers, num_decoder_layers=config.decoder_layers, num_heads=config.heads,
            dropout_rate=config.dropout, pad_token_id=START, decoder_start_token_id=START, eos_token_id=None,
        )  # fmt: skip
        self.network = T5ForConditionalGeneration(sizes)

    def read(self, histories: Tensor) -> tuple[Tensor, Tensor]:
        """Histories (B, T) of items filled with -1 on the left -> tokens (B, T L) and mask; never wholly empty."""
        missing = histories < 0
        tokens = self.tokens[histories.clamp(min=0)].masked_fill(missing[..., None], START).flatten(1)
        mask = ~missing.repeat_interleave(self.tokens.shape[1], dim=1)
        mask[:, -1] |= missing.all(1)  # an empty history is one START: a softmax needs something to look at
        return tokens, mask.long()

    def loss(self, histories: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the tokens of targets (B,) after histories (B, T)."""
        tokens, mask = self.read(histories)
        return self.network(input_ids=tokens, attention_mask=mask, labels=self.tokens[targets], use_cache=False).loss

    def lists(self, histories: np.ndarray, width: int, exclude: Any | None = None, batch_size: int = 128) -> np.ndarray:
        """(U, W) int64: the W = ``width`` most probable items of each user, by beam search over the tree of W beams;
        best first, all different, -1 at the end where a user has fewer than W items left.

        Args:
            histories: (U, T') items filled with -1 on the left; the latest T count, ``batch_size`` users at a time.
            exclude: (U, N) sparse or dense; items that must not be listed; None: none.

        Raises:
            ValueError: W is not in 1..N.
        """
        if not 1 <= width <= self.trie.n_items:
            raise ValueError(f"width {width}: lists hold between 1 and N = {self.trie.n_items} items")
        parts = [np.empty((0, width), np.int64)]
        for number, rows in enumerate(self.latest(histories, batch_size)):
            users = slice(number * batch_size, (number + 1) * batch_size)
            parts.append(_search(self, rows, width, None if exclude is None else exclude[users]))
        return np.concatenate(parts)

    @torch.no_grad()
    def scores_of(self, histories: np.ndarray, items: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """(U, M) float32 log-probability of the tokens of items (U, M) after histories (U, T'), which are read once."""
        found = [np.empty((0, items.shape[1]), np.float32)]
        for number, rows in enumerate(self.latest(histories, batch_size)):
            asked = torch.from_numpy(items[number * batch_size :][: len(rows)].astype(np.int64)).to(self.device)
            tokens, mask = self.read(trimmed(rows))
            states = self.network.get_encoder()(input_ids=tokens, attention_mask=mask).last_hidden_state
            states, mask = (part.repeat_interleave(asked.shape[1], dim=0) for part in (states, mask))
            labels = self.tokens[asked.flatten()]  # (B M, L)
            logits = self.network(encoder_outputs=(states,), attention_mask=mask, labels=labels, use_cache=False).logits
            said = logits.float().log_softmax(-1).gather(2, labels[..., None]).sum((1, 2))
            found.append(said.view(asked.shape).cpu().numpy())
        return np.concatenate(found)


def told_apart(codes: np.ndarray) -> np.ndarray:
    """Codes (N, L), with one more column that numbers equal rows if there are any (the paper, section 3.1).

    >>> told_apart(np.array([[1, 7], [2, 7], [1, 7]])).tolist()
    [[1, 7, 0], [2, 7, 0], [1, 7, 1]]
    """
    rows = pd.DataFrame(codes)
    number = rows.groupby(list(rows)).cumcount().to_numpy(codes.dtype)
    return np.column_stack([codes, number]) if number.any() else codes


# --- beam search -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def _search(tiger: TIGER, histories: Tensor, width: int, exclude: Any | None) -> np.ndarray:
    """Lists (B, W) of histories (B, T)."""
    trie, users = tiger.trie.to(tiger.device), len(histories)
    remaining = trie.remaining(exclude)
    decoder = _TreeDecoder(tiger, *tiger.read(trimmed(histories)))
    nodes = torch.zeros(users, 1, dtype=torch.long, device=tiger.device)
    scores = torch.zeros(nodes.shape, device=tiger.device)
    tokens, parents = torch.full_like(nodes, START), None
    for depth in range(trie.depth):
        said = decoder.add(tokens, parents)  # (B, w, V)
        ways = trie.branches(depth, nodes, remaining)
        total = (scores[..., None] + said.gather(2, ways.tokens)).masked_fill(~ways.legal, -torch.inf).flatten(1)
        scores, best = total.topk(min(width, total.shape[1]))
        nodes, tokens = ways.nodes.flatten(1).gather(1, best), ways.tokens.flatten(1).gather(1, best)
        parents = best // ways.nodes.shape[2]
    return _ranked(trie.order[nodes].cpu().numpy(), scores.cpu().numpy(), width)


class _TreeDecoder:
    """The decoder's tokens of a batch of users: a tree each, of which every level is read side by side.

    T5 counts positions in the order in which tokens stand. In a tree a token's position is its depth, so the mask that
    is added to T5's bias takes the one out and puts the other in.
    """

    def __init__(self, tiger: TIGER, tokens: Tensor, mask: Tensor) -> None:
        self.network, self.mask = tiger.network, mask
        states = tiger.network.get_encoder()(input_ids=tokens, attention_mask=mask).last_hidden_state
        self.states = (states,)
        self.tokens = torch.empty(len(tokens), 0, dtype=torch.long, device=tokens.device)  # (B, n)
        self.seen = torch.empty(len(tokens), 0, 0, dtype=torch.bool, device=tokens.device)  # (B, n, n) own ancestors
        self.depths = torch.empty(0, dtype=torch.long, device=tokens.device)  # (n,)

    def add(self, tokens: Tensor, parents: Tensor | None) -> Tensor:
        """Append a level of tokens (B, w), children of columns (B, w) of the level before; log-probabilities (B, w, V)
        of what follows each."""
        before, new = self.tokens.shape[1], tokens.shape[1]
        own = torch.eye(new, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        above = self.seen.new_zeros(len(tokens), new, before)
        if parents is not None:
            level = self.seen[:, self.depths == self.depths[-1]]  # (B, w', n) the level before
            above = level.gather(1, parents[..., None].expand(-1, -1, before))
        older = torch.nn.functional.pad(self.seen, (0, new))
        self.seen = torch.cat([older, torch.cat([above, own], dim=2)], dim=1)
        self.tokens = torch.cat([self.tokens, tokens], dim=1)
        depth = 0 if parents is None else int(self.depths[-1]) + 1
        self.depths = torch.cat([self.depths, self.depths.new_full((new,), depth)])
        logits = self.network(
            encoder_outputs=self.states, attention_mask=self.mask, decoder_input_ids=self.tokens,
            decoder_attention_mask=self._mask(), use_cache=False,
        ).logits[:, before:]  # fmt: skip
        return logits.float().log_softmax(-1)

    def _mask(self) -> Tensor:
        """(B, heads, n, n) to be added to T5's attention scores."""
        attention = self.network.get_decoder().block[0].layer[0].SelfAttention  # its bias serves all layers
        levels, places = int(self.depths[-1]) + 1, len(self.depths)
        by_depth = attention.compute_bias(levels, levels)[:, :, self.depths][..., self.depths]
        shift = by_depth - attention.compute_bias(places, places)
        return shift.masked_fill(~self.seen[:, None], torch.finfo(shift.dtype).min)


def _ranked(items: np.ndarray, scores: np.ndarray, width: int) -> np.ndarray:
    """Best first, ties by item number; -1 where a beam died or was never there."""
    items = np.where(np.isfinite(scores), items, -1).astype(np.int64)
    order = np.lexsort((items, -scores), axis=-1)
    return np.pad(np.take_along_axis(items, order, 1), ((0, 0), (0, width - items.shape[1])), constant_values=-1)


# --- training --------------------------------------------------------------------------------------------------------


def train_tiger(
    train: Sequences, codes: np.ndarray, config: TigerConfig, length: int, *, seed: int, device: str = "cpu",
    validation: tuple[np.ndarray, np.ndarray] | None = None, progress: bool = False, keep: Path | None = None,
) -> TIGER:  # fmt: skip
    """Fit TIGER on every (history, next item) of the training sequences.

    Args:
        codes: (N, L) the items' codes.
        config: sizes and training; ``validation_users`` of those given are drawn once, and validate.

    The others, and what is returned, as of :func:`recnb.recommenders.next_item.train_sequential`.
    """
    rng = np.random.default_rng(seed)
    with seeded(seed, device):
        tiger = TIGER(codes, config, length).to(device)
        if validation is not None and 0 < config.validation_users < len(validation[1]):
            drawn = np.sort(rng.choice(len(validation[1]), config.validation_users, replace=False))
            validation = (validation[0][drawn], validation[1][drawn])
        samples = _Prefixes(train, length)

        def learn(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, float, int]:
            histories, targets = (part.to(tiger.device) for part in batch)
            loss = tiger.loss(histories, targets)
            return loss, float(loss.detach()) * len(targets), len(targets)

        steps = -(-len(samples) // config.batch_size)
        training = EpochTraining(tiger, config, steps, rng, keep, longest=1.0)
        check = None if validation is None else lambda: list_recall(tiger, *validation)
        training.run(lambda: samples.batches(config.batch_size, rng), learn, check, progress)
    return tiger.eval()


def list_recall(tiger: TIGER, histories: np.ndarray, targets: np.ndarray) -> float:
    """R@10 of lists of :data:`VALIDATION_BEAM` items (or of the whole catalogue)."""
    found = tiger.lists(histories, min(VALIDATION_BEAM, tiger.trie.n_items))[:, :10]
    return float((found == np.asarray(targets)[:, None]).any(1).mean())


class _Prefixes:
    """Every (history, next item) of the sequences, gathered when a batch asks for it."""

    def __init__(self, train: Sequences, length: int) -> None:
        first = np.repeat(train.offsets[:-1], train.lengths)  # (n,) where each event's sequence starts
        self.places = np.flatnonzero(np.arange(len(train.items)) > first)  # events with something before them
        self.starts = first[self.places]
        self.items, self.length = train.items, length

    def __len__(self) -> int:
        return len(self.places)

    def batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Histories (B, T') and targets (B,) in a new order; those of a batch are about equally long."""
        order = rng.permutation(len(self))
        lengths = np.minimum(self.places - self.starts, self.length)[order]
        order = order[np.lexsort((lengths, np.arange(len(order)) // (_ALIKE * batch_size)))]
        for number in rng.permutation(-(-len(order) // batch_size)):
            rows = order[number * batch_size : (number + 1) * batch_size]
            histories = left_padded(self.items, self.starts[rows], self.places[rows], self.length).astype(np.int64)
            targets = torch.from_numpy(self.items[self.places[rows]].astype(np.int64))
            yield trimmed(torch.from_numpy(histories)), targets
