"""Sessions and their samples: the published counts, each rule on a few clicks, all rules against a plain restatement."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sandbox import ROOT
from small import catalogue

from recnb.data.schema import Dataset
from recnb.data.sessions import (
    PARTS,
    Sessions,
    every_prefix,
    make_sessions,
    read_sessions,
    replace_test,
    samples_of,
    write_sessions,
)
from recnb.data.settings import DataConfig, SessionsConfig
from recnb.data.sources import load_dataset
from recnb.errors import DataError

SHARED = ROOT.parent / "shared" / "data"
here = pytest.mark.skipif(not SHARED.is_dir(), reason="no copy of the public sets beside the project")
LOOSE = {"min_count": 0, "test": 0.33, "validation": 0.5}  # of three sessions, one in each part


def dataset(clicks: list[tuple[str, int, float]], items: int = 8, clock: str = "seconds") -> Dataset:
    """Clicks (user, item, seconds), put in order by user and time as every reader does."""
    user, names = pd.factorize(np.array([name for name, _, _ in clicks], dtype=object))
    order = np.lexsort(([time for *_, time in clicks], user))
    offsets = np.append(0, np.cumsum(np.bincount(user)))
    sequence, times = (np.array([click[i] for click in clicks])[order] for i in (1, 2))
    return Dataset("toy", catalogue(items), names, offsets, sequence.astype(np.int32), times.astype(float),
                   {"clock": clock})  # fmt: skip


def several(*lists: list[float], item: int = 1) -> Dataset:
    """Users a, b, ... who click at these times, on items that count up."""
    clicks = [(chr(97 + u), (item + k) % 8, time) for u, times in enumerate(lists) for k, time in enumerate(times)]
    return dataset(clicks)


def config(**changes) -> SessionsConfig:
    return SessionsConfig(**{**LOOSE, "ties": "file", **changes})


def lists(sessions: Sessions, values: np.ndarray | None = None) -> list[list[float]]:
    """The clicks of each session, or what else there is per click."""
    values = sessions.items if values is None else values
    return [values[start:stop].tolist() for start, stop in pairwise(sessions.offsets)]


# --- the published counts


@cache
def beauty() -> tuple[Dataset, SessionsConfig]:
    source = {"interactions": "beauty-sessions/interactions.csv.gz", "items": "beauty/items.jsonl.gz"}
    data = DataConfig(source="files", path=str(SHARED), **source)
    order = str(SHARED / "beauty-sessions" / "session_order.csv.gz")
    return load_dataset(data, ROOT, 0), SessionsConfig(split="by-number", order=order)


@here
def test_beauty_has_the_papers_samples() -> None:
    found, settings = beauty()
    sessions = make_sessions(found, settings, 0)
    sizes = {part: len(samples_of(sessions, part, "all")) for part in PARTS}
    assert (sizes["train"] + sizes["valid"], sizes["test"]) == (158_139, 18_000)
    counts = np.bincount(sessions.part)
    assert (counts[0] + counts[1], counts[2]) == (20_126, 2_237)
    assert counts[1] == 2_012, "a tenth of the training sessions, whole ones"
    samples = samples_of(sessions, None, "all")
    assert samples.lengths.mean() == pytest.approx(8.6689, abs=5e-5)
    training = samples_of(sessions, "train", "all").lengths.max(), samples_of(sessions, "valid", "all").lengths.max()
    assert (max(training), samples_of(sessions, "test", "all").lengths.max()) == (203, 191)
    assert len(samples_of(sessions, None, "last")) == len(sessions) == 22_363


@here
def test_ties_of_beauty_are_shuffled_inside_a_day() -> None:
    found, settings = beauty()
    one, two = (make_sessions(found, settings, seed) for seed in (0, 1))
    filed = make_sessions(found, settings.model_copy(update={"ties": "file"}), 0)
    assert (one.items != filed.items).mean() > 0.1 and (one.items != two.items).mean() > 0.1
    for other in (one, two):
        assert (other.times == filed.times).all() and (other.part == filed.part).all()
    same_day = np.diff(filed.times) == 0
    inside = np.diff(np.repeat(np.arange(len(filed)), filed.lengths)) == 0
    assert (same_day & inside).sum() / inside.sum() == pytest.approx(0.439, abs=5e-4)
    up = np.diff(found.items["item_id"].rank().to_numpy()[filed.items])[same_day & inside] > 0
    assert up.all(), "in file order all ties of a day ascend by ASIN"


@here
@pytest.mark.parametrize(("by", "count"), [("bins", 6_107), ("gaps", 2_353)])
def test_movielens_100k_has_as_many_sessions_as_we_counted(by: str, count: int) -> None:
    found = load_dataset(DataConfig(path=str(SHARED / "ml-100k")), ROOT, 0)
    assert len(make_sessions(found, SessionsConfig(by=by), 0)) == count


# --- one rule at a time


def test_a_bin_is_a_piece_of_the_clock_not_a_pause() -> None:
    found = several([599, 601, 602], [0, 599, 1200, 1201], [600, 601, 1199])
    sessions = make_sessions(found, config(by="bins"), 0)
    assert lists(sessions, sessions.times) == [[601, 602], [0, 599], [1200, 1201], [600, 601, 1199]]


def test_a_gap_is_longer_than_the_minutes() -> None:
    found = several([0, 600, 1200], [0, 5, 606, 607], [0, 1, 2])
    sessions = make_sessions(found, config(by="gaps"), 0)
    assert lists(sessions, sessions.times) == [[0, 600, 1200], [0, 5], [606, 607], [0, 1, 2]]


def test_a_rare_item_takes_its_session_along_or_goes_alone() -> None:
    clicks = [(user, item, time) for user in "abc" for time, item in enumerate([1, 2, 3])]
    found = dataset([*clicks, ("d", 1, 0), ("d", 7, 1), ("d", 2, 2), ("d", 3, 3)])
    dropped = make_sessions(found, config(min_count=2), 0)
    assert lists(dropped) == 3 * [[1, 2, 3]] and dropped.user.tolist() == [0, 1, 2]
    alone = make_sessions(found, config(min_count=2, rare_items="drop-item"), 0)
    assert lists(alone) == 4 * [[1, 2, 3]]


def test_rare_is_counted_over_all_clicks_once() -> None:
    """Item 5 has two clicks, one of them in a session that falls for item 7: it is not rare."""
    clicks = [(user, item, time) for user in "abc" for time, item in enumerate([1, 2, 3])]
    found = dataset([*clicks, ("c", 5, 9), ("d", 1, 0), ("d", 5, 1), ("d", 7, 2)])
    assert lists(make_sessions(found, config(min_count=2), 0)) == [[1, 2, 3], [1, 2, 3], [1, 2, 3, 5]]


def test_short_sessions_are_dropped() -> None:
    found = several([0, 1, 2, 9e9], [0, 1, 9e9], [0, 1, 2], [0, 1, 2])
    sessions = make_sessions(found, config(by="bins", min_length=3), 0)
    assert sessions.lengths.tolist() == [3, 3, 3] and sessions.user.tolist() == [0, 2, 3]


def test_the_last_sessions_are_test_in_three_orders(tmp_path: Path) -> None:
    found = several([50, 51, 52], [10, 11, 12], [30, 31, 32])
    numbers = tmp_path / "order.csv"
    numbers.write_text("session_id,user_id\n10,a\n9,b\n2,c\nx,nobody\n".replace("x,", "3,"), encoding="utf-8")
    for settings, expected in (
        (config(), [0, 1, 2]),
        (config(split="by-time"), [1, 2, 0]),
        (config(split="by-number", order="order.csv"), [2, 1, 0]),  # as numbers: 2 < 9 < 10
    ):
        sessions = make_sessions(found, settings, 0, tmp_path)
        assert sessions.user.tolist() == expected and sessions.part.tolist() == [0, 1, 2]


def test_ties_follow_the_file_the_items_or_the_seed() -> None:
    found = dataset([(user, item, 5.0) for user in "abc" for item in (6, 2, 4, 1)])
    assert lists(make_sessions(found, config(), 0)) == 3 * [[6, 2, 4, 1]]
    assert lists(make_sessions(found, config(ties="item"), 0)) == 3 * [[1, 2, 4, 6]]
    drawn = [lists(make_sessions(found, config(ties="shuffle"), seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(sorted(session) == [1, 2, 4, 6] for session in drawn[2])


# --- all rules at once


def slowly(found: Dataset, settings: SessionsConfig) -> list[tuple[int, list[int], str]]:
    """User, items and part of each session, by the rules of the docstring, a click at a time."""
    often, cut = Counter(found.sequence.tolist()), []
    for user, (start, stop) in enumerate(pairwise(found.offsets)):
        previous = found.times[start]
        for place in range(start, stop):
            time, seconds = found.times[place], 60 * settings.minutes
            past = {"user": False, "bins": time // seconds != previous // seconds, "gaps": time - previous > seconds}
            if place == start or past[settings.by]:
                cut.append((user, []))
            cut[-1][1].append((int(found.sequence[place]), time))
            previous = time
    kept = []
    for user, clicks in cut:
        common = [(item, time) for item, time in clicks if often[item] >= settings.min_count]
        if settings.rare_items == "drop-session" and len(common) < len(clicks):
            continue
        if len(common) >= settings.min_length:
            kept.append((user, [item for item, _ in common], common[0][1]))
    if settings.split == "by-time":
        kept.sort(key=lambda session: session[2])
    train = int((1 - settings.test) * len(kept) + 1e-9)
    fitted = train - int(settings.validation * train)
    parts = ["train"] * fitted + ["valid"] * (train - fitted) + ["test"] * (len(kept) - train)
    return [(user, items, part) for (user, items, _), part in zip(kept, parts, strict=True)]


@pytest.mark.parametrize("by", ["user", "bins", "gaps"])
@pytest.mark.parametrize("rare", ["drop-session", "drop-item"])
@pytest.mark.parametrize("split", ["by-user", "by-time"])
def test_sessions_are_those_of_the_plain_restatement(by: str, rare: str, split: str) -> None:
    rng = np.random.default_rng(3)
    clicks = [(f"u{u}", int(rng.geometric(0.2)) % 20, float(rng.integers(0, 9000))) for u in range(40) for _ in range(9)]
    found = dataset(clicks, items=20)
    settings = SessionsConfig(by=by, rare_items=rare, split=split, min_count=9, test=0.2, validation=0.2, ties="file")
    sessions = make_sessions(found, settings, 0)
    parts = [PARTS[part] for part in sessions.part]
    slow = slowly(found, settings)
    assert list(zip(sessions.user.tolist(), lists(sessions), parts, strict=True)) == slow
    assert 0 < len(slow) and len({part for *_, part in slow}) == 3
    if rare == "drop-item":
        assert sum(len(items) for _, items, _ in slow) < len(clicks), "something was rare"


# --- samples


def made(seed: int = 0) -> Sessions:
    rng = np.random.default_rng(seed)
    clicks = [(f"u{u}", int(rng.integers(20)), float(t)) for u in range(30) for t in range(rng.integers(3, 9))]
    return make_sessions(dataset(clicks, items=20), SessionsConfig(min_count=0, ties="file"), 0)


@pytest.mark.parametrize("augment", ["all", "last"])
def test_samples_are_the_prefixes_of_their_part(augment: str) -> None:
    sessions, number = made(), 0
    for part, name in enumerate(PARTS):
        expected = []
        for s in np.flatnonzero(sessions.part == part):
            clicks = lists(sessions)[s]
            for end in range(1, len(clicks)) if augment == "all" else [len(clicks) - 1]:
                expected.append((s, clicks[:end], clicks[end], number))
                number += 1
        samples = samples_of(sessions, name, augment)
        inputs = [[item for item in row if item >= 0] for row in samples.inputs(9).tolist()]
        found = zip(samples.session.tolist(), inputs, samples.targets.tolist(), samples.number.tolist(), strict=True)
        assert list(found) == expected
        whole = samples.whole_inputs()
        assert [whole.items[a:b].tolist() for a, b in pairwise(whole.offsets)] == inputs


def test_an_input_keeps_its_latest_items() -> None:
    samples = samples_of(made(), "train", "last")
    np.testing.assert_array_equal(samples.inputs(2), samples.inputs(9)[:, -2:])


def test_samples_copy_no_items() -> None:
    sessions = made()
    for augment in ("all", "last"):
        assert all(samples_of(sessions, part, augment).items is sessions.items for part in PARTS)


def test_no_session_is_in_two_parts() -> None:
    sessions = made()
    owners = [set(samples_of(sessions, part, "all").session.tolist()) for part in PARTS]
    assert all(owners) and sum(map(len, owners)) == len(set().union(*owners)) == len(sessions)


def test_sessions_of_samples_end_at_their_last_target() -> None:
    sessions = made()
    samples = samples_of(sessions, "train", "all")
    whole, expected = samples.whole_sessions(), sessions.sequences("train")
    np.testing.assert_array_equal(whole.items, expected.items)
    np.testing.assert_array_equal(whole.offsets, expected.offsets)
    shuffled = samples.take(np.random.default_rng(0).permutation(len(samples))).whole_sessions()
    np.testing.assert_array_equal(shuffled.items, expected.items)
    first = samples.take(samples.end - samples.start == 1).whole_sessions()
    assert (first.lengths == 2).all() and len(first) == len(expected)
    none = samples.take(np.zeros(len(samples), bool)).whole_sessions()
    assert len(none) == 0 and len(every_prefix(none)) == 0


def test_noise_in_the_test_sessions_reaches_no_other_sample() -> None:
    sessions = made()
    poisoned = replace_test(sessions, np.random.default_rng(0))
    for part in PARTS:
        before, after = samples_of(sessions, part, "all"), samples_of(poisoned, part, "all")
        same = np.array_equal(before.inputs(9), after.inputs(9)) and np.array_equal(before.targets, after.targets)
        assert same == (part != "test")
        np.testing.assert_array_equal(before.number, after.number)


def test_sessions_come_back_as_they_were_written() -> None:
    class Kept(dict):
        """Artifacts in memory."""

        def write(self, name, value):
            self[name] = value

        def read(self, stage, name):
            assert stage == "03_sessions"
            return self[name]

    sessions, kept = made(), Kept()
    write_sessions(sessions, kept)
    again = read_sessions(kept)
    for name in ("offsets", "items", "times", "user", "part"):
        before, after = getattr(sessions, name), getattr(again, name)
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype


# --- bad input


@pytest.mark.parametrize("changes", [{"by": "bins"}, {"by": "gaps"}, {"split": "by-time"}])
def test_an_order_is_no_clock(changes: dict[str, str]) -> None:
    found = dataset([(user, item, item) for user in "abc" for item in range(3)], clock="order")
    with pytest.raises(DataError, match=r"toy has an order of events and no times: expected sessions\.by: user"):
        make_sessions(found, config(**changes), 0)
    assert len(make_sessions(found, config(), 0)) == 3, "by user, in the order of the users, none is needed"


@pytest.mark.parametrize("by", ["bins", "gaps"])
def test_a_clock_too_coarse_for_its_minutes_is_said(by: str) -> None:
    found = several(*[[day * 86400 for day in (0, 1, 2)]] * 3)
    with pytest.raises(DataError, match=r"sessions\.minutes = 10 no session has more than 1 click.* 1,440 minutes"):
        make_sessions(found, config(by=by), 0)
    with pytest.raises(DataError, match=r"no session is left: sessions\.min_count = 99"):
        make_sessions(found, config(by=by, min_count=99, minutes=3000), 0)


def test_nothing_left_and_empty_parts_are_said() -> None:
    found = several([0, 1, 2], [0, 1, 2], [0, 1, 2])
    with pytest.raises(DataError, match=r"no session is left: sessions\.min_count = 99 .* drop all of 9 clicks"):
        make_sessions(found, config(min_count=99), 0)
    with pytest.raises(DataError, match="3 sessions give 2 for training, 0 for validation and 1 for test: .*validation"):
        make_sessions(found, config(validation=0.1), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("session_id,user_id\n1,anna\n2,bo\n", "no session number for user 'cy'"),
        ("session_id,user_id\n1,anna\n2,bo\n3,cyd\n", "nearest: 'cyd'"),
        ("session_id,user_id\n1,anna\n2,bo\n3,cy\n4,bo\n", "line 5: user 'bo' stands twice"),
        ("session_id,user_id\n1,anna\ntwo,bo\n3,cy\n", "line 3: column 'session_id' is 'two'.*sessions cannot be put .*0, 1"),
        ("session_id,user_id\n1,anna\n2,bo\n2,cy\n", "line 4: session number 2 stands twice"),
        ("number,user_id\n1,anna\n", "no column 'session_id'; found number, user_id"),
    ],
)
def test_a_bad_file_of_session_numbers_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "order.csv").write_text(text, encoding="utf-8")
    found = dataset([(user, item, item) for user in ("anna", "bo", "cy") for item in range(3)])
    with pytest.raises(DataError, match=message) as error:
        make_sessions(found, config(split="by-number", order="order.csv"), 0, tmp_path)
    assert "order.csv" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "by-number"}, r"sessions\.order names the file"),
        ({"order": "x.csv"}, r"sessions\.order names the file"),
        ({"split": "by-number", "order": "x.csv", "by": "bins"}, "by-number numbers users: expected by: user"),
        ({"min_length": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SessionsConfig(**changes)
