"""Session models: a session in, a long and a short view of it, scores of all items out; and how they are trained.

The public implementations build each session's graph in a Python loop. Here a batch is a block of windows (B, T),
batches hold sessions of like length, and a model file says only what is its own.
Trained in ``06_session_models``; LLM4SBR aligns the two views with texts in ``07_align``.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recnb.data.sessions import Samples
from recnb.recommenders.epochs import EpochModel, EpochTraining, seeded
from recnb.recommenders.next_item import NextItemEncoder
from recnb.recommenders.settings import SessionModelConfig

POOL = 64  # batches that are ordered by length together


class Encoded(NamedTuple):
    """What a session model makes of B windows.

    Attributes:
        long: (B, d) s_g, the session as a whole; short: (B, d) s_l, where it stands now.
        states: (B, T, d) one per click; real: (B, T) bool, False at fill places.
        table: (N, d) item vectors to score against.
    """

    long: Tensor
    short: Tensor
    states: Tensor
    real: Tensor
    table: Tensor


class SessionModel(NextItemEncoder):
    """A recommender that is trained on samples (session, end) instead of whole windows.

    A subclass says which states the clicks have (:meth:`click_states`), of which ``attention`` makes the long view, or
    how windows are encoded altogether (:meth:`encode`); and, where it differs, how both views become one vector
    (:meth:`join`), how that scores the items (:meth:`logits`), what is learned from the training sessions before any
    step (:meth:`learn_structure`), what is added to the loss (:meth:`extra_loss`) and which vectors items have
    (:meth:`table`).
    """

    attention: nn.Module  # states (B, T, d) and which of them are real (B, T) -> (B, d)

    def __init__(self, n_items: int, config: SessionModelConfig, length: int) -> None:
        super().__init__(n_items, config, length)
        self.joined: nn.Linear | None = nn.Linear(2 * config.width, config.width)  # none: a model joins otherwise
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, windows: Tensor, table: Tensor) -> Encoded:
        """Both views of windows (B, T), -1 on the left, given the item vectors (N, d) of :meth:`table`; the short one
        is the newest click's state."""
        states, real = self.click_states(windows, table), windows >= 0
        return Encoded(self.attention(states, real), states[:, -1], states, real, table)

    def click_states(self, windows: Tensor, table: Tensor) -> Tensor:
        """(B, T, d) a vector per click of windows (B, T), given the item vectors (N, d)."""
        raise NotImplementedError

    def table(self) -> Tensor:
        """(N, d) item vectors of this step."""
        return self.items.weight[: self.n_items]

    def join(self, long: Tensor, short: Tensor) -> Tensor:
        """(B, d) the session vector s = W3 [s_g; s_l] (SR-GNN equation 7)."""
        assert self.joined is not None
        return self.joined(torch.cat([long, short], dim=1))

    def logits(self, session: Tensor, encoded: Encoded) -> Tensor:
        """(B, N) scores of all items for session vectors (B, d)."""
        return session @ encoded.table.T

    def learn_structure(self, samples: Samples) -> None:
        """Take what is needed from the training samples as a whole: nothing, for most."""

    def extra_loss(self, encoded: Encoded, windows: Tensor) -> Tensor | None:
        """A term of the loss beside cross-entropy: none, for most."""
        return None

    def forward(self, windows: Tensor) -> Tensor:
        """(B, N) scores of windows (B, T)."""
        return self.score(windows, self.encode(windows, self.table()))

    def read(self, windows: Tensor) -> Tensor:
        """(B, d) session vectors of windows (B, T)."""
        encoded = self.encode(windows, self.table())
        return self.join(encoded.long, encoded.short)

    def item_vectors(self) -> Tensor:
        """(N, d): :meth:`table`."""
        return self.table()

    def score(self, windows: Tensor, encoded: Encoded) -> Tensor:
        """(B, N) scores of what was encoded."""
        return self.with_repeats(self.logits(self.join(encoded.long, encoded.short), encoded), windows)

    @torch.no_grad()
    def score_batches(self, histories: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """(B, N) scores, a batch at a time; windows are cut to the longest of their batch."""
        table: Tensor | None = None
        for batch in self.latest(histories, batch_size):
            table = self.table() if table is None else table
            windows = trimmed(batch)
            yield self.score(windows, self.encode(windows, table)).float()

    def vectors(self, nodes: Tensor, table: Tensor) -> Tensor:
        """(..., d) rows of the table, zero for item -1, with dropout."""
        return self.dropout(functional.embedding(nodes.clamp(min=0), table) * (nodes >= 0)[..., None])


class SoftAttention(nn.Module):
    """The long view of SR-GNN (equation 6): sum of a_i h_i with a_i = q . sigmoid(W1 h_T + W2 h_i + c).

    The original sums raw weights; the public code of LLM4SBR puts a softmax over them (``normalise``).
    """

    def __init__(self, width: int, normalise: bool) -> None:
        super().__init__()
        self.newest, self.each = nn.Linear(width, width), nn.Linear(width, width)
        self.weight, self.normalise = nn.Linear(width, 1, bias=False), normalise

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """(B, d) of states (B, T, d), those at fill places left out."""
        weights = self.weight(torch.sigmoid(self.newest(states[:, -1:]) + self.each(states)))[..., 0]  # (B, T)
        return weighted_sum(weights, states, real, self.normalise)


def weighted_sum(weights: Tensor, states: Tensor, real: Tensor, normalise: bool) -> Tensor:
    """(B, d) states (B, T, d) added up with weights (B, T), those at fill places left out; ``normalise``: the weights
    after a softmax over the real places (B, T)."""
    if normalise:
        weights = weights.masked_fill(~real, torch.finfo(weights.dtype).min).softmax(1)  # no click at all: no NaN
    return ((weights * real)[..., None] * states).sum(1)


def uniform_start(model: nn.Module, width: int) -> None:
    """Every weight from uniform(-1/sqrt(d), 1/sqrt(d)), as the session graphs' public implementations; numbers that
    stand alone stay."""
    for weight in (weight for weight in model.parameters() if weight.dim()):
        nn.init.uniform_(weight, -(width**-0.5), width**-0.5)


def trimmed(windows: Tensor) -> Tensor:
    """Windows (B, T) without the places on the left that no row fills."""
    longest = int((windows >= 0).sum(1).max()) if len(windows) else 1
    return windows[:, -max(longest, 1) :]


def train_session_model(
    samples: Samples, n_items: int, config: SessionModelConfig, length: int, *, seed: int, model: type[SessionModel],
    device: str = "cpu", validation: tuple[np.ndarray, np.ndarray] | None = None, progress: bool = False,
    keep: Path | None = None,
) -> SessionModel:  # fmt: skip
    """Fit a session model with cross-entropy over all items; in evaluation mode, with its ``log``.

    Args:
        samples: training samples; n_items: N; length: T, longer inputs are cut to their latest items.
        seed: of initialisation, order and dropout; torch's own generator is left as it was.
        validation: inputs (M, T) and targets (M,). Given, the epoch of the best R@10 is kept.
        device, progress, keep: see :class:`recnb.recommenders.epochs.EpochTraining`.
    """
    rng = np.random.default_rng(seed)
    with seeded(seed, device):
        net = model(n_items, config, length).to(device)
        net.learn_structure(samples)

        def loss(windows: Tensor, targets: Tensor, numbers: np.ndarray) -> Tensor:
            encoded = net.encode(windows, net.table())
            entropy = functional.cross_entropy(net.score(windows, encoded), targets)
            extra = net.extra_loss(encoded, windows)
            return entropy if extra is None else entropy + extra

        check = partial(net.recall, *validation, 10) if validation else None
        fit_samples(net, samples, config, length, rng, loss, check, progress, keep)
    return net.eval()  # type: ignore[return-value]


def fit_samples(
    model: EpochModel, samples: Samples, config: SessionModelConfig, length: int, rng: np.random.Generator,
    loss: Callable[[Tensor, Tensor, np.ndarray], Tensor], check: Callable[[], float] | None, progress: bool = False,
    keep: Path | None = None,
) -> None:  # fmt: skip
    """Train a model on samples, batches of like length, in epochs with early stopping.

    Args:
        loss: mean loss of windows (B, T), targets (B,), and the samples' :attr:`Samples.number` (B,).
        check: R@10 on validation, or none.
    """
    lengths = np.minimum(samples.lengths, length)

    def learn(rows: np.ndarray) -> tuple[Tensor, float, int]:
        batch = samples.take(rows)
        windows = torch.from_numpy(batch.inputs(int(lengths[rows].max())).astype(np.int64)).to(model.device)
        targets = torch.from_numpy(batch.targets.astype(np.int64)).to(model.device)
        value = loss(windows, targets, batch.number)
        return value, float(value.detach()) * len(rows), len(rows)

    steps = -(-len(samples) // config.batch_size)
    training = EpochTraining(model, config, steps, rng, keep, config.weight_decay)
    if config.schedule == "step":  # the public implementations': Adam with L2 inside, a tenth after every few epochs
        training.optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, weight_decay=config.l2)
        training.schedule = torch.optim.lr_scheduler.StepLR(training.optimizer, 3 * steps)
    training.run(lambda: like_lengths(lengths, config.batch_size, rng), learn, check, progress)


def like_lengths(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of rows: all of them once, in an order that is drawn, those of one batch of like length; as few as can
    be."""
    pools = _parts(rng.permutation(len(lengths)), POOL * batch_size)
    parts = [part for pool in pools for part in _parts(pool[np.argsort(lengths[pool], kind="stable")], batch_size)]
    yield from (parts[place] for place in rng.permutation(len(parts)))


def _parts(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
