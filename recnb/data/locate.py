"""Where the files of a source lie. Shown in ``notebooks/01_data.ipynb``."""

from pathlib import Path

from recnb.errors import DataError, nearest

NAMES = {
    "interactions": ("interactions.csv.gz", "interactions.csv"),
    "items": ("items.jsonl.gz", "items.jsonl", "items.csv.gz", "items.csv"),
}
AMAZON = {"interactions": "reviews (reviews_*.json.gz)", "items": "metadata (meta_*.json.gz)"}


def source_files(
    source: str, path: Path | None, interactions: str | None = None, items: str | None = None
) -> list[Path]:
    """The files that are read: interactions and items, or the one archive that holds both.

    Args:
        source, interactions, items: as of :class:`recnb.data.settings.DataConfig`; path: its folder or archive.

    Returns:
        nothing where the source is generated, or fetched by checksum.
    """
    if source == "toy" or (source == "movielens-100k" and path is None):
        return []
    if path is None:
        raise DataError(f"data.source: {source} needs data.path, the folder of its files")
    if source == "movielens-100k":
        if not path.is_dir():
            return [path]
        for folder in (path, path / "ml-100k"):
            if (folder / "u.data").is_file():  # GroupLens's own files; else it is a folder like any other
                return [folder / "u.data", folder / "u.item"]
    elif not path.is_dir():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such folder{nearest(path.name, siblings)}; data.path names it")
    if source == "movielens-1m":
        return _ratings_and_films(path)
    find = _only_file if source.startswith("amazon") else _first_name
    named = {"interactions": interactions, "items": items}
    return [path / name if name else find(path, kind) for kind, name in named.items()]


def _ratings_and_films(path: Path) -> list[Path]:
    """GroupLens's two files of MovieLens-1M, in the folder itself or in ``ml-1m`` below it."""
    for folder in (path, path / "ml-1m"):
        if (folder / "ratings.dat").is_file() and (folder / "movies.dat").is_file():
            return [folder / "ratings.dat", folder / "movies.dat"]
    there = ", ".join(sorted(other.name for other in path.iterdir())[:8]) or "nothing"
    raise DataError(f"{path}: expected MovieLens-1M's official files ratings.dat and movies.dat; it holds {there}")


def _first_name(folder: Path, kind: str) -> Path:
    for name in NAMES[kind]:
        if (folder / name).is_file():
            return folder / name
    there = sorted(path.name for path in folder.iterdir())
    holds = f"it holds {', '.join(there[:8]) or 'nothing'}{nearest(NAMES[kind][0], there)}"
    raise DataError(f"{folder}: no {kind}: expected {' or '.join(NAMES[kind])}; {holds}")


def _only_file(folder: Path, kind: str) -> Path:
    """The one file of its kind in a folder of Amazon's."""
    packed = (".json.gz", ".json", ".jsonl.gz", ".jsonl")
    there = sorted(path for path in folder.iterdir() if path.name.endswith(packed))
    found = [path for path in there if path.name.startswith("meta_") == (kind == "items")]
    if len(found) != 1:
        names = ", ".join(path.name for path in found or there) or "no .json.gz file"
        state = "more than one file could be" if found else "no file can be"
        raise DataError(f"{folder}: {state} the {AMAZON[kind]}: {names}; name it with data.{kind}")
    return found[0]
