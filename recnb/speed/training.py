"""The training step as a user would have it without recnb: one (prompt, response) pair per target, all logits.

The code released with the paper repeats a user's history once per target and lets the model compute logits over the
whole vocabulary at every position of prompt and response. Here the same targets under the same histories are trained
both ways: :class:`recnb.eager_llm.model.Recommender` takes a window in one pass and computes logits where a label is.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional as F
from torch.utils.data import DataLoader

from recnb.eager_llm.model import Recommender
from recnb.eager_llm.tasks import Sample
from recnb.eager_llm.train import Collator
from recnb.llm.backbone import head_logits
from recnb.runtime import tell

Losses = dict[str, Callable[[], float]]  # contestants; each returns the mean loss per token


@dataclass(frozen=True)
class Window:
    """A piece of one user's sequence."""

    beginning: np.ndarray  # (P,) text tokens of the instruction
    items: np.ndarray  # (T + 1, L) tokens of its items; all but the first are targets

    def dense(self) -> Sample:
        """All targets in one sequence."""
        ids = np.concatenate([self.beginning, self.items.ravel()])
        return Sample(ids, np.arange(len(ids)) >= len(self.beginning) + self.items.shape[1], -1, "seqrec")

    def pairs(self) -> list[Sample]:
        """The same targets one by one, each as a (prompt, response) pair."""
        ids, step = self.dense().ids, self.items.shape[1]
        stops = len(self.beginning) + step * np.arange(2, len(self.items) + 1)
        return [Sample(ids[:stop], np.arange(stop) >= stop - step, -1, "seqrec") for stop in stops]


def windows_of_users(train_items: np.ndarray, offsets: np.ndarray, item_tokens: np.ndarray, beginning: np.ndarray,
                     size: int) -> list[Window]:
    """Cut every user's sequence, ``train_items[offsets[u]:offsets[u + 1]]``, into windows of at most ``size`` targets,
    newest first; each target is in one window."""
    return [
        Window(beginning, item_tokens[train_items[max(first, end - size - 1) : end]])
        for first, stop in zip(offsets[:-1], offsets[1:], strict=True)
        for end in range(stop, first + 1, -size)
    ]


def dense_loss(model: Any, windows: Sequence[Window]) -> torch.Tensor:
    """Mean cross-entropy over the tokens of all targets: every window in one pass, logits where a label is."""
    return Recommender(model, {}, {})(**_padded([window.dense() for window in windows], model.device))["loss"]


def pair_loss(model: Any, pairs: Sequence[Sample]) -> torch.Tensor:
    """The same of (prompt, response) pairs, as transformers computes it: logits over V at every position."""
    return model(**_for_transformers(pairs, model.device), use_cache=False).loss


def training_contest(model: Any, windows: Sequence[Window], pairs_per_batch: int) -> Losses:
    """Forward, backward and optimizer over the same targets, the windows in one batch and the pairs in several."""
    step = step_at_rate_0(model)
    plain = _over_pairs(windows, pairs_per_batch, lambda pairs: step(pair_loss(model, pairs)))
    return {"recnb, dense": lambda: step(dense_loss(model, windows)), "one pair per target, all logits": plain}


def head_contest(model: Any, windows: Sequence[Window], pairs_per_batch: int) -> Losses:
    """Only the head, forward and backward: ours at the labels of the windows, the other at every position of the pairs.

    The hidden state before the head is made up: the embedding of the token that stands there, normalised.
    """

    def states(ids: torch.Tensor) -> torch.Tensor:
        embedded = model.get_input_embeddings()(ids).detach()
        return F.layer_norm(embedded, embedded.shape[-1:]).requires_grad_()

    def backward(loss: torch.Tensor) -> float:
        loss.backward()
        model.zero_grad()
        return float(loss.detach())

    def ours() -> float:
        batch = _padded([window.dense() for window in windows], model.device)
        ids, at = batch["input_ids"].flatten(), batch["predicted"]
        return backward(F.cross_entropy(head_logits(model, states(ids[at - 1])), ids[at]))

    def everywhere(pairs: Sequence[Sample]) -> float:
        batch = _for_transformers(pairs, model.device)
        logits = model.get_output_embeddings()(states(batch["input_ids"]))
        return backward(model.loss_function(logits, batch["labels"], logits.shape[-1]))

    return {"recnb, at the labels": ours, "every position": _over_pairs(windows, pairs_per_batch, everywhere)}


def switch_contest(model: Any, windows: Sequence[Window], compiled: bool = False) -> Losses:
    """What is said to make a training step faster, each against the setting as it is, on the same batch of windows.

    The model has sdpa attention and is in float32; every contestant trains a copy. ``compiled`` adds ``torch.compile``,
    whose compiling falls into the round that does not count.
    """
    device = torch.device(model.device).type

    def step(around: Callable[[], Any] = nullcontext, change: Callable[[Any], Any] = lambda own: own) -> Any:
        own = copy.deepcopy(model).train()
        change(own)
        optimize = step_at_rate_0(own)

        def run() -> float:
            with around():
                return optimize(dense_loss(own, windows))

        return run

    contestants = {
        "as it is": step(),
        "bfloat16 (autocast)": step(lambda: torch.autocast(device, torch.bfloat16)),
        "eager attention": step(change=lambda own: own.set_attn_implementation("eager")),
    }
    if device == "cpu" and torch.get_num_threads() > 1:
        contestants["one thread"] = step(lambda: threadpool_limits(1))
    if compiled:
        contestants["torch.compile"] = step(change=lambda own: own.model.compile())
    return contestants


def step_at_rate_0(model: Any) -> Callable[[torch.Tensor], float]:
    """Backward pass and AdamW for a loss, which is returned: all the work of a step, and the weights stay the same."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)

    def step(loss: torch.Tensor) -> float:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def learning_curve(loss_of: Callable[[Any], torch.Tensor], batches: Iterator[Any], model: Any, learning_rate: float,
                   budget: float, points: int, check: Callable[[], float]) -> pd.DataFrame:
    """Train for ``budget`` seconds and ``check`` the model ``points`` times on the way, while the clock stands still.

    AdamW, at a constant rate after 20 warm-up steps. One row per check: seconds, steps, value.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 20, total_iters=19)
    spent, steps = 0.0, 0
    rows: list[dict[str, float]] = []
    while len(rows) < points:
        model.train()
        start = time.perf_counter()
        loss = loss_of(next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warm.step()
        optimizer.zero_grad()
        float(loss.detach())  # waits for the device
        spent, steps = spent + time.perf_counter() - start, steps + 1
        if spent >= budget * (len(rows) + 1) / points:
            tell(f"learning: {spent:.0f} of {budget:.0f} s")
            model.eval()
            rows.append({"seconds": spent, "steps": steps, "value": check()})
    return pd.DataFrame(rows)


def endless(samples: Sequence[Any], batch_size: int, seed: int) -> Iterator[list[Any]]:
    """Whole batches of the samples in an order drawn anew for each pass."""
    order = torch.Generator().manual_seed(seed)
    size = min(batch_size, len(samples))
    loader: Any = DataLoader(samples, size, shuffle=True, generator=order, collate_fn=list, drop_last=True)
    return chain.from_iterable(repeat(loader))


def _padded(samples: Sequence[Sample], device: Any) -> dict[str, torch.Tensor]:
    """A batch as :class:`recnb.eager_llm.train.Collator` makes it, about no item: nothing to contrast."""
    batch = Collator(pad_id=0, con_id=-1, n_items=1, negatives=1, seed=0)(list(samples))
    return {name: part.to(device) for name, part in batch.items()}


def _for_transformers(samples: Sequence[Sample], device: Any) -> dict[str, torch.Tensor]:
    batch = _padded(samples, device)
    ids, at = batch["input_ids"], batch["predicted"]
    labels = torch.full_like(ids.flatten(), -100).index_copy(0, at, ids.flatten()[at]).view_as(ids)
    lengths = torch.tensor([len(sample.ids) for sample in samples], device=device)
    mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}


def _over_pairs(windows: Sequence[Window], size: int,
                loss: Callable[[Sequence[Sample]], float]) -> Callable[[], float]:
    """The mean loss of all pairs of the windows, some at a time; every pair has as many labels."""
    pairs = [pair for window in windows for pair in window.pairs()]
    batches = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    return lambda: sum(len(batch) * loss(batch) for batch in batches) / len(pairs)
