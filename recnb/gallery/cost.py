"""What a row costs, measured while it scores: papers leave these columns out, here they decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn.modules.module import register_module_forward_hook
from transformers import PreTrainedModel

from recnb.gallery.interface import Ranker

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """The price of a row.

    Attributes:
        seconds: per user, on this machine: of its processors, all threads together, which other work does not
            stretch; with a GPU those of the clock.
        read: positions that a language model computed per user, padding and candidates' titles included.
        written: tokens that it wrote per user, one after the other.
        parameters: numbers that were trained; examples: on which, each as often as it was seen.
    """

    seconds: float
    read: float
    written: float
    parameters: int
    examples: int


@dataclass
class Tally:
    """Positions so far."""

    positions: int = 0


@contextmanager
def positions_read() -> Iterator[Tally]:
    """Counts, inside, the positions that the bodies of transformers models compute; heads are not counted."""
    tally = Tally()

    def count(module: Any, inputs: Any, output: Any) -> None:
        states = getattr(output, "last_hidden_state", None)  # none: a head around a body, which is met by itself
        if isinstance(module, PreTrainedModel) and module.base_model is module and states is not None:
            tally.positions += states.shape[:2].numel()

    hook = register_module_forward_hook(count)
    try:
        yield tally
    finally:
        hook.remove()


def costed(row: Ranker, answer: Callable[[], T], users: int) -> tuple[T, Cost]:
    """What ``answer()`` lets a row find for some ``users``, and what it cost.

    A row that writes text counts its tokens in an attribute ``written``.
    """
    clock = time.perf_counter if torch.cuda.is_initialized() else time.process_time
    before, start = getattr(row, "written", 0), clock()
    with positions_read() as tally:
        found = answer()
    seconds, written = clock() - start, getattr(row, "written", 0) - before
    learned = row.learned
    return found, Cost(seconds / users, tally.positions / users, written / users, learned.parameters, learned.examples)
