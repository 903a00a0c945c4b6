"""How a speed is measured here: contestants take turns in one run, and only ratios within a round are compared.

A machine is slow at random, several-fold at times, so seconds of two runs say nothing about each other. In every round
each contestant runs once, in an order that rotates; a ratio is taken between two runs of the same round.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recnb.runtime import process_memory, tell


@dataclass(frozen=True)
class Contest:
    """What a contest measured.

    Attributes:
        seconds: one row per counted round, one column per contestant.
        results: what each contestant returned last.
        memory: peak bytes each contestant took beyond what was there before it; NaN where it cannot be told.
    """

    seconds: pd.DataFrame
    results: dict[str, Any]
    memory: dict[str, float] = field(default_factory=dict)

    def table(self, base: str) -> pd.DataFrame:
        """Median seconds, their spread, and how many times the base's a contestant takes (median and spread of the
        ratios taken round by round); with memory in MB where it was measured."""
        ratio = self.seconds.div(self.seconds[base], axis=0)
        found = pd.DataFrame({
            "seconds": self.seconds.median(), "from": self.seconds.min(), "to": self.seconds.max(),
            f"times {base}": ratio.median(), "ratio from": ratio.min(), "ratio to": ratio.max(),
        })  # fmt: skip
        if self.memory:
            found["peak MB"] = pd.Series(self.memory) / 1e6
        return found

    def ratio(self, slow: str, fast: str) -> float:
        """How many times faster ``fast`` is than ``slow``: the median over rounds."""
        return float((self.seconds[slow] / self.seconds[fast]).median())

    def row(self, what: str, ours: str, against: str, same: str) -> dict[str, str]:
        """One line of a ledger of speed.

        Args:
            what: the path that was timed.
            ours, against: contestants.
            same: what was found equal, in words.
        """
        ratio = self.seconds[against] / self.seconds[ours]
        less = self.memory.get(against, np.nan) / max(1.0, self.memory.get(ours, np.nan))
        return {
            "what": what,
            "ours": ours,
            "against": against,
            "times faster": f"{ratio.median():.1f} ({ratio.min():.1f} to {ratio.max():.1f})",
            "memory": "" if np.isnan(less) else f"{less:.1f} times less",
            "the same": same,
        }


def contest(
    contestants: Mapping[str, Callable[[], Any]], rounds: int = 5, device: str = "cpu", memory: bool = False
) -> Contest:
    """Let contestants run against each other; one round before the counted ones warms everything up.

    Args:
        contestants: name -> what to time; each returns its result, for comparison.
        rounds: counted rounds.
        device: ``cuda`` is waited for before a clock is read.
        memory: run each once more, alone, for its peak memory.
    """
    names, rows = list(contestants), []
    results: dict[str, Any] = {}
    for number in range(rounds + 1):
        row = {}
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            tell(f"round {number} of {rounds}: {name}")
            results[name] = None  # its last result must not stand in its way
            row[name], results[name] = timed(contestants[name], device)
        rows.append(row)
    peaks = {name: peak_memory(run, device) for name, run in contestants.items()} if memory else {}
    return Contest(pd.DataFrame(rows[1:], columns=names), results, peaks)


def timed(run: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
    """Seconds that ``run`` takes, and what it returns."""
    gc.collect()
    _wait(device)
    start = time.perf_counter()
    result = run()
    _wait(device)
    return time.perf_counter() - start, result


def median_seconds(run: Callable[[], Any], rounds: int = 5, device: str = "cpu") -> float:
    """Median seconds of ``rounds`` runs after one that is not counted: for curves, where nobody competes."""
    return float(np.median([timed(run, device)[0] for _ in range(rounds + 1)][1:]))


def peak_memory(run: Callable[[], Any], device: str = "cpu") -> float:
    """Bytes that ``run`` holds at its peak beyond what was held before; NaN where the system does not tell.

    On a CPU the kernel's own high-water mark, reset before the run (Linux); on a GPU what tensors held.
    """
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return float(torch.cuda.max_memory_allocated() - before)
    release_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # callers count on what it leaves behind, measured or not
        run()
        return float("nan")
    held = process_memory("VmRSS")
    run()
    peak = process_memory("VmHWM")
    return float("nan") if held is None or peak is None else float(max(0, peak - held))


def release_memory() -> None:
    """Give freed memory back to the system, so that the next peak is not hidden in the last one's leavings."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost against log size, by least squares: 1 is linear, 0 is no growth.

    >>> round(growth([10, 100, 1000], [2.0, 20.0, 200.0]), 3)
    1.0
    """
    return float(np.polyfit(np.log(np.asarray(sizes, float)), np.log(np.asarray(costs, float)), 1)[0])


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
