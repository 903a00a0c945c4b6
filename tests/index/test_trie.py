"""The trie against sets of tuples, on random catalogues."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from recnb.errors import IndexGateError
from recnb.index.trie import Trie


@st.composite
def catalogues(draw: st.DrawFn) -> np.ndarray:
    """Distinct rows of few tokens: ragged, with chains, and the same token on several levels."""
    depth = draw(st.integers(1, 4))
    size = draw(st.integers(1, 5))
    rows = draw(arrays(np.int64, (draw(st.integers(1, 25)), depth), elements=st.integers(0, size)))
    unique = np.unique(rows, axis=0)
    return unique[draw(st.permutations(range(len(unique))))]


def prefixes(rows: np.ndarray, depth: int) -> list[tuple[int, ...]]:
    return sorted({tuple(row[:depth]) for row in rows.tolist()})


@settings(max_examples=120, deadline=None)
@given(catalogues())
def test_nodes_are_the_sorted_prefixes(rows: np.ndarray) -> None:
    trie = Trie.from_tokens(rows)
    assert trie.nodes_per_level() == [len(prefixes(rows, depth)) for depth in range(1, rows.shape[1] + 1)]
    for depth in range(1, rows.shape[1] + 1):
        assert trie.tokens[depth].tolist() == [prefix[-1] for prefix in prefixes(rows, depth)]
    assert rows[trie.order.numpy()].tolist() == sorted(rows.tolist())
    assert trie.item_tokens().tolist() == rows.tolist()
    assert trie.vocabulary.tolist() == sorted({token for row in rows.tolist() for token in row})
    for depth in range(rows.shape[1] + 1):
        for node, prefix in enumerate(prefixes(rows, depth)):
            assert [rows[i].tolist() for i in trie.items_at(depth, node)] == sorted(
                row for row in rows.tolist() if tuple(row[:depth]) == prefix
            )


@settings(max_examples=120, deadline=None)
@given(catalogues(), st.randoms(use_true_random=False))
def test_branches_are_the_legal_continuations(rows: np.ndarray, random) -> None:
    trie = Trie.from_tokens(rows)
    exclude = np.array([[random.random() < 0.5 for _ in rows] for _ in range(2)])
    remaining = trie.remaining(sparse.csr_matrix(exclude))
    for depth in range(rows.shape[1]):
        known = prefixes(rows, depth)
        below = prefixes(rows, depth + 1)
        nodes = torch.tensor([random.choices(range(len(known)), k=3) for _ in range(2)])
        branches = trie.branches(depth, nodes, remaining)
        for b in range(2):
            kept = rows[~exclude[b]].tolist()
            for w in range(3):
                prefix = known[nodes[b, w]]
                expected = sorted({tuple(row[: depth + 1]) for row in kept if tuple(row[:depth]) == prefix})
                legal = branches.legal[b, w]
                assert [below[i] for i in branches.nodes[b, w][legal]] == expected
                assert branches.tokens[b, w][legal].tolist() == [path[-1] for path in expected]
                count = trie.items_below(depth, nodes, remaining)[b, w]
                assert count == sum(tuple(row[:depth]) == prefix for row in kept)


@settings(max_examples=60, deadline=None)
@given(catalogues())
def test_path_and_allowed(rows: np.ndarray) -> None:
    trie = Trie.from_tokens(rows)
    paths = trie.path(np.arange(len(rows)))
    for item, row in enumerate(rows.tolist()):
        assert trie.order[paths[item, -1]] == item
        for depth in range(len(row)):
            assert prefixes(rows, depth + 1)[paths[item, depth + 1]] == tuple(row[: depth + 1])
            assert trie.allowed(row[:depth]) == sorted({r[depth] for r in rows.tolist() if r[:depth] == row[:depth]})
        assert trie.allowed(row) == []
    assert trie.allowed([99]) == []
    assert trie.allowed([*rows[0].tolist(), 0]) == []


@pytest.mark.parametrize("scale", [1, 2**12, 2**29])
def test_wide_tokens_sort_as_narrow_ones(scale: int) -> None:
    """Rows that do not fit one integer are sorted in groups of columns."""
    narrow = np.unique(np.random.default_rng(0).integers(0, 4, (300, 6)), axis=0)
    narrow = narrow[np.random.default_rng(1).permutation(len(narrow))]
    assert (Trie.from_tokens(narrow * scale).order.numpy() == np.lexsort(narrow.T[::-1])).all()


@pytest.mark.parametrize("columns", [[0, 1, 2, 3], [2, 0, 3, 1], [1, 3, 0, 2]])
def test_an_item_takes_at_most_32_bytes(columns: list[int]) -> None:
    n, k = 5000, 71
    first, second = np.random.default_rng(0).permutation(n), np.random.default_rng(1).permutation(n)
    rows = np.stack([first // k, first % k, second // k, second % k], axis=1)[:, columns]
    assert Trie.from_tokens(rows).nbytes <= 20 * n
    # the worst there is: below the first depth every one is nearly, but not quite, as wide as the catalogue
    worst = np.stack([first // k, first % k, first, second], axis=1)
    worst[:4] = [[9, 9, 1, 1], [9, 9, 1, 2], [9, 9, 2, 1], [9, 8, 3, 1]]
    trie = Trie.from_tokens(np.unique(worst, axis=0))
    assert len(set(trie.nodes_per_level())) == 4 and trie.nbytes <= 28.5 * n


def test_equal_items_are_named() -> None:
    with pytest.raises(IndexGateError, match=r"items 1 and 3 have the same tokens \[4, 5\]"):
        Trie.from_tokens(np.array([[4, 6], [4, 5], [3, 1], [4, 5]]))


@pytest.mark.parametrize(
    "bad", [np.zeros((0, 3), int), np.zeros(3, int), np.zeros((2, 0), int), np.array([[1.5]]), np.array([[-1]])]
)
def test_bad_tokens_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        Trie.from_tokens(bad)


def test_exclusion_must_fit_the_catalogue() -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 2\)"):
        Trie.from_tokens(np.array([[1], [2]])).remaining(np.zeros((1, 3), bool))
