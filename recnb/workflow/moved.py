"""What had another name before recnb had wings: old paths of notebooks, and runs that were made then."""

from __future__ import annotations

from pathlib import Path

from recnb.artifacts import hash_json
from recnb.workflow.graph import stage_named
from recnb.workflow.recipe import recipe_class

# Stage -> hash of its code at the last commit that counted whole files (11d1798), and of the code that was found to
# make the same artifacts, bit for bit (by Python 3.11's syntax trees). A stage whose code changes leaves the table.
SAME = {
    "01_data": ("9ed8623a0f165931", "193e7febe9cfbbac"),
    "02_embeddings": ("a9da84d9e2a10a61", "44c372f667d9f0af"),
    "03_index": ("60d4b217625716de", "63cdb60c76afb8d2"),
    "04_train": ("5c2c204283e70e9b", "f93378ce10638fe4"),
    "05_anneal": ("e7843e043c5d17b6", "b8c5416f3b41af96"),
    "06_evaluate": ("007e460751b9bc1c", "c645f9da4df3f618"),
    "07_case_studies": ("ad2f85cc57abff5b", "6c7c71165799d2ff"),
    "08_prefix_map": ("6a4a0f4e1acf39bb", "dfbae0204396e99d"),
    "09_ablations": ("06b5f442c9786870", "82412addf7ebe37e"),
}


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


def as_today(stage: str, before: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """Parts of a stage's key (:func:`recnb.workflow.manifest.stage_parts`), those from before the wings as today's.

    Code of then that today's cannot be compared with is left out.
    """
    if "source recnb.store" not in before:
        return before
    files = {f"file {Path(name).name}": name for name in now if name.startswith("file ")}  # had no folder
    kept = {files.get(name, name): sha for name, sha in before.items() if not _is_code(name)}
    kept.pop("package cornac", None)  # a baseline then, only an oracle of tests now
    if SAME.get(stage) == (code_hash(before), code_hash(now)):
        kept |= {name: sha for name, sha in now.items() if _is_code(name)}
    return kept


def code_hash(parts: dict[str, str]) -> str:
    """One hash over the notebook and the sources among a key's parts, 16 hex digits."""
    return hash_json({name: sha for name, sha in parts.items() if _is_code(name)})[:16]


def _is_code(name: str) -> bool:
    return name.partition(" ")[0] in ("notebook", "source")
