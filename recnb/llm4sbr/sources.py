"""Where a session's texts come from: an LLM's answers, or stand-ins that say what an LLM's answers are worth.

LLM4SBR compares with no text at all. That leaves open whether it is the language model, the text of the items, or the
changed architecture that helps; each stand-in takes one of them away. Made in ``05_localise``, used in ``07_align``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from recnb.artifacts import Artifacts
from recnb.data.sessions import Samples
from recnb.errors import DataError
from recnb.llm4sbr.localise import Encode, embed_answers
from recnb.llm4sbr.settings import ANSWERS, VIEWS

if TYPE_CHECKING:
    from recnb.llm4sbr.recipe import ArmConfig

Blend = Callable[[np.ndarray], np.ndarray]  # (A, d) -> (A, d): recnb.llm4sbr.localise.localised on a catalogue


@dataclass(frozen=True)
class Texts:
    """What M sessions are said to want, localised.

    Attributes:
        vectors: (A, d_text) float16, distinct ones.
        rows: (M, 3) int32: which of them is a sample's, by its :attr:`Samples.number` and a place in :data:`VIEWS`; -1
            where it has none.
    """

    vectors: NDArray[np.float16]
    rows: NDArray[np.int32]

    @property
    def present(self) -> NDArray[np.bool_]:
        """(M,) bool: samples with a text in any view."""
        return np.asarray((self.rows >= 0).any(1))

    def only(self, kept: NDArray[np.bool_]) -> Texts:
        """The same, for some samples (M,) alone."""
        return Texts(self.vectors, np.where(kept[:, None], self.rows, -1).astype(np.int32))


def sources_of(own: str, arms: Iterable[ArmConfig]) -> list[str]:
    """The sources that a recipe needs: what its own stands in for, its own, and those that its arms name."""
    named = [ground(own), own]
    for arm in arms:
        named += [own if arm.source == "recipe" else arm.source, *([] if arm.only == "all" else [arm.only])]
        named += ["target"] if arm.dose else []
    return list(dict.fromkeys(named))


def ground(own: str) -> str:
    """Whose texts are shuffled, and shown beside a stand-in: the recipe's, or retrieval's where it has none."""
    return own if own in ANSWERS else "retrieval"


def answered(answers: pd.DataFrame, keys: NDArray[np.object_], encode: Encode, blend: Blend) -> Texts:
    """Texts of what a language model said.

    Args:
        answers: columns ``key``, ``view`` and ``text``; keys: (M,) key of each sample's question.

    Raises:
        DataError: no answer has a word.
    """
    vectors, number = embed_answers(answers["text"].tolist(), encode)
    if not len(vectors):
        raise DataError(f"none of {len(answers)} answers has a word: expected text from 04_intents, or another source")
    rows = np.full((len(keys), len(VIEWS)), -1, np.int32)
    for column, view in enumerate(VIEWS):
        asked = (answers["view"] == view).to_numpy()
        place = pd.Index(answers["key"][asked]).get_indexer(pd.Index(keys))
        rows[place >= 0, column] = number[asked][place[place >= 0]]
    return Texts(_small(blend(vectors)), rows)


def retrieval(
    samples: Samples, items: np.ndarray, has_text: NDArray[np.bool_], length: int, blend: Blend,
    views: Sequence[str] = VIEWS,
) -> Texts:  # fmt: skip
    """No LLM: long is the mean vector of the latest items, short the last item's, merged the mean of both.

    Args:
        samples: of all parts; items: (N, d) text vectors; has_text: (N,), the others count for nothing.
        length: T, latest items; views: those that are made.
    """
    inputs, which = _distinct(samples.inputs(length))  # (A, T), (M,)
    known = (inputs >= 0) & has_text[inputs]
    last = np.where(known[:, -1], inputs[:, -1], -1)
    long = _means(inputs, known, items)
    made = {"long": _numbered(known.any(axis=1), long), "short": (last, items)}
    if "merged" in views:
        made["merged"] = _numbered(last >= 0, (long + items[last]) / 2)
    rows, first = np.full((len(inputs), len(VIEWS)), -1, np.int32), 0
    for view in views:
        row, found = made[view]
        rows[:, VIEWS.index(view)] = np.where(row >= 0, row + first, -1)
        first += len(found)
    return Texts(np.concatenate([_small(blend(made[view][1])) for view in views]), rows[which])


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows in the order in which they come, and which of them each row is. So those of training stand
    first, whatever the test sessions hold."""
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return rows[first[order]], np.argsort(order)[which.ravel()]


def _means(inputs: np.ndarray, known: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(A, d) mean vectors of the known items of each input (A, T)."""
    counts = known.sum(1)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    bags = sparse.csr_matrix((np.ones(offsets[-1], np.float32), inputs[known], offsets), (len(inputs), len(items)))
    return (bags @ items) / np.maximum(counts, 1)[:, None].astype(np.float32)


def _numbered(present: Any, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the vectors that are present is each input's, -1: none; and those vectors."""
    return np.where(present, np.cumsum(present) - 1, -1), vectors[present]


def target(samples: Samples, items: np.ndarray, has_text: NDArray[np.bool_], blend: Blend) -> Texts:
    """The answer itself, in every view: a leak on purpose. It says how much a perfect LLM would bring."""
    wanted = np.where(has_text[samples.targets], samples.targets, -1)
    return Texts(_small(blend(items)), np.repeat(wanted[:, None], len(VIEWS), axis=1).astype(np.int32))


def constant(samples: Samples, items: np.ndarray, blend: Blend) -> Texts:
    """The same for everyone: the mean of what every item's own title becomes."""
    mean = blend(items).mean(0, keepdims=True)
    return Texts(_small(mean), np.zeros((len(samples), len(VIEWS)), np.int32))


def shuffled(texts: Texts, samples: Samples, part: NDArray[np.int8], seed: int) -> Texts:
    """Texts of another session of the same part: as good a text, about somebody else.

    The sessions of a part that have a text stand in a circle that is drawn, and each takes those of the next one: the
    first of its samples with a text the first text there, and so on; what lies beyond all of the other's takes its
    last. So the same samples have a text as before. A session alone in its part gets none.

    Args:
        texts, samples: of all parts, in the order of the sessions; part: (S,) of :class:`recnb.data.Sessions`.
    """
    spoken = np.flatnonzero(texts.present)  # (K,)
    own = samples.session[spoken]
    starts = np.searchsorted(own, np.arange(len(part) + 1))  # (S + 1,) first of each session among those
    counts, other = np.diff(starts), np.full(len(part), -1)
    rng = np.random.default_rng([seed, 23])
    for members in (np.flatnonzero((counts > 0) & (part == one)) for one in np.unique(part)):
        circle = rng.permutation(members)
        other[circle] = np.roll(circle, 1) if len(circle) > 1 else -1
    given = np.flatnonzero(other[own] >= 0)
    whose, place = other[own[given]], given - starts[own[given]]
    rows = np.full_like(texts.rows, -1)
    rows[spoken[given]] = texts.rows[spoken[starts[whose] + np.minimum(place, counts[whose] - 1)]]
    return Texts(texts.vectors, rows)


def texts_of(arm: ArmConfig, own: str, made: Mapping[str, Texts], seed: int) -> Texts:
    """The texts of an arm, from those of every source.

    Args:
        own: ``intents.source`` of the recipe; made: source -> its texts, those of :func:`sources_of`.
        seed: draws which samples are told the answer (``dose``).

    Raises:
        DataError: a source is missing.
    """
    source = own if arm.source == "recipe" else arm.source
    needed = [source, *(["target"] if arm.dose else []), *([] if arm.only == "all" else [arm.only])]
    if lacking := [name for name in needed if name not in made]:
        raise DataError(f"texts of {', '.join(lacking)} are missing; there are those of {', '.join(made)}")
    found = made[source]
    if arm.dose:
        told = np.random.default_rng([seed, 29]).random(len(found.rows)) < arm.dose
        leak = made["target"]
        moved = np.where(leak.rows >= 0, leak.rows + len(found.vectors), -1)
        rows = np.where(told[:, None], moved, found.rows).astype(np.int32)
        found = Texts(np.concatenate([found.vectors, leak.vectors]), rows)
    return found if arm.only == "all" else found.only(made[arm.only].present)


def read_texts(stage: Artifacts, own: str, arms: Mapping[str, ArmConfig], seed: int) -> dict[str, Texts]:
    """The texts of each arm, from what ``05_localise`` wrote; ``own`` as of :func:`texts_of`."""
    made = {
        name: Texts(*(stage.read("05_localise", f"{kind}_{name}.npy") for kind in ("vectors", "rows")))
        for name in sources_of(own, arms.values())
    }
    return {name: texts_of(arm, own, made, seed) for name, arm in arms.items()}


def _small(vectors: np.ndarray) -> NDArray[np.float16]:
    return vectors.astype(np.float16)
