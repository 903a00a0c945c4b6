"""Reading tables that other people wrote: every fault is named with its file, its line or column, and the way out.

Shown in ``notebooks/01_data.ipynb``.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import json
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from recnb.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def check_folder(folder: Path) -> None:
    """Raise a DataError with the nearest name if there is no such folder."""
    if not folder.is_dir():
        siblings = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise DataError(f"{folder}: no such folder{nearest(folder.name, siblings)}; data.path names it")


def find_file(folder: Path, names: Iterable[str], purpose: str) -> Path:
    """The first of ``names`` that exists in ``folder``.

    Raises:
        DataError: none does; the message lists the names and the nearest file that is there.
    """
    wanted = list(names)
    for name in wanted:
        if (folder / name).is_file():
            return folder / name
    there = sorted(path.name for path in folder.iterdir())
    holds = ", ".join(there[:8]) or "nothing"
    raise DataError(
        f"{folder}: no {purpose}: expected {' or '.join(wanted)}; it holds {holds}{nearest(wanted[0], there)}"
    )


def nearest(wanted: str, choices: Iterable[str]) -> str:
    """``"; nearest: X"`` for a message, or nothing when there is no choice at all."""
    options = [str(choice) for choice in choices]
    close = difflib.get_close_matches(wanted, options, n=1, cutoff=0.3)
    return f"; nearest: '{close[0]}'" if close else ""


def open_source(path: Path) -> IO[bytes]:
    """A binary stream of a file, unpacked when it is gzip (told by its content, not by its name).

    Raises:
        DataError: missing, a folder, or empty.
    """
    if not path.is_file():
        there = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file{nearest(path.name, there)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def read_bytes(path: Path) -> bytes:
    """The unpacked content of a file.

    Raises:
        DataError: missing, empty, or a truncated or damaged gzip file.
    """
    with open_source(path) as stream:
        try:
            content = stream.read()
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: truncated or damaged gzip file ({error}); fetch or pack it again") from None
    if not content.strip():
        raise DataError(f"{path}: the file is empty")
    return content


def iterate_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file too large to hold, blank ones left out; damage is reported as by :func:`read_bytes`."""
    number = 0
    with open_source(path) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line
        except (EOFError, OSError, zlib.error) as error:
            where = f"after line {number}"
            raise DataError(f"{path}: truncated or damaged gzip file {where} ({error}); fetch it again") from None


def decode(content: bytes, path: Path | str, first_line: int = 1, encoding: str = "utf-8-sig") -> str:
    """Bytes to text.

    Raises:
        DataError: not in this encoding; the message names the line.
    """
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = first_line + content[: error.start].count(b"\n")
        raise DataError(
            f"{path}: line {line}: byte 0x{content[error.start]:02x} is not UTF-8; "
            "expected a file in UTF-8 (convert it, for example from latin-1)"
        ) from None


def read_csv(
    path: Path, required: Iterable[str], optional: Iterable[str] = (), one_of: Iterable[str] = ()
) -> pd.DataFrame:
    """The named columns of a CSV file as text.

    Args:
        path: CSV with a header line, comma separated, UTF-8, packed or not.
        required: columns that must be there.
        optional: columns read when they are there; any other column is ignored.
        one_of: columns of which the first that is there is read, and one must be.

    Returns:
        One row per record, all text, with its line number in ``line``; blank lines are left out.

    Raises:
        DataError: the file, its encoding, its header or a line is not as documented.
    """
    text = decode(read_bytes(path), path)
    header = _header(text, path)
    check_columns(header, required, path)
    chosen = next(([name] for name in one_of if name in header), list(one_of))
    if len(chosen) > 1:
        found = f"{', '.join(header)}{nearest(chosen[0], header)}"
        raise DataError(f"{path}: no column '{chosen[0]}' and no '{chosen[1]}'; found {found}")
    wanted = [*required, *chosen, *(name for name in optional if name in header)]
    table = _parse_csv(text, path, len(header))
    table = table[wanted].assign(line=np.arange(2, len(table) + 2))
    table = table[(table[wanted] != "").any(axis=1)]
    if table.empty:
        raise DataError(f"{path}: a header and no rows")
    return table.reset_index(drop=True)


def _header(text: str, path: Path) -> list[str]:
    names = [name.strip() for name in next(csv.reader([text.partition("\n")[0].rstrip("\r")]))]
    if len(set(names)) < len(names):
        raise DataError(f"{path}: line 1: a column name stands twice in {', '.join(names)}")
    return names


def _parse_csv(text: str, path: Path, columns: int) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            io.StringIO(text), dtype=str, keep_default_na=False, skip_blank_lines=False, skipinitialspace=True
        )
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: {str(error).strip()}; expected {columns} columns per line") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the surplus as an index
        raise DataError(f"{path}: line 2: more values than the {columns} columns of the header")
    return table.fillna("").rename(columns=str.strip)


def check_columns(found: Iterable[str], required: Iterable[str], path: Path | str) -> None:
    """Raise a DataError that names the first missing column, what is there, and the nearest of it."""
    found = [str(name) for name in found]
    for name in required:
        if name not in found:
            raise DataError(f"{path}: no column '{name}'; found {', '.join(found)}{nearest(name, found)}")


def read_json_lines(path: Path) -> pd.DataFrame:
    """One JSON object per line as rows; keys become columns, the line number stands in ``line``.

    Raises:
        DataError: the file or a line is not as documented; the line is named.
    """
    text = decode(read_bytes(path), path)
    rows = [
        {**_json_object(line, number, path), "line": number}
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    return pd.DataFrame(rows)


def _json_object(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {number}: not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: line {number}: expected an object like {{\"item_id\": ...}}, found {line[:40]}")
    return value


def parse_times(values: pd.Series, lines: pd.Series, path: Path, column: str) -> pd.Series:
    """Numbers from text.

    Raises:
        DataError: a value is empty, not a number, or not finite; the first such line is named.
    """
    times = pd.to_numeric(values, errors="coerce").astype(np.float64)
    bad = ~np.isfinite(times.to_numpy())
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{path}: line {lines.iloc[place]}: column '{column}' is '{values.iloc[place]}' ({int(bad.sum())} such "
            "rows): events cannot be put in order; expected a finite number, for example seconds since 1970"
        )
    return times


def check_filled(table: pd.DataFrame, columns: Iterable[str], path: Path) -> None:
    """Raise a DataError with the first line in which one of ``columns`` is empty."""
    for column in columns:
        empty = (table[column].isna() | (table[column].astype(str).str.strip() == "")).to_numpy()
        if empty.any():
            place = int(np.flatnonzero(empty)[0])
            raise DataError(
                f"{path}: line {table['line'].iloc[place]}: column '{column}' is empty ({int(empty.sum())} such rows)"
            )


def check_unique_items(items: pd.DataFrame, path: Path | str) -> None:
    """Raise a DataError with both lines of the first item id that stands twice."""
    again = items["item_id"].duplicated().to_numpy()
    if again.any():
        name = items["item_id"].to_numpy()[again][0]
        lines = items.loc[items["item_id"] == name, "line"].tolist()
        raise DataError(
            f"{path}: item_id '{name}' stands twice, in lines {lines[0]} and {lines[1]} "
            f"({int(again.sum())} duplicates in all); expected one row per item"
        )


def check_known_items(
    interactions: pd.DataFrame, items: pd.DataFrame, path: Path | str, items_path: Path | str
) -> None:
    """Raise a DataError with the first interaction whose item is not in the catalogue."""
    unknown = ~interactions["item_id"].isin(items["item_id"]).to_numpy()
    if unknown.any():
        place = int(np.flatnonzero(unknown)[0])
        name = str(interactions["item_id"].iloc[place])
        raise DataError(
            f"{path}: line {interactions['line'].iloc[place]}: item '{name}' is not in {items_path} "
            f"({int(unknown.sum())} interactions with such items){nearest(name, items['item_id'])}"
        )


def sha256(content: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file as it lies on disk."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
