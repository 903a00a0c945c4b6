"""Sessions: what one person looked at in one go, cut from the events of a :class:`Dataset`; their prefixes as samples.

LLM4SBR section 4.1 and its release: a session is a user (Amazon) or a user's ten-minute bin (MovieLens), the last tenth
of the sessions is test. Ours besides: gaps, a split by time, ties in an order that is said, and a validation part that
is cut from the training sessions whole, since prefixes of one session on both sides leak. Shown in ``03_sessions``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recnb.artifacts import Artifacts
from recnb.data.schema import Dataset, Sequences, left_padded, spans
from recnb.data.settings import Prefixes, SessionsConfig
from recnb.data.tables import parse_times, read_csv
from recnb.errors import DataError, nearest

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class Sessions:
    """S sessions, each of at least two clicks.

    Attributes:
        offsets: (S+1,) int64; the clicks of session s are ``items[offsets[s]:offsets[s + 1]]``, oldest first.
        items: (n,) int32 item numbers.
        times: (n,) float64, of each click as the data set has them.
        user: (S,) int32 user numbers.
        part: (S,) int8, a place in :data:`PARTS`.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    times: NDArray[np.float64]
    user: NDArray[np.int32]
    part: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.user)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(S,) clicks per session."""
        return np.diff(self.offsets)

    def sequences(self, part: Part) -> Sequences:
        """The sessions of a part, as item sequences."""
        chosen = np.flatnonzero(self.part == PARTS.index(part))
        return spans(self.items, self.offsets[chosen], self.offsets[chosen + 1])


@dataclass(frozen=True)
class Samples:
    """M samples: the clicks of a session before a place are the input, the click at that place is the target.

    They point into the clicks, so that all prefixes of all sessions cost three numbers each.

    Attributes:
        items: (n,) int32 clicks of all sessions.
        start: (M,) int64 place of a session's first click; end: (M,) int64 place of the target.
        session: (M,) int64 session numbers.
        number: (M,) int64 row among the samples of all parts: where what was made per sample stands.
    """

    items: NDArray[np.int32]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    session: NDArray[np.int64]
    number: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.end)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(M,) items of each input."""
        return self.end - self.start

    @property
    def targets(self) -> NDArray[np.int32]:
        """(M,) item that follows each input."""
        return self.items[self.end]

    def inputs(self, length: int) -> NDArray[np.int32]:
        """(M, T) the latest T = ``length`` items of each input, -1 on the left."""
        return left_padded(self.items, self.start, self.end, length)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Samples:
        """Some of the samples."""
        return Samples(self.items, self.start[rows], self.end[rows], self.session[rows], self.number[rows])

    def whole_inputs(self) -> Sequences:
        """Every input, uncut, as a sequence: a copy, for what is built once from all of them."""
        return spans(self.items, self.start, self.end)

    def whole_sessions(self) -> Sequences:
        """The sessions that the samples are of, each once and up to its last target."""
        order = np.lexsort((self.end, self.session))
        last = order[np.append(np.diff(self.session[order]) != 0, True)] if len(order) else order
        return spans(self.items, self.start[last], self.end[last] + 1)


def every_prefix(sequences: Sequences) -> Samples:
    """A sample for each item after the first of each sequence."""
    lengths = sequences.lengths
    first = np.repeat(sequences.offsets[:-1], lengths)
    later = np.flatnonzero(np.arange(len(sequences.items)) > first)
    session = np.repeat(np.arange(len(sequences)), lengths)[later]
    return Samples(sequences.items, first[later], later, session, np.arange(len(later)))


def samples_of(
    sessions: Sessions, part: Part | None, augment: Prefixes, targets: Prefixes | None = None
) -> Samples:  # fmt: skip
    """The samples of a part (none: of all parts, in the order of the sessions).

    Args:
        augment: of training sessions: ``all``: every prefix, v1 ... vt -> v(t+1); ``last``: the last click alone is a
            target. targets: the same of the other sessions; none: as ``augment``.
    """
    found = every_prefix(Sequences(sessions.offsets, sessions.items))
    of = sessions.part[found.session]
    every = np.where(of == PARTS.index("train"), augment == "all", (targets or augment) == "all")
    asked = np.flatnonzero(every | (found.end == sessions.offsets[found.session + 1] - 1))
    found = replace(found.take(asked), number=np.arange(len(asked)))
    return found if part is None else found.take(of[asked] == PARTS.index(part))


def make_sessions(dataset: Dataset, config: SessionsConfig, seed: int, folder: Path = Path()) -> Sessions:
    """Cut a data set into sessions and deal these out to training, validation and test.

    Args:
        seed: orders clicks of equal time where ``config.ties`` is ``shuffle``.
        folder: of the data, where ``config.order`` lies.

    Raises:
        DataError: the source has no clock and the recipe asks for one, nothing is left, or a part is empty.
    """
    if dataset.provenance.get("clock") == "order" and (config.by != "user" or config.split == "by-time"):
        raise DataError(
            f"{dataset.name} has an order of events and no times: expected sessions.by: user and another "
            f"sessions.split than by-time, found by: {config.by}, split: {config.split}"
        )
    user = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    order = np.lexsort((_ties(dataset, config.ties, seed), dataset.times, user))
    user, items, times = user[order], dataset.sequence[order], dataset.times[order]
    clicks = pd.DataFrame({"user": user, "item": items, "time": times, "session": _cut(user, times, config)})
    if config.by != "user" and (longest := np.bincount(clicks["session"]).max()) < config.min_length:
        pause = np.median(np.diff(times)[np.diff(user) == 0]) / 60
        raise DataError(
            f"{dataset.name}: by {config.by} of sessions.minutes = {config.minutes:g} no session has more than "
            f"{longest} click(s): half of the clicks come {pause:,.0f} minutes after the one before, or later; more "
            "minutes make longer sessions, and sessions.by: user asks no clock"
        )
    clicks = _filtered(clicks, dataset.n_items, config)
    if clicks.empty:
        raise DataError(
            f"{dataset.name}: no session is left: sessions.min_count = {config.min_count} with rare_items: "
            f"{config.rare_items} and min_length = {config.min_length} drop all of {len(items)} clicks; smaller ones "
            "keep more"
        )
    return _dealt_out(clicks, dataset, config, folder)


def _ties(dataset: Dataset, ties: str, seed: int) -> NDArray[np.int64]:
    """(n,) in which order clicks of one user and time come."""
    if ties == "shuffle":
        return np.random.default_rng([seed, 17]).permutation(dataset.n_interactions)
    if ties == "item":
        return np.argsort(np.argsort(dataset.items["item_id"].astype(str), kind="stable"))[dataset.sequence]
    return np.arange(dataset.n_interactions)


def _cut(user: NDArray[np.int64], times: NDArray[np.float64], config: SessionsConfig) -> NDArray[np.int64]:
    """(n,) session numbers of clicks in order."""
    new = np.concatenate([[True], user[1:] != user[:-1]])
    seconds = 60.0 * config.minutes
    if config.by == "bins":
        new[1:] |= np.diff(times // seconds) != 0
    elif config.by == "gaps":
        new[1:] |= np.diff(times) > seconds
    return np.cumsum(new) - 1


def _filtered(clicks: pd.DataFrame, n_items: int, config: SessionsConfig) -> pd.DataFrame:
    """Without rare items, or the sessions that have one, and without sessions that are too short; items are counted
    over all clicks, once."""
    rare = np.bincount(clicks["item"], minlength=n_items)[clicks["item"]] < config.min_count
    gone = rare if config.rare_items == "drop-item" else np.isin(clicks["session"], clicks["session"][rare])
    kept = clicks[~gone]
    return kept[kept.groupby("session")["item"].transform("size") >= config.min_length]


def _dealt_out(clicks: pd.DataFrame, dataset: Dataset, config: SessionsConfig, folder: Path) -> Sessions:
    """Sessions in the order of the split: the last ones are test, the last ones before them validation."""
    first = clicks.drop_duplicates("session")  # of each session; clicks stand in the order of sessions
    rank = _order(first, dataset, config, folder)
    place = np.argsort(np.argsort(rank, kind="stable"))  # of each session in the order of the split
    lengths = np.unique(clicks["session"], return_counts=True)[1]
    clicks = clicks.assign(place=np.repeat(place, lengths)).sort_values("place", kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(clicks["place"]))]).astype(np.int64)
    total = len(first)
    train = int((1 - config.test) * total + 1e-9)  # floor, as the release
    fitted = train - int(config.validation * train)
    if min(fitted, train - fitted, total - train) < 1:
        raise DataError(
            f"{dataset.name}: {total} sessions give {fitted} for training, {train - fitted} for validation and "
            f"{total - train} for test: expected at least one each; check sessions.test and sessions.validation"
        )
    part = np.repeat(np.arange(3, dtype=np.int8), [fitted, train - fitted, total - train])
    return Sessions(
        offsets, clicks["item"].to_numpy(np.int32), clicks["time"].to_numpy(np.float64),
        clicks["user"].to_numpy(np.int32)[offsets[:-1]], part,
    )  # fmt: skip


def _order(first: pd.DataFrame, dataset: Dataset, config: SessionsConfig, folder: Path) -> NDArray[np.float64]:
    """(S,) by which sessions are put in order; equal ones stay in the order of user and time."""
    if config.split == "by-time":
        return first["time"].to_numpy(np.float64)
    if config.split == "by-user":
        return first["user"].to_numpy(np.float64)
    return _numbers(folder / str(config.order), dataset.user_ids[first["user"]].astype(str))


def _numbers(path: Path, users: NDArray[Any]) -> NDArray[np.float64]:
    """(S,) session numbers of users (S,), from a file of ``session_id`` and ``user_id``."""
    table = read_csv(path, ["session_id", "user_id"])
    table["session_id"] = parse_times(table["session_id"], path, "sessions", "0, 1, 2")
    for column, name in (("user_id", "user '{}'"), ("session_id", "session number {:g}")):
        if (again := table[column].duplicated()).any():
            line = again.idxmax()
            said = name.format(table[column][line])
            raise DataError(f"{path}: line {line}: {said} stands twice; expected one number each, and no two alike")
    place = pd.Index(table["user_id"]).get_indexer(pd.Index(users))
    if (place < 0).any():
        user = str(users[int((place < 0).argmax())])
        raise DataError(f"{path}: no session number for user '{user}'{nearest(user, table['user_id'][:2000])}")
    return table["session_id"].to_numpy(np.float64)[place]


def replace_test(sessions: Sessions, rng: np.random.Generator) -> Sessions:
    """The leakage probe: noise in place of every click of the test sessions. What is fitted must stay as it is."""
    poisoned = np.repeat(sessions.part == PARTS.index("test"), sessions.lengths)
    noise = rng.integers(sessions.items.max() + 1, size=len(sessions.items))
    return replace(sessions, items=np.where(poisoned, noise, sessions.items).astype(np.int32))


def write_sessions(sessions: Sessions, stage: Artifacts) -> None:
    """Write ``clicks.parquet`` (item, time; a row per click) and ``sessions.parquet`` (length, user, part)."""
    stage.write("clicks.parquet", pd.DataFrame({"item": sessions.items, "time": sessions.times}))
    rows = {"length": sessions.lengths, "user": sessions.user, "part": sessions.part}
    stage.write("sessions.parquet", pd.DataFrame(rows))


def read_sessions(stage: Artifacts) -> Sessions:
    """The :class:`Sessions` that ``03_sessions`` wrote; the inverse of :func:`write_sessions`."""
    clicks, rows = stage.read("03_sessions", "clicks.parquet"), stage.read("03_sessions", "sessions.parquet")
    return Sessions(
        np.concatenate([[0], np.cumsum(rows["length"])]).astype(np.int64), clicks["item"].to_numpy(np.int32),
        clicks["time"].to_numpy(np.float64), rows["user"].to_numpy(np.int32), rows["part"].to_numpy(np.int8),
    )  # fmt: skip
