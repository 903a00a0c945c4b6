"""Answers as one tree of tokens: what several of them begin with is one node, read once and scored once.

A *node* is a beginning of an answer. Nodes are numbered by depth, then by parent, then by token, so that a parent
stands before its children and nodes of one parent are neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recnb.errors import RecnbError

NO_NODE = -1


@dataclass(frozen=True)
class AnswerTree:
    """N answers of at most L tokens, M nodes.

    Attributes:
        prefixes: (N, L) int64 node of the first l + 1 tokens of each answer; -1 behind its end.
        tokens: (M,) int64 token that leads to each node.
        ancestors: (M, L) int64 nodes on the way to each node, itself the last; -1 behind.
    """

    prefixes: np.ndarray
    tokens: np.ndarray
    ancestors: np.ndarray

    @classmethod
    def of(cls, answers: Sequence[np.ndarray]) -> AnswerTree:
        """Build it from token ids: a sort per depth.

        Raises:
            RecnbError: an answer without tokens.
        """
        lengths = np.array([len(answer) for answer in answers], np.int64)
        if not len(lengths) or not lengths.all():
            raise RecnbError(f"answer {lengths.argmin() if len(lengths) else 0}: expected at least one token")
        rows = np.full((len(lengths), lengths.max()), NO_NODE, np.int64)
        rows[np.arange(rows.shape[1]) < lengths[:, None]] = np.concatenate(list(answers))
        prefixes, holders, depths = _numbered(rows)
        ancestors = np.where(np.arange(rows.shape[1]) <= depths[:, None], prefixes[holders], NO_NODE)
        return cls(prefixes, rows[holders, depths], ancestors)

    @property
    def depths(self) -> np.ndarray:
        """(M,) tokens before each node's own."""
        return (self.ancestors >= 0).sum(1) - 1

    @property
    def parents(self) -> np.ndarray:
        """(M,) the node above each, -1 for those that begin an answer."""
        above = np.take_along_axis(self.ancestors, np.maximum(self.depths - 1, 0)[:, None], 1)[:, 0]
        return np.where(self.depths > 0, above, NO_NODE)


def _numbered(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the beginnings of rows (N, L), -1 behind an end: (N, L) numbers, and of each a row and its last column."""
    prefixes, holders, depths = np.full_like(rows, NO_NODE), [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for depth, column in enumerate(rows.T):
        going = np.flatnonzero(column >= 0)
        steps = column[going] if not depth else prefixes[going, depth - 1] * (rows.max() + 1) + column[going]
        _, where, number = np.unique(steps, return_index=True, return_inverse=True)
        prefixes[going, depth] = sum(map(len, holders)) + number
        holders.append(going[where])
        depths.append(np.full(len(where), depth))
    return prefixes, np.concatenate(holders), np.concatenate(depths)


@dataclass(frozen=True)
class Asked:
    """The nodes that F questions need, each once a question: E edges, sorted by question, then node.

    Attributes:
        fork, node: (E,) question and node.
        above: (E,) place of the node's parent among those that its question reads; -1: the end of the question itself.
        inner: (F, P) nodes that each question reads, because an answer goes on behind; -1 behind the last.
        edges: (F, C, L) edge of each token of each candidate; -1 behind its end.
    """

    fork: np.ndarray
    node: np.ndarray
    above: np.ndarray
    inner: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, tree: AnswerTree, candidates: np.ndarray) -> Asked:
        """What is needed to score ``candidates`` (F, C), answers of the tree.

        Raises:
            RecnbError: a candidate that is no answer.
        """
        _check(candidates, len(tree.prefixes))
        nodes, questions = tree.prefixes[candidates], np.arange(len(candidates))
        real, size = nodes >= 0, len(tree.tokens)
        keys, found = np.unique((questions[:, None, None] * size + nodes)[real], return_inverse=True)
        edges = np.full(nodes.shape, NO_NODE, np.int64)
        edges[real] = found
        read = np.zeros(len(keys), bool)
        read[edges[..., :-1][real[..., 1:]]] = True
        fork, node = np.divmod(keys, size)
        counts = np.bincount(fork[read], minlength=len(candidates))
        place = np.cumsum(read) - read - (np.cumsum(counts) - counts)[fork]
        parent = tree.parents[node]
        above = np.where(parent < 0, -1, place[np.searchsorted(keys, fork * size + np.maximum(parent, 0))])
        inner = np.full((len(candidates), counts.max(initial=0)), NO_NODE, np.int64)
        inner[fork[read], place[read]] = node[read]
        return cls(fork, node, above, inner, edges)

    @property
    def reads(self) -> np.ndarray:
        """(F,) tokens that each question reads."""
        return (self.inner >= 0).sum(1)

    def of_forks(self, forks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Edges of these questions, one after the other, and for each the place of its question in ``forks``."""
        starts, ends = (np.searchsorted(self.fork, forks, side) for side in ("left", "right"))
        counts = ends - starts
        slots = np.repeat(np.arange(len(forks)), counts)
        return np.arange(len(slots)) + (starts - (np.cumsum(counts) - counts))[slots], slots


def _check(candidates: np.ndarray, count: int) -> None:
    wrong = np.argwhere((candidates < 0) | (candidates >= count))
    if len(wrong):
        row, column = wrong[0].tolist()
        found = candidates[row, column]
        raise RecnbError(f"candidate {column} of prompt {row}: {found}, expected an answer's place, 0 to {count - 1}")
