"""The training step as a user would have it without recnb: one (prompt, response) pair per target, all logits.

The code released with the paper repeats a user's history once per target and lets the model compute logits over the
whole vocabulary at every position of prompt and response. Here the same targets under the same histories are trained
both ways: :class:`recnb.eager_llm.model.Recommender` takes a window in one pass and computes logits where a label is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from recnb.eager_llm.model import Recommender
from recnb.eager_llm.tasks import Sample
from recnb.eager_llm.train import Collator
from recnb.llm.backbone import head_logits
from recnb.runtime import tell


@dataclass(frozen=True)
class Window:
    """A piece of one user's sequence.

    Attributes:
        beginning: (P,) text tokens of the instruction.
        items: (T + 1, L) tokens of its items; all but the first are targets.
    """

    beginning: np.ndarray
    items: np.ndarray

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """The window as one sequence: ids (S,) and labels (S,) bool."""
        ids = np.concatenate([self.beginning, self.items.ravel()])
        return ids, np.arange(len(ids)) >= len(self.beginning) + self.items.shape[1]

    def pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same targets one by one: ids and labels of each (prompt, response) pair."""
        ids, step = self.dense()[0], self.items.shape[1]
        stops = len(self.beginning) + step * np.arange(2, len(self.items) + 1)
        return [(ids[:stop], np.arange(stop) >= stop - step) for stop in stops]


Labelled = tuple[np.ndarray, np.ndarray]  # ids (S,), labels (S,) bool


def padded(rows: Sequence[Labelled], device: str) -> dict[str, torch.Tensor]:
    """A batch of samples about no item, as :class:`recnb.eager_llm.train.Collator` makes it: nothing to contrast."""
    collate = Collator(pad_id=0, con_id=-1, n_items=1, negatives=1, seed=0)
    batch = collate([Sample(ids, labels, -1, "seqrec") for ids, labels in rows])
    return {name: part.to(device) for name, part in batch.items()}


def dense_loss(recommender: Recommender, windows: Sequence[Window]) -> torch.Tensor:
    """Mean cross-entropy over the tokens of all targets: every window in one pass, logits where a label is."""
    return recommender(**padded([window.dense() for window in windows], str(recommender.backbone.device)))["loss"]


def pair_loss(model: Any, pairs: Sequence[Labelled]) -> torch.Tensor:
    """The same of (prompt, response) pairs, as transformers computes it: logits over V at every position."""
    batch = padded(pairs, str(model.device))
    labels = batch["input_ids"].masked_fill(~batch["labels"], -100)
    return model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, use_cache=False
    ).loss


def training_contest(
    recommender: Recommender, windows: Sequence[Window], pairs_per_batch: int
) -> dict[str, Callable[[], float]]:
    """One pass over the same targets, forward, backward and optimizer; each returns the mean loss per token.

    The learning rate is 0: the optimizer does all its work, and every round starts from the same weights.

    Args:
        recommender: without projectors.
        windows: trained in one batch by ours.
        pairs_per_batch: pairs of one optimizer step of the other.
    """
    model: Any = recommender.backbone
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    pairs = [pair for window in windows for pair in window.pairs()]
    batches = [pairs[i : i + pairs_per_batch] for i in range(0, len(pairs), pairs_per_batch)]

    def step(loss: torch.Tensor) -> float:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def plain() -> float:
        return sum(len(batch) * step(pair_loss(model, batch)) for batch in batches) / len(pairs)

    return {
        "recnb, dense": lambda: step(dense_loss(recommender, windows)),
        "one pair per target, all logits": plain,
    }


def head_contest(model: Any, windows: Sequence[Window], pairs_per_batch: int) -> dict[str, Callable[[], float]]:
    """Only the head, forward and backward, on random hidden states; each returns the mean loss per token.

    Ours sees the label rows of the windows; the other every position of every pair. Equal rows have equal states.
    """
    width, device = model.config.hidden_size, model.device
    pairs = [pair for window in windows for pair in window.pairs()]
    states = {id(w): torch.randn(len(w.dense()[0]), width, device=device) for w in windows}
    owner = [states[id(window)] for window in windows for _ in window.pairs()]

    def ours() -> float:
        rows = torch.cat([states[id(w)][:-1][w.dense()[1][1:]] for w in windows]).requires_grad_()
        targets = torch.cat([torch.from_numpy(w.dense()[0][w.dense()[1]]) for w in windows]).to(device)
        loss = torch.nn.functional.cross_entropy(head_logits(model, rows), targets)
        loss.backward()
        model.zero_grad(set_to_none=True)
        return float(loss.detach())

    def everywhere() -> float:
        total = 0.0
        for start in range(0, len(pairs), pairs_per_batch):
            part = pairs[start : start + pairs_per_batch]
            batch = padded(part, str(device))
            hidden = pad_sequence([owner[start + i][: len(ids)] for i, (ids, _) in enumerate(part)], batch_first=True)
            logits = model.get_output_embeddings()(hidden.requires_grad_())
            labels = batch["input_ids"].masked_fill(~batch["labels"], -100)
            loss = model.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1])
            loss.backward()
            model.zero_grad(set_to_none=True)
            total += len(part) * float(loss.detach())
        return total / len(pairs)

    return {"recnb, at the labels": ours, "every position": everywhere}


def learning_curve(
    loss_of: Callable[[Any], torch.Tensor],
    batches: Iterator[Any],
    model: Any,
    learning_rate: float,
    budget: float,
    points: int,
    check: Callable[[], float],
    name: str,
) -> pd.DataFrame:
    """Train for a number of seconds and look at the validation on the way; the clock stands still meanwhile.

    Args:
        loss_of: batch -> loss.
        batches: endless.
        model: its parameters are trained, by AdamW at a constant rate after 20 warm-up steps.
        learning_rate: AdamW's.
        budget: seconds of training.
        points: checks, evenly spread over the budget.
        check: the validation's number.
        name: said in the table and in the progress note.

    Returns:
        one row per check: system, seconds, steps, value.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    spent, steps = 0.0, 0
    rows: list[dict[str, Any]] = []
    while len(rows) < points:
        model.train()
        start = time.perf_counter()
        loss = loss_of(next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warm.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())  # waits for the device
        spent, steps = spent + time.perf_counter() - start, steps + 1
        if spent >= budget * (len(rows) + 1) / points:
            tell(f"{name}: {spent:.0f} of {budget:.0f} s")
            model.eval()
            rows.append({"system": name, "seconds": spent, "steps": steps, "value": check()})
    return pd.DataFrame(rows)


def endless(samples: Sequence[Any], batch_size: int, seed: int) -> Iterator[list[Any]]:
    """Batches of the samples in an order drawn anew for each pass."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(samples))
        for start in range(0, len(order) - batch_size + 1 or 1, batch_size):
            yield [samples[i] for i in order[start : start + batch_size]]


def windows_of_users(
    train_items: np.ndarray, offsets: np.ndarray, item_tokens: np.ndarray, beginning: np.ndarray, size: int
) -> list[Window]:
    """Cut every user's sequence into windows of at most ``size`` targets, newest first; each target is in one window.

    Args:
        train_items: (n,) items of all users; offsets: (U + 1,).
        item_tokens: (N, L).
        beginning: tokens of the instruction.
        size: T.
    """
    windows = []
    for first, stop in zip(offsets[:-1], offsets[1:], strict=True):
        for end in range(stop, first + 1, -size):
            windows.append(Window(beginning, item_tokens[train_items[max(first, end - size - 1) : end]]))
    return windows
