"""The one shape of data that every later room sees: a catalogue with text, and each user's items in time order.

Shown in ``notebooks/01_data.ipynb``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from recnb.artifacts import Artifacts
from recnb.errors import DataError
from recnb.style import plain

TEXT_FIELDS = ("title", "description", "brand", "categories")
ITEM_COLUMNS = ("item_id", *TEXT_FIELDS)
SHORTEST = 3  # one training item, one validation target, one test target


@dataclass(frozen=True)
class Dataset:
    """A catalogue of N items and the histories of U users.

    Attributes:
        name: of the source, for titles of figures.
        items: RangeIndex 0..N-1, which is the item's number everywhere else; columns ``item_id``, ``title``,
            ``description``, ``brand`` (text, ``""`` when missing), ``categories`` (list of text, ``[]`` when missing).
        user_ids: (U,) ids as they stand in the source.
        offsets: (U+1,) int64; the events of user u are ``sequence[offsets[u]:offsets[u + 1]]``, oldest first.
        sequence: (n,) int32 item numbers.
        times: (n,) float64, seconds since 1970, or the order inside a user where the source has only that.
        provenance: where it came from: source, sha256 of each file, licence, what was dropped and why; ``clock`` is
            ``seconds`` or ``order``. JSON values.

    Raises:
        DataError: the arrays contradict each other, or a user has fewer than three events.
    """

    name: str
    items: pd.DataFrame
    user_ids: NDArray[Any]
    offsets: NDArray[np.int64]
    sequence: NDArray[np.int32]
    times: NDArray[np.float64]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [column for column in ITEM_COLUMNS if column not in self.items]
        events, users, offsets = len(self.sequence), len(self.user_ids), self.offsets
        wrong = ""
        if missing:
            wrong = f"items lack the columns {missing}; expected {list(ITEM_COLUMNS)}"
        elif users == 0:
            wrong = f"no user has the {SHORTEST} interactions that a leave-one-out split needs"
        elif len(offsets) != users + 1 or offsets[0] != 0 or offsets[-1] != events:
            wrong = f"offsets must run from 0 to {events} in {users + 1} steps"
        elif self.lengths.min() < SHORTEST:
            wrong = f"each user needs {SHORTEST} interactions (training, validation, test)"
        elif len(self.times) != events:
            wrong = f"{len(self.times)} times for {events} interactions"
        elif not 0 <= self.sequence.min() <= self.sequence.max() < len(self.items):
            wrong = f"item numbers outside 0..{len(self.items) - 1}"
        if wrong:
            raise DataError(f"{self.name}: {wrong}")

    @property
    def n_users(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.items)

    @property
    def n_interactions(self) -> int:
        """Events of all users, held-out ones included."""
        return len(self.sequence)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(U,) events per user, held-out ones included."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Sequences:
    """Item sequences of different length without padding: row u is ``items[offsets[u]:offsets[u + 1]]``, oldest first.

    Attributes:
        offsets: (U+1,) int64.
        items: (n,) int32 item numbers.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(U,) items per row."""
        return np.diff(self.offsets)

    def pad(self, length: int) -> NDArray[np.int32]:
        """(U, length) int32, the latest items kept, filled with -1 on the left.

        >>> Sequences(np.array([0, 1, 4]), np.array([7, 1, 2, 3], np.int32)).pad(2)
        array([[-1,  7],
               [ 2,  3]], dtype=int32)
        """
        return left_padded(self.items, self.offsets[:-1], self.offsets[1:], length)

    def take(self, rows: NDArray[np.int64]) -> Sequences:
        """Some of the rows, in this order."""
        return spans(self.items, self.offsets[rows], self.offsets[rows + 1])

    def had(self, n_items: int) -> sparse.csr_matrix:
        """(U, N) bool: which items each row has, however often."""
        ones, shape = np.ones(len(self.items), dtype=bool), (len(self), n_items)
        matrix = sparse.csr_matrix((ones, self.items, self.offsets), shape=shape, copy=True)  # the next line sorts
        matrix.sum_duplicates()
        return matrix


def spans(items: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Sequences:
    """``items[start:end]`` for each pair, one sequence after the other."""
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(offsets, items[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])])


def left_padded(
    items: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64], length: int
) -> NDArray[np.int32]:
    """Windows ``items[max(start, end - length):end]`` as (U, length) int32, -1 on the left."""
    positions = ends[:, None] - length + np.arange(length)  # (U, length)
    inside = positions >= starts[:, None]
    return np.where(inside, items[np.where(inside, positions, 0)], -1).astype(np.int32)


def item_text(items: pd.DataFrame, fields: Sequence[str]) -> list[str]:
    """One line of text per item: the chosen fields that it has, joined by ``". "``; categories are joined by ``", "``.

    ``""`` where an item of ``items`` (columns as of :class:`Dataset`) has none of the fields.
    """
    for name in fields:
        if name not in TEXT_FIELDS:
            raise DataError(f"items have no text field '{name}'; valid: {', '.join(TEXT_FIELDS)}")
    columns = [items[name].map(", ".join) if name == "categories" else items[name] for name in fields]
    return [". ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]


def titles_of(items: pd.DataFrame) -> list[str]:
    """What to call every item: its title, else the start of its description, its categories, its brand, else its id.

    The id is a name for people: no model reads the name of an item that has no text (:func:`has_text`).
    """
    short = items["title"]
    for other in (items["description"].str.slice(0, 80), items["categories"].map(" / ".join), items["brand"]):
        short = short.where(short.str.strip() != "", other)
    return short.where(short.str.strip() != "", "item " + items["item_id"].astype(str)).tolist()


def check_titles(dataset: Dataset) -> None:
    """For systems that call an item by its title and nothing else: every item has one that can be seen.

    Raises:
        DataError: an item has none; its id is named.
    """
    silent = dataset.items["item_id"][[not plain(title) for title in dataset.items["title"]]]
    if len(silent):
        said = f"item '{silent.iloc[0]}' has no title ({len(silent)} of {dataset.n_items} items)"
        raise DataError(f"{dataset.name}: {said}: prompts that rank call items by their titles; expected one for each")


def has_text(items: pd.DataFrame, fields: Sequence[str] = TEXT_FIELDS) -> NDArray[np.bool_]:
    """(N,) bool: items with text in any of the fields; an id is no text."""
    return np.array([bool(text.strip()) for text in item_text(items, fields)], dtype=bool)


def write_dataset(dataset: Dataset, stage: Artifacts) -> None:
    """Write the artifacts of 01_data: ``items.parquet``, ``interactions.parquet`` and ``dataset.json``.

    ``interactions.parquet`` has one row per event, users together and oldest first: ``user_id``, ``item`` (row of
    ``items.parquet``) and ``time``.
    """
    user = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    users = pd.Categorical.from_codes(user, categories=pd.Index(dataset.user_ids, dtype=str))
    events = pd.DataFrame({"user_id": users, "item": dataset.sequence, "time": dataset.times})
    stage.write("items.parquet", dataset.items[list(ITEM_COLUMNS)])
    stage.write("interactions.parquet", events)
    counts = {"users": dataset.n_users, "items": dataset.n_items, "interactions": dataset.n_interactions}
    stage.write("dataset.json", {"name": dataset.name, **counts, "provenance": dataset.provenance})


def read_dataset(stage: Artifacts) -> Dataset:
    """The :class:`Dataset` that ``01_data`` wrote; the inverse of :func:`write_dataset`."""
    about = stage.read("01_data", "dataset.json")
    items = stage.read("01_data", "items.parquet").reset_index(drop=True)
    items["categories"] = pd.Series([list(names) for names in items["categories"]], dtype=object)
    events = stage.read("01_data", "interactions.parquet")
    codes, users = pd.factorize(events["user_id"].astype(str))
    return Dataset(
        name=about["name"],
        items=items,
        user_ids=np.asarray(users, dtype=object),
        offsets=offsets_of(codes),
        sequence=events["item"].to_numpy(np.int32),
        times=events["time"].to_numpy(np.float64),
        provenance=about["provenance"],
    )


def offsets_of(users: NDArray[np.int64]) -> NDArray[np.int64]:
    """(U+1,) start of each user's rows, from sorted user numbers 0..U-1 that all occur."""
    return np.concatenate([[0], np.cumsum(np.bincount(users))]).astype(np.int64)
