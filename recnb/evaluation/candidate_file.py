"""Candidate sets that a person brings: a file, checked line by line. Shown in ``rsllm/03_candidates``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recnb.data.held_out import HeldOut
from recnb.data.schema import Dataset
from recnb.data.tables import check_filled, read_csv
from recnb.errors import DataError, nearest
from recnb.evaluation.candidates import CandidateSets

_COLUMNS = ("user_id", "draw", "item_id")


def read_candidates(path: Path, dataset: Dataset, held: HeldOut, size: int, draws: int) -> CandidateSets:
    """A set of as many items for each test user and draw, the target in it or not.

    Args:
        path: csv with ``user_id``, ``draw`` (a number or a name) and ``item_id``, ids as the source has them; the
            items of a set stand in the order of the file.
        dataset: whose ids these are; held: who is asked: ``held.users["test"]``.
        size: C; draws: D, both as the recipe says.

    Raises:
        DataError: a user, an item, a set or the shape of all is not as expected; the first such line is named.
    """
    table = read_csv(path, _COLUMNS)
    check_filled(table, _COLUMNS, path)
    ids = dataset.user_ids[held.users["test"]].astype(str)
    row = _number(table["user_id"], pd.Index(ids), "none of the users of the test", path)
    item = _number(table["item_id"], pd.Index(dataset.items["item_id"].astype(str)), "not in the catalogue", path)
    draw, names = pd.factorize(table["draw"], sort=True)
    _refuse_twice(table, path)
    if len(names) != draws:
        way = f"--set candidates.draws={len(names)}, or as many draws in the file"
        raise DataError(f"{path}: {len(names)} draws; expected candidates.draws = {draws}: {way}")
    counts = np.zeros((len(ids), draws), dtype=np.int64)
    np.add.at(counts, (row, draw), 1)
    if (counts != size).any():
        user, number = np.argwhere(counts != size)[0]
        said = f"user '{ids[user]}', draw '{names[number]}': {counts[user, number]} items"
        all_alike = f"; all sets have {counts[0, 0]}: --set candidates.size={counts[0, 0]}" * bool(np.ptp(counts) == 0)
        raise DataError(f"{path}: {said}; expected candidates.size = {size} for each test user and draw{all_alike}")
    items = item[np.lexsort((draw, row))].reshape(len(ids), draws, size)
    return CandidateSets(items.astype(np.int32), held.targets["test"], "file")


def _number(values: pd.Series, known: pd.Index, wrong: str, path: Path) -> np.ndarray:
    """(rows,) place of each id among the known ones."""
    found = known.get_indexer(values)
    if (found < 0).any():
        line = values.index[(found < 0).argmax()]
        said = f"line {line}: {values.name} '{values[line]}' is {wrong} ({(found < 0).sum()} such rows)"
        raise DataError(f"{path}: {said}{nearest(values[line], known, 0.3)}")
    return found


def _refuse_twice(table: pd.DataFrame, path: Path) -> None:
    twice = table.duplicated(list(_COLUMNS))
    if twice.any():
        user, draw, item = table.loc[twice.idxmax(), list(_COLUMNS)]
        raise DataError(f"{path}: line {twice.idxmax()}: item '{item}' stands twice in draw '{draw}' of user '{user}'")
