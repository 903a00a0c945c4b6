"""Where the files of a source lie. Shown in ``notebooks/01_data.ipynb``."""

from __future__ import annotations

from pathlib import Path

from recnb.errors import DataError, nearest

INTERACTIONS = ("interactions.csv.gz", "interactions.csv")
ITEMS = ("items.jsonl.gz", "items.jsonl", "items.csv.gz", "items.csv")
_RAW = (".json.gz", ".json", ".jsonl.gz", ".jsonl")  # of Amazon's files


def source_files(
    source: str, path: Path | None, interactions: str | None = None, items: str | None = None
) -> list[Path]:
    """The files that are read: interactions and items, or the one archive that holds both.

    Args:
        source, interactions, items: as of :class:`recnb.data.settings.DataConfig`.
        path: its folder or archive.

    Returns:
        nothing where the source is generated, or fetched by checksum.

    Raises:
        DataError: a file cannot be found; the message says what was expected and what is there.
    """
    if source == "toy" or (source == "movielens-100k" and path is None):
        return []
    if path is None:
        raise DataError(f"data.source: {source} needs data.path, the folder of its files")
    if source == "movielens-100k":
        return _movielens_files(path)
    if not path.is_dir():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such folder{nearest(path.name, siblings)}; data.path names it")
    if source == "files":
        return [
            path / interactions if interactions else _first(path, INTERACTIONS, "interactions"),
            path / items if items else _first(path, ITEMS, "items"),
        ]
    return [
        path / interactions if interactions else _only(path, "reviews (reviews_*.json.gz)", "data.interactions"),
        path / items if items else _only(path, "metadata (meta_*.json.gz)", "data.items"),
    ]


def _movielens_files(path: Path) -> list[Path]:
    """GroupLens's own files first, then the format of :mod:`recnb.data.files`; anything else is an archive."""
    if not path.is_dir():
        return [path]
    for folder in (path, path / "ml-100k"):
        if (folder / "u.data").is_file():
            return [folder / "u.data", folder / "u.item"]
    return source_files("files", path)


def _first(folder: Path, names: tuple[str, ...], purpose: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    there = sorted(path.name for path in folder.iterdir())
    raise DataError(
        f"{folder}: no {purpose}: expected {' or '.join(names)}; it holds {', '.join(there[:8]) or 'nothing'}"
        f"{nearest(names[0], there)}"
    )


def _only(folder: Path, kind: str, key: str) -> Path:
    """The one file of its kind in a folder of Amazon's."""
    there = sorted(path for path in folder.iterdir() if path.name.endswith(_RAW))
    found = [path for path in there if path.name.startswith("meta_") == kind.startswith("meta")]
    if len(found) != 1:
        names = ", ".join(path.name for path in found or there) or "no .json.gz file"
        state = "more than one file could be" if found else "no file can be"
        raise DataError(f"{folder}: {state} the {kind}: {names}; name it with {key}")
    return found[0]
