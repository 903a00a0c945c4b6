"""Where a judge of comparisons reads, without a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any


class Shelf:
    """Artifacts in memory, folders on disk."""

    def __init__(self, recipe: Any, folder: Path) -> None:
        self.recipe, self.folder, self.kept = recipe, folder, dict[str, Any]()
        self.runtime = SimpleNamespace(device="cpu", progress=False)

    def path(self, stage: str, name: str) -> Path:
        return self.folder / stage / name

    def read(self, stage: str, name: str) -> Any:
        return self.kept[name]

    def write(self, name: str, value: Any) -> None:
        self.kept[name] = value
