"""Sources of data, one schema: see :class:`Dataset`. Shown in ``notebooks/01_data.ipynb``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recnb.data.amazon import find_amazon, load_amazon
from recnb.data.files import find_files, load_files
from recnb.data.movielens import load_movielens, movielens_files
from recnb.data.schema import Dataset
from recnb.data.toy import toy_dataset
from recnb.errors import DataError

if TYPE_CHECKING:
    from recnb.data.settings import DataConfig



def load_dataset(config: DataConfig, root: Path, seed: int) -> Dataset:
    """The data set that a recipe's ``data`` section describes.

    Args:
        config: source, path and k-core.
        root: project root; a relative ``data.path`` starts here, downloads are kept in ``<root>/.cache/movielens``.
        seed: of the toy generator; the real sources draw nothing.

    Raises:
        DataError: a file is missing, damaged or not as documented; the message says where and what was expected.
    """
    if config.source == "toy":
        return toy_dataset(config.toy, config.k_core, seed)
    if config.source == "movielens-100k":
        cache = root / ".cache" / "movielens"
        return load_movielens(config.folder(root), cache, config.download, config.k_core)
    if config.source == "files":
        interactions, items = source_files(config, root)
        return load_files(interactions, items, config.k_core, config.without_text, config.text_columns)
    reviews, metadata = source_files(config, root)
    edition = config.source.removeprefix("amazon-")
    return load_amazon(reviews, metadata, edition, config.k_core, config.without_text)


def source_files(config: DataConfig, root: Path) -> list[Path]:
    """The local files that a recipe's ``data`` section reads, for hashing and for ``recnb doctor``.

    Returns:
        interactions and items of the sources ``files`` and ``amazon-...``; the files under ``data.path`` of
        ``movielens-100k``; nothing where the source is generated or fetched by checksum.

    Raises:
        DataError: a file cannot be found; the message says what was expected and what is there.
    """
    path = config.folder(root)
    if config.source == "toy" or (config.source == "movielens-100k" and path is None):
        return []
    if path is None:
        raise DataError(f"data.source: {config.source} needs data.path, the folder of its files")
    if config.source == "movielens-100k":
        return movielens_files(path)
    find = find_files if config.source == "files" else find_amazon
    return list(find(path, config.interactions, config.items))
