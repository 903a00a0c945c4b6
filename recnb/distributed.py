"""Work shared between processes: each takes its part of the batches, and all hold the whole result afterwards.

The processes are started and joined by ``accelerate launch`` or ``torchrun``; here batches are dealt out and rows
collected. Whole batches are dealt, the same ones that a single process computes, so the result has the same bits. A
process alone notices nothing of this room. Used by :mod:`recnb.embeddings.text` and :mod:`recnb.llm.beam`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from accelerate import PartialState


Batch = TypeVar("Batch")


def join(device: str = "cpu") -> None:
    """Meet the other processes of this launch, if there are any; on GPUs each takes its own."""
    _launch(cpu=device == "cpu")


def leave() -> None:
    """Wait for the others and part: a process that just ends may fall over its own threads, and be taken for failed."""
    if launch := _launch():
        launch.wait_for_everyone()
        launch.destroy_process_group()


def place() -> tuple[int, int]:
    """This process's number, and how many share the work: ``(0, 1)`` for a process alone.

    Processes that hold one model together (FSDP, DeepSpeed) must all run every batch, so they share nothing.
    """
    together = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    launch = None if any(os.environ.get(name) == "true" for name in together) else _launch()
    return (launch.process_index, launch.num_processes) if launch else (0, 1)


def _launch(**options: bool) -> PartialState | None:
    """What accelerate knows of this launch; None for a process alone, which need not wait for its import."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from accelerate import PartialState

    return PartialState(**options)


def share(batches: Sequence[Batch]) -> Sequence[Batch]:
    """The batches that this process computes, dealt like cards; process 0 of 1 has all."""
    first, step = place()
    return batches[first::step]


def gather_rows(table: np.ndarray, batches: Sequence[np.ndarray]) -> np.ndarray:
    """Complete a table (n, ...), in place, of which each process has computed the rows of its :func:`share`.

    Every process returns it whole; ``batches`` are all of them, each the numbers of its rows.
    """
    _, processes = place()
    if processes == 1:
        return table
    import numpy as np
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast

    for process in range(min(processes, len(batches))):
        rows = np.concatenate(batches[process::processes])
        own = torch.from_numpy(table[rows]).to(PartialState().device)
        table[rows] = broadcast(own, process).cpu().numpy()
    return table
