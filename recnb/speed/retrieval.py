"""Generation against retrieval: beam search beside exact and approximate nearest neighbours of SASRec's vectors.

The paper leaves open what generating costs against looking up. A retriever encodes the history once and searches N
vectors; a generator walks a tree whose depth does not grow with N. ``faiss-cpu`` is an optional package.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import torch

from recnb.recommenders.next_item import NextItemEncoder
from recnb.speed.indexing import synthetic_embeddings
from recnb.speed.measure import contest

HNSW_LINKS, HNSW_LOOKS = 32, 64  # faiss's usual links; candidates followed per query: recall against speed

Search = Callable[[np.ndarray, int], np.ndarray]  # queries (U, d), W -> the nearest items of each (U, W)


def searches(vectors: np.ndarray, threads: int) -> dict[str, Search]:
    """faiss indexes over float32 item vectors (N, d) for the inner product: exact, and HNSW (approximate)."""
    faiss: Any = import_module("faiss")  # optional, hence by name
    faiss.omp_set_num_threads(threads)
    exact = faiss.IndexFlatIP(vectors.shape[1])
    graph = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efSearch = HNSW_LOOKS
    for index in (exact, graph):
        index.add(vectors)
    return {
        "exact search": lambda queries, width: exact.search(queries, width)[1],
        "approximate search (HNSW)": lambda queries, width: graph.search(queries, width)[1],
    }


@torch.no_grad()
def user_vectors(model: NextItemEncoder, histories: np.ndarray) -> np.ndarray:
    """(U, d) query of each history (U, T), for the inner product with ``model.item_table()``."""
    latest = torch.from_numpy(np.ascontiguousarray(histories[:, -model.length :], dtype=np.int64))
    return model.queries(model.read(latest.to(model.device))).float().cpu().numpy()


def overlap(lists: np.ndarray, exact: np.ndarray) -> float:
    """Share of each user's exact list (U, W) that another list holds too, mean over users."""
    return float((lists[:, :, None] == exact[:, None, :]).any(-1).mean())


def against_search(generation: Callable[[int], Callable[[], Any]], sizes: Sequence[int], users: int, width: int,
                   rounds: int, threads: int, device: str = "cpu") -> pd.DataFrame:
    """Generation beside both searches in synthetic catalogues of each size, users in one batch and one user alone.

    ``generation``: N -> a search by generation for ``users`` users and ``width`` items, ready to be timed. Returns one
    row per method and size: method, items, users per second, ms for one user (searches only), and the share of the
    exact list that a search found.
    """
    rows = []
    for n in sizes:
        vectors = synthetic_embeddings(n, 64, 0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = vectors[np.random.default_rng(1).integers(n, size=users)]
        looks = searches(vectors, threads)
        batch, one = ({name: partial(look, asked, width) for name, look in looks.items()}
                      for asked in (queries, queries[:1]))  # fmt: skip
        found = contest(batch | {"generation": generation(n)}, rounds, device)
        alone, exact = contest(one, rounds).seconds.median(), found.results["exact search"]
        rows += [
            {"method": name, "items": n, "users per second": users / seconds,
             "ms for one user": 1000 * alone.get(name, np.nan),
             "of the exact list": overlap(found.results[name], exact) if name in looks else np.nan}
            for name, seconds in found.seconds.median().items()
        ]  # fmt: skip
    return pd.DataFrame(rows)
