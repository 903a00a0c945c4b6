"""Case studies: why these items, where the beam decided, and what the model can say in words (07_case_studies).

Everything here is about single users and items, so clarity comes before speed.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from torch import nn

from recnb.errors import RecnbError, nearest
from recnb.index.trie import Trie
from recnb.llm.beam import Level, beam_search
from recnb.llm.score import Normalisation, score_items, score_tokens
from recnb.style import plain

AT_ONCE = 512  # items that one search of the whole catalogue keeps


@dataclass(frozen=True)
class Walk:
    """One search, explained.

    Attributes:
        items: (W,) returned items, best first.
        scores: (W,) their log-probabilities.
        trace: what each step kept (:class:`recnb.llm.beam.Level`, batch of one).
        target: the true item.
        target_rank: 0-based rank of the target among *all* items, each scored outright.
        target_bits: (L,) bits the model needed for each token of the target.
        best_bits: (L,) the same for the first returned item.
        lost_at: depth (1..L) at which the target's prefix fell out of the beam; 0 if it was returned.
        agreement: share of the returned items that are among the W best of all items, each scored outright.
    """

    items: np.ndarray
    scores: np.ndarray
    trace: tuple[Level, ...]
    target: int
    target_rank: int
    target_bits: np.ndarray
    best_bits: np.ndarray
    lost_at: int
    agreement: float

    @property
    def outcome(self) -> str:
        """What became of the target, and whose doing it is.

        ``hit``: returned, and among the W best of all items. ``hit thanks to the beam``: returned only because the beam
        had dropped better items early, when forced tokens were not yet counted. ``lost by the beam``: among the W best,
        yet dropped. ``missed by the model``: neither.
        """
        among_best = self.target_rank < len(self.items)
        if self.lost_at == 0:
            return "hit" if among_best else "hit thanks to the beam"
        return "lost by the beam" if among_best else "missed by the model"


@dataclass(frozen=True)
class Prefix:
    """One node of the tree that a search walked."""

    depth: int  # tokens, 1..L
    node: int  # its number on that depth of the trie
    parent: int  # node on the depth above
    probability: float  # of all tokens so far
    kept: bool  # by the beam; False only where it lost the target
    survives: bool  # it leads to a returned item
    on_target: bool  # it leads to the true item
    items: int  # how many items of the catalogue begin so
    first_item: int  # the first of them in trie order (the item itself where there is one)
    forced: bool  # no beam had a choice at this depth


def choose_users(
    user_ids: np.ndarray, named: Sequence[str], hits: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct user numbers for the case studies, and for each whether it was named (bool): the ``named`` ids of all
    ``user_ids`` (U,), and ``count`` random ones of which half are misses.

    Hits are rare; users drawn evenly would show hardly one, users picked by hand would show nothing else. So half
    (rounded up) of the random ones are drawn from those whose target was missed, the rest from the hits.

    Args:
        hits: (U,) 1 where the target was in the list, 0 where not, -1 where unknown (never drawn).

    Raises:
        RecnbError: an id that no user has.
    """
    asked = numbers_of(user_ids, named, "cases.users")
    rng = np.random.default_rng(seed)
    missed = [u for u in rng.permutation(np.flatnonzero(hits == 0)).tolist() if u not in asked]
    found = [u for u in rng.permutation(np.flatnonzero(hits == 1)).tolist() if u not in asked]
    misses = min(len(missed), max(-(-count // 2), count - len(found)))
    drawn = missed[:misses] + found[: count - misses]
    return np.array(asked + drawn, dtype=np.int64), np.arange(len(asked) + len(drawn)) < len(asked)


def numbers_of(ids: Sequence[str] | np.ndarray, wanted: Sequence[str], key: str) -> list[int]:
    """Positions of the wanted ids among all ids of the source, each once.

    Raises:
        RecnbError: an id that does not exist; the message names the recipe's ``key`` and the nearest id.
    """
    known = {str(name): number for number, name in enumerate(ids)}
    for name in wanted:
        if name not in known:
            raise RecnbError(f"{key}: no id '{name}' among the {len(known)} of the data{nearest(name, known)}")
    return list(dict.fromkeys(known[name] for name in wanted))


def explain_search(
    model: nn.Module, prompt: np.ndarray, trie: Trie, width: int, target: int, normalisation: Normalisation = "full"
) -> Walk:
    """Search for one user and keep what is needed to say why.

    Args:
        prompt: (S,) token ids; the others as of :func:`recnb.llm.beam.beam_search`.
        target: the item the user really took next.
    """
    found = beam_search(model, [prompt], trie, width, normalisation)
    best = int(found.items[0, 0])
    tokens = score_tokens(model, [prompt], trie, normalisation, [target, best])[0]  # (2, L)
    scores = catalogue_scores(model, prompt, trie, normalisation)
    bits = -tokens / np.log(2)
    return Walk(
        items=found.items[0], scores=found.scores[0], trace=found.trace, target=target,
        target_rank=int((scores > scores[target]).sum()), target_bits=bits[0], best_bits=bits[1],
        lost_at=_lost_at(found.trace, trie, target),
        agreement=float(np.isin(found.items[0], np.argsort(-scores, kind="stable")[:width]).mean()),
    )  # fmt: skip


def _lost_at(trace: tuple[Level, ...], trie: Trie, target: int) -> int:
    path = trie.path(np.array([target]))[0].tolist()
    return next((level.depth for level in trace if path[level.depth] not in _kept(level)), 0)


def _kept(level: Level) -> dict[int, float]:
    """Node -> probability of the prefixes that a step kept."""
    found = zip(level.nodes[0].tolist(), level.scores[0].tolist(), strict=True)
    return {node: float(np.exp(score)) for node, score in found if np.isfinite(score)}


def catalogue_scores(
    model: nn.Module, prompt: np.ndarray, trie: Trie, normalisation: Normalisation = "full"
) -> np.ndarray:
    """(N,) log-probability of every item after one prompt, with no beam that could lose one.

    Under ``full`` an item's score does not depend on the other items, so the catalogue is cut into parts, each searched
    with a beam as wide as itself; the others fall back to :func:`recnb.llm.score.score_items`.
    """
    if normalisation != "full":
        return score_items(model, [prompt], trie, normalisation)[0]
    scores = np.empty(trie.n_items, np.float32)
    rows, parts = trie.item_tokens().cpu(), trie.order.cpu().split(AT_ONCE)  # neighbours in the trie share prefixes
    for part in parts:
        found = beam_search(model, [prompt], Trie.from_tokens(rows[part]), len(part))
        scores[part.numpy()[found.items[0]]] = found.scores[0]
    return scores


def walked_tree(walk: Walk, trie: Trie) -> list[Prefix]:
    """The prefixes that a search kept, and the one at which it lost the target; by depth, then in trie order."""
    tree, wanted = [], trie.path(np.array([walk.target]))[0].tolist()
    for level in walk.trace:
        depth, kept = level.depth, _kept(level)
        survivors = set(trie.path(walk.items)[:, depth].tolist())
        lost = {wanted[depth]: float(2.0 ** -walk.target_bits[:depth].sum())} if depth == walk.lost_at else {}
        for node, probability in sorted((kept | lost).items()):
            prefix = Prefix(
                depth, node, trie.parent(depth, node), probability, forced=level.forced,
                kept=node in kept, survives=node in survivors, on_target=node == wanted[depth],
                items=int(trie.items_below(depth, torch.tensor([node]))), first_item=int(trie.items_at(depth, node)[0]),
            )  # fmt: skip
            tree.append(prefix)
    return tree


def decisions(walk: Walk, columns: Sequence[str]) -> pd.DataFrame:
    """Bits of each token of the first returned item and of the target; index: the L ``columns`` of a code."""
    bits = {"bits, first item": walk.best_bits, "bits, true item": walk.target_bits}
    return pd.DataFrame(bits, index=pd.Index(columns, name="token"))


def category_shares(categories: Sequence[Sequence[str]]) -> dict[str, float]:
    """Category -> share of all items that have it."""
    counts = Counter(category for row in categories for category in dict.fromkeys(row))
    return {category: count / len(categories) for category, count in counts.items()}


def prefix_meaning(
    trie: Trie, depth: int, node: int, categories: Sequence[Sequence[str]], shares: Mapping[str, float]
) -> tuple[str, float]:
    """What sets the items below a prefix apart: the category c with the largest p log(p / q).

    p is the share of these items that have c, q the share of all items: a category that everything has says nothing.

    Args:
        categories: N lists of category names; shares: what :func:`category_shares` makes of them.

    Returns:
        The category and p; ("", 0.0) if the items have none.
    """
    below = trie.items_at(depth, node).tolist()
    counts = Counter(category for item in below for category in dict.fromkeys(categories[item]))
    if not counts:
        return "", 0.0
    telling = {name: (n / len(below)) * np.log(n / len(below) / shares[name]) for name, n in counts.items()}
    name = min(telling, key=lambda c: (-telling[c], c))
    return name, counts[name] / len(below)


def word_match(
    written: Sequence[str], catalogue: Sequence[str], ignore: Literal["english"] | None = None
) -> np.ndarray:
    """(M, N) F1 of the distinct words of each written text and each catalogue text, case ignored.

    Args:
        ignore: words that do not count (``english``: scikit-learn's list of function words).

    >>> word_match(["Toy Story (1995)"], ["toy story", "Heat (1995)"]).round(2).tolist()
    [[0.8, 0.4]]
    """
    counter = CountVectorizer(binary=True, token_pattern=r"(?u)\w+", stop_words=ignore, dtype=np.float64)
    try:
        counts = counter.fit_transform([*catalogue, *written])
    except ValueError:  # no text has a word
        return np.zeros((len(written), len(catalogue)))
    theirs, ours = sparse.csr_matrix(counts[: len(catalogue)]), sparse.csr_matrix(counts[len(catalogue) :])
    common = (ours @ theirs.T).toarray()
    sizes = np.asarray(ours.sum(1)) + np.asarray(theirs.sum(1)).T
    return 2 * common / np.maximum(sizes, 1)


def recovered_ranks(match: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(M,) how many catalogue texts fit what was written strictly better than the item's own does, from (M, N) F1.

    Nothing matched at all counts as the middle of the catalogue, not as first.
    """
    own = match[np.arange(len(items)), items]
    better = (match > own[:, None]).sum(1)
    return np.where(own > 0, better, match.shape[1] // 2)


def example_queries(categories: Sequence[Sequence[str]], titles: Sequence[str], count: int, seed: int) -> list[str]:
    """Queries for a catalogue when the recipe names none: its commonest categories, alone and with a title's word."""
    common = [name for name, _ in Counter(c for row in categories for c in row).most_common(count)]
    rng = np.random.default_rng(seed)
    queries = []
    for number, name in enumerate(common):
        inside = [item for item, row in enumerate(categories) if name in list(row)]
        words = [w for w in re.findall(r"\w+", titles[int(rng.choice(inside))]) if len(w) > 2]
        queries.append(f"{name}, {words[0]}" if number % 2 and words else name)
    return queries or [plain(titles[0])]
