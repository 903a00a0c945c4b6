"""The prefix tree of the catalogue, as arrays: which token may follow which prefix of an item.

Items are sorted by their tokens, so every node of the tree is one contiguous range of sorted positions and the
children of a node are neighbours on the next level. Nothing here is a dictionary or an object per node; a whole batch
of beams is moved down the tree by indexing. Shown in ``notebooks/06_evaluate.ipynb`` and walked, user by user, in
``notebooks/07_case_studies.ipynb``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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
    and a node of depth L is the sorted position of an item.

    Attributes:
        item_tokens: (N, L) tokens of each item, in item order.
        order: (N,) item number at each sorted position.
        starts: per depth 0..L, (n_l + 1,): first sorted position of each node; the last entry is N.
        offsets: per depth 0..L-1, (n_l + 1,): first child of each node among the nodes of depth l + 1.
        tokens: per depth 0..L, (n_l,): the token that leads to each node (empty for the root).

    Example:
        >>> trie = Trie.from_tokens(np.array([[5, 9], [5, 7], [6, 7]]))
        >>> trie.allowed([]), trie.allowed([5]), trie.item([5, 9])
        ([5, 6], [7, 9], 0)
    """

    item_tokens: Tensor
    order: Tensor
    starts: tuple[Tensor, ...]
    offsets: tuple[Tensor, ...]
    tokens: tuple[Tensor, ...]

    @classmethod
    def from_tokens(cls, item_tokens: np.ndarray | Tensor) -> Trie:
        """Build the tree.

        Args:
            item_tokens: (N, L) integers >= 0, one row per item.

        Raises:
            IndexGateError: two items have the same tokens; the message names both.
            ValueError: not a non-empty (N, L) array of token ids.
        """
        rows = np.asarray(item_tokens)
        if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind not in "iu" or rows.min() < 0:
            raise ValueError(f"item tokens: expected (N, L) integers >= 0, found {rows.dtype} {rows.shape}")
        rows = rows.astype(np.int64)
        order = np.lexsort(rows.T[::-1])
        ordered = rows[order]
        # is_new[i, l]: the first l + 1 tokens of sorted item i differ from those of the item before it
        is_new = np.ones(rows.shape, dtype=bool)
        is_new[1:] = np.logical_or.accumulate(ordered[1:] != ordered[:-1], axis=1)
        _check_distinct(is_new[:, -1], order, ordered)
        starts = [np.array([0, len(rows)])]
        starts += [np.append(np.flatnonzero(is_new[:, level]), len(rows)) for level in range(rows.shape[1])]
        offsets = [np.searchsorted(below, here) for here, below in zip(starts[:-1], starts[1:], strict=True)]
        tokens = [np.empty(0, np.int64)] + [ordered[s[:-1], level] for level, s in enumerate(starts[1:])]
        as_tensors = tuple(tuple(torch.from_numpy(a) for a in group) for group in (starts, offsets, tokens))
        return cls(torch.from_numpy(rows), torch.from_numpy(order), *as_tensors)

    @property
    def n_items(self) -> int:
        """N."""
        return int(self.item_tokens.shape[0])

    @property
    def depth(self) -> int:
        """L, the tokens of an item."""
        return int(self.item_tokens.shape[1])

    @property
    def vocabulary(self) -> Tensor:
        """Sorted ids of all tokens that occur in an item: the ``index`` normalisation sums over these."""
        return torch.unique(self.item_tokens)

    def nodes_per_level(self) -> list[int]:
        """Number of prefixes of each length 1..L, e.g. ``[42, 1682, 1682, 1682]``."""
        return [len(tokens) for tokens in self.tokens[1:]]

    def to(self, device: torch.device | str) -> Trie:
        """The same tree with its arrays on another device."""
        groups = (tuple(a.to(device) for a in group) for group in (self.starts, self.offsets, self.tokens))
        return Trie(self.item_tokens.to(device), self.order.to(device), *groups)

    def remaining(self, exclude: Any | None) -> Tensor | None:
        """Running count of items that are not excluded, in sorted order.

        Args:
            exclude: (B, N) sparse or dense boolean matrix, True where an item must not be returned; None: nothing is.

        Returns:
            (B, N + 1) int32: entry p counts the items allowed among the first p sorted ones, so that a node's items
            are one subtraction; or None.
        """
        if exclude is None:
            return None
        dense = exclude.toarray() if hasattr(exclude, "toarray") else np.asarray(exclude)
        if dense.ndim != 2 or dense.shape[1] != self.n_items:
            raise ValueError(f"exclude: expected (B, {self.n_items}), found {dense.shape}")
        allowed = torch.from_numpy(dense == 0).to(self.order.device)[:, self.order]
        return torch.nn.functional.pad(allowed.cumsum(1, dtype=torch.int32), (1, 0))

    def items_below(self, depth: int, nodes: Tensor, remaining: Tensor | None = None) -> Tensor:
        """How many items (that are not excluded) each node leads to; same shape as ``nodes`` (B, ...)."""
        starts, ends = self.starts[depth][nodes], self.starts[depth][nodes + 1]
        if remaining is None:
            return ends - starts
        batch = nodes.shape[0]
        below = remaining.gather(1, ends.reshape(batch, -1)) - remaining.gather(1, starts.reshape(batch, -1))
        return below.reshape(nodes.shape)

    def branches(self, depth: int, nodes: Tensor, remaining: Tensor | None = None) -> Branches:
        """All children of ``nodes`` (B, W) of this depth, see :class:`Branches`."""
        first = self.offsets[depth][nodes]  # (B, W)
        count = self.offsets[depth][nodes + 1] - first
        step = torch.arange(int(count.max()), device=nodes.device)  # (C,)
        children = (first[..., None] + step).clamp(max=len(self.tokens[depth + 1]) - 1)  # (B, W, C)
        legal = step < count[..., None]
        if remaining is not None:
            legal = legal & (self.items_below(depth + 1, children, remaining) > 0)
        return Branches(children, self.tokens[depth + 1][children], legal)

    def path(self, items: Tensor | np.ndarray) -> Tensor:
        """(M,) items -> (M, L + 1) node numbers from the root (depth 0) to the item's leaf (depth L)."""
        wanted = torch.as_tensor(items, device=self.order.device)
        position = torch.empty_like(self.order)
        position[self.order] = torch.arange(self.n_items, device=self.order.device)
        found = [torch.searchsorted(starts, position[wanted], right=True) - 1 for starts in self.starts]
        return torch.stack(found, dim=-1)

    def allowed(self, prefix: Sequence[int]) -> list[int]:
        """Tokens that may follow a prefix of an item, ascending; empty if nothing starts so or the item is complete.

        One prefix at a time: for readers, and for ``generate(prefix_allowed_tokens_fn=...)``.
        """
        rows = self.item_tokens
        if len(prefix) >= self.depth:
            return []
        same = (rows[:, : len(prefix)] == rows.new_tensor(list(prefix), dtype=rows.dtype)).all(dim=1)
        return sorted(set(rows[same, len(prefix)].tolist()))

    def item(self, tokens: Sequence[int]) -> int:
        """The item with exactly these L tokens, or -1."""
        if len(tokens) != self.depth:
            return -1
        same = (self.item_tokens == self.item_tokens.new_tensor(list(tokens))).all(dim=1)
        return int(same.nonzero()[0, 0]) if bool(same.any()) else -1


def _check_distinct(is_new_item: np.ndarray, order: np.ndarray, ordered: np.ndarray) -> None:
    clashes = np.flatnonzero(~is_new_item)
    if len(clashes):
        first, second = sorted((int(order[clashes[0] - 1]), int(order[clashes[0]])))
        raise IndexGateError(
            f"items {first} and {second} have the same tokens {ordered[clashes[0]].tolist()} ({len(clashes)} such "
            "items in all); expected one sequence per item: rebuild the index with more codes or levels"
        )
