"""What is said to make training faster, each against the setting as it is, on the same batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from recnb.eager_llm.model import Recommender
from recnb.speed.training import Window, dense_loss


def switch_contest(model: Any, windows: Sequence[Window], compiled: bool = False) -> dict[str, Callable[[], float]]:
    """One training step (forward, backward, AdamW at rate 0) per contestant; each returns its loss.

    Args:
        model: a causal LM with sdpa attention, in float32; every contestant trains a copy.
        windows: the batch.
        compiled: add ``torch.compile`` (compiling falls into the round that does not count).
    """
    device = torch.device(model.device).type
    contestants = {
        "as it is": _step(model, windows),
        "bfloat16 (autocast)": _step(model, windows, lambda: torch.autocast(device, torch.bfloat16)),
        "eager attention": _step(model, windows, attention="eager"),
    }
    if device == "cpu" and torch.get_num_threads() > 1:
        contestants["one thread"] = _step(model, windows, _one_thread)
    if compiled:
        contestants["torch.compile"] = _step(model, windows, compiled=True)
    return contestants


def _step(
    model: Any,
    windows: Sequence[Window],
    around: Callable[[], Any] = nullcontext,
    attention: str = "sdpa",
    compiled: bool = False,
) -> Callable[[], float]:
    own = copy.deepcopy(model).train()
    own.set_attn_implementation(attention)
    recommender = Recommender(own, {}, {})
    if compiled:
        own.model = torch.compile(own.model)
    optimizer = torch.optim.AdamW(own.parameters(), lr=0.0, weight_decay=0.0)

    def step() -> float:
        with around():
            loss = dense_loss(recommender, windows)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
