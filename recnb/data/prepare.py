"""From two tables to a :class:`Dataset`: k-core, users in time order, users too short to split counted and dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recnb.data.schema import ITEM_COLUMNS, SHORTEST, Dataset, item_text, offsets_of
from recnb.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def build_dataset(
    name: str,
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    k_core: int,
    provenance: dict[str, Any],
) -> Dataset:
    """Filter, sort and number.

    Args:
        name: of the data set.
        interactions: rows in file order with ``user_id``, ``item_id`` and ``time`` (finite); checked by its reader.
        items: one row per item with the columns of :class:`Dataset`, at least those that survive the k-core; with
            ``k_core`` 0 the items that nobody met stay in the catalogue.
        k_core: keep users and items with at least this many interactions, repeatedly; 0: off.
        provenance: what the reader knows; the effect of filtering is added.

    Returns:
        Users in order of first appearance in ``interactions``, items in the order of ``items``. Events of one user
        with the same time keep their file order.

    Raises:
        DataError: nothing is left.
    """
    user, user_ids = pd.factorize(interactions["user_id"])
    keep, effect = _filter(name, user, pd.factorize(interactions["item_id"])[0], k_core)
    item = pd.Index(items["item_id"]).get_indexer(interactions["item_id"][keep])  # row of ``items``
    kept_items = np.unique(item) if k_core else np.arange(len(items))
    kept_users, user = np.unique(user[keep], return_inverse=True)
    time = interactions["time"].to_numpy(np.float64)[keep]
    order = np.lexsort((time, user))  # stable: ties keep file order
    return Dataset(
        name=name,
        items=items.iloc[kept_items].reset_index(drop=True)[list(ITEM_COLUMNS)],
        user_ids=np.asarray(user_ids, dtype=object)[kept_users],
        offsets=offsets_of(user, len(kept_users)),
        sequence=np.searchsorted(kept_items, item[order]).astype(np.int32),
        times=time[order],
        provenance={**provenance, "filter": effect},
    )


def k_core_mask(user: NDArray[np.int64], item: NDArray[np.int64], k: int) -> tuple[NDArray[np.bool_], int]:
    """Rows that remain when users and items with fewer than k rows are removed until none is left.

    Returns:
        (n,) bool, and the number of rounds that removed something.
    """
    keep, rounds, shrinking = np.ones(len(user), dtype=bool), 0, True
    while shrinking:
        enough_user = np.bincount(user[keep], minlength=user.max(initial=-1) + 1) >= k
        enough_item = np.bincount(item[keep], minlength=item.max(initial=-1) + 1) >= k
        smaller = keep & enough_user[user] & enough_item[item]
        shrinking = bool(smaller.sum() < keep.sum())
        keep, rounds = smaller, rounds + shrinking
    return keep, rounds


def _filter(
    name: str, user: NDArray[np.int64], item: NDArray[np.int64], k_core: int
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    keep, rounds = k_core_mask(user, item, k_core)
    counts = np.bincount(user[keep], minlength=user.max(initial=-1) + 1)
    short = (counts > 0) & (counts < SHORTEST)
    final = keep & ~short[user]
    if not final.any():
        raise DataError(_nothing_left(name, len(user), int(keep.sum()), k_core))
    return final, {
        "k_core": k_core,
        "rounds": rounds,
        "dropped_by_k_core": int(len(user) - keep.sum()),
        "short_users": int(short.sum()),
        "dropped_with_short_users": int(keep.sum() - final.sum()),
    }


def _nothing_left(name: str, before: int, after: int, k_core: int) -> str:
    if after == 0 and before:
        return f"{name}: none of {before} interactions survives data.k_core = {k_core}; a smaller k keeps more"
    return (
        f"{name}: no user has {SHORTEST} interactions (one each for training, validation and test); "
        f"{before} interactions in the source, {after} after data.k_core = {k_core}"
    )


def settle_items_without_text(
    interactions: pd.DataFrame, items: pd.DataFrame, policy: str, where: str
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Refuse, drop or count the items that have no text in any field.

    Args:
        interactions: with ``item_id``.
        items: with the columns of :class:`Dataset`, and ``line`` when the source has lines.
        policy: ``error``, ``drop`` (the items and their interactions go) or ``id`` (they stay as they are: people are
            shown their id, and no model reads it as if it were text).
        where: the file, for the message.

    Returns:
        both tables, and the number of items concerned.

    Raises:
        DataError: policy ``error`` and such an item exists.
    """
    silent = np.array([not text for text in item_text(items, ITEM_COLUMNS[1:])], dtype=bool)
    if not silent.any():
        return interactions, items, 0
    if policy == "error":
        raise DataError(_silent_message(items[silent], len(items), where))
    if policy == "id":
        return interactions, items, int(silent.sum())
    gone = items.loc[silent, "item_id"]
    return interactions[~interactions["item_id"].isin(gone)], items[~silent], int(silent.sum())


def _silent_message(silent: pd.DataFrame, total: int, where: str) -> str:
    first = silent.iloc[0]
    line = f", line {first['line']}" if "line" in silent.columns else ""
    return (
        f"{where}{line}: item '{first['item_id']}' has no text ({len(silent)} of {total} items): "
        "expected a title, description, brand or categories; "
        "data.without_text: drop removes such items, id keeps them without text"
    )
