"""Training epoch by epoch: early stopping, the best epoch's weights, and a state that survives a kill.

What the neural recommenders share. EAGER-LLM itself is trained by transformers' Trainer
(:mod:`recnb.eager_llm.train`), which has checkpoints of its own.
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from recnb.artifacts import write_atomic
from recnb.recommenders.settings import SequentialConfig, SessionModelConfig, TigerConfig

Learn = Callable[[Any], tuple[Tensor, float, int]]  # a batch -> mean loss, sum of losses, number of targets
SAVE_EVERY = 20.0  # seconds between states on disk; the last one is always kept


class EpochModel(nn.Module):
    """A recommender that is trained in epochs.

    Attributes:
        title: its name, for the progress bar.
        length: T, items of a history.
        log: one row per epoch of training: ``epoch``, ``loss`` and, with validation, ``R@10``.
        seconds: what the training took, over all calls.
    """

    title = ""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.log: list[dict[str, float]] = []
        self.seconds = 0.0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def latest(self, histories: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """The latest T items of histories (U, T'), ``batch_size`` users at a time; meanwhile in evaluation mode."""
        was_training = self.training
        self.eval()
        for start in range(0, len(histories), batch_size):
            batch = histories[start : start + batch_size, -self.length :]
            yield torch.from_numpy(np.ascontiguousarray(batch, dtype=np.int64)).to(self.device)
        self.train(was_training)


class EpochTraining:
    """A training in epochs that ends with the weights of the one that validated best.

    AdamW on all weights; its rate rises over the first fiftieth of all steps and stays.

    Args:
        model: what is trained; its log is written here.
        config: learning rate, most epochs, and patience: epochs without a better R@10 before stopping.
        steps: of an epoch; rng: what every draw of an epoch comes from, besides torch's own generators.
        keep: a file for the state. Where one lies there, the training goes on behind the epoch that it was written
            after and ends with the same bits as one that was never broken off; it must be of the same training. None:
            nothing is kept.
        weight_decay: AdamW's.
        longest: gradients longer than this are shortened; 0: none is.
    """

    def __init__(
        self, model: EpochModel, config: SequentialConfig | SessionModelConfig | TigerConfig, steps: int,
        rng: np.random.Generator, keep: Path | None = None, weight_decay: float = 0.0, longest: float = 0.0,
    ) -> None:  # fmt: skip
        self.model, self.config, self.rng, self.keep, self.longest = model, config, rng, keep, longest
        rate, warm = config.learning_rate, 0.02 * (config.epochs * max(1, steps)) + 1
        self.optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=weight_decay, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / warm))
        self.best, self.best_weights, self.waited, self.spent = -1.0, None, 0, 0.0
        self._started = self._saved = time.monotonic()

    def run(
        self, batches: Callable[[], Iterable[Any]], learn: Learn, check: Callable[[], float] | None,
        progress: bool = False,
    ) -> None:  # fmt: skip
        """Train.

        Args:
            batches: those of an epoch, drawn when it begins; learn: what a batch costs.
            check: R@10 on validation; None: all epochs are run and the last weights stay.
            progress: show a bar.
        """
        self._resume()
        log, epochs, patience = self.model.log, self.config.epochs, self.config.patience
        with tqdm(total=epochs, initial=len(log), desc=self.model.title, disable=not progress) as bar:
            while len(log) < epochs and self.waited < patience:
                log.append({"epoch": len(log) + 1.0, "loss": self._epoch(batches(), learn)})
                if check is not None:
                    self._judge(check())
                self._save(last=len(log) == epochs or self.waited >= patience)
                bar.update()
        self.model.seconds = self._seconds()
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    def _epoch(self, batches: Iterable[Any], learn: Learn) -> float:
        """One pass; the mean loss per target."""
        self.model.train()
        total, targets = 0.0, 0
        for batch in batches:
            loss, summed, count = learn(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if self.longest:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.longest)
            self.optimizer.step()
            self.schedule.step()
            total, targets = total + summed, targets + count
        return total / max(1, targets)

    def _judge(self, reached: float) -> None:
        self.model.log[-1]["R@10"] = reached
        if reached > self.best:
            self.best, self.best_weights, self.waited = reached, copy.deepcopy(self.model.state_dict()), 0
        else:
            self.waited += 1

    def _seconds(self) -> float:
        return self.spent + time.monotonic() - self._started

    def _save(self, last: bool) -> None:
        if self.keep is None or not (last or time.monotonic() - self._saved > SAVE_EVERY):
            return
        state = {
            "parts": [part.state_dict() for part in (self.model, self.optimizer, self.schedule)],
            "log": self.model.log,
            "best": (self.best, self.best_weights, self.waited),
            "rng": self.rng.bit_generator.state,
            "torch": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])],
            "seconds": self._seconds(),
        }
        write_atomic(self.keep, lambda file: torch.save(state, file))
        self._saved = time.monotonic()

    def _resume(self) -> None:
        if self.keep is None or not self.keep.is_file():
            return
        state = torch.load(self.keep, map_location="cpu", weights_only=True)
        for part, stored in zip((self.model, self.optimizer, self.schedule), state["parts"], strict=True):
            part.load_state_dict(stored)
        self.model.log[:] = state["log"]
        self.best, self.best_weights, self.waited = state["best"]
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch"][0])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["torch"][1:])
        self.spent = state["seconds"]


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Inside, torch draws from ``seed``; afterwards its generators are as they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        yield
