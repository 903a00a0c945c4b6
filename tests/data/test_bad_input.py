"""Bad input: one sentence that names file, line or column, what was expected and the nearest valid choice."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recnb.data.settings import DataConfig
from recnb.data.sources import load_dataset
from recnb.errors import DataError

INTERACTIONS = b"user_id,item_id,timestamp\n" + b"".join(b"u%d,i%d,%d\n" % (u, i, i) for u in (0, 1) for i in range(3))
ITEMS = b"".join(b'{"item_id": "i%d", "title": "Item %d", "categories": ["A"]}\n' % (i, i) for i in range(3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "interactions.csv").write_bytes(INTERACTIONS)
    (tmp_path / "set" / "items.jsonl").write_bytes(ITEMS)
    return tmp_path / "set"


def complaint(folder: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(DataConfig(**{"source": "files", "path": folder.name, **settings}), folder.parent, 0)
    return str(caught.value)


def assert_says(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"


def test_the_good_files_are_good(folder: Path) -> None:
    assert load_dataset(DataConfig(source="files", path="set"), folder.parent, 0).n_users == 2


def test_missing_folder_and_missing_files(folder: Path) -> None:
    assert_says(complaint(folder, path="sett"), "sett: no such folder", "nearest: 'set'", "data.path")
    assert_says(complaint(folder, path=None), "data.source: files needs data.path")
    assert_says(complaint(folder, items="item.jsonl"), "item.jsonl: no such file", "nearest: 'items.jsonl'")
    (folder / "interactions.csv").rename(folder / "interaction.csv")
    assert_says(complaint(folder), "interactions.csv.gz or interactions.csv", "nearest: 'interaction.csv'")


@pytest.mark.parametrize("name", ["interactions.csv", "items.jsonl"])
@pytest.mark.parametrize("content", [b"", b"  \n\n", gzip.compress(b"", mtime=0)])
def test_empty_files(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert_says(complaint(folder), name, "the file is empty")


def test_a_header_alone(folder: Path) -> None:
    (folder / "interactions.csv").write_bytes(b"user_id,item_id,timestamp\n")
    assert_says(complaint(folder), "interactions.csv", "a header and no rows")


@pytest.mark.parametrize("name", ["interactions.csv", "items.jsonl"])
@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: packed[:20] + b"\xff\xff" + packed[22:]])
def test_truncated_and_damaged_gzip(folder: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    packed = gzip.compress((folder / name).read_bytes() * 40)
    (folder / name).unlink()
    (folder / f"{name}.gz").write_bytes(damage(packed))
    assert_says(complaint(folder), f"{name}.gz", "truncated or damaged gzip file after line", "again")


def test_wrong_encoding_names_the_line(folder: Path) -> None:
    (folder / "items.jsonl").write_bytes(ITEMS.replace(b"Item 1", "Misérables".encode("latin-1")))
    assert_says(complaint(folder), "items.jsonl: line 2: byte 0xe9 is not UTF-8")
    (folder / "interactions.csv").write_bytes(INTERACTIONS.decode().encode("utf-16"))
    assert_says(complaint(folder), "interactions.csv: line 1: byte 0xff is not UTF-8")


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        (b"userid,item_id,timestamp", ("no column 'user_id'", "found userid, item_id, timestamp", "nearest: 'userid'")),
        (b"user_id,itemid,timestamp", ("no column 'item_id'", "nearest: 'itemid'")),
        (b"user_id,item_id,time", ("no column 'timestamp' and no 'order'", "found user_id, item_id, time", "'time'")),
        (b"user_id,item_id,item_id", ("line 1", "stands twice")),
        (b"user_id;item_id;timestamp", ("no column 'user_id'", "found user_id;item_id;timestamp")),
    ],
)
def test_missing_columns_name_the_nearest(folder: Path, header: bytes, parts: tuple[str, ...]) -> None:
    (folder / "interactions.csv").write_bytes(INTERACTIONS.replace(b"user_id,item_id,timestamp", header))
    assert_says(complaint(folder), "interactions.csv", *parts)


def test_items_without_an_id_or_a_text_column(folder: Path) -> None:
    (folder / "items.jsonl").write_bytes(ITEMS.replace(b"item_id", b"itemid"))
    assert_says(complaint(folder), "items.jsonl: no column 'item_id'", "nearest: 'itemid'")
    (folder / "items.jsonl").write_bytes(ITEMS.replace(b"title", b"titel").replace(b"categories", b"cats"))
    assert_says(complaint(folder), "no text column", "found item_id, titel, cats", "nearest: 'titel'")


def test_rows_of_another_width(folder: Path) -> None:
    (folder / "interactions.csv").write_bytes(INTERACTIONS + b"u9,i0,1,2,3\n")
    assert_says(complaint(folder), "interactions.csv", "Expected 3 fields in line 8, saw 5", "as the header has")
    (folder / "interactions.csv").write_bytes(b"user_id,item_id,timestamp\nu0,i0,1,5\nu0,i1,2,5\n")
    assert_says(complaint(folder), "Expected 3 fields in line 2, saw 4")
    (folder / "interactions.csv").write_bytes(INTERACTIONS + b"u9,i0\n")
    assert_says(complaint(folder), "interactions.csv", "line 8")


def test_a_line_that_is_not_json(folder: Path) -> None:
    (folder / "items.jsonl").write_bytes(ITEMS[:-9])
    assert_says(complaint(folder), "items.jsonl: line 3: not JSON")
    (folder / "items.jsonl").write_bytes(b"[1, 2]\n")
    assert_says(complaint(folder), "line 1: expected an object", "[1, 2]")


def test_empty_ids(folder: Path) -> None:
    (folder / "interactions.csv").write_bytes(INTERACTIONS + b",i0,5\n")
    assert_says(complaint(folder), "interactions.csv: line 8: column 'user_id' is empty")
    (folder / "interactions.csv").write_bytes(INTERACTIONS)
    (folder / "items.jsonl").write_bytes(ITEMS + b'{"item_id": null, "title": "x"}\n')
    assert_says(complaint(folder), "items.jsonl: line 4: column 'item_id' is empty")


def test_duplicate_item_ids(folder: Path) -> None:
    (folder / "items.jsonl").write_bytes(ITEMS + b'\n{"item_id": "i1", "title": "again"}\n')
    assert_says(complaint(folder), "items.jsonl: item_id 'i1' stands twice, in lines 2 and 5")


def test_interactions_with_unknown_items(folder: Path) -> None:
    (folder / "interactions.csv").write_bytes(INTERACTIONS + b"u0,i11,9\nu1,zzz,9\n")
    message = complaint(folder)
    assert_says(message, "interactions.csv: line 8: item 'i11' is not in", "items.jsonl", "2 interactions")
    assert_says(message, "nearest: 'i1'")


@pytest.mark.parametrize("time", ["nan", "inf", "-inf", "", "2014-05-01", "1e999"])
def test_times_that_cannot_be_sorted(folder: Path, time: str) -> None:
    (folder / "interactions.csv").write_bytes(INTERACTIONS + f"\nu0,i0,{time}\n".encode())
    message = complaint(folder)
    assert_says(message, f"interactions.csv: line 9: column 'timestamp' is '{time}'", "(1 such", "a finite number")


def test_users_too_short_to_split(folder: Path) -> None:
    lines = INTERACTIONS.splitlines()
    (folder / "interactions.csv").write_bytes(b"\n".join(lines[:3] + lines[4:6]))
    assert_says(complaint(folder), "no user has 3 interactions", "4 interactions in the source")
    assert_says(complaint(folder, k_core=2), "after data.k_core = 2")


@pytest.mark.parametrize("item", [b'{"item_id": "i3"}', b'{"item_id": "i3", "title": "  ", "categories": [""]}'])
def test_items_without_text(folder: Path, item: bytes) -> None:
    (folder / "items.jsonl").write_bytes(ITEMS + item + b"\n")
    message = complaint(folder)
    assert_says(message, "items.jsonl, line 4: item 'i3' has no text (1 of 4 items)", "data.without_text: drop", "id")


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (b'{"item_id": "i3", "title": {"en": "x"}}', "line 4: 'title' is {'en': 'x'}; expected text"),
        (b'{"item_id": "i3", "title": true}', "line 4: 'title' is True; expected text"),
        (b'{"item_id": "i3", "categories": {"a": 1}}', "line 4: 'categories' is {'a': 1}; expected a list of text"),
        (b'{"item_id": "i3", "categories": [["a"]]}', "line 4: 'categories' is [['a']]; expected a list of text"),
    ],
)
def test_text_that_is_no_text(folder: Path, item: bytes, says: str) -> None:
    (folder / "items.jsonl").write_bytes(ITEMS + item + b"\n")
    assert_says(complaint(folder), "items.jsonl", says)


# MovieLens ------------------------------------------------------------------------------------------------------------


def movielens_complaint(root: Path, path: str) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(DataConfig(path=path), root, 0)
    return str(caught.value)


def test_a_movielens_path_that_is_none(tmp_path: Path) -> None:
    assert_says(movielens_complaint(tmp_path, "nowhere"), "nowhere: no such file or folder", "u.data", "recbole")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and then nothing")
    assert_says(movielens_complaint(tmp_path, "cut.zip"), "cut.zip: not a readable zip", "fetch again")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "x")
    assert_says(movielens_complaint(tmp_path, "other.zip"), "a zip without ml-100k/u.data")


def test_official_movielens_files_that_are_cut(tmp_path: Path) -> None:
    film = "|".join(["1", "A (1990)", "", "", "", *["0"] * 19])
    (tmp_path / "u.data").write_text("1\t1\t5\t10\n1\t1\t5", encoding="ascii")
    assert_says(movielens_complaint(tmp_path, "."), "u.item: no such file")
    (tmp_path / "u.item").write_text(film, encoding="latin-1")
    assert_says(movielens_complaint(tmp_path, "."), "u.data: line 2: expected 4 columns", "cut")
    (tmp_path / "u.data").write_text("1\t1\t5\tnan\n", encoding="ascii")
    assert_says(movielens_complaint(tmp_path, "."), "line 1: column 'time' is 'nan'", "a finite number")
    (tmp_path / "u.data").write_text("", encoding="ascii")
    assert_says(movielens_complaint(tmp_path, "."), "u.data: the file is empty")
    (tmp_path / "u.data").write_text("1\t2\t5\t9\n", encoding="ascii")
    assert_says(movielens_complaint(tmp_path, "."), "line 1: item '2' is not in")
    (tmp_path / "u.item").write_text(film + "\n" + film, encoding="latin-1")
    assert_says(movielens_complaint(tmp_path, "."), "item_id '1' stands twice, in lines 1 and 2")


# Amazon ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def amazon(tmp_path: Path) -> Path:
    folder = tmp_path / "beauty"
    folder.mkdir()
    reviews = [{"reviewerID": f"U{u}", "asin": f"B{i}", "unixReviewTime": i} for u in range(3) for i in range(3)]
    (folder / "reviews_Beauty_5.json").write_text("\n".join(map(json.dumps, reviews)), encoding="utf-8")
    items = [{"asin": f"B{i}", "title": f"Item {i}"} for i in range(3)]
    (folder / "meta_Beauty.json").write_text("\n".join(map(repr, items)), encoding="utf-8")
    return folder


def spoil(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines), encoding="utf-8")


def test_amazon_faults_name_file_and_line(amazon: Path) -> None:
    reviews, meta = amazon / "reviews_Beauty_5.json", amazon / "meta_Beauty.json"
    good = reviews.read_text(encoding="utf-8")
    assert load_dataset(DataConfig(source="amazon-2014", path="beauty"), amazon.parent, 0).n_interactions == 9
    for old, new, says in (
        ('"asin"', '"asim"', "line 4: no column 'asin'; found reviewerID, asim, unixReviewTime; nearest: 'asim'"),
        ("0}", "NaN}", "line 4: column 'unixReviewTime' is 'nan'"),
        ("0}", '"yesterday"}', "line 4: column 'unixReviewTime' is 'yesterday'"),
        ("0}", "", "line 4: neither JSON nor a Python dictionary"),
    ):
        spoil(reviews, 4, old, new)
        assert_says(complaint(amazon, source="amazon-2014"), "reviews_Beauty_5.json", says)
        reviews.write_text(good, encoding="utf-8")
    spoil(meta, 2, "'title'", "__import__('os')")
    assert_says(complaint(amazon, source="amazon-2014"), "meta_Beauty.json: line 2: neither JSON nor a Python")
    meta.write_text("{'asim': 'B0'}", encoding="utf-8")
    assert_says(complaint(amazon, source="amazon-2014"), "meta_Beauty.json: line 1: no column 'asin'")
    meta.write_text("['asin']", encoding="utf-8")
    assert_says(complaint(amazon, source="amazon-2014"), "line 1: expected a record with 'asin'")


def test_amazon_where_nothing_survives_the_k_core(amazon: Path) -> None:
    message = complaint(amazon, source="amazon-2014", k_core=4)
    assert_says(message, "Amazon Beauty (2014): none of 9 interactions survives data.k_core = 4; a smaller k keeps more")


def test_amazon_files_that_are_missing_empty_cut_or_in_another_encoding(amazon: Path) -> None:
    reviews, meta = amazon / "reviews_Beauty_5.json", amazon / "meta_Beauty.json"
    packed = gzip.compress((reviews.read_bytes() + b"\n") * 50)
    reviews.write_bytes(packed[: len(packed) - 12])
    message = complaint(amazon, source="amazon-2014")
    assert_says(message, "reviews_Beauty_5.json: truncated or damaged gzip", "after line")
    reviews.write_bytes(b"\n \n")
    assert_says(complaint(amazon, source="amazon-2014"), "reviews_Beauty_5.json: the file is empty")
    reviews.write_bytes('{"reviewerID": "é"}'.encode("latin-1"))
    assert_says(complaint(amazon, source="amazon-2014"), "reviews_Beauty_5.json: line 1: byte 0xe9 is not UTF-8")
    meta.unlink()
    assert_says(complaint(amazon, source="amazon-2014"), "no file can be the metadata", "data.items")
    assert_says(complaint(amazon, source="amazon-2018", path="beuaty"), "no such folder", "nearest: 'beauty'")
    assert_says(complaint(amazon, source="amazon-2018", path=None), "amazon-2018 needs data.path")
