"""Sources of data, one schema: see :class:`Dataset`. Shown in ``notebooks/01_data.ipynb``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recnb.data.amazon import load_amazon
from recnb.data.files import load_files
from recnb.data.locate import source_files
from recnb.data.movielens import load_movielens
from recnb.data.schema import Dataset
from recnb.data.toy import toy_dataset

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
    folder = config.folder(root)
    if config.source == "toy":
        return toy_dataset(config.toy, config.k_core, seed)
    if config.source == "movielens-100k":
        return load_movielens(folder, root / ".cache" / "movielens", config.download, config.k_core)
    interactions, items = source_files(config.source, folder, config.interactions, config.items)
    if config.source == "files":
        return load_files(interactions, items, config.k_core, config.without_text, config.text_columns)
    edition = config.source.removeprefix("amazon-")
    return load_amazon(interactions, items, edition, config.k_core, config.without_text)
