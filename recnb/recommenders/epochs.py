"""Training epoch by epoch: early stopping, the best epoch's weights, and a state that survives a kill.

What :mod:`recnb.recommenders.next_item` and :mod:`recnb.recommenders.tiger` share. The generator itself is trained by
transformers' Trainer (:mod:`recnb.eager_llm.train`), which has checkpoints of its own.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from recnb.artifacts import write_atomic

SAVE_EVERY = 20.0  # seconds between states on disk; the last one is always kept


def warmed_up_adam(
    model: nn.Module, learning_rate: float, steps: int, weight_decay: float = 0.0
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW on all weights, and a rate that rises over the first fiftieth of ``steps`` and stays."""
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (0.02 * steps + 1)))
    return optimizer, schedule


class EpochTraining:
    """A training in epochs that ends with the weights of the one that validated best.

    Args:
        model: a module with a ``log``; gets one row per epoch: ``epoch``, ``loss`` and, with a check, ``R@10``; and
            ``seconds``, what the training took over all calls.
        optimizer, schedule: of its weights.
        rng: what every draw of an epoch comes from, besides torch's own generators.
        keep: a file for the state. Where one lies there, the training goes on behind the epoch that it was written
            after and ends with the same bits as one that was never broken off; it must be of the same training. None:
            nothing is kept.
    """

    def __init__(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        rng: np.random.Generator,
        keep: Path | None = None,
    ) -> None:
        self.model, self.optimizer, self.schedule, self.rng, self.keep = model, optimizer, schedule, rng, keep
        self.best, self.best_weights, self.waited, self.spent = -1.0, None, 0, 0.0
        self._started = self._saved = time.monotonic()

    def run(
        self,
        one_epoch: Callable[[], float],
        check: Callable[[], float] | None,
        epochs: int,
        patience: int,
        progress: bool = False,
    ) -> None:
        """Train.

        Args:
            one_epoch: trains for an epoch and returns its mean loss.
            check: R@10 on validation; None: all epochs are run and the last weights stay.
            epochs: at most.
            patience: epochs without a better R@10 before stopping.
            progress: show a bar, with the model's ``title``.
        """
        self._resume()
        log = self.model.log
        with tqdm(total=epochs, initial=len(log), desc=self.model.title, disable=not progress) as bar:
            while len(log) < epochs and self.waited < patience:
                log.append({"epoch": len(log) + 1.0, "loss": one_epoch()})
                if check is not None:
                    self._judge(check())
                self._save(last=len(log) == epochs or self.waited >= patience)
                bar.update()
        self.model.seconds = self._seconds()
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

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
