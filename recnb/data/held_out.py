"""What is asked of whom: training sequences, and the users whose next item a ranker has to find.

Two protocols: every user's last item (or a random one), and that of LLaRA (arXiv 2312.02445): the last tenth of people,
in the order in which they came. Shown in ``rsllm/03_candidates``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recnb.artifacts import read_artifact, write_artifact
from recnb.data.files import read_files
from recnb.data.locate import source_files
from recnb.data.prepare import build_dataset
from recnb.data.schema import SHORTEST, Dataset, Sequences
from recnb.data.settings import SplitConfig
from recnb.data.tables import read_csv
from recnb.errors import DataError

Part = Literal["train", "valid", "test"]
_PARTS: tuple[Part, ...] = get_args(Part)
_BY_PART = ("users", "histories", "targets")
_ARRAYS = "held_out.safetensors"


@dataclass(frozen=True)
class HeldOut:
    """Training sequences, and what is asked in validation and test.

    Attributes:
        train: a row for each user of ``users["train"]``.
        users: part -> (U,) int32 user numbers; ``valid`` and ``test``: those who are asked; ``choose``: all validation
            users, by whom recommenders that score thousands in a second choose their settings.
        histories: ``valid``, ``choose``, ``test`` -> (U, T) int32, the latest items that are shown, -1 on the left.
        targets: the same -> (U,) int32, the item that should come out.
        owned: (all users, N) bool, everything a user ever has, whatever it was rated: none of it is a wrong answer.
    """

    train: Sequences
    users: Mapping[str, NDArray[np.int32]]
    histories: Mapping[str, NDArray[np.int32]]
    targets: Mapping[str, NDArray[np.int32]]
    owned: sparse.csr_matrix

    def owned_by(self, part: Part) -> sparse.csr_matrix:
        """(U, N) bool: what is no wrong answer for the users of a part: ``owned``, and in training what training knows.

        Were held-out items never wrong answers there, a model could learn from that which they are.
        """
        users = self.users[part]
        asked = [self.users[other] for other in ("valid", "test") if other in self.users]
        if part == "train" and np.isin(users, np.concatenate(asked)).any():
            return self.train.had(self.owned.shape[1])
        return self.owned[users]


def hold_out(
    dataset: Dataset, config: SplitConfig, max_history: int, seed: int, ratings: NDArray[np.float32] | None = None,
    parts: NDArray[Any] | None = None,
) -> HeldOut:  # fmt: skip
    """Cut a data set into training and what is asked.

    Users left with fewer than three events take no part.

    Args:
        max_history: T.
        seed: draws the users who are asked where ``config`` wants fewer than all, and random held-out items.
        ratings: (n,) of the events (:func:`recnb.data.sources.load_ratings`), for ``config.min_rating``.
        parts: (users,) part of each user as published (:func:`read_parts`), for ``llara-split``; None: by arrival.

    Raises:
        DataError: the split needs ratings or times and there are none, or a part is empty.
    """
    kept = _rated(dataset, config.min_rating, ratings)
    users, sequences = _long_enough(dataset, kept)
    if config.name == "llara-split":
        rows = _by_arrival(dataset, users) if parts is None else _as_told(parts[users])
        held = _of_people(users, sequences, rows, _owned(dataset), max_history)
    else:
        held = _by_item(dataset, users, sequences, _held_places(sequences, config.holdout, seed), max_history)
    held = _with(held, "choose", lambda arrays: arrays["valid"])
    for number, (part, most) in enumerate({"valid": config.validation_users, "test": config.test_users}.items()):
        held = _drawn(held, part, most, seed + number)
    if empty := [part for part, asked in held.users.items() if not len(asked)]:
        raise DataError(f"{dataset.name}: split {config.name} of {len(users)} users leaves nobody for {empty[0]}")
    return held


def _rated(dataset: Dataset, least: float, ratings: NDArray[np.float32] | None) -> NDArray[np.bool_]:
    """(n,) events that count."""
    if not least:
        return np.ones(dataset.n_interactions, dtype=bool)
    if ratings is None:
        raise DataError(f"{dataset.name} has no ratings: expected split.min_rating: 0, found {least:g}")
    return ratings >= least


def _long_enough(dataset: Dataset, kept: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Sequences]:
    """The users with three kept events or more, and these events."""
    user = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    counts = np.bincount(user[kept], minlength=dataset.n_users)
    kept = kept & (counts >= SHORTEST)[user]
    users = np.flatnonzero(counts >= SHORTEST)
    return users, Sequences(np.append(0, np.cumsum(counts[users])), dataset.sequence[kept])


def _without(sequences: Sequences, places: NDArray[np.int64]) -> Sequences:
    """Sequences less the events at ``places``, as many of each row."""
    keep = np.ones(len(sequences.items), dtype=bool)
    keep[places] = False
    left = np.concatenate([[0], np.cumsum(keep)])[sequences.offsets]
    return Sequences(left, sequences.items[keep])


def _by_item(
    dataset: Dataset, users: NDArray[np.int64], sequences: Sequences,
    places: tuple[NDArray[np.int64], NDArray[np.int64]], length: int,
) -> HeldOut:  # fmt: skip
    """Leave one out: of every user one item for the test and one for validation, the rest in order is training."""
    test, valid = places
    train, but_one = _without(sequences, np.concatenate([test, valid])), _without(sequences, test)
    return HeldOut(
        train,
        dict.fromkeys(_PARTS, users.astype(np.int32)),
        {"valid": train.pad(length), "test": but_one.pad(length)},
        {"valid": sequences.items[valid], "test": sequences.items[test]},
        _owned(dataset),
    )


def _held_places(sequences: Sequences, holdout: str, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(U,) where the test item stands, (U,) where the validation item stands."""
    ends = sequences.offsets[1:]
    if holdout == "last":
        return ends - 1, ends - 2
    user = np.repeat(np.arange(len(sequences)), sequences.lengths)
    shuffled = np.lexsort((np.random.default_rng([seed, 23]).random(len(user)), user))
    return shuffled[ends - 1], shuffled[ends - 2]


def _by_arrival(dataset: Dataset, users: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """LLaRA's parts, as rows of ``users``: in the order of their first events eight tenths train, one validates, and
    the rest is asked. The first event is that of the whole log, low ratings included (found by matching windows)."""
    if dataset.provenance.get("clock") == "order":
        raise DataError(f"{dataset.name} has an order of events and no times: llara-split orders people by their first")
    arrival = np.argsort(dataset.times[dataset.offsets[:-1]][users], kind="stable")
    first, second = int(0.8 * len(users)), int(0.8 * len(users)) + int(0.1 * len(users))
    return dict(zip(_PARTS, np.split(arrival, [first, second]), strict=True))


def _as_told(parts: NDArray[Any]) -> dict[str, NDArray[np.int64]]:
    """Part -> rows of the users that are in it."""
    return {part: np.flatnonzero(parts == part) for part in _PARTS}


def _of_people(
    users: NDArray[np.int64], sequences: Sequences, rows: Mapping[str, NDArray[np.int64]], owned: sparse.csr_matrix,
    length: int,
) -> HeldOut:  # fmt: skip
    """Parts of different people, by the ``rows`` of the sequences: of those who are asked, the last item is wanted."""
    asked = {part: sequences.take(rows[part]) for part in ("valid", "test")}
    return HeldOut(
        sequences.take(rows["train"]),
        {part: users[chosen].astype(np.int32) for part, chosen in rows.items()},
        {part: _without(each, each.offsets[1:] - 1).pad(length) for part, each in asked.items()},
        {part: each.items[each.offsets[1:] - 1] for part, each in asked.items()},
        owned,
    )


def read_parts(interactions: Path, dataset: Dataset) -> NDArray[Any] | None:
    """(users,) train, valid or test: what the column ``split`` of a person's file says; None where it has none.

    Raises:
        DataError: a split of another name, or two of one user.
    """
    told = read_csv(interactions, ("user_id",))
    if "split" not in told:
        return None
    wrong = ~told["split"].isin(_PARTS) | (told.groupby("user_id")["split"].transform("first") != told["split"])
    if wrong.any():
        said = f"line {wrong.idxmax()}: split '{told['split'][wrong.idxmax()]}'"
        raise DataError(f"{interactions}: {said}; expected one of {', '.join(_PARTS)}, the same for all of a user")
    return told.drop_duplicates("user_id").set_index("user_id")["split"][dataset.user_ids].to_numpy()


def read_windows(folder: Path, max_history: int) -> tuple[Dataset, HeldOut]:
    """Somebody's published parts, asked as they are: LLaRA's LastFM and Steam lie in this form.

    Of a validation or test user often one window is all that is known, so that is all that is owned; Steam has no
    training sequences.

    Raises:
        DataError: as of :func:`recnb.data.files.read_files` and :func:`read_parts`, or no column ``split``.
    """
    interactions, items = source_files("files", folder)
    dataset = build_dataset(read_files(interactions, items, {}), 0)
    parts = read_parts(interactions, dataset)
    if parts is None:
        raise DataError(f"{interactions}: no column 'split', which says train, valid or test of each user")
    sequences, everyone = Sequences(dataset.offsets, dataset.sequence), np.arange(dataset.n_users)
    held = _of_people(everyone, sequences, _as_told(parts), _owned(dataset), max_history)
    return dataset, _with(held, "choose", lambda arrays: arrays["valid"])


def _owned(dataset: Dataset) -> sparse.csr_matrix:
    """(users, N) bool: all that they ever have."""
    return Sequences(dataset.offsets, dataset.sequence).had(dataset.n_items)


def ratings_given(
    dataset: Dataset, ratings: NDArray[np.float32], users: NDArray[Any], items: NDArray[Any]
) -> NDArray[np.float32]:
    """(m,) what users (m,) gave to items (m,) that they have: ``ratings`` (n,) are those of all events. Of several the
    first."""
    owner = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    events, wanted = (u.astype(np.int64) * dataset.n_items + i for u, i in ((owner, dataset.sequence), (users, items)))
    order = events.argsort(kind="stable")
    return ratings[order[np.searchsorted(events, wanted, sorter=order)]]


def _drawn(held: HeldOut, part: str, most: int, seed: int) -> HeldOut:
    """At most so many users are asked in a part, drawn once; 0: all."""
    users = held.users[part]
    if not most or most >= len(users):
        return held
    chosen = np.sort(np.random.default_rng([seed, 29]).permutation(len(users))[:most])
    return _with(held, part, lambda arrays: arrays[part][chosen])


def _with(held: HeldOut, part: str, make: Callable[[Mapping[str, NDArray[np.int32]]], NDArray[np.int32]]) -> HeldOut:
    """Another part, made of users, histories and targets by part."""
    made: dict[str, Any] = {name: {**getattr(held, name), part: make(getattr(held, name))} for name in _BY_PART}
    return replace(held, **made)


def write_held_out(held: HeldOut, folder: Path) -> None:
    """Write it into a folder that is there: the inverse of :func:`read_held_out`."""
    owned = held.owned
    tree = {name: getattr(held, name) for name in _BY_PART} | {
        "train": vars(held.train),
        "owned": {"indptr": owned.indptr, "indices": owned.indices, "shape": np.array(owned.shape)},
    }
    named = {f"{one}/{two}": array for one, each in tree.items() for two, array in each.items()}
    write_artifact(folder / _ARRAYS, named)


def read_held_out(folder: Path) -> HeldOut:
    """The :class:`HeldOut` in a folder."""
    tree: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in read_artifact(folder / _ARRAYS).items():
        one, _, two = name.partition("/")
        tree.setdefault(one, {})[two] = array
    owned, train = tree.pop("owned"), tree.pop("train")
    had = (np.ones(len(owned["indices"]), dtype=bool), owned["indices"], owned["indptr"])
    matrix = sparse.csr_matrix(had, shape=tuple(owned["shape"]))
    return HeldOut(train=Sequences(**train), owned=matrix, **tree)
