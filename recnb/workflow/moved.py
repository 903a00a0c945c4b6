"""Notebooks that had another path before recnb had wings: papermill, given one, says the new path."""

from __future__ import annotations

from pathlib import Path

from recnb.workflow.graph import stage_named
from recnb.workflow.recipe import recipe_class


class OldPath:
    """papermill's handler of a notebook's old path (an entry point ``papermill.io`` for each)."""

    @staticmethod
    def read(path: str) -> str:
        """The notebook, if somebody has one of that name there.

        Raises:
            RecipeError: there is none; names the new path.
        """
        if not Path(path).is_file():
            stage_named(path, recipe_class().stages)
        return Path(path).read_text(encoding="utf-8")

    @classmethod
    def pretty_path(cls, path: str) -> str:
        """The path itself; papermill asks for it first, so it is refused as by :meth:`read`."""
        cls.read(path)
        return path
