"""Bring your own catalogue: two files, one with who met what and when, one with what the items are.

``interactions.csv[.gz]`` has the columns ``user_id``, ``item_id`` and ``timestamp`` (a number, for example seconds
since 1970) or ``order`` (a number that grows with time inside a user). ``items.jsonl[.gz]`` or ``items.csv[.gz]`` has
``item_id`` and any of ``title``, ``description``, ``brand`` (text) and ``categories`` (a list of text, or text with
``|`` between the names). A field that stands under another name is read where the recipe says so (``data.text_columns:
{description: short_text}``). Other columns are ignored. UTF-8. Text is kept as it is, runs of white space become one
space.

Shown in ``notebooks/01_data.ipynb``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from recnb.data import tables
from recnb.data.prepare import build_dataset, settle_items_without_text
from recnb.data.schema import TEXT_FIELDS, Dataset
from recnb.errors import DataError

if TYPE_CHECKING:
    from recnb.data.settings import TextField


INTERACTIONS = ("interactions.csv.gz", "interactions.csv")
ITEMS = ("items.jsonl.gz", "items.jsonl", "items.csv.gz", "items.csv")


def load_files(
    interactions: Path,
    items: Path,
    k_core: int,
    without_text: str = "error",
    text_columns: Mapping[TextField, str] | None = None,
) -> Dataset:
    """A dataset from two files.

    Args:
        interactions: who met what and when.
        items: what the items are.
        k_core: see :func:`recnb.data.prepare.build_dataset`.
        without_text: ``error``, ``drop`` or ``id``: what to do with items that have no text in any field.
        text_columns: text field -> the column it is read from, where that has another name.

    Raises:
        DataError: anything in the files is not as documented; file and line or column are named.
    """
    events, catalogue, about = read_files(interactions, items, text_columns)
    events, catalogue, silent = settle_items_without_text(events, catalogue, without_text, str(items))
    about["items_without_text"] = {"policy": without_text, "items": silent}
    provenance = {"source": "files", "licence": "as the owner of the files says", **about}
    return build_dataset(interactions.resolve().parent.name, events, catalogue, k_core, provenance)


def find_files(folder: Path, interactions: str | None = None, items: str | None = None) -> tuple[Path, Path]:
    """Paths of both files in a folder: the named ones, or the first of the documented names that is there.

    Raises:
        DataError: no such folder, or no such file; the nearest name is given.
    """
    tables.check_folder(folder)
    return (
        folder / interactions if interactions else tables.find_file(folder, INTERACTIONS, "interactions"),
        folder / items if items else tables.find_file(folder, ITEMS, "items"),
    )


def read_files(
    interactions: Path, items: Path, text_columns: Mapping[TextField, str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Both tables, checked, and their hashes.

    Returns:
        interactions (``user_id``, ``item_id``, ``time``, ``line``), items (its columns and ``line``), provenance.
    """
    events, clock = read_interactions(interactions)
    catalogue = read_items(items, text_columns)
    tables.check_known_items(events, catalogue, interactions, items)
    hashes = {path.name: tables.sha256_file(path) for path in (interactions, items)}
    return events, catalogue, {"clock": clock, "sha256": hashes, "text_columns": dict(text_columns or {})}


def read_interactions(path: Path) -> tuple[pd.DataFrame, str]:
    """``user_id``, ``item_id``, ``time`` and ``line`` of each row, in file order; and ``seconds`` or ``order``."""
    table = tables.read_csv(path, ("user_id", "item_id"), one_of=("timestamp", "order"))
    clock = "timestamp" if "timestamp" in table.columns else "order"
    tables.check_filled(table, ("user_id", "item_id"), path)
    time = tables.parse_times(table[clock], table["line"], path, clock)
    events = table[["user_id", "item_id", "line"]].assign(time=time)
    return events, "seconds" if clock == "timestamp" else "order"


def read_items(path: Path, text_columns: Mapping[TextField, str] | None = None) -> pd.DataFrame:
    """The columns of a catalogue, text cleaned, and ``line``; ``year`` is kept when it is there.

    Args:
        path: ``.jsonl`` or ``.csv``, packed or not.
        text_columns: text field -> the column it is read from instead of the one with its own name.
    """
    required = ["item_id", *(text_columns or {}).values()]
    if ".csv" in path.suffixes:
        table = tables.read_csv(path, required, [n for n in (*TEXT_FIELDS, "year") if n not in required])
    else:
        table = tables.read_json_lines(path)
        tables.check_columns(table.columns.drop("line"), required, path)
    tables.check_filled(table, ["item_id"], path)
    table = table.assign(**{name: table[column] for name, column in (text_columns or {}).items()})
    if not set(TEXT_FIELDS) & set(table.columns):
        raise DataError(
            f"{path}: no text column; found {', '.join(table.columns.drop('line'))}; "
            f"expected at least one of {', '.join(TEXT_FIELDS)}{tables.nearest('title', table.columns.drop('line'))}"
        )
    columns = {name: _text_column(table, name, path) for name in TEXT_FIELDS}
    extra = {"year": table["year"]} if "year" in table.columns else {}
    items = pd.DataFrame({"item_id": table["item_id"].astype(str), **columns, "line": table["line"], **extra})
    tables.check_unique_items(items, path)
    return items


def _text_column(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    values: list[Any]
    if name not in table.columns:
        values = [[] if name == "categories" else "" for _ in range(len(table))]
    else:
        values = [as_names(value) if name == "categories" else as_text(value) for value in table[name]]
        bad = next((place for place, value in enumerate(values) if value is None), None)
        if bad is not None:
            expected = "a list of text, or text with '|' between the names" if name == "categories" else "text"
            raise DataError(
                f"{path}: line {table['line'].iloc[bad]}: '{name}' is {table[name].iloc[bad]!r}; expected {expected}"
            )
    return pd.Series(values, index=table.index, dtype=object if name == "categories" else str)


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
