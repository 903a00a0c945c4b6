"""From two tables to a :class:`Dataset`: k-core, users in time order, users too short to split counted and dropped."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recnb.data.schema import ITEM_COLUMNS, SHORTEST, Dataset, has_text, offsets_of
from recnb.data.tables import Tables
from recnb.errors import DataError


def build_dataset(tables: Tables, k_core: int) -> Dataset:
    """Filter, sort and number what a reader made of its source.

    With ``k_core`` users and items with at least so many interactions are kept, repeatedly; 0: off, and the items that
    nobody met stay in the catalogue. Users come in order of first appearance, items in the order of the catalogue;
    events of one user with the same time keep their file order. What was filtered stands in the provenance.

    Raises:
        DataError: nothing is left.
    """
    name, interactions, items, provenance = tables
    user, user_ids = pd.factorize(interactions["user_id"])
    keep, effect = _filter(name, user, pd.factorize(interactions["item_id"])[0], k_core)
    item = pd.Index(items["item_id"]).get_indexer(interactions["item_id"][keep])  # row of ``items``
    kept_items = np.unique(item) if k_core else np.arange(len(items))
    kept_users, user = np.unique(user[keep], return_inverse=True)
    time = interactions["time"].to_numpy(np.float64)[keep]
    order = np.lexsort((time, user))  # stable
    return Dataset(
        name=name,
        items=items.iloc[kept_items].reset_index(drop=True)[list(ITEM_COLUMNS)],
        user_ids=np.asarray(user_ids, dtype=object)[kept_users],
        offsets=offsets_of(user[order]),
        sequence=np.searchsorted(kept_items, item[order]).astype(np.int32),
        times=time[order],
        provenance=provenance | {"filter": effect},
    )


def ratings_of(tables: Tables, k_core: int) -> NDArray[np.float32]:
    """(n,) the ratings of the events of :func:`build_dataset`, in their order; nan where the source has an empty one.
    """
    text = tables.interactions["rating"].astype(str).str.strip()
    ratings = pd.to_numeric(text, errors="coerce")
    if (bad := ratings.isna() & (text != "")).any():
        line = bad.idxmax()
        raise DataError(f"{tables.name}: line {line}: rating '{text[line]}' is no number ({bad.sum()} such rows)")
    order = np.argsort(tables.interactions["time"].to_numpy(np.float64), kind="stable")
    place = np.empty(len(order))
    place[order] = np.arange(len(order))  # as good an order as the times, and it tells the row
    events = build_dataset(tables._replace(interactions=tables.interactions.assign(time=place)), k_core).times
    return ratings.to_numpy(np.float32)[order][events.astype(np.int64)]


def k_core_mask(user: NDArray[np.int64], item: NDArray[np.int64], k: int) -> tuple[NDArray[np.bool_], int]:
    """Rows that remain when users and items with fewer than k rows are removed until none is left. Returns (n,) bool,
    and the number of rounds that removed something.
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
    """(n,) rows that stay, and what the filter did."""
    dense, rounds = k_core_mask(user, item, k_core)
    counts = np.bincount(user[dense], minlength=user.max(initial=-1) + 1)
    short = (counts > 0) & (counts < SHORTEST)
    keep = dense & ~short[user]
    before, after = len(user), int(dense.sum())
    if before and not after:
        none = f"none of {before} interactions survives"
        raise DataError(f"{name}: {none} data.k_core = {k_core}; a smaller k keeps more")
    if not keep.any():
        raise DataError(
            f"{name}: no user has {SHORTEST} interactions (one each for training, validation and test); "
            f"{before} interactions in the source, {after} after data.k_core = {k_core}"
        )
    return keep, {
        "k_core": k_core,
        "rounds": rounds,
        "dropped_by_k_core": before - after,
        "short_users": int(short.sum()),
        "dropped_with_short_users": after - int(keep.sum()),
    }


def settle_items_without_text(tables: Tables, policy: str, path: Path) -> Tables:
    """Refuse, drop or count the items that have no text in any field.

    Args:
        tables: the index of its items is their line in the file, 0 for an item that does not stand there.
        policy: ``error``, ``drop`` (the items and their interactions go) or ``id`` (they stay as they are: people are
            shown their id, and no model reads it as if it were text).
        path: the file of the items, for the message.
    """
    name, interactions, items, provenance = tables
    told = has_text(items)
    silent = items[~told]
    if policy == "error" and len(silent):
        where = f"{path}, line {silent.index[0]}" if silent.index[0] else f"{path}"
        raise DataError(
            f"{where}: item '{silent['item_id'].iloc[0]}' has no text ({len(silent)} of {len(items)} items): "
            "expected a title, description, brand or categories; "
            "data.without_text: drop removes such items, id keeps them without text"
        )
    if policy == "drop":
        items, interactions = items[told], interactions[~interactions["item_id"].isin(silent["item_id"])]
    found = {"items_without_text": {"policy": policy, "items": len(silent)}}
    return Tables(name, interactions, items, provenance | found)
