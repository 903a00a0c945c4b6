"""What must be true before a row is believed: lists turned round, histories exchanged, vectors dealt out anew.

Shown in ``notebooks/rsllm/07_rank.ipynb``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recnb.errors import RecipeError
from recnb.evaluation.intervals import paired_bootstrap
from recnb.evaluation.lists import list_statistics
from recnb.evaluation.verdicts import with_interval
from recnb.llm.ranking_prompts import Prompt

HOLDS, FAILS, OPEN = "holds", "fails", "cannot be told"


def tested_rows(users: Sequence[int], tested: np.ndarray) -> list[int]:
    """Rows of the test's users (U,) that have these numbers.

    Raises:
        RecipeError: somebody is not tested; a neighbour who is, is named.
    """
    for user in users:
        if user not in tested:
            near = tested[np.abs(tested - user).argmin()]
            who = f"of {len(tested):,} who are, {near} is the nearest"
            raise RecipeError(f"cases.users: user {user} is not tested; {who}")
    return [int(np.flatnonzero(tested == user)[0]) for user in users]


def other_vectors(prompt: Prompt) -> NDArray[np.int64]:
    """A prompt's ids with the candidates' vectors moved on by one candidate: every title beside another's vector.

    Where candidates have no vectors, those of the history move.
    """
    places = np.flatnonzero(prompt.slots >= 0)
    span = prompt.spans.get("candidates", slice(0, 0))
    inside = places[(places >= span.start) & (places < span.stop)]
    chosen = inside if len(inside) else places
    ids = prompt.ids.copy()
    ids[chosen] = np.roll(ids[chosen], 1)
    return ids


def other_histories(histories: np.ndarray) -> np.ndarray:
    """(U, T) each user with the history of the user before."""
    return np.roll(histories, 1, axis=0)


def shuffled_histories(histories: np.ndarray, shown: int, seed: int) -> np.ndarray:
    """(U, shown) the latest items of each history in random order: the same items, no sequence."""
    latest = histories[:, -shown:]
    keys = np.random.default_rng([seed, 71]).random(latest.shape)
    order = np.where(latest >= 0, keys, -1.0).argsort(axis=1, kind="stable")  # padding stays on the left
    return np.take_along_axis(latest, order, axis=1)


def without_each(history: np.ndarray, shown: int) -> NDArray[Any]:
    """(n, T) a history (T,), n times, each time without another one of its latest ``shown`` items, the oldest first."""
    known = history[history >= 0][-shown:]
    rows = np.full((len(known), len(history)), -1, history.dtype)
    for row in range(len(known)):
        rows[row, len(history) - len(known) + 1 :] = np.delete(known, row)
    return rows


def places_of(size: int) -> NDArray[np.int64]:
    """(5,) places from the first to the last of a list: LLMRank's test (0, 5, 10, 15, 19 of 20)."""
    return np.unique(np.minimum(np.arange(5) * size // 4, size - 1))


def moved(items: np.ndarray, targets: np.ndarray, places: np.ndarray) -> NDArray[np.int32]:
    """(U, P, C) lists (U, C) with the target at each place, the others in the order they had.

    Raises:
        ValueError: a list without its target.
    """
    others = items != targets[:, None]
    if (others.sum(axis=1) != items.shape[1] - 1).any():
        raise ValueError("a list to be turned round must hold its target once")
    rest = items[others].reshape(len(items), -1)
    return np.stack([np.insert(rest, place, targets, axis=1) for place in places], axis=1).astype(np.int32)


def averaged(scores: np.ndarray, items: np.ndarray) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Scores (U, P, C) of P orders of one list as one list: mean scores (U, 1, C), and items (U, 1, C) by number."""
    order = items.argsort(axis=2)
    aligned = np.take_along_axis(scores.astype(np.float64), order, axis=2).mean(axis=1, keepdims=True)
    return aligned, np.take_along_axis(items, order, axis=2)[:, :1]


def first_items(scores: np.ndarray, items: np.ndarray) -> NDArray[Any]:
    """(U, D) the best candidate of each set; equals by place."""
    return np.take_along_axis(items, scores.argmax(axis=2)[..., None], axis=2)[..., 0]


def diversity(first: np.ndarray, popularity: np.ndarray) -> dict[str, float]:
    """What stands first in all lists (U, D): how many ``distinct`` items, their ``gini``, and the mean ``percentile``
    of their popularity (N,) in the catalogue, 1 for the most popular."""
    order = popularity.argsort(kind="stable").argsort(kind="stable")
    shown = list_statistics(first.reshape(-1, 1), popularity, 1)
    return {
        "distinct": float(len(np.unique(first))), "gini": shown["gini"],
        "percentile": float((order[first] / max(1, len(popularity) - 1)).mean()),
    }  # fmt: skip


def checked(
    what: str, one: np.ndarray, other: np.ndarray, wanted: Literal["above", "not above"], resamples: int, seed: int
) -> dict[str, Any]:
    """Whether per-user outcomes (U,) of ``one`` are above those of ``other``, or are not, as they should. Returns
    check, diff, low, high (paired, 95 %), and verdict: holds, fails, or cannot be told.
    """
    found = paired_bootstrap(one, other, resamples, seed)
    above, below = found["low"] > 0, found["high"] < 0
    good, bad = (above, below) if wanted == "above" else (not above, above)
    verdict = HOLDS if good else FAILS if bad else OPEN
    return {"check": what, **{name: found[name] for name in ("diff", "low", "high")}, "verdict": verdict}


def believed(checks: list[dict[str, Any]]) -> str:
    """One sentence: may the rows be believed, and if not, by which figures?"""
    if not checks:
        return "Nothing was checked: believe no row."
    missed = [f"{o['check']}: {o['verdict']}, {with_interval(o, 3)}" for o in checks if o["verdict"] != HOLDS]
    if not missed:
        return "All checks hold."
    return f"Not to be believed yet, of {len(checks)} checks {len(missed)} not passed: {'; '.join(missed)}."
