"""Models of the next item over item sequences: windows, losses, training and scoring, which they share.

Only the encoder differs: :mod:`recnb.recommenders.sasrec`, :mod:`recnb.recommenders.gru4rec` and
:mod:`recnb.recommenders.bert4rec`. Used as baselines in ``06_evaluate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recnb.data.schema import Sequences, left_padded
from recnb.recommenders.epochs import EpochModel, EpochTraining, seeded
from recnb.recommenders.losses import NegativeSampler, sampled_softmax
from recnb.recommenders.settings import SequentialConfig, SessionModelConfig

_CELLS = 2**24  # scores held at once while validating: 64 MB of float32


class NextItemEncoder(EpochModel):
    """Items of a window in, a score for every item as the next one out: ``score(h, i) = <query(h), E[i]>``.

    The output layer is the item table E itself. Windows are filled with -1 on the left. A subclass says how a window
    becomes states (:meth:`forward`), and, where it is not trained to predict each following item, how it is asked for
    the next one (:meth:`read`) and what it learns from a window (:meth:`lesson`).

    Reading and scoring with one table has a price: a block adds to what it reads, so a state keeps a part of the item
    just seen, and this item scores itself. Full cross-entropy can unlearn that at every target, sampled softmax only
    where the item happens to be drawn. With ``repeat_bias`` the items of the window are always candidates, and one
    learned number, added to the scores of all of them, says how likely a repetition is.

    Args:
        n_items: N; config: its section of the recipe; length: T, items of a window.
        temperature: 0: the score is the inner product; else the cosine divided by this.

    Attributes:
        repeat: scalar added to the scores of items in the window, or none.
        cuts_move: whether training cuts sequences into windows elsewhere in every epoch; if not, a sequence of at most
            T + 1 items is one window, where a cut would make two of it, half of both empty.
    """

    cuts_move = True

    def __init__(
        self, n_items: int, config: SequentialConfig | SessionModelConfig, length: int, temperature: float = 0.0
    ) -> None:
        super().__init__(length)
        self.n_items, self.temperature, self.config = n_items, temperature, config
        self.items = nn.Embedding(n_items + 1, config.width)  # the last row stands for "no item"
        self.repeat = nn.Parameter(torch.zeros(())) if config.repeat_bias else None

    def vectors_of(self, windows: Tensor) -> Tensor:
        """(B, T, d) rows of the item table for windows (B, T)."""
        return self.items(torch.where(windows < 0, self.n_items, windows))

    def read(self, windows: Tensor) -> Tensor:
        """(B, d) state from which the item after each window (B, T) is predicted."""
        return self(windows)[:, -1]

    def lesson(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What windows (B, T + 1) teach: each item after the first. Returns states (n, d), the items (n,) they should
        predict, and the items (n, S) they have seen, filled with -1.
        """
        inputs, following = windows[:, :-1], windows[:, 1:]
        real = inputs >= 0  # on the left there is nothing to predict from
        later = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool, device=windows.device).triu(1)
        return self(inputs)[real], following[real], inputs[:, None, :].masked_fill(later, -1)[real]

    def queries(self, states: Tensor) -> Tensor:
        """(..., d) what is multiplied with :meth:`item_vectors`."""
        return functional.normalize(states, dim=-1) / self.temperature if self.temperature else states

    def item_vectors(self) -> Tensor:
        """The item table E (N, d), without the row for "no item"; of length 1 where the score is a cosine."""
        table = self.items.weight[: self.n_items]
        return functional.normalize(table, dim=-1) if self.temperature else table

    @torch.no_grad()
    def item_table(self) -> np.ndarray:
        """:meth:`item_vectors` as (N, d) float32 numpy."""
        return self.item_vectors().float().cpu().numpy().copy()

    def scores(self, histories: np.ndarray, batch_size: int = 1024) -> np.ndarray:
        """(U, N) float32 for histories (U, T') filled with -1 on the left, ``batch_size`` users at a time."""
        parts = [scores.cpu() for scores in self.score_batches(histories, batch_size)]
        return torch.cat([torch.empty(0, self.n_items), *parts]).numpy()

    @torch.no_grad()
    def score_batches(self, histories: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """:meth:`scores` as tensors (B, N) on the model's device."""
        for batch in self.latest(histories, batch_size):
            yield self.with_repeats(self.queries(self.read(batch)) @ self.item_vectors().T, batch).float()

    @torch.no_grad()
    def states(self, histories: np.ndarray) -> Tensor:
        """(U, d) what is multiplied with the item vectors after histories (U, T') filled with -1 on the left."""
        return torch.cat([self.queries(self.read(batch)) for batch in self.latest(histories, 1024)])

    def recall(self, histories: np.ndarray, targets: np.ndarray, cutoff: int) -> float:
        """Share of users whose target is among the ``cutoff`` best of all items; a tie counts against us."""
        size, found = max(1, min(1024, _CELLS // self.n_items)), []
        wanted = torch.from_numpy(np.asarray(targets, np.int64)).to(self.device).split(size)
        for scores, own in zip(self.score_batches(histories, size), wanted, strict=True):
            found.append((scores >= scores.gather(1, own[:, None])).sum(1) <= cutoff)
        return float(torch.cat(found).double().mean())

    def with_repeats(self, scores: Tensor, seen: Tensor) -> Tensor:
        """Scores of all items (n, N), those of the items seen (n, S) shifted by :attr:`repeat`, if there is one."""
        return scores if self.repeat is None else scores + self.repeat * marks(seen, self.n_items)


def train_sequential(
    train: Sequences, n_items: int, config: SequentialConfig, length: int, *, seed: int,
    encoder: type[NextItemEncoder], device: str = "cpu", validation: tuple[np.ndarray, np.ndarray] | None = None,
    weight_decay: float = 0.0, progress: bool = False, keep: Path | None = None,
) -> NextItemEncoder:  # fmt: skip
    """Fit an encoder (SASRec, GRU4Rec, BERT4Rec) on training sequences; in evaluation mode, with its ``log``.

    Every position of a window is a target, and the windows of an epoch cover every transition once; where they are cut
    moves from epoch to epoch (``cuts_move``), so that each transition is seen with short and long histories.

    Args:
        train: training sequences, oldest first; n_items: N; length: T; encoder: what reads the windows.
        config: ``batch_size`` counts windows; ``negatives`` 0: cross-entropy over all items, else sampled softmax with
            that many shared, log-q-corrected negatives.
        seed: of initialisation, order, dropout and negatives; torch's own generator is left as it was.
        validation: histories (U, T) and targets (U,). Given, training stops after ``patience`` epochs without a better
            R@10 (full ranking, seen items kept) and the best epoch's weights are returned.
        weight_decay, progress, keep: see :class:`recnb.recommenders.epochs.EpochTraining`.
    """
    rng = np.random.default_rng(seed)
    with seeded(seed, device):
        model = encoder(n_items, config, length).to(device)
        sampler = NegativeSampler(train.items, n_items, rng) if config.negatives else None

        def batches() -> Sequence[Tensor]:
            windows = windows_of(train, length, int(rng.integers(length)) if model.cuts_move else 0)
            return torch.from_numpy(windows[rng.permutation(len(windows))]).split(config.batch_size)

        def learn(windows: Tensor) -> tuple[Tensor, float, int]:
            losses = _target_losses(model, windows.to(model.device), config.negatives, sampler)
            return losses.mean(), float(losses.detach().sum()), len(losses)

        steps = -(-len(windows_of(train, length, 0)) // config.batch_size)
        training = EpochTraining(model, config, steps, rng, keep, weight_decay)
        training.run(batches, learn, partial(model.recall, *validation, 10) if validation else None, progress)
    return model.eval()


def _target_losses(model: NextItemEncoder, windows: Tensor, negatives: int, sampler: NegativeSampler | None) -> Tensor:
    """Loss of everything that the model learns from windows (B, T+1): (n,)."""
    states, targets, seen = model.lesson(windows)  # (n, d), (n,), (n, S)
    queries, table = model.queries(states), model.item_vectors()
    if sampler is None:
        return functional.cross_entropy(model.with_repeats(queries @ table.T, seen), targets, reduction="none")
    drawn, log_q = sampler.draw(negatives, queries.device)
    positive, rivals = (queries * table[targets]).sum(-1), queries @ table[drawn].T
    hits = targets[:, None] == drawn
    if model.repeat is None:
        return sampled_softmax(positive, rivals, log_q, hits)
    again = seen == targets[:, None]
    known = (queries[:, None] * table[seen.clamp(min=0)]).sum(-1) + model.repeat
    known = known.masked_fill((seen < 0) | again | earlier_again(seen), -torch.inf)
    drawn_again = among(drawn, seen, model.n_items)  # candidates already, and surely
    positive = positive + model.repeat * again.any(1)
    return sampled_softmax(positive, rivals, log_q, hits | drawn_again, known)


def marks(rows: Tensor, width: int) -> Tensor:
    """(n, width) bool: which of ``width`` places each row (n, S) names; -1 names none.

    >>> marks(torch.tensor([[-1, 2], [1, 1]]), 3)
    tensor([[False, False,  True],
            [False,  True, False]])
    """
    found = torch.zeros(len(rows), width + 1, dtype=torch.bool, device=rows.device)
    return found.scatter_(1, torch.where(rows < 0, width, rows), True)[:, :-1]


def among(wanted: Tensor, rows: Tensor, n_items: int) -> Tensor:
    """(n, M) bool: whether each wanted item (M,) stands in each row (n, S) of items, where -1 is none.

    One write per place in a row and one read per answer, instead of n S M comparisons.

    >>> among(torch.tensor([2, 0, 2]), torch.tensor([[-1, 2], [1, 3]]), 4)
    tensor([[ True, False,  True],
            [False, False, False]])
    """
    distinct, place = wanted.unique(return_inverse=True)
    column = torch.full((n_items + 1,), -1, device=rows.device)  # not asked for; the last one answers for -1
    column[distinct] = torch.arange(len(distinct), device=rows.device)
    return marks(column[rows], len(distinct))[:, place]


def earlier_again(rows: Tensor) -> Tensor:
    """(n, S) bool: whether the same number stands further left in its row.

    >>> earlier_again(torch.tensor([[4, 2, 4, 4]]))
    tensor([[False, False,  True,  True]])
    """
    same = rows[:, :, None] == rows[:, None, :]
    return same.tril(-1).any(2)


def windows_of(train: Sequences, length: int, shift: int) -> np.ndarray:
    """Windows (n, T + 1) int64 that overlap by one item, so that every transition stands in exactly one; -1 on the
    left.

    Of T = ``length`` transitions each, the last one of a sequence cut short by ``shift`` in [0, T). Sequences of one
    item give none.

    >>> from recnb.data import Sequences
    >>> windows_of(Sequences(np.array([0, 4]), np.array([5, 6, 7, 8], np.int32)), 2, 0)
    array([[ 6,  7,  8],
           [-1,  5,  6]])
    """
    starts, ends = train.offsets[:-1], train.offsets[1:]
    transitions = ends - starts - 1
    first = length - shift  # the newest window begins so many transitions before the end; others go back by `length`
    counts = np.where(transitions > 0, 1 + -(-np.maximum(transitions - first, 0) // length), 0)
    owner = np.repeat(np.arange(len(starts)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    stop = ends[owner] - np.where(number > 0, first + (number - 1) * length, 0)  # past the window's last item
    room = np.where(number > 0, length, first)
    return left_padded(train.items, np.maximum(starts[owner], stop - 1 - room), stop, length + 1).astype(np.int64)
