"""The dual-source item index: L small codes per item, unique by construction (shown in 03_index).

EAGER-LLM, section 3.1 (dual-source knowledge-rich item index): hierarchical k-means, once on semantic and once on
behavioural embeddings; an item is (s1, s2, b1, b2). Ours is balanced instead of padded with duplicates: a split of n
items into K clusters gives sizes n // K or n // K + 1, so after all levels every item is alone in its leaf whenever
N <= K^levels. Within each source, that is; more sources add meaning, not uniqueness.
"""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from recnb.artifacts import Artifacts
from recnb.errors import ArtifactError, IndexGateError, RecipeError
from recnb.index.assignment import BLOCK, blocks, capacitated_assignment, squared_distances
from recnb.index.kmeans import balanced_kmeans, group_means, kmeans_centroids, lined_up, principal_components
from recnb.index.settings import IndexConfig

LETTERS = {"semantic": "s", "behaviour": "b", "random": "r"}
ALIGNMENT_ROUNDS = 4  # assignment and residual codebook take turns; the gain is below a percent after three
LEARNERS = 2**16  # items that the residual codebook is learned from, in whole groups


@dataclass(frozen=True)
class ItemIndex:
    """Codes of all items.

    Attributes:
        codes: (N, L) int32 in [0, K).
        columns: what each position of a code is, e.g. ``("s1", "s2", "b1", "b2")``.
        codes_per_level: K.
        centroids: column -> (K, d_source) float32, what each code stands for (:func:`code_centroids`). A random column
            stands for nothing and has no entry.
    """

    codes: np.ndarray
    columns: tuple[str, ...]
    codes_per_level: int
    centroids: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.columns):
            raise ArtifactError(f"codes have shape {self.codes.shape}, expected (N, {len(self.columns)})")
        if self.codes.size and not 0 <= self.codes.min() <= self.codes.max() < self.codes_per_level:
            raise ArtifactError(f"codes reach from {self.codes.min()} to {self.codes.max()}, "
                                f"expected 0 to {self.codes_per_level - 1}")  # fmt: skip

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.codes)

    def column(self, name: str) -> np.ndarray:
        """(N,) codes of one column, e.g. ``"b1"``."""
        return self.codes[:, self.columns.index(name)]

    def source_codes(self, source: str) -> np.ndarray:
        """(N, levels) codes of one source, first level first; (N, 0) if the index does not have that source."""
        names = sorted(name for name in self.columns if name[0] == LETTERS[source])
        return self.codes[:, [self.columns.index(name) for name in names]]

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of this index, e.g. ``("semantic", "behaviour")``."""
        return tuple(source for source, letter in LETTERS.items() if any(c[0] == letter for c in self.columns))


def build_index(embeddings: dict[str, np.ndarray], config: IndexConfig, seed: int,
                published: np.ndarray | None = None) -> ItemIndex:
    """Give every item its codes.

    Args:
        embeddings: "semantic" (N, d_sem) and "behaviour" (N, d_beh), those that ``config.source`` asks for; a random
            index needs any one, for N.
        config: sources, levels, K, order; seed: the same seed, embeddings and machine give the same codes.
        published: (N, M) codes of ``config.semantic_file`` (:func:`recnb.index.published.read_codes`): they are the
            semantic columns s1..sM as they stand. Text embeddings, if there are any, then only say what they stand for.

    Raises:
        IndexGateError: an embedding is missing, has another N or is not finite; N > K^levels; a published code is not
            below K, or items share their published codes and nothing else tells them apart.
        RecipeError: ``index.order`` does not name each column once; ``semantic_file`` without its codes.
    """
    sources: tuple[str, ...] = ("semantic", "behaviour") if config.source == "both" else (config.source,)
    if bool(config.semantic_file) != (published is not None):
        raise RecipeError("index.semantic_file and its codes go together: see recnb.index.published.read_codes")
    given = {} if published is None else {"semantic": published}
    n = _check_embeddings(embeddings, sources, given)
    k = _common_k(n, config, sources, given)
    levels = {source: given[source].shape[1] if source in given else config.levels for source in sources}
    names = {source: [f"{LETTERS[source]}{level + 1}" for level in range(levels[source])] for source in sources}
    columns = _in_order([name for own in names.values() for name in own], config.order)
    parts: dict[str, np.ndarray] = {}
    centroids: dict[str, np.ndarray] = {}
    for number, source in enumerate(sources):
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        codes = given[source] if source in given else _source_codes(source, n, k, embeddings, config, own_seed)
        parts |= dict(zip(names[source], codes.T, strict=True))
        if source in embeddings:
            centroids |= dict(zip(names[source], code_centroids(embeddings[source], codes, k), strict=True))
    codes = np.stack([parts[name] for name in columns], axis=1).astype(np.int32)
    if set(sources) <= set(given):
        _check_distinct(codes, config)
    return ItemIndex(codes, columns, k, {name: centroids[name] for name in columns if name in centroids})


def _common_k(n: int, config: IndexConfig, sources: tuple[str, ...], given: dict[str, np.ndarray]) -> int:
    """K of all columns: what the clustered sources need, and more than the largest published code."""
    needed = max([2, *(int(codes.max()) + 1 for codes in given.values())])
    if config.codes != "auto" and config.codes < needed:
        raise IndexGateError(
            f"index.codes = {config.codes}: {config.semantic_file} has codes up to {needed - 1}; "
            f"expected index.codes >= {needed}"
        )
    if set(sources) <= set(given):  # nothing is clustered here
        return needed if config.codes == "auto" else config.codes
    return max(needed, codes_per_level(n, config))


def _check_distinct(codes: np.ndarray, config: IndexConfig) -> None:
    order = np.lexsort(codes.T)
    again = np.flatnonzero((codes[order][1:] == codes[order][:-1]).all(axis=1))
    if len(again):
        first, second = sorted(order[again[0] : again[0] + 2].tolist())
        raise IndexGateError(
            f"index.semantic_file = {config.semantic_file}: {len(again)} of {len(codes)} items repeat another item's "
            f"codes (first: items {first} and {second}), and no list could tell them apart; expected index.source = "
            "both, whose behavioural codes do"
        )


def _source_codes(source: str, n: int, k: int, embeddings: dict[str, np.ndarray], config: IndexConfig,
                  seed: int) -> np.ndarray:
    if source == "random":
        return random_codes(n, k, config.levels, seed)
    x = principal_components(embeddings[source], config.pca, seed)
    return hierarchical_codes(x, k, config.levels, seed, config.second_level, config.iterations)


def codes_per_level(n: int, config: IndexConfig) -> int:
    """K: the recipe's, or the smallest with K^levels >= n; at least 2.

    Raises:
        IndexGateError: K^levels < n; the message says the smallest K and the smallest number of levels that fit.
    """
    near = max(2, round(n ** (1 / config.levels)) - 1)
    smallest = next(k for k in count(near) if k**config.levels >= n)
    if config.codes == "auto":
        return smallest
    if smallest > config.codes:
        levels = next(level for level in count(1) if config.codes**level >= n)
        raise IndexGateError(
            f"index.codes = {config.codes}, index.levels = {config.levels}: {config.codes}^{config.levels} = "
            f"{config.codes**config.levels} codes for {n} items; expected index.codes >= {smallest} with "
            f"{config.levels} level(s), or index.levels >= {levels} with {config.codes} codes"
        )
    return config.codes


def _in_order(columns: list[str], order: list[str]) -> tuple[str, ...]:
    """Columns of a code in the recipe's order, which must name each exactly once; by default source by source."""
    order = order or columns
    if sorted(order) != sorted(columns):
        wrong = [name for name in order if name not in columns] or [name for name in columns if name not in order]
        what = f"'{wrong[0]}' is {'unknown' if wrong[0] in order else 'missing'}" if wrong else "one is given twice"
        raise RecipeError(f"index.order = {order}: {what}; expected each of [{', '.join(columns)}] once")
    return tuple(order)


def hierarchical_codes(x: np.ndarray, k: int, levels: int, seed: int, second_level: str = "aligned",
                       iterations: int = 25) -> np.ndarray:
    """Unique codes (N, levels) int64 of one source, x (N, d) with N <= k^levels, by hierarchical balanced k-means.

    The first level is a balanced k-means (sizes differ by at most one). Below it, with ``local``, each cluster is
    split the same way, and where k codes suffice its items are lined up along the cluster's own first principal axis.
    With ``aligned``, all clusters share one codebook of residuals (embedding minus what the earlier codes stand for):
    a cluster's items get different codewords at the least total distance, or at most ceil(n / k) items share one.

    Seed and iterations are as of :func:`recnb.index.kmeans.balanced_kmeans`; beyond what that holds, memory is two
    copies of ``x``.
    """
    labels, centroids = balanced_kmeans(x, k, seed, iterations)
    codes, group = [labels], np.unique(labels, return_inverse=True)[1]
    residual = x - centroids.astype(x.dtype)[labels]
    for level in range(1, levels):
        if second_level == "aligned":
            labels, codebook = aligned_codes(residual, group, k, seed + level, iterations)
            residual = residual - codebook.astype(x.dtype)[labels]
        else:
            labels = local_codes(x, group, k, seed + level, iterations)
        codes.append(labels)
        group = np.unique(group * k + labels, return_inverse=True)[1]
    return np.stack(codes, axis=1)


def local_codes(x: np.ndarray, group: np.ndarray, k: int, seed: int, iterations: int = 25) -> np.ndarray:
    """Split each group on its own: x (N, d), group (N,) from 0, without gaps -> (N,) codes in [0, k).

    A group of more than k items is clustered into k parts whose sizes differ by at most one. In a smaller one, as all
    are in the paper, k-means finds nothing: each item is its own centroid, and the numbers of the leaves only tell how
    it was seeded. Here its items lie along its first principal axis, evenly spread over [0, k), each group from another
    phase, so that no code is left over. Either way a code means its leaf, and nothing in another group.
    """
    groups, codes = int(group.max()) + 1, np.empty(len(group), np.int64)
    own = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    for number, members in enumerate(own):  # groups, not items
        few, phase = len(members) <= k, (number + 0.5) / groups
        codes[members] = lined_up(x[members], k, phase) if few else balanced_kmeans(x[members], k, seed, iterations)[0]
    return codes


def aligned_codes(residual: np.ndarray, group: np.ndarray, k: int, seed: int,
                  iterations: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Codes from one codebook that all groups share, so that a code means the same everywhere.

    With residual (N, d) and group (N,) from 0, without gaps. Returns codes (N,), distinct within a group of at most k
    items, else at most ceil(n / k) items to a code; and the codebook (k, d), each row the mean of its items' residuals.
    With more than LEARNERS items all but the last round see a sample of the groups.
    """
    codebook = kmeans_centroids(residual, k, seed, iterations // 2)
    learners = _whole_groups(group, seed)
    for turn in range(ALIGNMENT_ROUNDS):
        own = np.arange(len(group)) if turn == ALIGNMENT_ROUNDS - 1 else learners
        codes = _assign_codewords(residual[own], np.unique(group[own], return_inverse=True)[1], codebook)
        used = np.bincount(codes, minlength=k) > 0
        codebook = np.where(used[:, None], group_means(residual[own], codes, k), codebook)
    return codes, codebook


def _whole_groups(group: np.ndarray, seed: int) -> np.ndarray:
    """Items (about LEARNERS, in order) of some groups drawn at random; all items if there are no more."""
    groups = int(group.max()) + 1
    drawn = np.random.default_rng(seed).permutation(groups) < max(1, groups * LEARNERS // len(group))
    return np.flatnonzero(drawn[group])


def _assign_codewords(residual: np.ndarray, group: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Cheapest codewords for each group's items; distances are computed for many groups at once."""
    k, order, words = len(codebook), np.argsort(group, kind="stable"), codebook.astype(residual.dtype)
    ends = np.cumsum(np.bincount(group))
    starts = np.r_[0, ends[:-1]]
    batches = starts // max(1, BLOCK // k)
    codes = np.empty(len(group), np.int64)
    for batch in np.unique(batches):
        together = np.flatnonzero(batches == batch)
        first, last = starts[together[0]], ends[together[-1]]
        cost = squared_distances(residual[order[first:last]], words)
        for start, end in zip(starts[together], ends[together], strict=True):  # groups, not items
            codes[order[start:end]] = _distinct(cost[start - first : end - first])
    return codes


def _distinct(cost: np.ndarray) -> np.ndarray:
    """Distinct columns for the rows of ``cost`` (n, k); with n > k each column at most ceil(n / k) times; (n,)."""
    n, k = cost.shape
    return linear_sum_assignment(cost)[1] if n <= k else capacitated_assignment(cost, np.full(k, -(-n // k)))[0]


def random_codes(n: int, k: int, levels: int, seed: int) -> np.ndarray:
    """Codes (n, levels) that mean nothing, in a tree as balanced as a learned one: the ablation changes meaning, not
    shape. Rows are distinct; n <= k^levels."""
    rng = np.random.default_rng(seed)
    rest, codes, group = rng.permutation(n), [], np.zeros(n, np.int64)
    for _ in range(levels):
        shift = rng.integers(0, k, int(group.max()) + 1)  # else small groups would only ever use the low codes
        codes.append((rest + shift[group]) % k)
        group = np.unique(group * k + codes[-1], return_inverse=True)[1]
        rest = rest // k
    return np.stack(codes, axis=1)


def code_centroids(embedding: np.ndarray, codes: np.ndarray, k: int) -> list[np.ndarray]:
    """What each code of one source stands for: embedding (N, d), codes (N, levels) -> levels arrays (k, d) float32.

    The mean embedding of the items that carry it on the first level; below, the mean of what the earlier levels leave.
    The row of an unused code is zero.
    """
    rest, centroids = embedding.astype(np.float64), []
    for labels in codes.T:
        centroids.append(group_means(rest, labels, k).astype(np.float32))
        for rows in blocks(*rest.shape):
            rest[rows] -= centroids[-1][labels[rows]]
    return centroids


def _check_embeddings(embeddings: dict[str, np.ndarray], sources: tuple[str, ...],
                      given: dict[str, np.ndarray]) -> int:
    """N, after making sure that every source is there, finite and of the same N; a given one needs no embedding."""
    if sources == ("random",) and embeddings:
        return len(next(iter(embeddings.values())))
    used = {source: embeddings[source] for source in sources if source in embeddings}
    for source in sources:
        if source not in used and source not in given:
            raise IndexGateError(f"index.source needs '{source}' embeddings; given: {', '.join(embeddings) or 'none'}")
    for source, x in used.items():
        if x.ndim != 2 or not x.size:
            raise IndexGateError(f"{source} embeddings have shape {x.shape}; expected (N, d) with N, d >= 1")
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(bad):
            raise IndexGateError(f"{source} embeddings: {len(bad)} of {len(x)} rows are not finite (first: item "
                                 f"{bad[0]}); expected finite numbers")  # fmt: skip
    sizes = {source: len(x) for source, x in used.items()} | {f"{s} codes": len(codes) for s, codes in given.items()}
    if len(set(sizes.values())) > 1:
        raise IndexGateError(f"embeddings differ in their number of items: {sizes}; expected the same N for both")
    return next(iter(sizes.values()))


def read_embeddings(stage: Artifacts) -> dict[str, np.ndarray]:
    """Source -> (N, d) of the embeddings that 02_embeddings wrote: behaviour, and text unless the recipe has none."""
    about = stage.read("02_embeddings", "embeddings.json")
    return {source: stage.read("02_embeddings", f"{source}.npy") for source in about["sources"]}


def write_index(index: ItemIndex, stage: Artifacts, health: dict[str, Any] | None = None) -> None:
    """Write ``codes.npy``, ``centroids.safetensors`` and ``index.json`` (columns, K, N and the health report)."""
    stage.write("codes.npy", index.codes)
    stage.write("centroids.safetensors", index.centroids)
    about = {"columns": index.columns, "codes_per_level": index.codes_per_level, "items": index.n_items}
    stage.write("index.json", about | {"health": health or {}})


def read_index(stage: Artifacts) -> ItemIndex:
    """The index that 03_index wrote; an ArtifactError where a file is missing or damaged, or they do not fit."""
    about = stage.read("03_index", "index.json")
    codes, centroids = stage.read("03_index", "codes.npy"), stage.read("03_index", "centroids.safetensors")
    if len(codes) != about["items"]:
        raise ArtifactError(f"codes.npy holds {len(codes)} items, index.json says {about['items']}; run 03_index again")
    return ItemIndex(codes, tuple(about["columns"]), about["codes_per_level"], centroids)
