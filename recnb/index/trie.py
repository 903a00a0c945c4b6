"""The prefix tree of the catalogue, as arrays: which token may follow which prefix of an item.

Items are sorted by their tokens, so every node of the tree is one contiguous range of sorted positions and the
children of a node are neighbours on the next level. Nothing here is a dictionary or an object per node; a whole batch
of beams is moved down the tree by indexing. Shown in ``06_evaluate`` and walked, user by user, in ``07_case_studies``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor

from recnb.errors import IndexGateError


@dataclass(frozen=True)
class Branches:
    """The children of a batch of nodes, padded to the widest.

    Attributes:
        nodes: (B, W, C) node numbers on the next level (arbitrary but valid where not legal).
        tokens: (B, W, C) token that leads to each child.
        legal: (B, W, C) bool; False on padding and on children below which every item is excluded.
    """

    nodes: Tensor
    tokens: Tensor
    legal: Tensor


@dataclass(frozen=True)
class Trie:
    """Prefix tree over N items of L tokens; any branching, any reuse of a token on several levels.

    A node of depth l is a number in [0, n_l), in the lexicographic order of its prefix; the root is node 0 of depth 0,
    and a node of depth L is the sorted position of an item. Numbers are int32, and what counts 0, 1, 2... is not
    stored: where every node of a depth leads to one item (or to one child), its number is the position (or the child).
    With 4 tokens and K far below N that is 16 bytes an item where two tokens tell all items apart, and 28 at most.

    Attributes:
        order: (N,) item number at each sorted position.
        tokens: per depth 0..L, (n_l,): the token that leads to each node (empty for the root).
        starts: per depth 0..L, (n_l + 1,): first sorted position of each node, the last entry is N; or None.
        offsets: per depth 0..L-1, (n_l + 1,): first child of each node among the nodes of depth l + 1; or None.

    Example:
        >>> trie = Trie.from_tokens(np.array([[5, 9], [5, 7], [6, 7]]))
        >>> trie.allowed([]), trie.allowed([5]), trie.order.tolist()
        ([5, 6], [7, 9], [1, 0, 2])
    """

    order: Tensor
    tokens: tuple[Tensor, ...]
    starts: tuple[Tensor | None, ...]
    offsets: tuple[Tensor | None, ...]

    @classmethod
    def from_tokens(cls, item_tokens: np.ndarray | Tensor) -> Trie:
        """Build the tree of (N, L) integers in [0, 2^31), one row per item: a sort and a pass over each column.

        Raises:
            IndexGateError: two items have the same tokens; the message names both.
            ValueError: not a non-empty (N, L) array of token ids.
        """
        rows = np.asarray(item_tokens)
        if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= 2**31:
            raise ValueError(
                f"item tokens: expected (N, L) integers from 0 to 2^31 - 1, found {rows.dtype} {rows.shape}"
            )
        columns = rows.T.astype(np.int32)
        order = np.lexsort(columns[::-1]).astype(np.int32)
        n, new = len(rows), np.zeros(len(rows), dtype=bool)
        new[0] = True  # new[i]: the first l tokens of sorted item i differ from those of the item before it
        starts, tokens = [np.array([0, n], np.int32)], [np.empty(0, np.int32)]
        for ordered in columns[:, order]:
            new[1:] |= ordered[1:] != ordered[:-1]
            first = np.flatnonzero(new)
            tokens.append(ordered[first])
            starts.append(np.append(first, n).astype(np.int32))
        _check_distinct(new, order, rows)
        offsets = [_first_children(here, below, n) for here, below in pairwise(starts)]
        kept = [None if len(start) == n + 1 else start for start in starts]
        return cls(torch.from_numpy(order), _tensors(tokens), _tensors(kept), _tensors(offsets))

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.order)

    @property
    def depth(self) -> int:
        """L, the tokens of an item."""
        return len(self.tokens) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays; one that stands in two places counts once."""
        arrays = [self.order, *self.tokens, *self.starts, *self.offsets]
        return sum({a.data_ptr(): a.nbytes for a in arrays if a is not None}.values())

    @cached_property
    def vocabulary(self) -> Tensor:
        """Sorted ids of all tokens that occur in an item: the ``index`` normalisation sums over these."""
        return torch.unique(torch.cat([torch.unique(level) for level in self.tokens])).long()

    def item_tokens(self) -> Tensor:
        """(N, L) int64 tokens of each item, in item order: read back from the tree."""
        position = torch.arange(self.n_items, device=self.order.device)
        rows = torch.empty(self.n_items, self.depth, dtype=torch.long, device=self.order.device)
        for depth, level in enumerate(self.tokens[1:], start=1):
            rows[self.order.long(), depth - 1] = level[self._node_at(depth, position)].long()
        return rows

    def nodes_per_level(self) -> list[int]:
        """Number of prefixes of each length 1..L, e.g. ``[42, 1682, 1682, 1682]``."""
        return [len(tokens) for tokens in self.tokens[1:]]

    def to(self, device: torch.device | str) -> Trie:
        """The same tree with its arrays on another device."""
        if self.order.device == torch.device(device):
            return self
        groups = (self.tokens, self.starts, self.offsets)
        moved: Any = (tuple(a if a is None else a.to(device) for a in group) for group in groups)
        return Trie(self.order.to(device), *moved)

    def remaining(self, exclude: Any | None) -> Tensor | None:
        """Running count of items that are not excluded, in sorted order: a node's items are one subtraction.

        Args:
            exclude: (B, N) sparse or dense boolean matrix, True where an item must not be returned; None: nothing is.

        Returns:
            (B, N + 1) int32: entry p counts the items allowed among the first p sorted ones; or None.
        """
        if exclude is None:
            return None
        dense = exclude.toarray() if issparse(exclude) else np.asarray(exclude)
        if dense.ndim != 2 or dense.shape[1] != self.n_items:
            raise ValueError(f"exclude: expected (B, {self.n_items}), found {dense.shape}")
        allowed = torch.from_numpy(dense == 0).to(self.order.device)[:, self.order.long()]
        return torch.nn.functional.pad(allowed.cumsum(1, dtype=torch.int32), (1, 0))

    def items_below(self, depth: int, nodes: Tensor, running: Tensor | None = None) -> Tensor:
        """How many items each node leads to, or the sum of whatever ``running`` (B, N + 1) adds up along the sorted
        items: see :meth:`remaining`; same shape as ``nodes`` (B, ...)."""
        starts, ends = _entry(self.starts[depth], nodes), _entry(self.starts[depth], nodes + 1)
        if running is None:
            return ends - starts
        return (running.gather(1, ends.flatten(1)) - running.gather(1, starts.flatten(1))).view(nodes.shape)

    def branches(self, depth: int, nodes: Tensor, remaining: Tensor | None = None) -> Branches:
        """All children of ``nodes`` (B, W) of this depth, see :class:`Branches`."""
        first = _entry(self.offsets[depth], nodes)  # (B, W)
        count = _entry(self.offsets[depth], nodes + 1) - first
        step = torch.arange(int(count.max()), device=nodes.device)  # (C,)
        children = (first[..., None] + step).clamp(max=len(self.tokens[depth + 1]) - 1)  # (B, W, C)
        legal = step < count[..., None]
        if remaining is not None:
            legal = legal & (self.items_below(depth + 1, children, remaining) > 0)
        return Branches(children, self.tokens[depth + 1][children].long(), legal)

    def items_at(self, depth: int, node: int) -> Tensor:
        """Items below a node, in the order of their tokens; int64."""
        first, end = _entry(self.starts[depth], torch.tensor([node, node + 1])).tolist()
        return self.order[first:end].long()

    def parent(self, depth: int, node: int) -> int:
        """The node above a node of this depth (1..L)."""
        return int(self._node_at(depth - 1, _entry(self.starts[depth], torch.tensor([node]))))

    def path(self, items: Tensor | np.ndarray) -> Tensor:
        """(M,) items -> (M, L + 1) node numbers from the root (depth 0) to the item's leaf (depth L)."""
        position = self.order.argsort()[torch.as_tensor(items, device=self.order.device)]
        return torch.stack([self._node_at(depth, position) for depth in range(self.depth + 1)], dim=-1)

    def allowed(self, prefix: Sequence[int]) -> list[int]:
        """Tokens that may follow a prefix of an item, ascending; empty if nothing starts so or the item is complete.

        One prefix at a time: for readers, and for ``generate(prefix_allowed_tokens_fn=...)``.
        """
        first, tokens = self._children(0, 0)
        for depth, token in enumerate(prefix, start=1):
            if token not in tokens or depth == self.depth:
                return []
            first, tokens = self._children(depth, first + tokens.index(token))
        return tokens

    def _children(self, depth: int, node: int) -> tuple[int, list[int]]:
        """Number of a node's first child, and the tokens that lead to its children."""
        first, end = _entry(self.offsets[depth], torch.tensor([node, node + 1])).tolist()
        return first, self.tokens[depth + 1][first:end].tolist()

    def _node_at(self, depth: int, position: Tensor) -> Tensor:
        """The nodes of a depth in which sorted positions lie."""
        starts = self.starts[depth]
        return position.long() if starts is None else torch.searchsorted(starts, position.int(), right=True) - 1


def _entry(array: Tensor | None, nodes: Tensor) -> Tensor:
    """``array[nodes]`` as int64; an array that is not stored counts 0, 1, 2..."""
    return nodes if array is None else array[nodes].long()


def _first_children(starts: np.ndarray, below: np.ndarray, n: int) -> np.ndarray | None:
    """Number of each node's first child, from both depths' first positions; None if each node has exactly one child."""
    if len(starts) == len(below):
        return None
    return starts if len(below) == n + 1 else np.searchsorted(below, starts).astype(np.int32)


def _tensors(arrays: Sequence[np.ndarray | None]) -> Any:
    return tuple(array if array is None else torch.from_numpy(array) for array in arrays)


def _check_distinct(is_new_item: np.ndarray, order: np.ndarray, rows: np.ndarray) -> None:
    clashes = np.flatnonzero(~is_new_item)
    if len(clashes):
        first, second = sorted(order[clashes[0] - 1 : clashes[0] + 1].tolist())
        raise IndexGateError(
            f"items {first} and {second} have the same tokens {rows[first].tolist()} ({len(clashes)} such "
            "items in all); expected one sequence per item: rebuild the index with more codes or levels"
        )
