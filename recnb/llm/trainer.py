"""What transformers' Trainer lacks: one GPU a process, and whole checkpoints, patience, logs for a run that goes on."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from recnb.artifacts import read_json
from recnb.runtime import tell


class OneGPU(TrainingArguments):
    """Settings of a Trainer that uses one GPU however many it sees; more of them are more processes, of a launch.

    By itself it would take all with :class:`torch.nn.DataParallel`, which cuts every tensor of a batch along its first
    axis: positions and shared negatives, too.
    """

    @property
    def n_gpu(self) -> int:
        """1, or 0 on a CPU."""
        return min(1, super().n_gpu)


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that was written to its end; none if there is none.

    A Trainer writes a checkpoint file by file, its state last; killed meanwhile, it leaves one that cannot be read.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if read_json(path / "trainer_state.json")), None)


def since_best(state: TrainerState, metric: str, greater: bool) -> int:
    """How many validations in a row have brought nothing better, as :class:`EarlyStoppingCallback` counts them."""
    values = [line[metric] if greater else -line[metric] for line in state.log_history if metric in line]
    return len(values) - 1 - int(np.argmax(values)) if values else 0


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Put a checkpoint's weights into the model."""
    stored = load_file(checkpoint / "model.safetensors")
    if differing := sorted(set(stored) ^ set(model.state_dict())):
        raise RuntimeError(f"{checkpoint}: weights of another model: {differing[:4]}")
    model.load_state_dict(stored, strict=False)  # a tied head is stored once


class LogAtCheckpoints(TrainerCallback):
    """Logs whenever it saves: means since the last log would otherwise forget, on resuming, the steps before."""

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> None:
        """Trainer's hook."""
        control.should_log = control.should_log or control.should_save
        tell(f"step {state.global_step:,} of {state.max_steps:,}")
