"""A published item index: a file that gives every item its codes, in place of k-means on text embeddings.

The form is the one in which LETTER and LC-Rec publish theirs: one JSON object, packed or not, of item id to a list of
tokens such as ``["<a_12>", "<b_7>", "<c_0>"]``. Only the numbers count; the place in the list says the level. Such a
file carries what somebody's text encoder knew into a catalogue whose text is not at hand. Shown in ``03_index``.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recnb.data.tables import decode, read_bytes
from recnb.errors import DataError, nearest

LARGEST_K = 65536  # as index.codes
_NUMBER = re.compile(r"(\d+)\D*$")


def find_codes(name: str, folder: str | None, root: Path) -> Path:
    """Where ``index.semantic_file`` lies: in the folder of the data, else from the project root, else as it is.

    Raises:
        DataError: it is in none of these places; the nearest name in the data's folder is given.
    """
    beside = root / Path(folder or ".").expanduser()
    for path in (beside / name, root / Path(name).expanduser()):
        if path.is_file():
            return path
    there = [path.name for path in beside.iterdir()] if beside.is_dir() else []
    raise DataError(f"index.semantic_file: {name}: no such file in {beside} or {root}{nearest(name, there)}")


def read_codes(path: Path, item_ids: Sequence[str]) -> np.ndarray:
    """The codes (N, M) int64 of a catalogue's N items, in its order; what the file says of other items is ignored.

    Raises:
        DataError: not such a file, an item is missing or has another number of tokens, or a token has no number.
    """
    table = read_object(path)
    missing = [item for item in item_ids if item not in table]
    if missing:
        raise DataError(
            f"{path}: no codes for {len(missing)} of {len(item_ids)} items (first: '{missing[0]}'): "
            f"expected every item of the catalogue{nearest(missing[0], table)}"
        )
    first = table[item_ids[0]]
    levels = len(first) if isinstance(first, list) else 0
    return np.array([_codes_of(item, table[item], levels, path) for item in item_ids], dtype=np.int64)


def read_object(path: Path) -> dict[str, Any]:
    """The whole file, by item id, its rows not yet looked at; a DataError if it is not one JSON object."""
    try:
        table = json.loads(decode(read_bytes(path), path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {error.lineno}: not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(table, dict):
        found = type(table).__name__
        raise DataError(f'{path}: expected an object like {{"item id": ["<a_1>", "<b_2>"]}}, found a {found}')
    return table


def _codes_of(item: str, row: Any, levels: int, path: Path) -> list[int]:
    if not isinstance(row, list) or not row or len(row) != levels:
        raise DataError(
            f"{path}: item '{item}' has {json.dumps(row)[:60]}; expected a list of {levels or 'some'} tokens "
            "such as <a_12>, as many for every item"
        )
    codes = [_code(token) for token in row]
    for token, code in zip(row, codes, strict=True):
        if not 0 <= code < LARGEST_K:
            wanted = f"a token such as <a_12> with a number from 0 to {LARGEST_K - 1}"
            raise DataError(f"{path}: item '{item}': token {str(token)[:40]!r}; expected {wanted}")
    return codes


def _code(token: Any) -> int:
    """A number itself, or the last one in a text; -1 where there is none."""
    found = _NUMBER.search(token) if isinstance(token, str) else None
    return token if type(token) is int else int(found[1]) if found else -1
