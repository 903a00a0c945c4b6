"""How much two embeddings of the same items agree: shared neighbours, and linear CKA. Each beside its chance value.

Shown in ``notebooks/02_embeddings.ipynb``, where what text thinks is alike meets what behaviour thinks is alike.
"""

from dataclasses import asdict, dataclass

import numpy as np
from sklearn.preprocessing import MultiLabelBinarizer

from recnb.recommenders.content import unit

_ROWS = 2048  # rows of a similarity matrix held at once


@dataclass(frozen=True)
class Agreement:
    """Two numbers for how much two embeddings agree, and what unrelated ones would get.

    Attributes:
        items: how many items were compared.
        neighbours: k.
        overlap: mean share of an item's k nearest neighbours (cosine) that both embeddings name. In [0, 1].
        overlap_chance: k / (N - 1), the expectation for unrelated embeddings.
        cka: linear CKA; 1 for embeddings that differ by a rotation and a scale. In [0, 1].
        cka_chance: its mean when the items of one embedding are shuffled; well above 0 for wide embeddings.
    """

    items: int
    neighbours: int
    overlap: float
    overlap_chance: float
    cka: float
    cka_chance: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, for an artifact."""
        return asdict(self)


def agreement(a: np.ndarray, b: np.ndarray, k: int = 10, seed: int = 0) -> Agreement:
    """Compare two embeddings of the same items.

    Args:
        a, b: (N, d_a) and (N, d_b) of the same items in the same order, at least three.
        k: neighbours per item; at most N - 1 are used.
        seed: of five shuffles, whose mean is the chance value of CKA.
    """
    k = min(k, len(a) - 1)
    overlap = shared_neighbours(cosine_neighbours(a, k), cosine_neighbours(b, k)).mean() / k
    rng = np.random.default_rng(seed)
    chance = np.mean([linear_cka(a, b[rng.permutation(len(b))]) for _ in range(5)])
    return Agreement(len(a), k, float(overlap), k / (len(a) - 1), linear_cka(a, b), float(chance))


def cosine_neighbours(vectors: np.ndarray, k: int) -> np.ndarray:
    """The k items most alike by cosine, nearest first, the item itself left out: (N, d) -> (N, k) int64.

    >>> cosine_neighbours(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), 1).ravel().tolist()
    [1, 0, 1]
    """
    n = len(vectors)
    if not 1 <= k < n:
        raise ValueError(f"k = {k}: expected 1 to N - 1 = {n - 1}")
    directions = unit(vectors)  # so that an inner product is a cosine
    found = np.empty((n, k), dtype=np.int64)
    for start in range(0, n, _ROWS):
        rows = np.arange(start, min(start + _ROWS, n))
        similarity = directions[rows] @ directions.T
        similarity[np.arange(len(rows)), rows] = -np.inf
        best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        order = np.lexsort((best, -np.take_along_axis(similarity, best, axis=1)), axis=1)
        found[rows] = np.take_along_axis(best, order, axis=1)
    return found


def shared_neighbours(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many neighbours two lists have in common, per item: (N, k), (N, k) -> (N,) int64.

    >>> shared_neighbours(np.array([[1, 2, 3]]), np.array([[3, 9, 1]])).tolist()
    [2]
    """
    both = np.sort(np.concatenate([a, b], axis=1), axis=1)  # inside a list no item stands twice
    return (both[:, 1:] == both[:, :-1]).sum(axis=1)


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment (Kornblith et al., ICML 2019).

    ``|A'B|^2 / (|A'A| |B'B|)`` with Frobenius norms and centred columns: 1 when A and B are the same up to rotation
    and scale, 0 when no direction of one varies with any direction of the other (or one does not vary at all).
    """
    a = a.astype(np.float64) - a.mean(axis=0, dtype=np.float64)
    b = b.astype(np.float64) - b.mean(axis=0, dtype=np.float64)
    scale = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(a.T @ b) ** 2 / scale) if scale > 0 else 0.0


def label_agreement(neighbours: np.ndarray, labels: list[set[str]]) -> np.ndarray:
    """Mean Jaccard overlap between an item's label set and its neighbours': (N, k), N sets -> (N,) float64.

    An item without labels, and a neighbour without, count as nothing in common.
    """
    member = MultiLabelBinarizer().fit_transform(labels).astype(np.float32)  # (N, labels)
    sizes = member.sum(axis=1)
    common = np.stack([(member * member[column]).sum(axis=1) for column in neighbours.T], axis=1)  # (N, k)
    union = sizes[:, None] + sizes[neighbours] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0).mean(axis=1).astype(np.float64)
