"""Whose texts a sample gets: an LLM's, or those of a stand-in; each against a loop over samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recnb.data.schema import Sequences
from recnb.data.sessions import Samples, every_prefix
from recnb.errors import DataError
from recnb.llm4sbr.recipe import ArmConfig
from recnb.llm4sbr.sources import (
    VIEWS,
    Texts,
    answered,
    constant,
    retrieval,
    shuffled,
    sources_of,
    target,
    texts_of,
)  # fmt: skip

N, WIDTH, T = 9, 4, 3


def samples(sessions: int = 12, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 7, sessions)
    return every_prefix(Sequences(np.append(0, np.cumsum(lengths)), rng.integers(0, N, lengths.sum()).astype(np.int32)))


def items() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, WIDTH)).astype(np.float32)


def as_it_is(vectors: np.ndarray) -> np.ndarray:
    return vectors


def own_texts(found: Samples) -> Texts:
    """A text of its own for each sample and view; in half precision numbers below 2,048 are exact."""
    rows = np.arange(len(found) * 3).reshape(-1, 3).astype(np.int32)
    return Texts(np.arange(len(found) * 3)[:, None].astype(np.float16), rows)


def test_retrieval_is_what_a_loop_finds() -> None:
    found, table, has = samples(), items(), np.arange(N) != 4
    made = retrieval(found, table, has, T, as_it_is)
    assert len(made.vectors) < N + 2 * len(found), "each distinct input once"
    for number in range(len(found)):
        window = found.items[max(found.start[number], found.end[number] - T) : found.end[number]]
        known = [item for item in window if has[item]]
        long = np.mean([table[item] for item in known], axis=0) if known else None
        short = table[window[-1]] if has[window[-1]] else None
        merged = None if short is None else (long + short) / 2
        for column, expected in enumerate((long, short, merged)):
            row = made.rows[number, column]
            assert (row < 0) == (expected is None)
            if expected is not None:
                np.testing.assert_allclose(made.vectors[row], expected, atol=2e-3)


def test_retrieval_makes_the_views_that_are_wanted() -> None:
    made = retrieval(samples(), items(), np.ones(N, bool), T, as_it_is, ("short",))
    assert len(made.vectors) == N and (made.rows[:, 1] >= 0).all() and (made.rows[:, [0, 2]] == -1).all()


def test_answers_find_their_samples() -> None:
    frame = pd.DataFrame({
        "key": ["a", "a", "b", "b", "c"], "view": ["long", "short", "long", "short", "merged"],
        "text": ["Heat", "", "Heat", "Casino", "Casino"],
    })  # fmt: skip
    made = answered(frame, np.array(["b", "x", "a", "c"], object), lambda texts: np.eye(2)[: len(texts)], as_it_is)
    heat, casino = 1, 0  # alphabetical
    assert made.rows.tolist() == [[heat, casino, -1], [-1, -1, -1], [heat, -1, -1], [-1, -1, casino]]


def test_shuffled_is_another_session_of_the_same_part() -> None:
    found = samples(30)
    part = np.repeat(np.arange(3, dtype=np.int8), [14, 15, 1])
    texts = own_texts(found)
    given = shuffled(texts, found, part, seed=0)
    kept = given.rows[:, 0] >= 0
    whose = given.rows[kept, 0] // 3  # the sample that a text was made for
    own, other = found.session[kept], found.session[whose]
    assert (own != other).all() and (part[own] == part[other]).all()
    assert (kept == (part[found.session] < 2)).all(), "who is alone in a part gets nobody's"
    assert len(set(zip(own.tolist(), other.tolist(), strict=True))) == 29, "one other session for each"
    assert (given.rows[kept] % 3 == [0, 1, 2]).all()
    assert np.array_equal(shuffled(texts, found, part, seed=0).rows, given.rows)
    assert not np.array_equal(shuffled(texts, found, part, seed=1).rows, given.rows)


def test_shuffled_texts_go_among_those_that_have_one() -> None:
    found = samples(30)
    texts = own_texts(found).only(found.session % 3 == 0)
    given = shuffled(texts, found, np.zeros(30, np.int8), seed=0)
    assert ((given.rows >= 0).all(1) == (found.session % 3 == 0)).all()


def test_where_whole_sessions_alone_have_a_text_the_same_samples_get_one() -> None:
    found = samples(30)
    last = np.append(np.diff(found.session) != 0, True)
    given = shuffled(own_texts(found).only(last), found, np.zeros(30, np.int8), seed=0)
    assert np.array_equal((given.rows >= 0).all(1), last)
    whose = given.rows[last, 0] // 3
    assert last[whose].all() and len(set(whose.tolist())) == 30, "each text once, of a whole session"


def test_target_is_the_answer_and_constant_nothing() -> None:
    found, table = samples(), items()
    leak = target(found, table, np.arange(N) != 2, as_it_is)
    known = found.targets != 2
    assert (leak.rows[~known] == -1).all()
    np.testing.assert_allclose(leak.vectors[leak.rows[known, 0]], table[found.targets[known]], atol=2e-3)
    same = constant(found, table, as_it_is)
    assert len(same.vectors) == 1 and (same.rows == 0).all()
    np.testing.assert_allclose(same.vectors[0], table.mean(0), atol=2e-3)


def test_a_dose_of_the_answer_and_equal_terms() -> None:
    found, table = samples(60), items()
    own = Texts(np.full((1, WIDTH), -7, np.float16), np.zeros((len(found), 3), np.int32))
    made = {"retrieval": own, "target": target(found, table, np.ones(N, bool), as_it_is)}
    dosed = texts_of(ArmConfig(dose=0.3), "retrieval", made, seed=0)
    given = dosed.vectors[dosed.rows[:, 0]]
    told = (given != -7).all(1)
    assert 0.2 < told.mean() < 0.4
    assert np.array_equal(given[told], table[found.targets[told]].astype(np.float16))


def test_one_text_twice_stands_in_every_view() -> None:
    found = samples()
    own = own_texts(found)
    twice = texts_of(ArmConfig(texts="short"), "retrieval", {"retrieval": own}, seed=0)
    assert np.array_equal(twice.rows, own.rows[:, [1, 1, 1]]) and twice.vectors is own.vectors
    assert ArmConfig(texts="merged").heard == ["merged"] and ArmConfig(views=["short"]).heard == ["short"]


def test_an_arm_takes_what_it_names() -> None:
    found = samples()
    made = {"llm": own_texts(found).only(found.session < 3), "retrieval": own_texts(found)}
    assert texts_of(ArmConfig(), "llm", made, 0) is made["llm"]
    equal = texts_of(ArmConfig(source="retrieval", only="llm"), "llm", made, 0)
    assert np.array_equal((equal.rows >= 0).all(1), found.session < 3)
    with pytest.raises(DataError, match="texts of target are missing; there are those of llm, retrieval"):
        texts_of(ArmConfig(dose=0.5), "llm", made, 0)


def test_the_sources_that_arms_need() -> None:
    arms = [ArmConfig(), ArmConfig(source="shuffled"), ArmConfig(dose=0.1), ArmConfig(source="retrieval", only="llm")]
    assert sources_of("llm", arms) == ["llm", "shuffled", "target", "retrieval"]
    assert sources_of("constant", arms[:2]) == ["retrieval", "constant", "shuffled"]
    assert sources_of("target", [ArmConfig()]) == ["retrieval", "target"], "shown beside it in 05_localise"
    assert VIEWS == ("long", "short", "merged")
