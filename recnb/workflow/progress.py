"""What a person sees while notebooks run: one living line in a terminal, plain lines everywhere else."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from recnb.workflow.execute import CellEvent


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
        stream: where to write; a terminal gets one line that is redrawn each second, anything else plain lines.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._expected: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        self._stage, self._title, self._cell = "", "", ""
        self._started = self._last_line = 0.0
        self._ahead: list[str] = []
        self._note: Path | None = None

    def expect(self, seconds: dict[str, float]) -> None:
        """Seconds per stage from the last run, where known; the remaining time is guessed from them."""
        self._expected = seconds

    def say(self, line: str) -> None:
        """A line that stays."""
        with self._lock:
            self._clear()
            print(line, file=self._stream, flush=True)

    def stage(self, name: str, number: int, total: int, ahead: list[str], note: Path | None = None) -> None:
        """A stage starts; ``ahead`` are the stages that still have to run after it.

        ``note`` is a file in which a long cell may say how far it is.
        """
        self._note = note
        self._stage, self._title, self._cell = name, f"[{number}/{total}] {name}", "starting"
        self._started = self._last_line = time.perf_counter()
        self._ahead = ahead
        if not self._live:
            usual = f", last time {duration(self._expected[name])}" if name in self._expected else ""
            self.say(f"{self._title} running{usual}")
        self._stop.clear()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    def cell(self, event: CellEvent) -> None:
        """A code cell starts."""
        self._cell = f"cell {event.number}/{event.total} {event.label}"
        now = time.perf_counter()
        if self._live:
            self._draw()
        elif now - self._last_line > 10:  # plain lines are for logs: a sign of life, not a film
            self._line()

    def finish(self, line: str | None = None) -> None:
        """The stage is over; its line goes, ``line`` stays."""
        self._stop.set()
        if self._ticker:
            self._ticker.join()
            self._ticker = None
        with self._lock:
            self._clear()
        if line:
            self.say(line)

    def remaining(self) -> float | None:
        """Seconds left, if the last run's times are known for this stage and all stages ahead."""
        if any(name not in self._expected for name in (self._stage, *self._ahead)):
            return None
        here = self._expected[self._stage] - (time.perf_counter() - self._started)
        return max(0.0, here) + sum(self._expected[name] for name in self._ahead)

    def _tick(self) -> None:
        while not self._stop.wait(1.0):
            if self._live:
                self._draw()
            elif time.perf_counter() - self._last_line > 60:  # a long cell: another sign of life each minute
                self._line()

    def _line(self) -> None:
        self._last_line = time.perf_counter()
        self.say(f"{self._title} {self._cell}{self._far()}, {duration(self._last_line - self._started)} so far")

    def _far(self) -> str:
        try:
            return f": {self._note.read_text(encoding='utf-8')}" if self._note else ""
        except OSError:
            return ""

    def _draw(self) -> None:
        left = self.remaining()
        tail = f"  {duration(time.perf_counter() - self._started)}"
        tail += f", about {duration(left)} left" if left is not None else ""
        width = shutil.get_terminal_size().columns - 1
        head = f"{self._title}  {self._cell}{self._far()}"[: max(10, width - len(tail))]
        with self._lock:
            self._stream.write(f"\r\x1b[K{head}{tail}"[: width + 5])
            self._stream.flush()

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
