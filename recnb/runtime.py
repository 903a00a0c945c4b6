"""Device, dtype, threads and seeds: chosen once, with the reason for each choice, and passed down.

Shown in notebook ``01_data``; ``print(stage.runtime)`` says what was chosen and why.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from recnb import distributed
from recnb.errors import ResourceError

if TYPE_CHECKING:
    import torch

    from recnb.settings import RuntimeConfig


NOTE = "RECNB_NOTE"  # environment variable: the file that `tell` writes to
# glibc's numbers for M_MMAP_THRESHOLD (its largest value), M_TRIM_THRESHOLD and M_TOP_PAD, in bytes
_MALLOPT = {-3: 32 * 2**20, -1: 2**30, -2: 16 * 2**20}
# OpenMP's threads spin while they wait for each other, milliseconds long; beside one busy process that makes small
# steps several times slower. Asleep at once they pay for each waking, so GNU's take a short turn first (params/README).
_SPIN = "1000"  # turns, what libgomp itself takes once it has more threads than cores
ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error", "OMP_WAIT_POLICY": "PASSIVE"}
BFLOAT16_UNITS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # x86 and Arm: what Linux calls them


@dataclass(frozen=True)
class Runtime:
    """What this run computes on."""

    device: str  # cpu, cuda or mps
    dtype: torch.dtype  # of weights and activations
    threads: int  # CPU threads of torch, BLAS and OpenMP
    seed: int  # python, numpy and torch were seeded with it; functions still take their own
    progress: bool  # whether progress bars may be drawn (a terminal or a live notebook)
    reasons: dict[str, str] = field(default_factory=dict)  # why, per choice: device, dtype, threads

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        chosen = {"device": self.device, "dtype": dtype, "threads": str(self.threads)}
        return "\n".join(f"{name:8}{value:10}{self.reasons.get(name, '')}" for name, value in chosen.items())


def start(config: RuntimeConfig, seed: int) -> Runtime:
    """Choose device, dtype and threads, seed python, numpy and torch, and make CPU arithmetic repeatable.

    Raises:
        ResourceError: the recipe demands a device or a dtype that this machine does not have.
    """
    threads, why_threads = choose_threads(config.threads)
    device, why_device = _choose_device(config)
    distributed.join(device)  # before anything is put on a GPU: each process of a launch has its own
    dtype, why_dtype = _choose_dtype(config.dtype, device)
    _keep_freed_memory()
    _settle(device, threads, seed)
    reasons = {"device": why_device, "dtype": why_dtype, "threads": why_threads}
    return Runtime(device, dtype, threads, seed, wants_progress(), reasons)


def quiet() -> None:
    """Silence what libraries say to each other and what would make two outputs of one notebook differ; threads sleep
    while they wait. Called when ``recnb`` is imported: some libraries decide at their own import. A user's value stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPIN)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not wants_progress():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, where ipywidgets is not installed
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def tell(text: str) -> None:
    """Say how far a long computation is, to whoever runs this notebook; nobody listening, nothing happens."""
    if listener := os.environ.get(NOTE):
        with contextlib.suppress(OSError):
            Path(listener).write_text(text, encoding="utf-8")


def choose_threads(asked: int) -> tuple[int, str]:
    """Threads to use and why: the recipe, else ``OMP_NUM_THREADS``, else one per physical core at hand."""
    if asked:
        return asked, "set by the recipe"
    from_environment = os.environ.get("OMP_NUM_THREADS", "")
    if from_environment.isdigit() and int(from_environment) > 0:
        return int(from_environment), "set by OMP_NUM_THREADS"
    return usable_cores(), "one per core at hand"


def usable_cores() -> int:
    """Cores this process may use: its CPU affinity, its container's quota, hyperthreads counted once."""
    from joblib import cpu_count

    return int(cpu_count(only_physical_cores=True))


def memory_peak() -> int:
    """Peak resident memory of this process in bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, which still holds the peak of a process's parent
    return process_memory("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def process_memory(name: str, process: int | str = "self") -> int | None:
    """One of Linux's figures on a process's memory in bytes, ``VmHWM`` or ``VmRSS``; None where it is not told."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.M)
    return int(found.group(1)) * 1024 if found else None


def gpu_memory_peak(device: str) -> int | None:
    """Peak GPU memory held by tensors since :func:`start`, in bytes; none on other devices."""
    if device != "cuda":
        return None
    import torch

    return int(torch.cuda.max_memory_allocated())


def wants_progress() -> bool:
    """Whether progress bars are welcome: ``RECNB_PROGRESS=0|1`` decides, else a terminal or a live notebook."""
    asked = os.environ.get("RECNB_PROGRESS")
    if asked is not None:
        return asked not in ("", "0")
    if "ipykernel" in sys.modules:
        return "JPY_SESSION_NAME" in os.environ or "VSCODE_PID" in os.environ
    return sys.stderr.isatty()


def _choose_device(config: RuntimeConfig) -> tuple[str, str]:
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if config.device == "cpu" and not config.require_gpu:
        return "cpu", "set by the recipe"
    if config.device in ("auto", "cuda") and cuda:
        return "cuda", f"{'asked for' if config.device == 'cuda' else 'found'}: {torch.cuda.get_device_name(0)}"
    if config.device in ("auto", "mps") and mps:
        return "mps", "Apple GPU found"
    if config.device == "auto" and not config.require_gpu:
        return "cpu", "no GPU found"
    asked = "runtime.require_gpu = true" if config.require_gpu else f"runtime.device = {config.device}"
    build = "this torch is a CPU build" if torch.version.cuda is None else "torch finds no usable GPU"
    raise ResourceError(
        f"the recipe says {asked}, but {build} (torch {torch.__version__}).\n"
        "Ways on: a machine with a GPU and a CUDA build of torch; a CPU recipe (params/quickstart.yaml); or\n"
        "--set runtime.require_gpu=false --set runtime.device=auto, if you accept the time it takes"
    )


def _choose_dtype(asked: str, device: str) -> tuple[torch.dtype, str]:
    import torch

    if asked == "float32":
        return torch.float32, "set by the recipe"
    has_bf16 = _has_bfloat16(device)
    if asked == "bfloat16":
        if not has_bf16:
            name = torch.cuda.get_device_name(0) if device == "cuda" else "this CPU"
            lacks = "bfloat16 units, so float32 is faster" if device == "cpu" else "bfloat16"
            raise ResourceError(f"runtime.dtype = bfloat16, but {name} has no {lacks}; expected: auto or float32")
        return torch.bfloat16, "set by the recipe" + ("; this CPU has units for it" if device == "cpu" else "")
    if device == "cpu":
        units = "has units for it" if has_bf16 else "has no units for it"
        return torch.float32, f"exact; bfloat16 only when asked for (this CPU {units})"
    if has_bf16 and device == "cuda":
        return torch.bfloat16, "the GPU has it: half the memory, twice the speed"
    return torch.float32, "the GPU has no bfloat16" if device == "cuda" else "bfloat16 only when asked for"


def _has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware; a GPU of Apple's is taken at its word."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device != "cpu" or not BFLOAT16_UNITS.isdisjoint(_cpu_flags())


def _cpu_flags() -> set[str]:
    """The instruction sets that this CPU has, by Linux's names; none where the system does not list them."""
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text(encoding="utf-8", errors="replace").split()) if cpuinfo.is_file() else set()


def _settle(device: str, threads: int, seed: int) -> None:
    """As many threads as were chosen, every generator seeded, and kernels that give the same bits each time.

    Repeatable kernels cost nothing on a CPU; on a GPU they cost speed and some have none, so they are left alone.
    """
    import numpy as np
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that take no generator draw from here
    torch.manual_seed(seed)
    # The switch of use_deterministic_algorithms, which would import torch's compiler first (a second or more).
    torch.set_deterministic_debug_mode("error" if device == "cpu" else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks for the next tensor of that size; elsewhere nothing happens.

    By default it hands large blocks back to the kernel and has them mapped and zeroed again, page by page: that costs a
    training step about a tenth, and transformers' ``generate`` more.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, size in _MALLOPT.items():
            mallopt(option, size)
