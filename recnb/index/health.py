"""Is an index worth training on? Numbers before any training, and a gate (shown in 03_index)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.preprocessing import MultiLabelBinarizer

from recnb.errors import IndexGateError
from recnb.index.build import ItemIndex
from recnb.index.settings import GateConfig

TOO_COMMON = 0.5  # a category that more items than this carry tells nothing apart ("Beauty" in a beauty shop)
QUERIES = 2000  # items at most whose neighbours are looked up, evenly spaced
SHUFFLES = 10  # of the items, averaged for chance purity


def index_health(index: ItemIndex, embeddings: dict[str, np.ndarray], categories: Sequence[Sequence[str]], seed: int,
                 neighbours: int = 10) -> dict[str, Any]:
    """Everything worth knowing about an index before a model learns it; plain numbers, ready for JSON.

    Args:
        index: the index.
        embeddings: source -> (N, d), those it was built from (others are welcome: they show what it does not keep).
        categories: N lists of category names; empty lists are skipped.
        seed: of the shuffles that give chance purity; neighbours: k of neighbour preservation.

    Returns:
        ``items``, ``codes_per_level``, ``unique`` (share of items whose code is theirs alone), ``unique_by_source``,
        ``columns`` (per column: :func:`column_usage`, :func:`category_purity`), ``neighbours`` (source -> column ->
        :func:`neighbours_together`), ``explained`` (source -> share of the embedding's variance that the centroids of
        levels 1..l add up to), ``branching`` (:func:`branching`), ``compression`` (:func:`compression`).
    """
    near = {source: nearest_neighbours(x, neighbours, query_rows(len(x), QUERIES)) for source, x in embeddings.items()}
    own = [source for source in index.sources if source in embeddings]
    columns = {name: index.column(name) for name in index.columns}
    return {
        "items": index.n_items,
        "codes_per_level": index.codes_per_level,
        "unique": unique_share(index.codes),
        "unique_by_source": {source: unique_share(index.source_codes(source)) for source in index.sources},
        "columns": {
            name: column_usage(labels, index.codes_per_level) | category_purity(labels, categories, seed)
            for name, labels in columns.items()
        },
        "neighbours": {
            source: {name: neighbours_together(labels, *found) for name, labels in columns.items()}
            for source, found in near.items()
        },
        "explained": {source: explained_variance(index, source, embeddings[source]) for source in own},
        "branching": branching(index.codes),
        "compression": compression(index, embeddings),
    }


def check_gate(health: dict[str, Any], gate: GateConfig) -> None:
    """Stop before training on a bad index.

    Raises:
        IndexGateError: a number is below the recipe's floor; one line each, with the column and what would help.
    """
    k, columns = health["codes_per_level"], health["columns"]
    least_used, most_uneven = (min(columns, key=lambda name: columns[name][what]) for what in ("usage", "entropy"))
    usage, entropy = columns[least_used]["usage"], columns[most_uneven]["entropy"]
    problems = []
    if health["unique"] < gate.min_unique:
        problems.append(f"index.gate.min_unique = {gate.min_unique}: only {health['unique']:.3f} of the items have a "
                        "code of their own; more index.codes or index.levels keep items apart")  # fmt: skip
    if usage < gate.min_usage:
        problems.append(f"index.gate.min_usage = {gate.min_usage}: column {least_used} uses {usage:.3f} of its {k} "
                        "codes; fewer index.codes ('auto' is the smallest that fits) leave fewer dead")  # fmt: skip
    if entropy < gate.min_entropy:
        problems.append(f"index.gate.min_entropy = {gate.min_entropy}: column {most_uneven} reaches {entropy:.3f} of "
                        f"log {k}; fewer index.codes spread the items more evenly")  # fmt: skip
    if problems:
        raise IndexGateError("\n".join(problems))


def unique_share(codes: np.ndarray) -> float:
    """Share of rows of ``codes`` (N, L) that no other row equals.

    >>> unique_share(np.array([[0, 1], [0, 1], [1, 1], [1, 0]]))
    0.5
    """
    counts = np.unique(codes, axis=0, return_counts=True)[1]
    return float((counts == 1).sum() / len(codes))


def column_usage(labels: np.ndarray, k: int) -> dict[str, float]:
    """Usage of the k codes of one column, labels (N,). Returns ``usage`` (share of codes in use), ``dead`` (their
    complement, a count), ``entropy`` (of the usage, over log k: 1 is even), ``smallest``, ``median``, ``largest``
    (items per used code).
    """
    sizes = np.bincount(labels, minlength=k)
    share = sizes[sizes > 0] / sizes.sum()
    entropy = abs(float((share * np.log(share)).sum())) / float(np.log(k))  # abs: no "-0.0" in a report
    used = sizes[sizes > 0]
    return {
        "usage": float(len(used) / k), "dead": int(k - len(used)), "entropy": entropy,
        "smallest": int(used.min()), "median": float(np.median(used)), "largest": int(used.max()),
    }  # fmt: skip


def category_purity(labels: np.ndarray, categories: Sequence[Sequence[str]], seed: int) -> dict[str, float | None]:
    """How well items with the same code agree on a category: labels (N,), N lists of names.

    Purity is the share of items that carry the commonest category among the items of their code. Small groups are pure
    by chance, so chance is measured: the same groups with shuffled items. Categories that more than half of the items
    carry do not count. Returns ``purity`` and ``purity_chance``; both None if no item has a category that counts.
    """
    table = category_table(categories)[0]
    has = np.flatnonzero(np.asarray(table.sum(axis=1)).ravel() > 0)
    if not len(has):
        return {"purity": None, "purity_chance": None}
    table, labels = table[has], labels[has]
    rng = np.random.default_rng(seed)
    chance = [_purity(rng.permutation(labels), table) for _ in range(SHUFFLES)]
    return {"purity": _purity(labels, table), "purity_chance": float(np.mean(chance))}


def category_table(categories: Sequence[Sequence[str]]) -> tuple[csr_matrix, list[str]]:
    """(N, C) table of ones where an item carries a category, and the C names; categories too common are left out."""
    binarizer = MultiLabelBinarizer(sparse_output=True)
    table = csr_matrix(binarizer.fit_transform(categories), dtype=np.float64)
    keep = np.flatnonzero(np.asarray(table.sum(axis=0)).ravel() <= TOO_COMMON * len(categories))
    return table[:, keep], binarizer.classes_[keep].tolist()


def _purity(labels: np.ndarray, table: csr_matrix) -> float:
    n = len(labels)
    groups = csr_matrix((np.ones(n), (labels, np.arange(n))))
    return float((groups @ table).max(axis=1).sum() / n)


def query_rows(n: int, most: int) -> np.ndarray:
    """At most ``most`` of n rows, evenly spaced: a sample without a seed."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def nearest_neighbours(x: np.ndarray, k: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact Euclidean neighbours: x (N, d), rows (q,) -> rows and (q, k') items, k' = min(k, N - 1), never the row."""
    k = min(k, len(x) - 1)
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    squares = (centred**2).sum(1)
    found = np.empty((len(rows), k), np.int64)
    for start in range(0, len(rows), 512):  # blocks: (512, N) distances at a time
        block = rows[start : start + 512]
        distances = squares - 2 * centred[block] @ centred.T
        distances[np.arange(len(block)), block] = np.inf
        found[start : start + 512] = np.argpartition(distances, k - 1, axis=1)[:, :k] if k else 0
    return rows, found


def neighbours_together(labels: np.ndarray, rows: np.ndarray, near: np.ndarray) -> dict[str, float]:
    """``share`` of the neighbours ``near`` (q, k) of items ``rows`` (q,) that have the item's code, by ``labels`` (N,);
    and ``chance``, the same for random other items."""
    n, sizes = len(labels), np.bincount(labels)
    chance = float((sizes * (sizes - 1)).sum() / max(n * (n - 1), 1))
    return {"share": float((labels[near] == labels[rows][:, None]).mean()) if near.size else 0.0, "chance": chance}


def explained_variance(index: ItemIndex, source: str, embedding: np.ndarray) -> list[float]:
    """Share of the variance of ``embedding`` (N, d) that the centroids of levels 1..l, added up, explain; per l."""
    rest = embedding.astype(np.float64)
    total = ((rest - rest.mean(0)) ** 2).sum()
    shares = []
    for name in sorted(name for name in index.centroids if name[0] == source[0]):
        rest = rest - index.centroids[name][index.column(name)]
        shares.append(float(1 - (rest**2).sum() / total) if total > 0 else 1.0)
    return shares


def branching(codes: np.ndarray) -> list[dict[str, float]]:
    """The prefix tree, level by level: codes (N, L) -> per depth l = 1..L ``nodes`` (distinct prefixes of length l)
    and ``mean`` and ``most`` children of a node one level above: how many tokens decoding chooses from there."""
    levels, k, above = [], int(codes.max()) + 1, np.zeros(len(codes), np.int64)  # above: number of an item's prefix
    for column in codes.T:
        _, first, here = np.unique(above * k + column, return_index=True, return_inverse=True)
        children = np.bincount(above[first])
        levels.append({"nodes": len(first), "mean": float(children.mean()), "most": int(children.max())})
        above = here
    return levels


def compression(index: ItemIndex, embeddings: dict[str, np.ndarray]) -> dict[str, float]:
    """What an index costs: new ``tokens`` in the vocabulary (L x K, those in use), ``items_per_token`` (N over
    these), ``bits`` of a code (L log2 K) and ``ratio``, the bits of the embeddings over the bits of a code."""
    used = sum(len(np.unique(column)) for column in index.codes.T)
    bits = index.codes.shape[1] * float(np.log2(index.codes_per_level))
    own = [x for source, x in embeddings.items() if source in index.sources]
    floats = sum(8 * x.dtype.itemsize * x.shape[1] for x in own)
    return {"tokens": used, "items_per_token": index.n_items / used, "bits": bits, "ratio": floats / bits}
