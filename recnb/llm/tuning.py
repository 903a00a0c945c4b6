"""Tuning a language model on prompts that end in an answer: what is trained, in which order, and how it goes on.

A training is a list of stages (``tune.stages``). Every stage has an optimizer and a schedule of its own and begins with
the weights that the one before left, so that two trainings whose first stages are equal can share them. Which examples
stand together in a step, whether a curriculum's step shows vectors, and what dropout draws are functions of (seed,
stage, step): a training that was killed goes on to the same bits. Shown in ``notebooks/rsllm/06_tune.ipynb``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from recnb.artifacts import hash_json, write_atomic
from recnb.errors import RecipeError, RecnbError
from recnb.llm.backbone import causal_lm, head_logits
from recnb.runtime import tell

if TYPE_CHECKING:
    from recnb.llm.ranking_prompts import Prompt
    from recnb.llm.settings import TuneConfig, TuneStage

Kind = Literal["text", "hybrid", "slots"]
Log = list[dict[str, float]]
SAVE_EVERY = 20.0  # seconds between states on disk; the last one of a stage is always kept
WARM_UP, LEAST = 0.05, 0.01  # share of the steps in which the rate rises, and where it begins and ends (LLaRA's)
DECAY = 1e-5  # of the projector alone (LLaRA's)
_POOL = 8  # batches among which examples are sorted by length


@dataclass(frozen=True)
class Example:
    """A prompt and what should follow it.

    Attributes:
        prompt: what is read.
        answer: (A,) token ids to be predicted, the one that ends them among them.
        item: the item that the answer names.
        alone: (S',) token ids of that item by itself, for losses that compare; empty where none do.
    """

    prompt: Prompt
    answer: np.ndarray
    item: int
    alone: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True)
class Batch:
    """Examples side by side, padded on the right, where a causal model does not see it.

    Attributes:
        ids: (B, S) prompts and answers.
        alone: (B, S') the answers' items by themselves.
        items: (B,) those items.
        spans: (B, S) bool by name: those of the prompts and ``answer``; ``alone`` (B, S').
    """

    ids: Tensor
    alone: Tensor
    items: Tensor
    spans: dict[str, Tensor]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        spans = {name: span.to(device) for name, span in self.spans.items()}
        return Batch(self.ids.to(device), self.alone.to(device), self.items.to(device), spans)


Examples = Callable[[int, Kind], Sequence[Example]]  # number of a stage, kind of prompt -> its examples, the same cases
Extra = Callable[[Tensor, Tensor, dict[str, Tensor], Tensor], Tensor]  # states, those alone, spans, items -> loss


def batch_of(examples: Sequence[Example]) -> Batch:
    """Pad examples to one batch."""
    ids = _padded([np.concatenate([one.prompt.ids, one.answer]) for one in examples])
    alone = _padded([one.alone for one in examples])
    names = sorted({name for one in examples for name in one.prompt.spans})
    spans = {name: [one.prompt.spans.get(name, slice(0, 0)) for one in examples] for name in names}
    spans["answer"] = [slice(len(one.prompt.ids), len(one.prompt.ids) + len(one.answer)) for one in examples]
    marked = {name: _marked(rows, ids.shape[1]) for name, rows in spans.items()}
    marked["alone"] = _marked([slice(0, len(one.alone)) for one in examples], alone.shape[1])
    return Batch(ids, alone, torch.tensor([one.item for one in examples]), marked)


def _padded(rows: list[np.ndarray]) -> Tensor:
    return pad_sequence([torch.from_numpy(np.asarray(row, np.int64)) for row in rows], batch_first=True)


def _marked(rows: list[slice], width: int) -> Tensor:
    """(B, width) bool: the places of each row's slice."""
    bounds = torch.tensor([[row.start, row.stop] for row in rows])
    place = torch.arange(width)
    return (place >= bounds[:, :1]) & (place < bounds[:, 1:])


def losses_of(causal: Any, batch: Batch, extra: Mapping[str, Extra]) -> dict[str, Tensor]:
    """``nip``, the mean cross-entropy of the answers' tokens, and the extra losses by name; the head is asked at the
    answers alone, and the items are read alone only if an extra loss wants them."""
    states = causal.base_model(input_ids=batch.ids, use_cache=False).last_hidden_state  # (B, S, d)
    told = batch.spans["answer"][:, 1:]
    logits = head_logits(causal, states[:, :-1][told])  # (n, V)
    parts = {"nip": F.cross_entropy(logits, batch.ids[:, 1:][told])}
    if extra:
        alone = causal.base_model(input_ids=batch.alone, use_cache=False).last_hidden_state  # (B, S', d)
        parts |= {name: loss(states, alone, batch.spans, batch.items) for name, loss in extra.items()}
    return parts


def length_order(lengths: np.ndarray, batch_size: int, seed: Sequence[int]) -> list[np.ndarray]:
    """Batches of places, each place once: alike in length within a batch, the batches in any order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    order = order[np.lexsort((lengths[order], np.arange(len(order)) // (_POOL * batch_size)))]
    batches = np.split(order, np.arange(batch_size, len(order), batch_size))
    return [batches[place] for place in rng.permutation(len(batches))]


def kind_at(stage: TuneStage, step: int, steps: int, seed: Sequence[int]) -> Kind:
    """What the prompts of a step show; a curriculum's are hybrid with probability step / steps, else text (LLaRA)."""
    if stage.prompt != "curriculum":
        return stage.prompt
    return "hybrid" if np.random.default_rng([*seed, step]).random() < step / steps else "text"


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rate: up in a line over the first twentieth of the steps, then down a cosine."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return LEAST + (1 - LEAST) * step / warm
    return LEAST + (1 - LEAST) * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def tune(
    model: nn.Module, examples_of: Examples, config: TuneConfig, extra: Mapping[str, Extra] | None = None, *,
    seed: int, keep: Path | None = None, dtype: torch.dtype = torch.float32, progress: bool = False,
) -> Log:  # fmt: skip
    """Train in place what requires gradients, and the projector of slots in steps that show vectors.

    Args:
        model: a causal LM, also wrapped by peft (:func:`recnb.llm.ranker.adapt`).
        examples_of: the examples of a stage in one kind of prompt; asked for both kinds, it gives the same cases.
        config: stages, batch size, learning rate.
        extra: further losses by the name of their weight (``tt``, ``ut``).
        keep: folder for the states; a later training in it with equal first stages begins behind them. It is for one
            model and one source of examples. None: nothing is kept.
        dtype: bfloat16: computed in it where that is safe, weights stay as they are.
        progress: show a bar.

    Returns:
        one row a step: ``stage`` and ``step`` from 1, ``hybrid`` 1 or 0 (vectors shown), ``loss``, each part of it
        before weighting, and ``seconds`` since the stage began.

    Raises:
        RecipeError: a stage has nothing to train.
        RecnbError: a loss that is not a number.
    """
    log: Log = []
    for number in range(len(config.stages)):
        file = keep / f"{_key(config, number, seed)}.pt" if keep else None
        stage = _Stage(causal_lm(model), config, number, seed, file)
        stage.run(cache(lambda kind, number=number: examples_of(number, kind)), extra or {}, dtype, progress)
        log += stage.log
    return log


def _key(config: TuneConfig, number: int, seed: int) -> str:
    """Equal for two trainings whose first ``number + 1`` stages are."""
    page = config.model_dump(include={*type(config).model_fields} - {"arms"})
    return hash_json([page | {"stages": page["stages"][: number + 1]}, seed])[:16]


class _Stage:
    """One stage: what is trained, by which optimizer, and how far it is."""

    def __init__(self, causal: Any, config: TuneConfig, number: int, seed: int, keep: Path | None) -> None:
        self.causal, self.config, self.stage, self.keep = causal, config, config.stages[number], keep
        self.number, self.seed, self.spent = number, [seed, number], 0.0
        self.log: Log = []
        self.steps = math.ceil(self.stage.examples / config.batch_size)
        projector = getattr(causal.get_input_embeddings(), "projector", None)
        self.projector = list(projector.parameters()) if isinstance(projector, nn.Module) else []
        own = set(map(id, self.projector))
        self.weights = [one for one in causal.parameters() if one.requires_grad and id(one) not in own]
        groups: list[dict[str, Any]] = [{"params": self.weights}, {"params": self.projector, "weight_decay": DECAY}]
        if not self.weights and (self.stage.prompt == "text" or not self.projector):
            raise RecipeError(
                f"tune.stages[{number}]: nothing to train: tune.layers 0 leaves the language model as it is, and no "
                f"projector is trained on prompt: {self.stage.prompt}; expected layers above 0, or hybrid or slots"
            )
        self.optimizer = torch.optim.Adam([group for group in groups if group["params"]], config.learning_rate)

    def run(
        self, examples: Callable[[Kind], Sequence[Example]], extra: Mapping[str, Extra], dtype: torch.dtype,
        progress: bool,
    ) -> None:  # fmt: skip
        """Take the steps that are left."""
        self._resume()
        weights = self.stage.weights.model_dump()
        wanted = {name: loss for name, loss in extra.items() if weights[name]}
        started = saved = time.monotonic()
        batches = self._batches(examples) if len(self.log) < self.steps else []
        title = f"stage {self.number + 1}, {self.stage.prompt}"
        for step in tqdm(range(len(self.log), self.steps), desc=title, disable=not progress):
            kind = kind_at(self.stage, step, self.steps, self.seed)
            batch = batch_of([examples(kind)[place] for place in batches[step]])
            row = self._step(step, kind, batch, wanted, weights, dtype)
            self.log.append(row | {"seconds": self.spent + time.monotonic() - started})
            tell(f"{title}: step {step + 1:,} of {self.steps:,}")
            if step + 1 == self.steps or time.monotonic() - saved > SAVE_EVERY:
                self._save()
                saved = time.monotonic()

    def _batches(self, examples: Callable[[Kind], Sequence[Example]]) -> list[np.ndarray]:
        known = examples("text" if self.stage.prompt == "curriculum" else self.stage.prompt)
        lengths = np.array([len(one.prompt.ids) + len(one.answer) for one in known])
        if len(known) != self.stage.examples:
            raise ValueError(f"stage {self.number}: {len(known)} examples, expected {self.stage.examples}")
        return length_order(lengths, self.config.batch_size, self.seed)

    def _step(
        self, step: int, kind: Kind, batch: Batch, extra: Mapping[str, Extra], weights: Mapping[str, float],
        dtype: torch.dtype,
    ) -> dict[str, float]:  # fmt: skip
        """One step of the optimizer; its row of the log."""
        device = next(self.causal.parameters()).device
        for one in self.projector:
            one.requires_grad_(kind != "text")  # neither momentum nor decay moves it while nothing asks it
        self.causal.train()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(np.random.default_rng([*self.seed, step, 1]).integers(2**31)))
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                parts = losses_of(self.causal, batch.to(device), extra)
        loss = sum(weights[name] * part for name, part in parts.items())
        self._descend(step, loss)
        self.causal.eval()
        told = {name: float(part.detach()) for name, part in {"loss": loss, **parts}.items()}
        return {"stage": self.number + 1, "step": step + 1, "hybrid": float(kind != "text"), **told}

    def _descend(self, step: int, loss: Any) -> None:
        if not math.isfinite(value := float(loss.detach())):
            raise RecnbError(
                f"stage {self.number + 1}, step {step + 1}: the loss is {value}; lower tune.learning_rate "
                f"({self.config.learning_rate})"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate_at(step, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def _save(self) -> None:
        if self.keep is None:
            return
        trained = [one.detach() for one in [*self.weights, *self.projector]]
        state = {"weights": trained, "optimizer": self.optimizer.state_dict(), "log": self.log}
        self.keep.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.keep, lambda file: torch.save(state, file))

    @torch.no_grad()
    def _resume(self) -> None:
        if self.keep is None or not self.keep.is_file():
            return
        state = torch.load(self.keep, map_location="cpu", weights_only=True)
        for one, stored in zip([*self.weights, *self.projector], state["weights"], strict=True):
            one.copy_(stored)
        self.optimizer.load_state_dict(state["optimizer"])
        self.log, self.spent = state["log"], state["log"][-1]["seconds"]
