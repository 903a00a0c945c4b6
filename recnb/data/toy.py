"""A small generated catalogue whose structure is known, so that every later step can be checked against the truth.

Items belong to hidden groups. The group shows in the text (theme, brand, category) and in behaviour: a user starts in a
home group and walks its items in the group's own hidden order, then goes on to the next group; a share of the steps,
``noise``, is drawn at random. Shown in ``notebooks/01_data.ipynb``.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recnb.data.settings import ToyConfig
from recnb.data.tables import Tables

_THEMES = {
    "kitchen": ("Hearthstone", ["kettle", "whisk", "saucepan", "ladle", "toaster"]),
    "garden": ("Greenrow", ["spade", "trowel", "hose", "seed tray", "wheelbarrow"]),
    "music": ("Cantabile", ["violin bow", "metronome", "guitar strap", "drum pad", "reed case"]),
    "camping": ("Northtrail", ["tent", "sleeping bag", "lantern", "stove", "hammock"]),
    "painting": ("Ochre & Co", ["brush", "easel", "palette", "canvas", "varnish"]),
    "cycling": ("Velodrome", ["saddle", "chain", "helmet", "tyre pump", "pedal"]),
    "baking": ("Crumb", ["rolling pin", "cake tin", "proofing basket", "icing bag", "dough scraper"]),
    "fishing": ("Stillwater", ["rod", "reel", "lure", "landing net", "tackle box"]),
    "astronomy": ("Perihelion", ["telescope", "star chart", "eyepiece", "tripod", "red torch"]),
    "sewing": ("Selvedge", ["needle set", "thread", "thimble", "pattern", "fabric shears"]),
}
_QUALITIES = ["classic", "compact", "sturdy", "light", "folding", "large", "travel", "steel", "oak", "blue", "deluxe"]
_DAY = 86_400.0


def toy_tables(config: ToyConfig, seed: int) -> Tables:
    """Generate users and items from one seed. Returns tables whose ``provenance["truth"]`` has, by id, ``group`` and
    ``place`` (the position in its group's walk) of every item, and ``home`` of every user.
    """
    rng = np.random.default_rng(seed)
    group, place = _hidden_structure(rng, config)
    home, walks = _walks(rng, config, group, place)
    items = _catalogue(rng, group)
    interactions = _events(rng, walks, items["item_id"].to_numpy(object))
    users = interactions["user_id"].drop_duplicates()
    truth = {
        "group": dict(zip(items["item_id"], group.tolist(), strict=True)),
        "place": dict(zip(items["item_id"], place.tolist(), strict=True)),
        "home": dict(zip(users, home.tolist(), strict=True)),
    }
    about = {"source": "toy", "licence": "generated, free of rights", "clock": "seconds", "seed": seed}
    return Tables("toy", interactions, items, {**about, "truth": truth})


def _hidden_structure(rng: np.random.Generator, config: ToyConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) group of each item, groups mixed through the catalogue, and its place in the walk of the group."""
    group = rng.permutation(np.arange(config.items) % min(config.groups, config.items))
    place = pd.Series(rng.random(config.items)).groupby(group).rank().to_numpy(np.int64) - 1
    return group, place


def _walks(
    rng: np.random.Generator, config: ToyConfig, group: NDArray[np.int64], place: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """(U,) home groups and, per user, the items in the order they are met; nobody meets an item twice."""
    groups, size = int(group.max()) + 1, np.bincount(group)
    home = rng.integers(0, groups, config.users)
    start = (rng.random(config.users) ** 2 * size[home]).astype(np.int64)  # squared: early places are popular
    away = (group[None, :] - home[:, None]) % groups  # (U, N) groups to go
    turn = np.where(away == 0, (place[None, :] - start[:, None]) % size[home][:, None], place[None, :])
    rank = np.argsort(np.argsort(away * config.items + turn, axis=1), axis=1).astype(float)  # (U, N) noiseless walk
    low, high = max(3, config.length // 2), config.length + config.length // 2
    lengths = np.minimum(rng.integers(low, high + 1, config.users), config.items)
    stray = rng.random(rank.shape) < config.noise * lengths[:, None] / config.items
    rank = np.where(stray, rng.random(rank.shape) * lengths[:, None], rank)
    met = np.argsort(rank, axis=1)
    return home, [row[:length] for row, length in zip(met, lengths, strict=True)]


def _catalogue(rng: np.random.Generator, group: NDArray[np.int64]) -> pd.DataFrame:
    places = zip(group, pd.Series(group).groupby(group).cumcount(), strict=True)  # group, rank in the group
    qualities = rng.permutation(_QUALITIES)
    rows = [{"item_id": f"i{i:04d}", **_toy_item(qualities, int(g), int(r))} for i, (g, r) in enumerate(places)]
    return pd.DataFrame(rows)


def _toy_item(qualities: NDArray[Any], group: int, rank: int) -> dict[str, Any]:
    """Text of one item: theme and brand tell its group, noun and quality tell it apart inside the group."""
    series, number = divmod(group, len(_THEMES))  # more groups than themes: numbered series of a theme
    theme, (brand, nouns) = list(_THEMES.items())[number]
    noun, step = nouns[rank % len(nouns)], rank // len(nouns)
    quality, edition = qualities[step % len(qualities)], step // len(qualities)
    mark = "".join([f" series {series + 1}" if series else "", f" mark {edition + 1}" if edition else ""])
    shelf = f"{theme} {series + 1}" if series else theme
    return {
        "title": f"{brand} {quality} {noun}{mark}",
        "description": f"A {quality} {noun} for {shelf}, made by {brand}.",
        "brand": brand,
        "categories": ["Hobby", shelf.capitalize(), noun.capitalize()],
    }


def _events(rng: np.random.Generator, walks: list[NDArray[np.int64]], item_ids: NDArray[Any]) -> pd.DataFrame:
    users = [f"u{number:04d}" for number, walk in enumerate(walks) for _ in walk]
    times = 1_000_000_000.0 + np.cumsum(np.ceil(rng.exponential(_DAY, len(users))))  # a step takes a day on average
    return pd.DataFrame({"user_id": users, "item_id": item_ids[np.concatenate(walks)], "time": times})
