"""Reading tables that other people wrote: every fault is named with its file, its line or column, and the way out.

A table's index holds the line that each row stands in. Shown in ``notebooks/01_data.ipynb``.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from recnb.errors import DataError, nearest


class Tables(NamedTuple):
    """A source as its reader left it: checked, unfiltered.

    Attributes:
        name, provenance: as of :class:`recnb.data.schema.Dataset`.
        interactions: rows in file order with ``user_id``, ``item_id`` and ``time`` (finite); where the source has one,
            ``rating``, as it stands there.
        items: one row per item with the columns of a catalogue, at least for the items that will survive the k-core.
    """

    name: str
    interactions: pd.DataFrame
    items: pd.DataFrame
    provenance: dict[str, Any]


def iterate_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file, unpacked when it is gzip (told by its content, not by its name)."""
    if not path.is_file():
        there = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file{nearest(path.name, there)}")
    number, empty = 0, True
    with path.open("rb") as file:
        packed = file.peek(2).startswith(b"\x1f\x8b")
        try:
            for number, line in enumerate(gzip.GzipFile(fileobj=file) if packed else file, start=1):
                empty = empty and not line.strip()
                yield number, line
        except (EOFError, OSError, zlib.error) as error:
            state = f"truncated or damaged gzip file after line {number} ({error})"
            raise DataError(f"{path}: {state}; fetch or pack it again") from None
    if empty:
        raise DataError(f"{path}: the file is empty")


def read_bytes(path: Path) -> bytes:
    """The whole of a file; faults as of :func:`iterate_lines`."""
    return b"".join(line for _, line in iterate_lines(path))


def decode(content: bytes, path: Path | str, first_line: int = 1) -> str:
    """UTF-8 to text."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = first_line + content[: error.start].count(b"\n")
        raise DataError(
            f"{path}: line {line}: byte 0x{content[error.start]:02x} is not UTF-8; "
            "expected a file in UTF-8 (convert it, for example from latin-1)"
        ) from None


def read_csv(path: Path, required: Iterable[str], optional: Iterable[str] = ()) -> pd.DataFrame:
    """A CSV file as text.

    Args:
        path: CSV with a header line, comma separated, UTF-8, packed or not.
        required: columns that must be there.
        optional: columns that may be there. A row that says nothing in any of both, like a blank line, is left out.
    """
    text = decode(read_bytes(path), path)
    try:
        header = _cells(text, nrows=1).iloc[0].str.strip().tolist()
        if len(set(header)) < len(header):
            raise DataError(f"{path}: line 1: a column name stands twice in {', '.join(header)}")
        check_columns(header, required, path)
        table = _cells(text)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: {str(error).strip()}; expected as many columns per line as the header has") from None
    table = table.set_axis(header, axis=1).set_axis(range(1, len(table) + 1)).iloc[1:]
    table = table[(table[table.columns.intersection([*required, *optional])] != "").any(axis=1)]
    if table.empty:
        raise DataError(f"{path}: a header and no rows")
    return table


def _cells(text: str, nrows: int | None = None) -> pd.DataFrame:
    """(lines, columns) of CSV as text; a line shorter than the first is filled with ``""``."""
    return pd.read_csv(
        io.StringIO(text), header=None, nrows=nrows, dtype=str, keep_default_na=False, skip_blank_lines=False,
        skipinitialspace=True,
    )  # fmt: skip


def read_json_lines(path: Path, required: Iterable[str]) -> pd.DataFrame:
    """One JSON object per line as rows; keys become columns, and values stay what they are.

    Raises:
        DataError: the file or a line is not as documented, or a required column is nowhere.
    """
    rows = {number: _json_object(line, number, path) for number, line in iterate_lines(path) if line.strip()}
    table = pd.DataFrame(list(rows.values()), index=list(rows), dtype=object)
    check_columns(table.columns, required, path)
    return table


def _json_object(line: bytes, number: int, path: Path) -> dict[str, Any]:
    text = decode(line, path, number).rstrip()
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: line {number}: expected an object like {{\"item_id\": ...}}, found {text[:40]}")
    return value


def check_columns(found: Iterable[str], required: Iterable[str], path: Path | str) -> None:
    """Raise a DataError that names the first missing column, what is there, and the nearest of it."""
    found = [str(name) for name in found]
    for name in required:
        if name not in found:
            raise DataError(f"{path}: no column '{name}'; found {', '.join(found)}{nearest(name, found)}")


def parse_times(
    values: pd.Series, path: Path | str, what: str = "events", example: str = "seconds since 1970"
) -> pd.Series:
    """A column's numbers, float64, by which ``what`` is put in order."""
    times = pd.to_numeric(values, errors="coerce").astype(np.float64)
    bad = ~np.isfinite(times)
    if bad.any():
        line = bad.idxmax()
        raise DataError(
            f"{path}: line {line}: column '{values.name}' is '{values[line]}' ({bad.sum()} such rows): "
            f"{what} cannot be put in order; expected a finite number, for example {example}"
        )
    return times


def check_filled(table: pd.DataFrame, columns: Iterable[str], path: Path) -> None:
    """Raise a DataError with the first line in which one of ``columns`` is empty."""
    for name in columns:
        empty = table[name].isna() | (table[name].astype(str).str.strip() == "")
        if empty.any():
            raise DataError(f"{path}: line {empty.idxmax()}: column '{name}' is empty ({empty.sum()} such rows)")


def check_unique_items(items: pd.DataFrame, path: Path | str) -> None:
    """Raise a DataError with both lines of the first item id that stands twice."""
    again = items["item_id"].duplicated()
    if again.any():
        name = items["item_id"][again.idxmax()]
        first, second, *_ = items.index[items["item_id"] == name]
        raise DataError(
            f"{path}: item_id '{name}' stands twice, in lines {first} and {second} "
            f"({again.sum()} duplicates in all); expected one row per item"
        )


def check_known_items(
    interactions: pd.DataFrame, items: pd.DataFrame, path: Path | str, items_path: Path | str
) -> None:
    """Raise a DataError with the first interaction whose item is not in the catalogue."""
    unknown = ~interactions["item_id"].isin(items["item_id"])
    if unknown.any():
        line = unknown.idxmax()
        name = interactions["item_id"][line]
        raise DataError(
            f"{path}: line {line}: item '{name}' is not in {items_path} "
            f"({unknown.sum()} interactions with such items){nearest(name, items['item_id'], 0.3)}"
        )
