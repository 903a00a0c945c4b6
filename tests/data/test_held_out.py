"""Who is asked what: the published counts, each protocol against a plain restatement, nothing held out in training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sandbox import ROOT
from small import catalogue

from recnb.data.held_out import HeldOut, hold_out, ratings_given, read_held_out, read_windows, write_held_out
from recnb.data.schema import Dataset
from recnb.data.settings import DataConfig, SplitConfig
from recnb.data.sources import load_dataset, load_parts, load_ratings
from recnb.data.split import histories, replace_heldout, training_sequences
from recnb.errors import DataError

SHARED = ROOT.parent / "shared" / "data"
here = pytest.mark.skipif(not SHARED.is_dir(), reason="no copy of the public sets beside the project")
T = 4


def made(users: int = 40, items: int = 30, seed: int = 0) -> Dataset:
    """Users with 3 to 12 distinct items each, who arrive in random order."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 13, users)
    sequence = np.concatenate([rng.permutation(items)[:length] for length in lengths]).astype(np.int32)
    times = np.repeat(rng.permutation(users) * 100.0, lengths) + np.arange(lengths.sum())
    return Dataset("made", catalogue(items), np.arange(users).astype(str).astype(object),
                   np.append(0, np.cumsum(lengths)), sequence, times, {"clock": "seconds"})  # fmt: skip


def equal(one: HeldOut, other: HeldOut) -> bool:
    parts = [(getattr(one, name), getattr(other, name)) for name in ("users", "histories", "targets")]
    arrays = [(one.train.items, other.train.items), (one.train.offsets, other.train.offsets)]
    arrays += [(left[part], right[part]) for left, right in parts for part in left | right]
    return all(np.array_equal(*pair) for pair in arrays) and (one.owned != other.owned).nnz == 0


def test_the_last_item_is_the_split_of_the_product():
    dataset = made()
    held = hold_out(dataset, SplitConfig(), T, 0)
    assert np.array_equal(held.train.items, training_sequences(dataset).items)
    assert np.array_equal(held.train.offsets, training_sequences(dataset).offsets)
    for part in ("valid", "test"):
        shown, targets = histories(dataset, part, T)
        assert np.array_equal(held.histories[part], shown)
        assert np.array_equal(held.targets[part], targets)


def test_a_random_item_is_held_out_and_the_rest_stays_in_order():
    dataset = made()
    held = hold_out(dataset, SplitConfig(holdout="random"), 20, 3)
    for user in range(dataset.n_users):
        own = dataset.sequence[dataset.offsets[user] : dataset.offsets[user + 1]].tolist()
        valid, test = (int(held.targets[part][user]) for part in ("valid", "test"))
        shown = {part: [item for item in held.histories[part][user].tolist() if item >= 0] for part in ("valid", "test")}  # fmt: skip
        assert shown["test"] == [item for item in own if item != test]
        assert shown["valid"] == [item for item in own if item not in (valid, test)]
        assert shown["valid"] == held.train.items[held.train.offsets[user] : held.train.offsets[user + 1]].tolist()
    last = dataset.sequence[dataset.offsets[1:] - 1]
    assert 0 < (held.targets["test"] == last).mean() < 0.5
    again, other = (hold_out(dataset, SplitConfig(holdout="random"), 20, seed) for seed in (3, 4))
    assert equal(held, again)
    assert not np.array_equal(held.targets["test"], other.targets["test"])


def test_people_are_split_by_their_arrival():
    dataset = made()
    ratings = np.random.default_rng(1).integers(1, 6, dataset.n_interactions).astype(np.float32)
    held = hold_out(dataset, SplitConfig(name="llara-split", min_rating=2), T, 0, ratings)
    liked = {}
    for user in range(dataset.n_users):  # the slow twin
        events = range(dataset.offsets[user], dataset.offsets[user + 1])
        liked[user] = [int(dataset.sequence[e]) for e in events if ratings[e] >= 2]
    people = [user for user in np.argsort(dataset.times[dataset.offsets[:-1]]).tolist() if len(liked[user]) >= 3]
    first, second = int(0.8 * len(people)), int(0.8 * len(people)) + int(0.1 * len(people))
    train, valid, test = people[:first], people[first:second], people[second:]
    assert [held.users[part].tolist() for part in ("train", "valid", "test")] == [train, valid, test]
    assert held.train.items.tolist() == [item for user in train for item in liked[user]]
    for part, users in (("valid", valid), ("test", test)):
        assert held.targets[part].tolist() == [liked[user][-1] for user in users]
        shown = [[item for item in row if item >= 0] for row in held.histories[part].tolist()]
        assert shown == [liked[user][:-1][-T:] for user in users]


def test_all_that_a_user_has_is_owned_whatever_its_rating():
    dataset = made()
    ratings = np.ones(dataset.n_interactions, np.float32)
    ratings[dataset.offsets[20] :] = 5
    held = hold_out(dataset, SplitConfig(min_rating=3), T, 0, ratings)
    assert held.users["test"].tolist() == list(range(20, 40))
    for user in range(dataset.n_users):
        own = dataset.sequence[dataset.offsets[user] : dataset.offsets[user + 1]]
        assert set(held.owned[user].indices) == set(own.tolist())
    assert held.owned_by("test").shape == (20, 30)


def test_a_wrong_answer_in_training_may_be_what_is_held_out():
    """Else a model could learn it: what training leaves out must not hang on what is held out."""
    dataset = made()
    held = hold_out(dataset, SplitConfig(validation_users=2, test_users=2), T, 0)
    for user, owned in enumerate(held.owned_by("train")):
        train = held.train.items[held.train.offsets[user] : held.train.offsets[user + 1]]
        assert set(owned.indices) == set(train.tolist())
    ratings = np.random.default_rng(1).integers(1, 6, dataset.n_interactions).astype(np.float32)
    people = hold_out(dataset, SplitConfig(name="llara-split", min_rating=3), T, 0, ratings)
    assert (people.owned_by("train") != people.owned[people.users["train"]]).nnz == 0  # nothing of theirs is asked


@pytest.mark.parametrize("holdout", ["last", "random"])
def test_fewer_users_are_drawn_once_and_the_rest_is_as_it_was(holdout):
    everyone = hold_out(made(), SplitConfig(holdout=holdout), T, 0)
    some = hold_out(made(), SplitConfig(holdout=holdout, test_users=7, validation_users=100), T, 0)
    chosen = some.users["test"]
    assert len(chosen) == 7 and np.array_equal(np.unique(chosen), chosen)
    assert np.array_equal(some.histories["test"], everyone.histories["test"][chosen])
    assert np.array_equal(some.targets["test"], everyone.targets["test"][chosen])
    few = hold_out(made(), SplitConfig(holdout=holdout, validation_users=5), T, 0)
    assert len(few.users["valid"]) == 5 and np.array_equal(few.targets["choose"], everyone.targets["valid"])
    assert np.array_equal(some.users["valid"], everyone.users["valid"])
    assert np.array_equal(some.train.items, everyone.train.items)


def test_poison_in_what_is_held_out_reaches_no_training():
    dataset = made()
    poisoned = replace_heldout(dataset, np.random.default_rng(0))
    clean, other = (hold_out(each, SplitConfig(), T, 0) for each in (dataset, poisoned))
    assert np.array_equal(clean.train.items, other.train.items)
    assert np.array_equal(clean.histories["valid"], other.histories["valid"])
    assert not (clean.targets["test"] == other.targets["test"]).any()


@pytest.mark.parametrize("split", [{"name": "llara-split"}, {"holdout": "random"}])
def test_poison_in_the_other_splits(split):
    """Every event that the split calls held out is replaced; training and what validation shows stay."""
    dataset = made()
    clean = hold_out(dataset, SplitConfig(**split), 20, 0)
    asked = np.zeros((dataset.n_users, dataset.n_items), bool)
    for part in ("valid", "test"):
        asked[clean.users[part], clean.targets[part]] = True
    user = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    held = asked[user, dataset.sequence]
    sequence = np.where(held, (dataset.sequence + 7) % 30, dataset.sequence).astype(np.int32)
    poisoned = dataclasses.replace(dataset, sequence=sequence)
    other = hold_out(poisoned, SplitConfig(**split), 20, 0)
    assert np.array_equal(clean.train.items, other.train.items)
    assert np.array_equal(clean.histories["valid"], other.histories["valid"])
    assert not (clean.targets["test"] == other.targets["test"]).any()
    for row, target in zip(clean.histories["test"], clean.targets["test"], strict=True):
        assert target not in row


def test_it_is_read_as_it_was_written(tmp_path):
    held = hold_out(made(), SplitConfig(name="llara-split", test_users=3), T, 0)
    write_held_out(held, tmp_path)
    found = read_held_out(tmp_path)
    assert equal(held, found)
    assert found.owned.dtype == bool and found.users["test"].dtype == np.int32


def test_ratings_are_found_by_user_and_item():
    dataset = made()
    ratings = np.random.default_rng(1).integers(1, 6, dataset.n_interactions).astype(np.float32)
    ratings[7] = np.nan
    held = hold_out(dataset, SplitConfig(), T, 0)
    owner = np.repeat(held.users["train"], held.train.lengths)
    known = {(user, item): stars for user, item, stars in zip(
        np.repeat(np.arange(dataset.n_users), dataset.lengths).tolist(), dataset.sequence.tolist(), ratings.tolist(), strict=True
    )}  # fmt: skip
    for users, items in ((owner, held.train.items), (held.users["test"], held.targets["test"])):
        slow = [known[pair] for pair in zip(users.tolist(), items.tolist(), strict=True)]
        assert np.array_equal(ratings_given(dataset, ratings, users, items), slow, equal_nan=True)


def test_what_cannot_be_split_is_said():
    dataset = made()
    with pytest.raises(ValidationError, match="holdout: random is for name: leave-one-out, and this is name: llara"):
        SplitConfig(name="llara-split", holdout="random")
    with pytest.raises(DataError, match=r"made has no ratings: expected split\.min_rating: 0, found 3"):
        hold_out(dataset, SplitConfig(min_rating=3), T, 0)
    with pytest.raises(DataError, match="no times: llara-split orders people"):
        hold_out(dataclasses.replace(dataset, provenance={"clock": "order"}), SplitConfig(name="llara-split"), T, 0)
    with pytest.raises(DataError, match="of 0 users leaves nobody for train"):
        hold_out(dataset, SplitConfig(min_rating=6), T, 0, np.ones(dataset.n_interactions, np.float32))
    with pytest.raises(DataError, match="of 5 users leaves nobody for valid"):
        hold_out(made(users=5), SplitConfig(name="llara-split"), T, 0)


# --- the real sets ---------------------------------------------------------------------------------------------------


@here
def test_llaras_people_are_found_in_movielens():
    """754 / 94 / 95 people, 68,389 training events, 66,127 windows with three items of history or more."""
    config = DataConfig(source="movielens-100k", path=str(SHARED / "ml-100k"))
    dataset, ratings = (load(config, Path(), 0) for load in (load_dataset, load_ratings))
    held = hold_out(dataset, SplitConfig(name="llara-split", min_rating=3), 10, 0, ratings)
    counts = {part: len(users) for part, users in held.users.items()}
    assert counts == {"train": 754, "valid": 94, "choose": 94, "test": 95}
    assert len(held.train.items) == 68_389 and (held.train.lengths - 3).clip(0).sum() == 66_127
    raw = pd.read_csv(SHARED / "ml-100k" / "interactions.csv.gz")
    arrived = raw.groupby("user_id", sort=False)["timestamp"].min().sort_values(kind="stable").index
    assert set(dataset.user_ids[held.users["test"]]) == set(arrived[-95:].astype(str))
    for user, target in list(zip(held.users["test"], held.targets["test"], strict=True))[:20]:
        own = raw[(raw.user_id == int(dataset.user_ids[user])) & (raw.rating >= 3)]
        assert dataset.items["item_id"][target] == str(own.item_id.iloc[-1])


@here
def test_published_windows_are_asked_as_they_are():
    lastfm, held = read_windows(SHARED / "lastfm-llara", 10)
    counts = {part: len(users) for part, users in held.users.items()}
    assert counts == {"train": 976, "valid": 122, "choose": 122, "test": 122}
    assert lastfm.n_items == 4606 and len(held.train.items) == 50_800
    raw = pd.read_csv(SHARED / "lastfm-llara" / "interactions.csv.gz")
    for row, (shown, target) in enumerate(zip(held.histories["test"], held.targets["test"], strict=True)):
        own = raw[raw.user_id == int(lastfm.user_ids[held.users["test"][row]])].item_id.tolist()
        assert [int(lastfm.items["item_id"][item]) for item in (*shown[shown >= 0], target)] == own
    config = DataConfig(source="files", path=str(SHARED / "lastfm-llara"))
    parts = load_parts(config, Path(), lastfm)
    assert equal(held, hold_out(lastfm, SplitConfig(name="llara-split"), 10, 0, parts=parts))
    assert load_parts(DataConfig(source="toy"), Path(), lastfm) is None
    _, steam = read_windows(SHARED / "steam-llara-partial", 10)
    assert len(steam.train) == 0 and len(steam.users["test"]) > 1_180


def windows(folder: Path, splits: str = "ttttttvvv", name: str = "split") -> Path:
    words = {"t": "train", "v": "valid", "x": "trian"}
    lines = [f"u{row // 3},i{row},{row},{words[letter]}" for row, letter in enumerate(splits)]
    (folder / "interactions.csv").write_text("\n".join([f"user_id,item_id,order,{name}", *lines]))
    titles = [f"i{row},Title {row}" for row in range(9)]
    (folder / "items.csv").write_text("\n".join(["item_id,title", *titles]))
    return folder


def test_windows_without_parts_are_refused(tmp_path):
    _, held = read_windows(windows(tmp_path), 2)
    assert held.train.items.tolist() == [0, 1, 2, 3, 4, 5] and held.histories["valid"].tolist() == [[6, 7]]
    with pytest.raises(DataError, match="no column 'split', which says train"):
        read_windows(windows(tmp_path, name="spilt"), 2)
    with pytest.raises(DataError, match="line 4: split 'trian'; expected one of train, valid, test"):
        read_windows(windows(tmp_path, "ttxtttvvv"), 2)
    with pytest.raises(DataError, match="line 10: split 'train'; .* the same for all of a user"):
        read_windows(windows(tmp_path, "ttttttvvt"), 2)
