"""Sources of data, one schema: see :class:`Dataset`. Shown in ``notebooks/01_data.ipynb``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recnb.data.amazon import load_amazon
from recnb.data.files import load_files
from recnb.data.movielens import load_movielens
from recnb.data.schema import Dataset, Sequences, item_text, read_dataset, write_dataset
from recnb.data.split import histories, replace_heldout, seen_items, training_sequences
from recnb.data.toy import toy_dataset
from recnb.errors import DataError

if TYPE_CHECKING:
    from recnb.recipe import DataConfig

__all__ = [
    "Dataset",
    "Sequences",
    "histories",
    "item_text",
    "load_dataset",
    "read_dataset",
    "replace_heldout",
    "seen_items",
    "training_sequences",
    "write_dataset",
]


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
    path = None if config.path is None else root / Path(config.path).expanduser()
    if config.source == "movielens-100k":
        return load_movielens(path, root / ".cache" / "movielens", config.download, config.k_core)
    if path is None:
        raise DataError(f"data.source: {config.source} needs data.path, the folder of its files")
    if config.source != "files":
        edition = config.source.removeprefix("amazon-")
        names = (config.interactions, config.items)
        return load_amazon(path, edition, *names, k_core=config.k_core, without_text=config.without_text)
    return load_files(path, config.interactions, config.items, config.k_core, config.without_text)
