"""Sources of data, one schema: see :class:`Dataset`. Shown in ``notebooks/01_data.ipynb``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recnb.data.amazon import read_amazon
from recnb.data.files import read_files
from recnb.data.held_out import read_parts
from recnb.data.locate import source_files
from recnb.data.movielens import read_movielens
from recnb.data.movielens_1m import read_movielens_1m
from recnb.data.prepare import build_dataset, ratings_of, settle_items_without_text
from recnb.data.schema import Dataset
from recnb.data.settings import DataConfig
from recnb.data.tables import Tables
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
    return build_dataset(_read(config, root, seed), config.k_core)


def load_ratings(config: DataConfig, root: Path, seed: int) -> NDArray[np.float32] | None:
    """(n,) rating of each event of :func:`load_dataset`, nan where none stands; None where the source has none.

    The source is read anew, since most systems want no rating and their data do not hold any.

    Raises:
        DataError: a rating is no number.
    """
    if not config.may_have_ratings:
        return None
    tables = _read(config, root, seed)
    return ratings_of(tables, config.k_core) if "rating" in tables.interactions else None


def load_parts(config: DataConfig, root: Path, dataset: Dataset) -> NDArray[Any] | None:
    """:func:`recnb.data.held_out.read_parts` of a person's files; None for every other source."""
    if config.source != "files":
        return None
    return read_parts(source_files("files", config.folder(root), config.interactions, config.items)[0], dataset)


def _read(config: DataConfig, root: Path, seed: int) -> Tables:
    folder = config.folder(root)
    if config.source == "toy":
        return toy_tables(config.toy, seed)
    if config.source == "movielens-100k":
        cache = root / ".cache" / "movielens"
        return read_movielens(folder, cache, config.download)
    interactions, items = source_files(config.source, folder, config.interactions, config.items)
    if config.source == "movielens-1m":
        return read_movielens_1m(interactions, items)
    if config.source == "files":
        tables = read_files(interactions, items, config.text_columns)
    else:
        tables = read_amazon(interactions, items, config.source.removeprefix("amazon-"), config.k_core)
    return settle_items_without_text(tables, config.without_text, items)
