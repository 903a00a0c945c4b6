"""Baselines on the same split: dense scores (U, N), or lists (U, W) of their own; :func:`ranked_lists` takes both.

Each one sees training interactions only, and at test time the same history of T items as our model. Shown in
``06_evaluate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from scipy import sparse

from recnb.bert4rec import BertEncoder
from recnb.errors import RecipeError
from recnb.evaluate import NO_ITEM, per_user, rank_bounds
from recnb.gru4rec import GruEncoder
from recnb.sequential import NextItemEncoder, SequentialEncoder, train_sequential

if TYPE_CHECKING:
    from recnb.data import Sequences
    from recnb.recipe import EvaluateConfig, SasrecConfig

ENCODERS: dict[str, type[NextItemEncoder]] = {
    "sasrec": SequentialEncoder, "sasrec-sampled": SequentialEncoder, "gru4rec": GruEncoder, "bert4rec": BertEncoder,
}  # fmt: skip
_CELLS = 8_000_000  # numbers in a dense chunk of scores: 64 MB of float64


# --- from scores to lists --------------------------------------------------------------------------------------------


def top_items(scores: np.ndarray, width: int, exclude: sparse.csr_matrix | None = None) -> np.ndarray:
    """The best ``width`` items of each user.

    Equal scores are ordered by item number, so that the same scores give the same lists on every machine; see
    :func:`recnb.evaluate.rank_bounds` for what this could hide.

    Args:
        scores: (U, N), larger is better; -inf: never listed. A broadcast view is not copied as a whole.
        width: W, at most N.
        exclude: (U, N) items to leave out of each user's list (e.g. those already seen); None: none.

    Returns:
        (U, W) int64, best first; -1 at the end where a user has fewer than W items left.

    Raises:
        ValueError: W is not in 1..N, or a score is not a number.

    >>> top_items(np.array([[0.1, 0.9, 0.9, 0.2]]), 3).tolist()
    [[1, 2, 3]]
    """
    users, n_items = scores.shape
    if not 1 <= width <= n_items:
        raise ValueError(f"width {width}: lists hold between 1 and N = {n_items} items")
    if exclude is not None and exclude.shape != scores.shape:
        raise ValueError(f"exclude has shape {exclude.shape}, scores {scores.shape}")
    workers = torch.get_num_threads()  # numpy sorts without Python's lock
    step = max(1, _CELLS // n_items // workers)
    chunks = [slice(start, min(start + step, users)) for start in range(0, users, step)]

    def listed(rows: slice) -> np.ndarray:
        return _top_chunk(scores[rows], width, None if exclude is None else exclude[rows])

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(listed, chunks))
    return np.concatenate(parts) if parts else np.empty((0, width), dtype=np.int64)


def _top_chunk(scores: np.ndarray, width: int, exclude: sparse.csr_matrix | None) -> np.ndarray:
    scores = np.array(scores, dtype=np.float64)
    if np.isnan(scores).any():
        raise ValueError("a score is not a number (nan)")
    if exclude is not None:
        scores[exclude.nonzero()] = -np.inf
    worst = scores.shape[1] - width
    threshold = np.partition(scores, worst, axis=1)[:, worst, None]  # (B, 1) the score in place W
    above, tied = scores > threshold, scores == threshold
    room = width - above.sum(axis=1, keepdims=True)
    kept = above | (tied & (np.cumsum(tied, axis=1, dtype=np.int32) <= room))  # exactly W per row
    items = np.nonzero(kept)[1].reshape(-1, width)
    order = np.argsort(-np.take_along_axis(scores, items, axis=1), axis=1, kind="stable")
    items = np.take_along_axis(items, order, axis=1)
    items[np.isneginf(np.take_along_axis(scores, items, axis=1))] = NO_ITEM
    return items


# --- counting --------------------------------------------------------------------------------------------------------


def popularity_counts(train: Sequences, n_items: int) -> np.ndarray:
    """(N,) training interactions of each item."""
    return np.bincount(train.items, minlength=n_items)


def interaction_matrix(offsets: np.ndarray, items: np.ndarray, n_items: int) -> sparse.csr_matrix:
    """(U, N) float32, 1 where the user has the item, however often."""
    ones, shape = np.ones(len(items), np.float32), (len(offsets) - 1, n_items)
    matrix = sparse.csr_matrix((ones, items, offsets), shape=shape, copy=True)  # sum_duplicates sorts in place
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


class ItemKNN:
    """Item-to-item cosine neighbours (Deshpande and Karypis, 2004).

    With X the binary training matrix, cos(i, j) = |users of i and j| / sqrt(|users of i| |users of j|). Each item keeps
    its ``neighbours`` nearest others, and every *distinct* item of the history votes for its neighbours with that
    cosine: score(u, j) = sum over i in history(u) of cos(i, j) [j among the neighbours of i]. Items that no one in the
    history votes for score 0 and come last, by item number. The history is the latest T items, as for our model: with
    all of a long history, old tastes would outvote recent ones, and the comparison would not be of the same input.
    """

    def __init__(self, train: Sequences, n_items: int, neighbours: int) -> None:
        self.similarity = item_neighbours(interaction_matrix(train.offsets, train.items, n_items), neighbours)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(U, N) float32 for histories (U, T) padded with -1."""
        return self._votes(histories).toarray()

    def ranks(self, histories: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """(U,) int64 place of each target among all items in the order of :func:`top_items`, counted from 0.

        Reads the votes alone: few items get one, and (U, N) numbers are not needed to count those before a target.
        """
        votes, targets = self._votes(histories), np.asarray(targets, dtype=np.int64)
        users = np.repeat(np.arange(len(targets)), np.diff(votes.indptr))
        own, lower = np.asarray(votes[np.arange(len(targets)), targets]).ravel(), votes.indices < targets[users]
        ahead = (votes.data > own[users]) | ((votes.data == own[users]) & lower)
        before = np.bincount(users[ahead], minlength=len(targets))
        unvoted = targets - np.bincount(users[lower], minlength=len(targets))  # items of lower number without a vote
        return before + np.where(own == 0, unvoted, 0)

    def _votes(self, histories: np.ndarray) -> sparse.csr_matrix:
        present = histories >= 0
        offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        return interaction_matrix(offsets, histories[present], self.similarity.shape[0]) @ self.similarity

    def best_window(self, histories: np.ndarray, targets: np.ndarray, windows: Sequence[int], k: int = 10) -> int:
        """How many of the latest items should vote: the window with the highest N@k, to be called on validation.

        ItemKNN knows no order, so a shorter history is the one way it can prefer recent items.

        Args:
            histories: (U, T); targets: (U,), both of the validation split.
            windows: candidates; those longer than T count as T. Ties: the first.
        """
        ranks = (self.ranks(histories[:, -window:], targets) for window in windows)
        return windows[int(np.argmax([per_user(rank, k)[1].mean() for rank in ranks]))]


def item_neighbours(matrix: sparse.csr_matrix, neighbours: int) -> sparse.csr_matrix:
    """(N, N) float32: row i holds the cosines of item i's nearest other items, the rest is zero.

    Args:
        matrix: (U, N) binary.
        neighbours: how many each row keeps; equal cosines: the lower item number. Zero cosines are never kept.
    """
    n_items = matrix.shape[1]
    norms = np.sqrt(np.asarray(matrix.sum(axis=0)).ravel())
    unit = (matrix @ sparse.diags(1.0 / np.maximum(norms, 1.0))).tocsc()
    step = max(1, _CELLS // n_items)
    parts = [_neighbour_rows(unit, start, min(start + step, n_items), neighbours) for start in range(0, n_items, step)]
    return sparse.vstack(parts, format="csr", dtype=np.float32)


def _neighbour_rows(unit: sparse.csc_matrix, start: int, stop: int, neighbours: int) -> sparse.csr_matrix:
    cosines = np.asarray((unit[:, start:stop].T @ unit).todense(), dtype=np.float64)  # (B, N)
    cosines[np.arange(stop - start), np.arange(start, stop)] = 0.0
    best = top_items(cosines, min(neighbours, cosines.shape[1]))
    rows = np.repeat(np.arange(stop - start), best.shape[1])
    values = np.take_along_axis(cosines, best, axis=1).ravel()
    block = sparse.csr_matrix((values, (rows, best.ravel())), shape=cosines.shape)
    block.eliminate_zeros()
    return block


# --- SASRec ----------------------------------------------------------------------------------------------------------


def train_sasrec_cornac(
    train: Sequences,
    n_items: int,
    config: SasrecConfig,
    length: int,
    *,
    seed: int,
    validation: tuple[np.ndarray, np.ndarray],
    device: str = "cpu",
) -> CornacSasrec:
    """SASRec as cornac 3 has it, on our split: the library's word beside :func:`recnb.sequential.train_sequential`.

    cornac turns every prefix of a sequence into a training sample of its own (T forward passes where a causal one
    needs one), and its cross-entropy runs over the batch's targets plus popularity-sampled negatives without log-q
    correction; it has no loss over the full catalogue. Recall@10 on validation chooses the epoch, computed by cornac.

    Args:
        train: training sequences.
        n_items: N.
        config: ``negatives`` 0 means cornac's 2048; its ``patience`` is not known to cornac, all epochs are run.
        length: T.
        seed: of initialisation, order and negatives; torch's own generator is left as it was.
        validation: histories (U, T) and targets (U,).
        device: ``cpu`` or ``cuda``.
    """
    from cornac.models import SASRec

    model = SASRec(
        embedding_dim=config.width, loss="ce", batch_size=config.batch_size, learning_rate=config.learning_rate,
        n_sample=config.negatives or 2048, n_epochs=config.epochs, max_len=length, num_blocks=config.blocks,
        num_heads=config.heads, dropout=config.dropout, device=device, seed=seed, model_selection="best",
        val_eval_every=1, val_k=10,
    )  # fmt: skip
    histories, targets = validation
    with torch.random.fork_rng(devices=range(torch.cuda.device_count() if device.startswith("cuda") else 0)):
        sessions = _cornac_sessions(train.offsets, train.items, n_items)
        model.fit(sessions, _cornac_validation(histories, targets, n_items))
    return CornacSasrec(model, n_items)


class CornacSasrec:
    """A fitted cornac SASRec that scores all users at once (cornac's own ``score`` takes one)."""

    def __init__(self, model: Any, n_items: int) -> None:
        self.model, self.n_items = model, n_items

    def scores(self, histories: np.ndarray, batch_size: int = 512) -> np.ndarray:
        """(U, N) float32 for histories (U, T) padded with -1."""
        network = self.model.model.eval()
        everything = torch.arange(self.n_items, device=network.dev)
        filled = torch.as_tensor(np.where(histories < 0, self.model.pad_idx, histories)[:, -self.model.max_len :])
        with torch.no_grad():
            parts = [network(None, rows.long().to(network.dev), everything).cpu() for rows in filled.split(batch_size)]
        return torch.cat(parts).numpy()


def _cornac_sessions(offsets: np.ndarray, items: np.ndarray, n_items: int) -> Any:
    """One session per user; item numbers stay as they are, also those of items that training does not hold."""
    from collections import OrderedDict

    from cornac.data import SequentialDataset

    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)).tolist()
    rows = list(zip(user, user, items.tolist(), range(len(items)), strict=True))
    same = OrderedDict((item, item) for item in range(n_items))
    return SequentialDataset.build(rows, fmt="USIT", global_iid_map=same)


def _cornac_validation(histories: np.ndarray, targets: np.ndarray, n_items: int) -> Any:
    whole = np.concatenate([histories, np.asarray(targets)[:, None]], axis=1)
    offsets = np.concatenate([[0], np.cumsum((whole >= 0).sum(axis=1))])
    return _cornac_sessions(offsets, whole[whole >= 0], n_items)


# --- one way in ------------------------------------------------------------------------------------------------------


class Scorer(Protocol):
    """A fitted baseline that scores every item."""

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(U, N), larger is better, for histories (U, T) padded with -1."""


@runtime_checkable
class Lister(Protocol):
    """A fitted baseline that makes lists and has no score for what it does not list."""

    def lists(self, histories: np.ndarray, width: int, exclude: sparse.csr_matrix | None = None) -> np.ndarray:
        """(U, W) int64, best first, -1 at the end, for histories (U, T) padded with -1; see :func:`top_items`."""


Baseline = Scorer | Lister


@dataclass(frozen=True)
class Popularity:
    """Everyone is shown what most training interactions went to."""

    counts: np.ndarray  # (N,)

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(U, N) read-only view: the same row for everyone."""
        return np.broadcast_to(self.counts, (len(histories), len(self.counts)))


@dataclass(frozen=True)
class WindowedKNN:
    """ItemKNN on the latest ``window`` items."""

    knn: ItemKNN
    window: int

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """As :meth:`ItemKNN.scores`."""
        return self.knn.scores(histories[:, -self.window :])


def fit_baseline(
    name: str,
    train: Sequences,
    n_items: int,
    config: EvaluateConfig,
    length: int,
    *,
    seed: int,
    validation: tuple[np.ndarray, np.ndarray],
    codes: np.ndarray | None = None,
    device: str = "cpu",
    progress: bool = False,
    keep: Path | None = None,
) -> tuple[Baseline, str]:
    """Fit one of the recipe's baselines; whatever is chosen is chosen on validation.

    Args:
        name: one of ``evaluate.baselines``: ``popularity``, ``itemknn``, ``sasrec``, ``sasrec-sampled``,
            ``sasrec-cornac``, ``gru4rec``, ``bert4rec`` or ``tiger``.
        train: training sequences; n_items: N; length: T.
        config: the ``evaluate`` section.
        seed: of what is random in it.
        validation: histories (U, T) and targets (U,) of the validation split.
        codes: (N, L) semantic codes of the items, for ``tiger``.
        device, progress: of the neural ones.
        keep: folder for the states of trainings that may be broken off; a second call with it goes on.

    Returns:
        the fitted baseline, and what was chosen, in words.

    Raises:
        RecipeError: ``tiger`` without codes.
    """
    if name == "popularity":
        return Popularity(popularity_counts(train, n_items)), "nothing to choose"
    if name == "itemknn":
        return _fit_itemknn(train, n_items, config.itemknn_neighbours, length, validation)
    if name == "sasrec-cornac":
        cornac = train_sasrec_cornac(
            train, n_items, config.sasrec, length, seed=seed, validation=validation, device=device
        )
        return cornac, f"the best of {config.sasrec.epochs} epochs"
    section = getattr(config, name.replace("-", "_"))
    same: dict[str, Any] = {"seed": seed, "validation": validation, "device": device, "progress": progress}
    same["keep"] = None if keep is None else keep / f"{name}.pt"
    if name == "tiger":
        from recnb.tiger import train_tiger  # transformers' T5, which nothing else needs

        model: Any = train_tiger(train, _codes_of_all(codes, n_items), section, length, **same)
    else:
        model = train_sequential(train, n_items, section, length, encoder=ENCODERS[name], **same)
    best = max(model.log, key=lambda row: row["R@10"])
    return model, f"epoch {best['epoch']:.0f} of {len(model.log)} run (at most {section.epochs})"


def _codes_of_all(codes: np.ndarray | None, n_items: int) -> np.ndarray:
    if codes is None or codes.shape[-1] == 0:
        raise RecipeError(
            "evaluate.baselines: tiger needs the items' semantic codes, and this index has none: expected index.source "
            "both or semantic, or baselines without tiger"
        )
    if len(codes) != n_items:
        raise ValueError(f"codes of {len(codes)} items, expected {n_items}")
    return codes


def _fit_itemknn(
    train: Sequences, n_items: int, neighbours: int, length: int, validation: tuple[np.ndarray, np.ndarray]
) -> tuple[Baseline, str]:
    knn = ItemKNN(train, n_items, neighbours)
    windows = sorted({length, max(1, length // 2), max(1, length // 4), 1}, reverse=True)
    window = knn.best_window(*validation, windows)
    return WindowedKNN(knn, window), f"the latest {window} items vote (of {', '.join(map(str, windows))})"


def ranked_lists(
    baseline: Baseline, histories: np.ndarray, width: int, exclude: sparse.csr_matrix | None = None, users: int = 1024
) -> np.ndarray:
    """A baseline's own lists, or :func:`top_items` of its scores, ``users`` at a time: (U, N) is never held at once.

    Returns:
        (U, W) int64; see :func:`top_items`.
    """
    if isinstance(baseline, Lister):
        return baseline.lists(histories, width, exclude)
    starts = range(0, len(histories), users)
    rows = [slice(start, start + users) for start in starts]
    parts = [top_items(baseline.scores(histories[r]), width, None if exclude is None else exclude[r]) for r in rows]
    return np.concatenate(parts)


def tied_ranks(
    baseline: Scorer, histories: np.ndarray, targets: np.ndarray, users: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`recnb.evaluate.rank_bounds` of a baseline, ``users`` at a time."""
    starts = range(0, len(histories), users)
    rows = [slice(start, start + users) for start in starts]
    bounds = [rank_bounds(baseline.scores(histories[r]), targets[r]) for r in rows]
    return np.concatenate([best for best, _ in bounds]), np.concatenate([worst for _, worst in bounds])
