"""Cases: which sessions are looked at, and what an answer names: an item of the session, of the catalogue, or none.

LLM4SBR section 4.5 and Figure 8, where a 7B model mostly names items of the session. Shown in ``09_case_studies``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recnb.errors import RecipeError
from recnb.llm4sbr.intent_report import title_numbers
from recnb.llm4sbr.localise import nearest_items

KINDS = ("in the session", "in the catalogue", "invented", "nothing")


def answer_kinds(texts: Sequence[str], inputs: np.ndarray, titles: Sequence[str]) -> NDArray[np.object_]:
    """What answers name, one of :data:`KINDS` each.

    Args:
        texts: n answers, empty where none was given.
        inputs: (n, T) items of the session that was asked about, all that it had, -1 where there is none.
        titles: (N,) of the catalogue; an answer names an item if it is its title, whatever the case.
    """
    found, numbers = title_numbers(texts, titles)
    shown = np.where(inputs >= 0, numbers[inputs], -2)
    inside = (shown == found[:, None]).any(axis=1)
    empty = np.array([not str(text).strip() for text in texts], dtype=bool)
    place = np.select([empty, inside, found >= 0], [3, 0, 1], default=2)
    return np.array(KINDS, dtype=object)[place]


def choose_cases(
    ours: np.ndarray, plain: np.ndarray, told: np.ndarray, k: int, draw: int, seed: int
) -> dict[int, str]:
    """Samples that are worth a look, by why: one that only ours hits, one that only the plain model hits, one that both
    miss, and some that are drawn.

    Args:
        ours, plain: (M,) ranks of the target from 0; told: (M,) bool, samples with a text: others are chosen only where
            there are none.
        k: a hit is a rank below it; draw: how many are drawn; seed: of the draw.

    Returns:
        row of a sample -> why; of several the lowest row.
    """
    among = told if told.any() else np.ones(len(ours), dtype=bool)
    wanted = {
        "only ours hits": (ours < k) & (plain >= k),
        "only the plain model hits": (ours >= k) & (plain < k),
        "both miss": (ours >= k) & (plain >= k),
    }
    chosen = {int(np.flatnonzero(found & among)[0]): why for why, found in wanted.items() if (found & among).any()}
    for row in np.random.default_rng([seed, 31]).permutation(np.flatnonzero(among))[:draw]:
        chosen.setdefault(int(row), "drawn")
    return chosen


def asked_cases(numbers: Sequence[int], sessions: np.ndarray) -> dict[int, str]:
    """The last sample of each session that a person asks for: row -> why, as of :func:`choose_cases`.

    Args:
        numbers: of sessions; sessions: (M,) session of each test sample, ascending.

    Raises:
        RecipeError: one is no test session; it names their range.
    """
    for number in numbers:
        if number not in sessions:
            among = f"test sessions are {sessions[0]} to {sessions[-1]}"
            raise RecipeError(f"cases.sessions: {number}: expected numbers of test sessions; {among}")
    return {int(np.searchsorted(sessions, number, "right")) - 1: "asked for" for number in numbers}


def nearest_titles(vectors: np.ndarray, items: np.ndarray, titles: Sequence[str], k: int) -> list[list[str]]:
    """Titles of the k items whose vectors (N, d) are nearest to each of n vectors (n, d), nearest first."""
    directions = functional.normalize(torch.from_numpy(np.asarray(items, np.float32)), dim=1)
    _, found = nearest_items(torch.from_numpy(np.asarray(vectors, np.float32)), directions, min(k, len(items)))
    return [[titles[item] for item in row] for row in found.tolist()]


def shared_items(one: np.ndarray, other: np.ndarray) -> float:
    """Mean share of the items of lists (M, W) that stand in other lists (M, W) of the same samples too; no list: 1."""
    return float((one[:, :, None] == other[:, None, :]).any(axis=2).mean()) if len(one) else 1.0


def case_record(
    why: str, number: int, session: Sequence[str], target: str, answers: Mapping[str, tuple[str, str, str]],
    lists: Mapping[str, Sequence[str]],
) -> dict[str, Any]:  # fmt: skip
    """One case for ``cases.json``: titles as the data have them, and the place of the target in each list, from 1.

    Args:
        why: it was chosen; number: of the session; session: titles, oldest first; target: the one that came next.
        answers: view -> what was said, its kind, the title nearest to what localisation made of it.
        lists: system -> titles, best first.
    """
    places = {name: titles.index(target) + 1 if target in titles else None for name, titles in lists.items()}
    fields = ("said", "kind", "nearest")
    return {
        "why": why, "number": number, "session": list(session), "target": target, "places": places,
        "answers": {view: dict(zip(fields, found, strict=True)) for view, found in answers.items()},
        "lists": {name: list(titles) for name, titles in lists.items()},
    }  # fmt: skip
