"""What this machine can run, what is missing, and how to get it."""

from __future__ import annotations

from pathlib import Path


def examine(root: Path, recipe: str | None = None) -> tuple[str, bool]:
    """Look at python, packages, cores, memory, disk, GPU, data and models."""
    return "", True
