"""Amazon reviews as the McAuley lab publishes them: raw review and metadata files, one record per line, packed.

- 2014: ``reviews_Beauty_5.json.gz`` (JSON) and ``meta_Beauty.json.gz`` (Python dictionaries, not JSON); ``categories``
  is a list of paths, of which the first is taken.
- 2018: ``Musical_Instruments_5.json.gz`` or ``reviews_...`` and ``meta_Musical_Instruments.json.gz`` (JSON);
  ``category`` is one path, ``description`` a list, and text carries HTML.

A user who reviewed an item twice counts once, at the first review. References: McAuley et al., "Image-based
recommendations on styles and substitutes", SIGIR 2015; Ni, Li and McAuley, EMNLP 2019.
Shown in ``notebooks/01_data.ipynb``.
"""

import ast
import html
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from recnb.artifacts import hash_artifact
from recnb.data import tables
from recnb.data.files import as_names, as_text
from recnb.data.prepare import k_core_mask
from recnb.data.schema import ITEM_COLUMNS
from recnb.data.tables import Tables
from recnb.errors import DataError

LICENCE = "Amazon review data, McAuley lab (UC San Diego): offered for research, no open licence known"
_ASIN = re.compile(rb"""['"]asin['"]\s*:\s*['"]([^'"]+)['"]""")


def read_amazon(reviews: Path, metadata: Path, edition: str, k_core: int) -> Tables:
    """A category.

    Args:
        reviews: the file of reviews; metadata: the file of items.
        edition: ``2014`` or ``2018``, for the name of the data set; both forms of a record are read in both.
        k_core: only the items that survive it are read; 5 in the papers, where it changes nothing in a ``_5`` file.

    Raises:
        DataError: a file is missing, cut or not in this format; file and line are named.
    """
    every = read_reviews(reviews)
    events = every.sort_values("time", kind="stable").drop_duplicates(["user_id", "item_id"]).sort_index()
    user, item = pd.factorize(events["user_id"])[0], pd.factorize(events["item_id"])[0]
    items, doubles = read_metadata(metadata, set(events["item_id"][k_core_mask(user, item, k_core)[0]]))
    category = reviews.name.split(".")[0].removeprefix("reviews_").removesuffix("_5").replace("_", " ")
    about = {
        "source": f"amazon-{edition}",
        "licence": LICENCE,
        "clock": "seconds",
        "sha256": {path.name: hash_artifact(path) for path in (reviews, metadata)},
        "repeated_reviews": len(every) - len(events),
        "repeated_metadata": doubles,
    }
    return Tables(f"Amazon {category} ({edition})", events, items, about)


def read_reviews(path: Path) -> pd.DataFrame:
    """``user_id``, ``item_id`` and ``time`` (seconds) of each review, in file order."""
    rows = {number: _review(line, number, path) for number, line in tables.iterate_lines(path) if line.strip()}
    table = pd.DataFrame(list(rows.values()), index=list(rows), columns=["user_id", "item_id", "unixReviewTime"])
    return table[["user_id", "item_id"]].assign(time=tables.parse_times(table["unixReviewTime"], path))


def _review(line: bytes, number: int, path: Path) -> tuple[str, str, Any]:
    record = _record(line, number, path)
    tables.check_columns(record, ("reviewerID", "asin", "unixReviewTime"), f"{path}: line {number}")
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


def read_metadata(path: Path, wanted: Collection[str]) -> tuple[pd.DataFrame, int]:
    """Items with cleaned text.

    Args:
        path: the metadata file.
        wanted: ids to read; other lines are passed over unparsed (a category has 20 times more items than its 5-core).

    Returns:
        one row per wanted item with the columns of a catalogue, in file order, and behind them the items that the file
        does not have, without text and with line 0; and how many repeated records were passed over.
    """
    rows: dict[str, dict[str, Any]] = {}
    lines: list[int] = []
    repeated = 0
    for number, line in tables.iterate_lines(path):
        quick = _ASIN.search(line)
        if not line.strip() or (quick and quick.group(1).decode("utf-8", "replace") not in wanted):
            continue
        record = _record(line, number, path)
        tables.check_columns(record, ["asin"], f"{path}: line {number}")
        if record["asin"] in rows:
            repeated += 1
        elif record["asin"] in wanted:
            rows[record["asin"]] = _item(record)
            lines.append(number)
    absent = [_item({"asin": name}) for name in sorted(set(wanted) - set(rows))]
    index = lines + [0] * len(absent)
    return pd.DataFrame([*rows.values(), *absent], index=index, columns=list(ITEM_COLUMNS)), repeated


def _item(record: dict[str, Any]) -> dict[str, Any]:
    path = record.get("category") or (record.get("categories") or [[]])[0]
    description = record.get("description") or ""
    parts = description if isinstance(description, list) else [description]
    title = as_text(record.get("title")) or ""
    script = "getTime()" in title or "var aPageStart" in title  # some titles of 2018 are a piece of the page's
    return {
        "item_id": str(record["asin"]),
        "title": "" if script else clean_html(title),
        "description": " ".join(filter(None, (clean_html(as_text(part) or "") for part in parts))),
        "brand": clean_html(as_text(record.get("brand")) or "").removeprefix("by "),
        "categories": list(dict.fromkeys(filter(None, map(clean_html, as_names(path) or [])))),
    }


_SCRIPT = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_INLINE = re.compile(r"</?(b|i|u|em|strong|span|font|a|sup|sub|small|big)\b[^<>]*>", re.IGNORECASE)  # part of a word
_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)


def clean_html(text: str) -> str:
    """Text as a reader of the page saw it: entities resolved, tags, scripts and runs of white space gone.

    >>> clean_html("Soap &amp;amp; Water<br/><b>2&nbsp;oz</b>")
    'Soap & Water 2 oz'
    """
    text = html.unescape(html.unescape(text))  # some entities are escaped twice
    return " ".join(_TAG.sub(" ", _INLINE.sub("", _SCRIPT.sub(" ", text))).split())
