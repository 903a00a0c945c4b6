"""Bring your own catalogue: two files, one with who met what and when, one with what the items are.

``interactions.csv[.gz]`` has the columns ``user_id``, ``item_id`` and ``timestamp`` (a number, for example seconds
since 1970) or ``order`` (a number that grows with time inside a user). ``items.jsonl[.gz]`` or ``items.csv[.gz]`` has
``item_id`` and any of ``title``, ``description``, ``brand`` (text) and ``categories`` (a list of text, or text with
``|`` between the names). A ``rating`` beside an interaction (a number, or empty) is read where a split asks for liked
items. A field that stands under another name is read where the recipe says so (``data.text_columns:
{description: short_text}``). Other columns are ignored. UTF-8. Text is kept as it is, runs of white space become one
space.

Shown in ``notebooks/01_data.ipynb``.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from recnb.artifacts import hash_artifact
from recnb.data import tables
from recnb.data.schema import TEXT_FIELDS
from recnb.data.settings import TextField
from recnb.data.tables import Tables
from recnb.errors import DataError, nearest


def read_files(interactions: Path, items: Path, text_columns: Mapping[TextField, str]) -> Tables:
    """Both files, checked.

    Args:
        interactions: who met what and when; items: what the items are.
        text_columns: text field -> the column it is read from, where that has another name.
    """
    table = tables.read_csv(interactions, ("user_id", "item_id"), ("timestamp", "order"))
    clock = next((name for name in ("timestamp", "order") if name in table), None)
    if clock is None:
        found = f"{', '.join(table)}{nearest('timestamp', table)}"
        raise DataError(f"{interactions}: no column 'timestamp' and no 'order'; found {found}")
    tables.check_filled(table, ("user_id", "item_id"), interactions)
    columns = [name for name in ("user_id", "item_id", "rating") if name in table]
    events = table[columns].assign(time=tables.parse_times(table[clock], interactions))
    catalogue = read_items(items, text_columns)
    tables.check_known_items(events, catalogue, interactions, items)
    about = {
        "source": "files",
        "licence": "as the owner of the files says",
        "clock": "seconds" if clock == "timestamp" else "order",
        "sha256": {path.name: hash_artifact(path) for path in (interactions, items)},
        "text_columns": dict(text_columns),
    }
    return Tables(interactions.resolve().parent.name, events, catalogue, about)


def read_items(path: Path, text_columns: Mapping[TextField, str] | None = None) -> pd.DataFrame:
    """The columns of a catalogue, text cleaned; ``year`` is kept when it is there.

    Args:
        path: ``.jsonl`` or ``.csv``, packed or not; text_columns: as of :func:`read_files`.
    """
    renamed = text_columns or {}
    required = ["item_id", *renamed.values()]
    if ".csv" in path.suffixes:
        table = tables.read_csv(path, required, (*TEXT_FIELDS, "year"))
    else:
        table = tables.read_json_lines(path, required)
    tables.check_filled(table, ["item_id"], path)
    table = table.assign(**{name: table[column] for name, column in renamed.items()})
    if not set(TEXT_FIELDS) & set(table):
        raise DataError(
            f"{path}: no text column; found {', '.join(table)}; "
            f"expected at least one of {', '.join(TEXT_FIELDS)}{nearest('title', table)}"
        )
    texts = {name: _text_column(table, name, path) for name in TEXT_FIELDS}
    items = table[["item_id", *(["year"] if "year" in table else [])]].astype({"item_id": str}).assign(**texts)
    tables.check_unique_items(items, path)
    return items


def _text_column(table: pd.DataFrame, name: str, path: Path) -> list[Any]:
    read = as_names if name == "categories" else as_text
    column = table[name] if name in table else [None] * len(table)
    values = [read(value) for value in column]
    if None in values:
        bad = values.index(None)
        expected = "a list of text, or text with '|' between the names" if name == "categories" else "text"
        raise DataError(f"{path}: line {table.index[bad]}: '{name}' is {table[name].iloc[bad]!r}; expected {expected}")
    return values


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_text(value: Any) -> str | None:
    """One line of text; ``""`` for a missing value, None for a value that is no text."""
    if _is_missing(value):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return " ".join(str(value).split())


def as_names(value: Any) -> list[str] | None:
    """A list of names without empty ones; None for a value that is neither a list of text nor text."""
    if _is_missing(value):
        return []
    if isinstance(value, str):
        value = value.split("|")
    if not isinstance(value, list):
        return None
    names = [as_text(name) for name in value]
    return None if None in names else [name for name in names if name]
