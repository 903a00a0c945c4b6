"""MovieLens-1M from a person's own copy of GroupLens's folder, ``ratings.dat`` and ``movies.dat``.

No copy may be passed on and none is fetched: ``data.path`` names the folder. The copies that circulate without times
are no substitute, since sessions are cut by the clock.
Reference: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import hashlib
from pathlib import Path

from recnb.data.movielens import LICENCE, clean_films, split_lines
from recnb.data.tables import Tables, check_known_items, check_unique_items, parse_times, read_bytes

NAME = "MovieLens-1M"


def read_movielens_1m(ratings: Path, films: Path) -> Tables:
    """6,040 users, 3,706 films, 1,000,209 interactions: every rating counts as one; films without one are left out.

    Args:
        ratings: ``ratings.dat``, lines of user::film::rating::seconds, users by number.
        films: ``movies.dat``, lines of film::title::genre|genre, in latin-1 (a copy turned into UTF-8 is read as such).

    Raises:
        DataError: a line has another form, a time or user is no number, or a rated film is not in ``movies.dat``.
    """
    raw = {path.name: read_bytes(path) for path in (ratings, films)}
    events = split_lines(_text(raw[ratings.name]), "::", 4, str(ratings))
    interactions = events[[0, 1, 3, 2]].set_axis(["user_id", "item_id", "time", "rating"], axis=1)
    interactions["time"] = parse_times(interactions["time"], ratings)
    numbers = parse_times(interactions["user_id"], ratings)
    items = split_lines(_text(raw[films.name]), "::", 3, str(films))
    items = items.set_axis(["item_id", "title", "categories"], axis=1)
    items["categories"] = items["categories"].str.split("|")
    check_unique_items(items, films)
    check_known_items(interactions, items, ratings, films)
    met = items["item_id"].isin(interactions["item_id"])
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in raw.items()}
    about = {"source": "movielens-1m, official files", "licence": LICENCE, "clock": "seconds", "sha256": hashes,
             "films_without_rating": int((~met).sum())}  # fmt: skip
    in_order = interactions.iloc[numbers.argsort(kind="stable")]  # as it is in the official file
    return Tables(NAME, in_order, clean_films(items[met]), about)


def _text(content: bytes) -> str:
    """UTF-8 where it is that, else latin-1: a word with accents is hardly ever both."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
