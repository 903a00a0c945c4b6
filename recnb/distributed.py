"""Work shared between processes: each takes its part of the batches, and all hold the whole result afterwards.

The processes are started and joined by ``accelerate launch`` or ``torchrun``; here batches are dealt out and rows
collected. Whole batches are dealt, the same ones that a single process computes, so the result has the same bits. A
process alone notices nothing of this room. Each holds the whole model: one that is cut in parts (FSDP, DeepSpeed) is
refused. Used by :mod:`recnb.embeddings.text` and :mod:`recnb.llm.beam`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from recnb.errors import ResourceError

if TYPE_CHECKING:
    import numpy as np
    from accelerate import PartialState


Batch = TypeVar("Batch")
_PARTS = {f"ACCELERATE_USE_{name.upper()}": name for name in ("FSDP", "DeepSpeed", "Megatron_LM")}


def refuse_parts() -> None:
    """A launch under which a process would hold only a part of the model is none of ours."""
    if asked := [name for variable, name in _PARTS.items() if os.environ.get(variable, "").lower() == "true"]:
        raise ResourceError(
            f"this launch asks for {asked[0]}, which would cut the model in parts; here each process holds all of it.\n"
            "Ways on: accelerate launch --multi_gpu --num_processes N, without that option (`accelerate env` shows "
            "whether\na configuration file of yours sets it); a model whose weights fit sixteenfold in one GPU"
        )


def join(device: str = "cpu") -> None:
    """Meet the other processes of this launch (see :func:`refuse_parts`); on GPUs each takes its own."""
    refuse_parts()
    _launch(cpu=device == "cpu")


def leave() -> None:
    """Wait for the others and part: a process that just ends may fall over its own threads, and be taken for failed."""
    if launch := _launch():
        launch.wait_for_everyone()
        launch.destroy_process_group()


def place() -> tuple[int, int]:
    """This process's number, and how many share the work: ``(0, 1)`` for a process alone."""
    launch = _launch()
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
