"""What had another name before recnb had wings: old paths of notebooks."""

from __future__ import annotations

from pathlib import Path

from recnb.workflow.graph import stage_named
from recnb.workflow.recipe import recipe_class


class OldPath:
    """papermill's handler of a notebook's old path (an entry point ``papermill.io`` for each); else as its own."""

    @staticmethod
    def write(content: str, path: str) -> None:
        """Write somebody's notebook of that name."""
        Path(path).write_text(content, encoding="utf-8")

    @staticmethod
    def pretty_path(path: str) -> str:
        """The path itself."""
        return path

    @staticmethod
    def read(path: str) -> str:
        """The notebook, if somebody has one of that name there.

        Raises:
            RecipeError: there is none; names the new path.
        """
        if not Path(path).is_file():
            stage_named(path, recipe_class().stages)
        return Path(path).read_text(encoding="utf-8")
