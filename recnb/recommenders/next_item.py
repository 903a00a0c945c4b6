"""Models of the next item over item sequences: windows, losses, training loop and scoring, which they share.

Only the encoder differs: :mod:`recnb.recommenders.sasrec`, :mod:`recnb.recommenders.gru4rec` and
:mod:`recnb.recommenders.bert4rec`. Used as baselines in ``06_evaluate``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recnb.recommenders.epochs import EpochTraining, seeded, warmed_up_adam
from recnb.recommenders.losses import NegativeSampler, sampled_softmax

if TYPE_CHECKING:
    from recnb.data.schema import Sequences
    from recnb.recommenders.settings import SequentialConfig


_CELLS = 2**24  # scores held at once while validating: 64 MB of float32


class NextItemEncoder(nn.Module):
    """Items of a window in, a score for every item as the next one out: ``score(h, i) = <query(h), E[i]>``.

    The output layer is the item table E itself. Windows are filled with -1 on the left. A subclass says how a window
    becomes states (:meth:`forward`), and, where it is not trained to predict each following item, how it is asked for
    the next one (:meth:`read`) and what it learns from a window (:meth:`lesson`).

    Reading and scoring with one table has a price: a block adds to what it reads, so a state keeps a part of the item
    just seen, and this item scores itself. Full cross-entropy can unlearn that at every target, sampled softmax only
    where the item happens to be drawn. With :meth:`learn_repeats` the items of the window are always candidates, and
    one learned number, added to the scores of all of them, says how likely a repetition is.

    Args:
        n_items: N.
        width: d, of the item table.
        length: T, items of a window.
        temperature: 0: the score is the inner product; else the cosine divided by this.

    Attributes:
        log: one row per epoch after :func:`train_sequential`: ``epoch``, ``loss`` and, with validation, ``R@10``.
        seconds: what the training took.
        repeat: scalar added to the scores of items in the window, or none.
    """

    repeat: nn.Parameter | None
    title = ""  # its name, for the progress bar

    def __init__(self, n_items: int, width: int, length: int, temperature: float = 0.0) -> None:
        super().__init__()
        self.n_items, self.length, self.temperature = n_items, length, temperature
        self.log: list[dict[str, float]] = []
        self.seconds = 0.0
        self.items = nn.Embedding(n_items + 1, width)  # the last row stands for "no item"
        self.register_parameter("repeat", None)

    def learn_repeats(self) -> None:
        """Give :attr:`repeat` a value to train, 0 at first."""
        self.repeat = nn.Parameter(torch.zeros((), device=self.device))

    @classmethod
    def build(cls, n_items: int, config: Any, length: int) -> Self:
        """An untrained encoder with the sizes of its section of the recipe."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.items.weight.device

    def vectors_of(self, windows: Tensor) -> Tensor:
        """(B, T, d) rows of the item table for windows (B, T)."""
        return self.items(torch.where(windows < 0, self.n_items, windows))

    def read(self, windows: Tensor) -> Tensor:
        """(B, d) state from which the item after each window (B, T) is predicted."""
        return self(windows)[:, -1]

    def lesson(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What windows (B, T + 1) teach: each item after the first.

        Returns:
            states (n, d), the items (n,) they should predict, and the items (n, S) they have seen, filled with -1.
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
        """Score of every item as the next one.

        Args:
            histories: (U, T') item numbers filled with -1 on the left; the latest T count.
            batch_size: users at a time.

        Returns:
            (U, N) float32, larger is better.
        """
        if len(histories) == 0:
            return np.zeros((0, self.n_items), np.float32)
        return torch.cat([scores.cpu() for scores in self.score_batches(histories, batch_size)]).numpy()

    def recall(self, histories: np.ndarray, targets: np.ndarray, cutoff: int) -> float:
        """:func:`recall` of :meth:`scores`, which are made for a bounded number of users at a time.

        Args:
            histories: (U, T') as in :meth:`scores`.
            targets: (U,) items.
            cutoff: k.
        """
        size = max(1, min(1024, _CELLS // self.n_items))
        wanted = torch.from_numpy(np.asarray(targets, np.int64)).split(size)
        batches = zip(self.score_batches(histories, size), wanted, strict=True)
        return float(torch.cat([hits(scores, own, cutoff).cpu() for scores, own in batches]).double().mean())

    @torch.no_grad()
    def score_batches(self, histories: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """:meth:`scores` as tensors (B, N) on the model's device, ``batch_size`` users each."""
        was_training = self.training
        self.eval()
        latest = torch.from_numpy(np.ascontiguousarray(histories[:, -self.length :], dtype=np.int64))
        for batch in latest.split(batch_size):
            states = self.read(batch.to(self.device))
            yield self.with_repeats(self.queries(states) @ self.item_vectors().T, batch).float()
        self.train(was_training)

    def with_repeats(self, scores: Tensor, seen: Tensor) -> Tensor:
        """Scores of all items (n, N), those of the items seen (n, S) shifted by :attr:`repeat`, if there is one."""
        if self.repeat is None:
            return scores
        return scores + self.repeat * marks(seen.to(scores.device), self.n_items)


def train_sequential(
    train: Sequences,
    n_items: int,
    config: SequentialConfig,
    length: int = 20,
    *,
    seed: int,
    encoder: type[NextItemEncoder],
    device: str = "cpu",
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    weight_decay: float = 0.0,
    progress: bool = False,
    keep: Path | None = None,
) -> NextItemEncoder:
    """Fit an encoder (SASRec, GRU4Rec, BERT4Rec) on training sequences.

    Every position of a window is a target, and the windows of an epoch cover every transition once; where they are cut
    moves from epoch to epoch, so that each transition is seen with short and long histories.

    Args:
        train: training sequences, oldest first.
        n_items: N.
        config: the encoder's sizes, and epochs, batch size (windows), learning rate, patience; ``negatives`` 0:
            cross-entropy over all items, else sampled softmax with that many shared, log-q-corrected negatives.
        length: T, items of a window.
        seed: of initialisation, order, dropout and negatives; torch's own generator is left as it was.
        encoder: what reads the windows.
        device: where to train.
        validation: histories (U, T) and targets (U,). Given, training stops after ``patience`` epochs without a better
            R@10 (full ranking, seen items kept) and the best epoch's weights are returned.
        weight_decay: AdamW's, on all weights.
        progress: show a bar.
        keep: file for the state of a training that may be broken off (see :mod:`recnb.recommenders.epochs`).

    Returns:
        the model in evaluation mode, with its ``log``.
    """
    with seeded(seed, device):
        model = encoder.build(n_items, config, length).to(device)
        if config.repeat_bias:
            model.learn_repeats()
        _fit(model, train, config, np.random.default_rng(seed), validation, weight_decay, progress, keep)
    return model.eval()


def _fit(
    model: NextItemEncoder,
    train: Sequences,
    config: SequentialConfig,
    rng: np.random.Generator,
    validation: tuple[np.ndarray, np.ndarray] | None,
    weight_decay: float,
    progress: bool,
    keep: Path | None,
) -> None:
    sampler = NegativeSampler(train.items, model.n_items, rng) if config.negatives else None
    steps = config.epochs * max(1, -(-len(windows_of(train, model.length, 0)) // config.batch_size))
    optimizer, schedule = warmed_up_adam(model, config.learning_rate, steps, weight_decay)

    def one_epoch() -> float:
        windows = windows_of(train, model.length, int(rng.integers(model.length)))
        return _one_epoch(model, windows, config, rng, sampler, optimizer, schedule)

    check = partial(model.recall, *validation, 10) if validation is not None else None
    training = EpochTraining(model, optimizer, schedule, rng, keep)
    training.run(one_epoch, check, config.epochs, config.patience, progress)


def _one_epoch(
    model: NextItemEncoder,
    windows: np.ndarray,
    config: SequentialConfig,
    rng: np.random.Generator,
    sampler: NegativeSampler | None,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """One pass over windows (n, T+1); the mean loss per target."""
    model.train()
    total, targets = 0.0, 0
    order = torch.from_numpy(rng.permutation(len(windows)))
    batches = torch.from_numpy(windows)[order].split(config.batch_size)
    for batch in batches:
        losses = _target_losses(model, batch.to(model.device), config.negatives, sampler)
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        optimizer.step()
        schedule.step()
        total, targets = total + float(losses.detach().sum()), targets + len(losses)
    return total / max(1, targets)


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
    """Windows of length + 1 items that overlap by one item, so that every transition stands in exactly one.

    Args:
        train: sequences, oldest first.
        length: T, transitions per window.
        shift: in [0, length): how many transitions the last window of each sequence is cut short by.

    Returns:
        (n, length + 1) int64, filled with -1 on the left; sequences of one item give none.

    >>> from recnb.data import Sequences
    >>> windows_of(Sequences(np.array([0, 4]), np.array([5, 6, 7, 8], np.int32)), 2, 0)
    array([[ 6,  7,  8],
           [-1,  5,  6]])
    """
    starts, ends = train.offsets[:-1], train.offsets[1:]
    transitions = ends - starts - 1
    # The newest window ends `length - shift` transitions after a cut; later cuts go back by `length`.
    first = np.where(transitions > 0, length - shift if shift else length, 0)
    counts = np.where(transitions > 0, 1 + -(-np.maximum(transitions - first, 0) // length), 0)
    owner = np.repeat(np.arange(len(starts)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    stop = ends[owner] - np.where(number > 0, first[owner] + (number - 1) * length, 0)  # past the window's last item
    room = np.where(number > 0, length, first[owner])
    positions = stop[:, None] - 1 - length + np.arange(length + 1)
    inside = (positions >= starts[owner][:, None]) & (positions >= (stop - 1 - room)[:, None])
    return np.where(inside, train.items[np.where(inside, positions, 0)], -1).astype(np.int64)


def recall(scores: np.ndarray, targets: np.ndarray, cutoff: int) -> float:
    """Share of users whose target is among the ``cutoff`` best of all items; a tie counts against us.

    >>> recall(np.array([[0.1, 0.9, 0.3], [0.5, 0.2, 0.2]]), np.array([2, 2]), 2)
    0.5
    """
    wanted = torch.from_numpy(np.asarray(targets, np.int64))
    return float(hits(torch.from_numpy(scores), wanted, cutoff).double().mean())


def hits(scores: Tensor, targets: Tensor, cutoff: int) -> Tensor:
    """(U,) bool on the scores' device: whose target is among the ``cutoff`` best; arguments as in :func:`recall`."""
    own = scores.gather(1, targets.to(scores.device)[:, None])
    return (scores >= own).sum(1) <= cutoff
