"""Amazon reviews as the McAuley lab publishes them: raw review and metadata files, one record per line, packed.

- 2014: ``reviews_Beauty_5.json.gz`` (JSON) and ``meta_Beauty.json.gz`` (Python dictionaries, not JSON); ``categories``
  is a list of paths, of which the first is taken.
- 2018: ``Musical_Instruments_5.json.gz`` or ``reviews_...`` and ``meta_Musical_Instruments.json.gz`` (JSON);
  ``category`` is one path, ``description`` a list, and text carries HTML.

A user who reviewed an item twice counts once, at the first review. References: McAuley et al., "Image-based
recommendations on styles and substitutes", SIGIR 2015; Ni, Li and McAuley, EMNLP 2019.
Shown in ``notebooks/01_data.ipynb``.
"""

from __future__ import annotations

import ast
import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from recnb.data import tables
from recnb.data.files import as_names, as_text
from recnb.data.prepare import build_dataset, k_core_mask, settle_items_without_text
from recnb.data.schema import Dataset
from recnb.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection


LICENCE = "Amazon review data, McAuley lab (UC San Diego): offered for research, no open licence known"
_REVIEW_KEYS = ("reviewerID", "asin", "unixReviewTime")
_PACKED = (".json.gz", ".json", ".jsonl.gz", ".jsonl")
_ASIN = re.compile(rb"""['"]asin['"]\s*:\s*['"]([^'"]+)['"]""")


def load_amazon(
    reviews: Path, metadata: Path, edition: str, k_core: int = 5, without_text: str = "error"
) -> Dataset:
    """A category as a dataset.

    Args:
        reviews: the file of reviews.
        metadata: the file of items.
        edition: ``2014`` or ``2018``, for the name of the data set; both forms of a record are read in both.
        k_core: 5 in the papers; applied to unpacked reviews too, where it changes nothing in a ``_5`` file.
        without_text: what to do with items that have no text (or no metadata at all): ``error``, ``drop``, ``id``.

    Raises:
        DataError: a file is missing, cut or not in this format; file and line are named.
    """
    events, repeats = _first_reviews(read_reviews(reviews))
    items, doubles = read_metadata(metadata, _survivors(events, k_core))
    events, items, silent = settle_items_without_text(events, items, without_text, str(metadata))
    provenance = {
        "source": f"amazon-{edition}",
        "licence": LICENCE,
        "clock": "seconds",
        "sha256": {path.name: tables.sha256_file(path) for path in (reviews, metadata)},
        "repeated_reviews": repeats,
        "repeated_metadata": doubles,
        "items_without_text": {"policy": without_text, "items": silent},
    }
    return build_dataset(_name(reviews, edition), events, items, k_core, provenance)


def find_amazon(folder: Path, reviews: str | None = None, metadata: str | None = None) -> tuple[Path, Path]:
    """Paths of the reviews and the metadata in a folder: the named files, or the only ones of their kind.

    Raises:
        DataError: no such folder, or none or several files that could be meant.
    """
    tables.check_folder(folder)
    return (
        folder / reviews if reviews else _only(folder, meta=False),
        folder / metadata if metadata else _only(folder, meta=True),
    )


def _only(folder: Path, meta: bool) -> Path:
    """The one file of its kind in a folder."""
    kind = "metadata (meta_*.json.gz)" if meta else "reviews (reviews_*.json.gz)"
    key = "data.items" if meta else "data.interactions"
    there = sorted(path for path in folder.iterdir() if path.name.endswith(_PACKED))
    found = [path for path in there if path.name.startswith("meta_") == meta]
    if len(found) != 1:
        names = ", ".join(path.name for path in (found or there)) or "no .json.gz file"
        state = "more than one file could be" if found else "no file can be"
        raise DataError(f"{folder}: {state} the {kind}: {names}; name it with {key}")
    return found[0]


def _name(path: Path, edition: str) -> str:
    category = path.name.split(".")[0].removeprefix("reviews_").removesuffix("_5").replace("_", " ")
    return f"Amazon {category} ({edition})"


def read_reviews(path: Path) -> pd.DataFrame:
    """``user_id``, ``item_id``, ``time`` (seconds) and ``line`` of each review, in file order."""
    rows = [(*_review(line, number, path), number) for number, line in tables.iterate_lines(path)]
    if not rows:
        raise DataError(f"{path}: the file is empty")
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "unixReviewTime", "line"])
    time = tables.parse_times(table["unixReviewTime"], table["line"], path, "unixReviewTime")
    return table[["user_id", "item_id", "line"]].assign(time=time)


def _review(line: bytes, number: int, path: Path) -> tuple[str, str, Any]:
    record = _record(line, number, path)
    if not all(key in record for key in _REVIEW_KEYS):
        tables.check_columns(record, _REVIEW_KEYS, f"{path}: line {number}")
    return str(record["reviewerID"]), str(record["asin"]), record["unixReviewTime"]


def _record(line: bytes, number: int, path: Path) -> dict[str, Any]:
    """One line, JSON or (metadata of 2014) a Python dictionary."""
    text = tables.decode(line, path, number).strip()
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise DataError(
                f"{path}: line {number}: neither JSON nor a Python dictionary ({error.msg} at column {error.colno}); "
                "the file may be cut"
            ) from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: line {number}: expected a record with 'asin', found {text[:40]}")
    return value


def _first_reviews(events: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Of several reviews of one item by one user the earliest; and how many went."""
    by_time = events.sort_values("time", kind="stable")
    first = ~by_time.duplicated(["user_id", "item_id"])
    return by_time[first].sort_index(), int((~first).sum())


def _survivors(events: pd.DataFrame, k_core: int) -> set[str]:
    """Ids of the items that a k-core leaves, so that only their metadata is parsed."""
    user, item = pd.factorize(events["user_id"])[0], pd.factorize(events["item_id"])[0]
    return set(events["item_id"][k_core_mask(user, item, k_core)[0]])


def read_metadata(path: Path, wanted: Collection[str]) -> tuple[pd.DataFrame, int]:
    """Items with cleaned text.

    Args:
        path: the metadata file.
        wanted: ids to read; other lines are passed over unparsed (a category has 20 times more items than its 5-core).

    Returns:
        one row per wanted item with the columns of a catalogue and ``line`` (0 where the file does not have the item,
        whose text is then empty), in file order; and how many repeated records were passed over.
    """
    rows: dict[str, dict[str, Any]] = {}
    repeated = 0
    for number, line in tables.iterate_lines(path):
        quick = _ASIN.search(line)
        if quick and quick.group(1).decode("utf-8", "replace") not in wanted:
            continue
        record = _record(line, number, path)
        tables.check_columns(record, ["asin"], f"{path}: line {number}")
        repeated += record["asin"] in rows
        if record["asin"] in wanted:
            rows.setdefault(record["asin"], _item(record, number))
    absent = [_item({"asin": name}, 0) for name in sorted(set(wanted) - set(rows))]
    items = pd.DataFrame([*rows.values(), *absent])
    items["categories"] = pd.Series(items["categories"].tolist(), dtype=object)
    return items, repeated


def _item(record: dict[str, Any], line: int) -> dict[str, Any]:
    path = record.get("category") or (record.get("categories") or [[]])[0]
    description = record.get("description") or ""
    parts = description if isinstance(description, list) else [description]
    return {
        "item_id": str(record["asin"]),
        "title": _plain_title(record.get("title")),
        "description": " ".join(filter(None, (clean_html(as_text(part) or "") for part in parts))),
        "brand": clean_html(as_text(record.get("brand")) or "").removeprefix("by "),
        "categories": list(dict.fromkeys(filter(None, map(clean_html, as_names(path) or [])))),
        "line": line,
    }


def _plain_title(raw: Any) -> str:
    """Some titles of 2018 are a piece of the page's script; these are no titles."""
    text = as_text(raw) or ""
    return "" if "getTime()" in text or "var aPageStart" in text else clean_html(text)


_SCRIPT = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_INLINE = re.compile(r"</?(b|i|u|em|strong|span|font|a|sup|sub|small|big)\b[^<>]*>", re.IGNORECASE)  # part of a word
_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)


def clean_html(text: str) -> str:
    """Text as a reader of the page saw it: entities resolved, tags, scripts and runs of white space gone.

    >>> clean_html("Soap &amp;amp; Water<br/><b>2&nbsp;oz</b>")
    'Soap & Water 2 oz'
    """
    for _ in range(2):  # some entities are escaped twice
        text = html.unescape(text)
    return " ".join(_TAG.sub(" ", _INLINE.sub("", _SCRIPT.sub(" ", text))).split())
