"""MovieLens-1M: a miniature in the official format, and the published counts where a person has the real one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from sandbox import ROOT

from recnb.data.locate import source_files
from recnb.data.schema import Dataset
from recnb.data.sessions import PARTS, make_sessions, samples_of
from recnb.data.settings import DataConfig
from recnb.data.sources import load_dataset
from recnb.errors import DataError
from recnb.workflow.recipe import load_recipe

FILMS = "1::Toy Story (1995)::Animation|Children's\n2::Usual Suspects, The (1995)::Crime\n" \
        "3::Misérables, Les (1995)::Drama\n9::Nobody Rated It (2000)::Drama\n"  # fmt: skip
RATINGS = "1::2::5::100\n1::1::3::100\n1::3::4::50\n10::3::1::7\n10::1::4::9\n10::2::4::8\n2::1::4::1\n2::2::4::2\n2::3::1::3\n"
RECIPE = ROOT / "params" / "llm4sbr" / "ml-1m.yaml"
SHARED = ROOT.parent / "shared" / "data" / "ml-100k"


def write(folder: Path, ratings: str = RATINGS, films: str = FILMS, encoding: str = "latin-1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.dat").write_bytes(ratings.encode(encoding))
    (folder / "movies.dat").write_bytes(films.encode(encoding))
    return folder


def load(folder: Path | None) -> Dataset:
    config = DataConfig(source="movielens-1m", path=None if folder is None else str(folder))
    return load_dataset(config, ROOT, 0)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_the_official_folder_is_read(encoding: str, tmp_path: Path) -> None:
    found = load(write(tmp_path, encoding=encoding))
    assert found.items["title"].tolist() == ["Toy Story (1995)", "The Usual Suspects (1995)", "Les Misérables (1995)"]
    assert found.items["categories"].tolist() == [["Animation", "Children's"], ["Crime"], ["Drama"]]
    assert found.user_ids.tolist() == ["1", "2", "10"], "users by number, whatever the file's order"
    assert found.sequence.tolist() == [2, 1, 0, 0, 1, 2, 2, 1, 0], "in time order, ties as in the file"
    about = found.provenance
    assert about["clock"] == "seconds" and about["films_without_rating"] == 1 and set(about["sha256"]) == {
        "ratings.dat", "movies.dat"}  # fmt: skip


def test_the_folder_above_serves_too(tmp_path: Path) -> None:
    inner = write(tmp_path / "ml-1m")
    assert source_files("movielens-1m", tmp_path) == [inner / "ratings.dat", inner / "movies.dat"]


@pytest.mark.parametrize(
    ("ratings", "films", "message"),
    [
        (RATINGS + "2::3::1\n", FILMS, r"ratings\.dat: line 10: expected 4 columns"),
        (RATINGS, FILMS + "4|A Film|Drama\n", r"movies\.dat: line 5: expected 3 columns"),
        (RATINGS + "2::7::1::5\n", FILMS, r"ratings\.dat: line 10: item '7' is not in .*movies\.dat"),
        (RATINGS, FILMS + "1::Again (1990)::Drama\n", r"movies\.dat: item_id '1' stands twice, in lines 1 and 5"),
        (RATINGS + "2::3::1::soon\n", FILMS, r"ratings\.dat: line 10: column 'time' is 'soon'"),
        (RATINGS + "me::3::1::5\n", FILMS, r"ratings\.dat: line 10: column 'user_id' is 'me'"),
        ("", FILMS, r"ratings\.dat: the file is empty"),
    ],
)
def test_a_bad_line_is_named(ratings: str, films: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, ratings, films))


def test_a_missing_folder_or_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="movielens-1m needs data.path"):
        load(None)
    (tmp_path / "u.data").write_text("x")
    with pytest.raises(DataError, match=r"expected MovieLens-1M's official files ratings\.dat and movies\.dat.*u\.data"):
        load(tmp_path)


def test_the_recipe_is_the_releases_protocol(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, [f"data.path={write(tmp_path)}"])
    sessions = recipe.sessions
    assert (sessions.by, sessions.minutes, sessions.min_count, sessions.rare_items) == ("bins", 10, 5, "drop-session")
    assert (*sessions.samples, sessions.split, sessions.ties, sessions.test) == ("last", "last", "by-user", "file", 0.1)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no copy of the public sets beside the project")
def test_movielens_100k_in_this_format_walks_the_whole_path(tmp_path: Path) -> None:
    """The same users, times and films as through its own reader, and as many sessions as we counted."""
    known = load_dataset(DataConfig(path=str(SHARED)), ROOT, 0)
    users = known.user_ids[np.repeat(np.arange(known.n_users), known.lengths)]
    events = zip(users, known.items["item_id"].to_numpy()[known.sequence], known.times.astype(int), strict=True)
    titles = known.items["title"].str.replace("::", ":")
    films = "".join(f"{i}::{title}::Drama\n" for i, title in zip(known.items["item_id"], titles, strict=True))
    write(tmp_path, "".join(f"{user}::{item}::5::{time}\n" for user, item, time in events), films, "utf-8")
    recipe = load_recipe(RECIPE, [f"data.path={tmp_path}"])
    found = load_dataset(recipe.data, ROOT, 0)
    assert (found.sequence == known.sequence).all() and (found.times == known.times).all()
    assert len(make_sessions(found, recipe.sessions, 0)) == 6_107


@pytest.mark.skipif("RECNB_ML1M" not in os.environ, reason="RECNB_ML1M names no folder with MovieLens-1M's ratings.dat")
def test_movielens_1m_has_the_papers_samples() -> None:
    recipe = load_recipe(RECIPE, [f"data.path={os.environ['RECNB_ML1M']}"])
    found = load_dataset(recipe.data, ROOT, 0)
    assert (found.n_users, found.n_items, found.n_interactions) == (6_040, 3_706, 1_000_209)
    sessions = make_sessions(found, recipe.sessions, 0)
    sizes = {part: len(samples_of(sessions, part, *recipe.sessions.samples)) for part in PARTS}
    assert (sizes["train"] + sizes["valid"], sizes["test"]) == (47_808, 5_313)
    assert len(np.unique(sessions.items)) <= 3_416, "films with five ratings"
