"""Multi-task training: transformers' Trainer with our loss, our order of samples and our validation (04_train).

The order of samples is a pure function of (seed, epoch): a run that was killed and resumed sees exactly what an
uninterrupted one sees. Checkpoints, accumulation, mixed precision and several GPUs are Trainer's and accelerate's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, SequentialSampler
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerState,
)

from recnb.data.split import Validation
from recnb.eager_llm.model import Recommender
from recnb.eager_llm.prompts import seqrec_prompts
from recnb.eager_llm.recipe import TasksConfig, TrainConfig
from recnb.eager_llm.tasks import Sample, TaskBuilder
from recnb.evaluation.metrics import per_user, target_ranks
from recnb.index.trie import Trie
from recnb.llm.backbone import pad_left
from recnb.llm.beam import recommend
from recnb.llm.settings import DecodeConfig
from recnb.llm.trainer import LogAtCheckpoints, OneGPU, last_whole_checkpoint, load_weights, since_best
from recnb.llm.vocabulary import Vocabulary
from recnb.runtime import Runtime


class EpochSamples(Dataset):
    """The samples of all epochs in training order: position -> sample, one epoch built at a time.

    Within an epoch samples are shuffled, sorted by length inside pools of 50 batches, and the batches shuffled again:
    little padding, still random. Each epoch is cut to whole batches.

    Args:
        build: epoch number -> samples; every epoch must give the same number.
        batch: samples per optimizer step, over all processes and accumulated batches.
        epochs: passes over the data; may be a fraction.
        max_steps: upper bound on optimizer steps; 0 for none.
        seed: order.
    """

    def __init__(self, build: Callable[[int], list[Sample]], batch: int, epochs: float, max_steps: int, seed: int):
        first = build(0)
        self._build, self._seed, self.batch = build, seed, min(batch, len(first))
        self.labels = float(np.mean([sample.labels.sum() for sample in first]))  # per sample
        self.per_epoch = len(first) // self.batch * self.batch
        steps = max(1, round(epochs * self.per_epoch / self.batch))
        self.steps = min(steps, max_steps) if max_steps else steps
        self._hold(0, first)

    def __len__(self) -> int:
        return self.steps * self.batch

    def __getitem__(self, position: int) -> Sample:
        epoch, place = divmod(position, self.per_epoch)
        if epoch != self._epoch:
            self._hold(epoch, self._build(epoch))
        return self._samples[self._order[place]]

    def _hold(self, epoch: int, samples: list[Sample]) -> None:
        if len(samples) < self.per_epoch:
            raise RuntimeError(f"epoch {epoch} has {len(samples)} samples, epoch 0 had {self.per_epoch} or more")
        self._samples, self._epoch = samples, epoch
        lengths = np.array([len(sample.ids) for sample in samples])
        self._order = _length_order(lengths, self.batch, [self._seed, epoch, 5])


def _length_order(lengths: np.ndarray, batch: int, seed: list[int], pool: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    group = np.arange(len(order)) // (batch * pool)
    order = order[np.lexsort((lengths[order], group))]
    whole = len(order) // batch * batch
    return order[:whole].reshape(-1, batch)[rng.permutation(whole // batch)].ravel() if whole else order


@dataclass(frozen=True)
class Collator:
    """Pads a batch and draws its shared negatives."""

    pad_id: int  # fills the right side
    con_id: int  # found in each sample
    n_items: int
    negatives: int  # how many; all items when the catalogue is not larger
    seed: int  # the draw depends on it and on the batch's content, not on any global state

    def __call__(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        """A batch as :meth:`recnb.eager_llm.model.Recommender.forward` takes it: ids (B, S), flat positions, items."""

        def padded(rows: list[np.ndarray], fill: int) -> torch.Tensor:
            return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=fill)

        following = [np.full(len(s.ids), -1) if s.following is None else s.following for s in samples]
        ids, labels = padded([s.ids for s in samples], self.pad_id), padded([s.labels for s in samples], False)
        labels[:, 0] = False  # nothing stands before it
        ahead, target = padded(following, -1).flatten(), torch.tensor([s.target for s in samples])
        before, aimed = torch.nonzero(ahead >= 0)[:, 0], torch.nonzero(target >= 0)[:, 0]
        return {
            "input_ids": ids,
            "predicted": torch.nonzero(labels.flatten())[:, 0],
            "con": torch.arange(len(ids)) * ids.shape[1] + (ids == self.con_id).int().argmax(1),
            "aimed": aimed,
            "target": target[aimed],
            "before": before,
            "following": ahead[before],
            "negatives": self._draw(int(ids.sum())),
        }

    def _draw(self, content: int) -> torch.Tensor:
        if self.negatives >= self.n_items:
            return torch.arange(self.n_items)
        rng = np.random.default_rng([self.seed, content, 6])
        return torch.from_numpy(rng.choice(self.n_items, self.negatives, replace=False))


def validate(
    model: PreTrainedModel, vocabulary: Vocabulary, data: Validation, tasks: TasksConfig,
    decode: DecodeConfig, con_before: bool = False,
) -> dict[str, float]:  # fmt: skip
    """R@10 and N@10 of the validation items in beam-searched lists (full ranking, seen items kept)."""
    prompts = seqrec_prompts(vocabulary, data.histories, tasks, con_before)
    lists, _ = recommend(model, prompts, Trie.from_tokens(vocabulary.item_tokens), decode)
    recall, ndcg = per_user(target_ranks(lists, data.targets), min(10, lists.shape[1]))
    return {"R@10": float(recall.mean()), "N@10": float(ndcg.mean())}


@torch.no_grad()
def validation_loss(
    model: PreTrainedModel, vocabulary: Vocabulary, data: Validation, tasks: TasksConfig,
    batch_size: int, con_before: bool = False,
) -> float:  # fmt: skip
    """Mean negative log-likelihood (nats per token) of the validation items' tokens."""
    prompts = seqrec_prompts(vocabulary, data.histories, tasks, con_before)
    answers = vocabulary.item_tokens[data.targets]  # (U, L)
    device, total, length = model.get_input_embeddings().weight.device, 0.0, answers.shape[1]
    whole = [np.concatenate(pair) for pair in zip(prompts, answers, strict=True)]
    for start in range(0, len(whole), batch_size):
        ids, mask = (part.to(device) for part in pad_left(whole[start : start + batch_size]))
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), use_cache=False,
            logits_to_keep=length + 1,
        ).logits[:, :-1]  # fmt: skip
        total -= float(logits.float().log_softmax(-1).gather(2, ids[:, -length:, None]).sum())
    return total / answers.size


class RecommenderTrainer(Trainer):
    """Trainer with the parts of the loss logged apart, samples in their given order, and ranking as validation."""

    def __init__(self, *args: Any, check: Callable[[PreTrainedModel], dict[str, float]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check, self._parts = check, {}  # type: tuple[Any, dict[str, list[torch.Tensor]]]

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False,
                     num_items_in_batch: Any = None) -> Any:  # fmt: skip
        """Trainer's hook: the loss of :class:`recnb.eager_llm.model.Recommender`, its parts kept for the log."""
        outputs = model(**inputs)
        for name, value in outputs.items():
            if name != "loss":
                self._parts.setdefault(name, []).append(value.detach())
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Trainer's hook: adds the mean of each part since the last training log."""
        if "loss" in logs and self._parts:
            logs |= {name: float(torch.stack(values).mean()) for name, values in self._parts.items()}
            self._parts.clear()
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trainer's hook: validation by ranking, not by Trainer's own loop."""
        recommender = self.accelerator.unwrap_model(self.model)
        recommender.eval()
        metrics = {f"eval_{name}": value for name, value in self._check(recommender.backbone).items()}
        recommender.train()
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _load_from_checkpoint(self, checkpoint: str, model=None) -> None:  # type: ignore[no-untyped-def]
        load_weights(self.accelerator.unwrap_model(model or self.model), Path(checkpoint))

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            load_weights(self.accelerator.unwrap_model(self.model), Path(self.state.best_model_checkpoint))

    def go_on(self, folder: Path, stopping: EarlyStoppingCallback) -> None:
        """Train, from the last whole checkpoint of ``folder`` if there is one."""
        last, metric = last_whole_checkpoint(folder), self.args.metric_for_best_model
        if last and metric:  # Trainer forgets, on resuming, for how long nothing got better
            self.state = TrainerState.load_from_json(str(last / "trainer_state.json"))
            waited = since_best(self.state, metric, bool(self.args.greater_is_better))
            stopping.early_stopping_patience_counter = waited
        if last and stopping.early_stopping_patience_counter >= stopping.early_stopping_patience:
            self._load_best_model()  # killed after it had stopped
        else:
            self.train(resume_from_checkpoint=str(last) if last else None)


def _arguments(config: TrainConfig, runtime: Runtime, folder: Path, data: EpochSamples) -> OneGPU:
    """Our recipe in Trainer's words."""
    per_epoch, best = data.per_epoch // data.batch, config.early_stopping != "none"
    validations = max(1, round(config.evaluate_every * per_epoch)) if config.evaluate_every else data.steps
    often = validations if best or config.evaluate_every else max(1, per_epoch // 4)
    return OneGPU(
        output_dir=str(folder), max_steps=data.steps, seed=runtime.seed,
        per_device_train_batch_size=max(1, data.batch // (config.accumulate * _processes(runtime))),
        gradient_accumulation_steps=config.accumulate,
        optim="adamw_torch", learning_rate=config.learning_rate, weight_decay=config.weight_decay,
        lr_scheduler_type=config.schedule, warmup_steps=math.ceil(config.warmup * data.steps),
        max_grad_norm=config.max_grad_norm,
        eval_strategy="steps", eval_steps=validations,
        save_strategy="steps", save_steps=validations if best else config.checkpoint_every or often, save_total_limit=2,
        load_best_model_at_end=best, metric_for_best_model=f"eval_{config.early_stopping}" if best else None,
        greater_is_better=config.early_stopping == "R@10" if best else None,
        logging_steps=max(1, data.steps // 60), report_to="none", disable_tqdm=not runtime.progress,
        use_cpu=runtime.device == "cpu", bf16=runtime.dtype == torch.bfloat16,
        dataloader_pin_memory=runtime.device == "cuda", remove_unused_columns=False, label_names=["labels"],
    )  # fmt: skip


def _processes(runtime: Runtime) -> int:
    return PartialState(cpu=runtime.device == "cpu").num_processes


def fit(
    recommender: Recommender, builder: TaskBuilder, validation: Validation, config: TrainConfig,
    decode: DecodeConfig, runtime: Runtime, folder: Path,
) -> list[dict[str, float]]:  # fmt: skip
    """Train in place; afterwards the model holds the best validated state (or the last, by recipe).

    Args:
        recommender: backbone and projectors, on any device; builder: makes each epoch's samples.
        validation: users to validate on.
        folder: checkpoints; a run that finds one there goes on from it.

    Returns:
        Trainer's log: one dict per line, with ``step`` and either loss parts or ``eval_*``.
    """
    vocabulary, tasks, con_before = builder.vocabulary, builder.config, builder.con_before
    together = config.batch_size * config.accumulate * _processes(runtime)
    data = EpochSamples(builder.epoch, together, config.epochs, config.max_steps, runtime.seed)
    recommender.usual_labels = data.labels if config.loss_mean == "epoch" else None
    chosen = validation.sample(config.validation_users, runtime.seed)

    def check(backbone: PreTrainedModel) -> dict[str, float]:
        if config.early_stopping == "loss":
            return {"loss": validation_loss(backbone, vocabulary, chosen, tasks, decode.batch_size, con_before)}
        return validate(backbone, vocabulary, chosen, tasks, decode, con_before)

    n_items, stopping = len(vocabulary.item_tokens), EarlyStoppingCallback(config.patience)
    trainer = RecommenderTrainer(
        recommender, _arguments(config, runtime, folder, data), train_dataset=data, eval_dataset=data, check=check,
        callbacks=[LogAtCheckpoints(), *([stopping] if config.early_stopping != "none" else [])],
        data_collator=Collator(vocabulary.pad_id, vocabulary.con_id, n_items, config.negatives, runtime.seed),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # the log is returned, not printed
    trainer.go_on(folder, stopping)
    # not Trainer's closing line: its mean loss is over what this process saw, which is less after a resume
    lines = [line for line in trainer.state.log_history if "train_loss" not in line]
    return [{k: line[k] for k in sorted(line) if isinstance(line[k], int | float)} for line in lines]
