"""Sources of data, one schema: see :class:`Dataset`. Shown in ``notebooks/01_data.ipynb``."""

from __future__ import annotations

from pathlib import Path

from recnb.data.amazon import read_amazon
from recnb.data.files import read_files
from recnb.data.locate import source_files
from recnb.data.movielens import read_movielens
from recnb.data.movielens_1m import read_movielens_1m
from recnb.data.prepare import build_dataset, settle_items_without_text
from recnb.data.schema import Dataset
from recnb.data.settings import DataConfig
from recnb.data.toy import toy_tables


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
        return build_dataset(toy_tables(config.toy, seed), config.k_core)
    if config.source == "movielens-100k":
        cache = root / ".cache" / "movielens"
        return build_dataset(read_movielens(folder, cache, config.download), config.k_core)
    interactions, items = source_files(config.source, folder, config.interactions, config.items)
    if config.source == "movielens-1m":
        return build_dataset(read_movielens_1m(interactions, items), config.k_core)
    if config.source == "files":
        tables = read_files(interactions, items, config.text_columns)
    else:
        tables = read_amazon(interactions, items, config.source.removeprefix("amazon-"), config.k_core)
    return build_dataset(settle_items_without_text(tables, config.without_text, items), config.k_core)
