"""Generation against retrieval: beam search beside exact and approximate nearest neighbours of SASRec's vectors.

The paper leaves open what generating costs against looking up. A retriever encodes the history once and searches N
vectors; a generator walks a tree whose depth does not grow with N. ``faiss-cpu`` is an optional package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import torch

from recnb.speed.measure import contest

HNSW_LINKS = 32  # faiss's usual choice
HNSW_LOOKS = 64  # candidates followed per query: recall against speed


def faiss_is_here() -> bool:
    """Whether the optional package is installed."""
    return find_spec("faiss") is not None


def build_indexes(vectors: np.ndarray, threads: int) -> dict[str, Any]:
    """faiss indexes over item vectors (N, d) for the inner product: exact, and HNSW (approximate)."""
    faiss: Any = import_module("faiss")  # optional, hence by name
    faiss.omp_set_num_threads(threads)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    exact = faiss.IndexFlatIP(vectors.shape[1])
    graph = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efSearch = HNSW_LOOKS
    for index in (exact, graph):
        index.add(vectors)
    return {"exact search": exact, "approximate search (HNSW)": graph}


def search_contest(indexes: dict[str, Any], queries: np.ndarray, width: int) -> dict[str, Callable[[], np.ndarray]]:
    """Contestants that return the ``width`` nearest items of each query: (U, W)."""
    queries = np.ascontiguousarray(queries, dtype=np.float32)

    def nearest(index: Any) -> np.ndarray:
        return index.search(queries, width)[1]

    return {name: partial(nearest, index) for name, index in indexes.items()}


def clustered_vectors(n_items: int, width: int, seed: int) -> np.ndarray:
    """(N, d) float32 unit vectors around sqrt(N) centres: as uneven as learned item tables are, unlike pure noise."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, int(n_items**0.5)), width)).astype(np.float32)
    vectors = centres[rng.integers(len(centres), size=n_items)]
    vectors += 0.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@torch.no_grad()
def user_vectors(model: Any, histories: np.ndarray) -> np.ndarray:
    """(U, d) query of each history (U, T): SASRec's last hidden state."""
    latest = torch.from_numpy(np.ascontiguousarray(histories[:, -model.length :], dtype=np.int64))
    return model(latest.to(model.positions.device))[:, -1].float().cpu().numpy()


def overlap(lists: np.ndarray, exact: np.ndarray) -> float:
    """Share of each user's exact list that another list holds too, mean over users."""
    shared = (lists[:, :, None] == exact[:, None, :]).any(-1)
    return float(shared.mean())


def against_search(
    generation: Callable[[int], Callable[[], Any]],
    sizes: Sequence[int],
    users: int,
    width: int,
    rounds: int,
    threads: int,
    device: str = "cpu",
) -> pd.DataFrame:
    """Generation beside both searches at each catalogue size, users in one batch and one user alone.

    Args:
        generation: N -> a search by generation for ``users`` users, ready to be timed.
        sizes: N of synthetic catalogues.
        users: users at a time.
        width: items returned.
        rounds, threads, device: of the contest.

    Returns:
        one row per method and size: method, items, users per second, ms for one user (searches only), and the share of
        the exact list that a search found.
    """
    rows = []
    for n in sizes:
        vectors = clustered_vectors(n, 64, 0)
        queries = vectors[np.random.default_rng(1).integers(n, size=users)]
        indexes = build_indexes(vectors, threads)
        found = contest(
            search_contest(indexes, queries, width) | {"generation": generation(n)}, rounds, device
        )  # fmt: skip
        alone = contest(search_contest(indexes, queries[:1], width), rounds).seconds.median()
        exact = found.results["exact search"]
        rows += [
            {"method": name, "items": n, "users per second": users / seconds,
             "ms for one user": 1000 * alone.get(name, np.nan),
             "of the exact list": overlap(found.results[name], exact) if name in indexes else np.nan}
            for name, seconds in found.seconds.median().items()
        ]  # fmt: skip
    return pd.DataFrame(rows)
