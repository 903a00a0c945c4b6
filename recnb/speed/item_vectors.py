"""A language model that reads item vectors, trained as a user would without recnb: one prompt per target.

The code released with E4SRec makes a prompt of the whole history for every target and predicts at its end. Here the
same targets behind the same histories are trained both ways: :class:`recnb.gallery.e4srec.E4SRec` predicts at every
place of a window. The other way pads nothing, its prompts are batched by length.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from recnb.gallery.e4srec import E4SRec
from recnb.gallery.recipe import E4srecConfig
from recnb.speed.training import step_at_rate_0


def item_loss(model: E4SRec, states: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """Mean cross-entropy over all items, of states (n, d) that should predict targets (n,) after items seen (n, S)."""
    logits = model.queries(states) @ model.item_vectors().T
    return functional.cross_entropy(model.with_repeats(logits, seen), targets)


def item_vector_contest(model: E4SRec, windows: Tensor, batch_size: int) -> dict[str, Callable[[], float]]:
    """Forward, backward and optimizer over all targets of full windows (W, T + 1): in one batch, or each behind a
    prompt of its own, ``batch_size`` at a time. Contestants return the mean loss."""
    step = step_at_rate_0(model)
    prompts = [part for stop in range(1, windows.shape[1]) for part in windows[:, : stop + 1].split(batch_size)]
    n_targets = sum(map(len, prompts))

    def alone(rows: Tensor) -> float:
        histories = rows[:, :-1]
        return step(item_loss(model, model.read(histories), rows[:, -1], histories))

    return {
        "recnb, dense": lambda: step(item_loss(model, *model.lesson(windows))),
        "one prompt per target": lambda: sum(len(rows) * alone(rows) for rows in prompts) / n_targets,
    }


def synthetic_e4srec(causal: Any, n_items: int, length: int, beginning: int, seed: int) -> E4SRec:
    """E4SRec over random item vectors (N, 64) and an instruction of so many random tokens, nothing dropped out."""
    rng = np.random.default_rng(seed)
    words = rng.integers(1, causal.config.vocab_size, beginning)
    return E4SRec(
        n_items, E4srecConfig(dropout=0.0), length, causal=causal, beginning=words, titles=[words], body="pretrained",
        table=rng.standard_normal((n_items, 64), np.float32),
    )  # fmt: skip
