"""What a person sees while notebooks run: one living line in a terminal, plain lines everywhere else."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def duration(seconds: float) -> str:
    """``7 s``, ``3 min 20 s``, ``2 h 5 min``.

    >>> duration(7.4), duration(200), duration(7500)
    ('7 s', '3 min 20 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 3 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes for people: ``812 MiB``, ``2.4 GiB``.

    >>> size(812 * 2**20), size(2.4 * 2**30), size(10)
    ('812 MiB', '2.4 GiB', '10 B')
    """
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


class Progress:
    """Tells how a run goes.

    Args:
        note: a file in which a long cell may say how far it is (:func:`recnb.runtime.tell`).
        stream: where to write; a terminal gets one line that is redrawn each second, anything else plain lines.
    """

    def __init__(self, note: Path, stream: TextIO | None = None) -> None:
        self.note, self._stream = note, stream or sys.stdout
        self._live = self._stream.isatty()
        self._lock = threading.Lock()
        self._title, self._cell, self._started, self._shown = "", "", 0.0, 0.0
        self._last: Sequence[float | None] = ()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._write(f"{line}\n")

    @contextmanager
    def stage(self, title: str, last: Sequence[float | None]) -> Iterator[None]:
        """A stage is at work; the living line goes with its end.

        ``last``: seconds that it, and each stage behind it, took in the last run; None: not known.
        """
        self._title, self._last, self._cell = title, last, "starting"
        self._started = self._shown = time.perf_counter()
        if not self._live:
            self.say(f"{title} running" + ("" if last[0] is None else f", last time {duration(last[0])}"))
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(over,), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()
            self.note.unlink(missing_ok=True)
            self._write("\r\x1b[K" if self._live else "")

    def cell(self, label: str) -> None:
        """A code cell starts."""
        self._cell = label
        self._show(10)  # plain lines are for logs: a sign of life, not a film

    def _tick(self, over: threading.Event) -> None:
        while not over.wait(1.0):
            self._show(60)

    def _show(self, pause: float) -> None:
        """Redraw the living line; a log gets a plain one, if its last is older than ``pause`` seconds."""
        now = time.perf_counter()
        passed = duration(now - self._started)
        if self._live:
            tail = f"  {passed}{self._left(now)}"
            width = shutil.get_terminal_size().columns - 1
            head = f"{self._title}  {self._cell}{self._far()}"[: max(10, width - len(tail))]
            self._write(f"\r\x1b[K{head}{tail}"[: width + 5])
        elif now - self._shown > pause:
            self._shown = now
            self.say(f"{self._title} {self._cell}{self._far()}, {passed} so far")

    def _write(self, text: str) -> None:
        with self._lock:
            self._stream.write(text)
            self._stream.flush()

    def _left(self, now: float) -> str:
        known = [seconds for seconds in self._last if seconds is not None]
        if len(known) < len(self._last):
            return ""
        return f", about {duration(max(0.0, known[0] - (now - self._started)) + sum(known[1:]))} left"

    def _far(self) -> str:
        try:
            return f": {self.note.read_text(encoding='utf-8')}"
        except OSError:
            return ""
