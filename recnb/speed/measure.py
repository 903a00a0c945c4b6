"""How a speed is measured here: contestants take turns in one run, and only ratios within a round are compared.

A machine is slow at random, several-fold at times, so seconds of two runs say nothing about each other. In every round
each contestant runs once, in an order that rotates; a ratio is taken between two runs of the same round.
"""

import cProfile
import ctypes
import gc
import pstats
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from recnb.runtime import process_memory, tell


@dataclass(frozen=True)
class Contest:
    """What a contest measured."""

    seconds: pd.DataFrame  # one row per counted round, one column per contestant
    results: dict[str, Any]  # what each contestant returned last
    memory: dict[str, float] = field(default_factory=dict)  # :func:`peak_memory` of each, where it was asked for

    def ratios(self, base: str) -> pd.DataFrame:
        """How many times the base's seconds each contestant takes, round by round."""
        return self.seconds.div(self.seconds[base], axis=0)

    def ratio(self, slow: str, fast: str) -> float:
        """How many times faster ``fast`` is than ``slow``: the median over rounds."""
        return float(self.ratios(fast)[slow].median())

    def table(self, base: str) -> pd.DataFrame:
        """Median seconds and :meth:`ratios`, each with its spread; with memory in MB where it was measured."""
        seconds, ratio = self.seconds, self.ratios(base)
        found = pd.DataFrame({
            "seconds": seconds.median(), "from": seconds.min(), "to": seconds.max(),
            f"times {base}": ratio.median(), "ratio from": ratio.min(), "ratio to": ratio.max(),
        })  # fmt: skip
        return found.assign(**{"peak MB": pd.Series(self.memory) / 1e6}) if self.memory else found

    def row(self, what: str, ours: str, against: str, same: str) -> dict[str, str]:
        """One line of a ledger of speed: what was timed, two contestants, and what was found equal, in words."""
        ratio = self.ratios(ours)[against]
        less = self.memory.get(against, np.nan) / max(1.0, self.memory.get(ours, np.nan))
        return {
            "what": what, "ours": ours, "against": against,
            "times faster": f"{ratio.median():.1f} ({ratio.min():.1f} to {ratio.max():.1f})",
            "memory": "" if np.isnan(less) else f"{less:.1f} times less", "the same": same,
        }  # fmt: skip


def contest(contestants: Mapping[str, Callable[[], Any]], rounds: int = 5, device: str = "cpu",
            memory: bool = False) -> Contest:
    """Let contestants (name -> what to time; returns its result) run against each other.

    One round before the counted ones warms everything up; ``cuda`` is waited for before a clock is read. ``memory``:
    run each once more, alone, for its :func:`peak_memory`.
    """
    names, rows = list(contestants), []
    results: dict[str, Any] = {}
    gc.freeze()  # a collection then looks at new objects only: those of torch alone take a fifth of a second
    try:
        for number in range(rounds + 1):
            row, turn = {}, number % len(names)
            for name in names[turn:] + names[:turn]:
                tell(f"round {number} of {rounds}: {name}")
                results[name] = None  # its last result must not stand in its way
                row[name], results[name] = timed(contestants[name], device)
            rows.append(row)
        peaks = {name: peak_memory(run, device) for name, run in contestants.items()} if memory else {}
    finally:
        gc.unfreeze()
    return Contest(pd.DataFrame(rows[1:], columns=names), results, peaks)


def timed(run: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
    """Seconds that ``run`` takes, and what it returns."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    gc.collect()
    wait()
    start = time.perf_counter()
    result = run()
    wait()
    return time.perf_counter() - start, result


def curve(make: Callable[[int], Callable[[], object]], sizes: Sequence[int], rounds: int, name: str) -> pd.DataFrame:
    """Median seconds at each size: a :func:`contest` without rivals, of what ``make(size)`` has prepared, unmeasured.

    One row per size: what (the name), size, seconds, slope (:func:`growth` over all sizes).
    """
    alone = (contest({f"{name} = {size}": make(size)}, rounds).seconds for size in sizes)
    seconds = [float(rows.median().iloc[0]) for rows in alone]
    return pd.DataFrame({"what": name, "size": list(sizes), "seconds": seconds, "slope": growth(sizes, seconds)})


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost against log size, by least squares: 1 is linear, 0 is no growth.

    >>> round(growth([10, 100, 1000], [2.0, 20.0, 200.0]), 3)
    1.0
    """
    return float(np.polyfit(np.log(np.asarray(sizes, float)), np.log(np.asarray(costs, float)), 1)[0])


def peak_memory(run: Callable[[], Any], device: str = "cpu") -> float:
    """Bytes that ``run`` holds at its peak beyond what was held before; NaN where the system does not tell.

    On a CPU the kernel's own high-water mark, reset before the run (Linux); on a GPU what tensors held.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return float(torch.cuda.max_memory_allocated() - before)
    with suppress(OSError, AttributeError):  # else freed memory that was kept would hide a part of the peak
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # callers count on what a run leaves behind, measured or not
        run()
        return float("nan")
    held = process_memory("VmRSS")
    run()
    peak = process_memory("VmHWM")
    return float("nan") if held is None or peak is None else float(max(0, peak - held))


def parts_of(run: Callable[[], Any], parts: Mapping[str, Sequence[Callable[..., Any]]]) -> pd.Series:
    """Where the time of one call goes, after one that is not counted: seconds of each part, and of the ``rest``.

    The functions of a part count with all that they call; they must not call each other.
    """
    run()
    with cProfile.Profile() as profiler:  # whose own cost falls mostly on the rest
        run()
    profile: Any = pstats.Stats(profiler)

    def seconds(function: Callable[..., Any]) -> float:
        code = function.__code__
        return profile.stats.get((code.co_filename, code.co_firstlineno, code.co_name), [0.0] * 4)[3]

    found = {name: sum(map(seconds, functions)) for name, functions in parts.items()}
    return pd.Series(found | {"rest": max(0.0, profile.total_tt - sum(found.values()))})

