"""What a ranker is trained on: nothing held out, everybody once, the same cases in every kind of prompt."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ranker_small import C, T, toy
from scipy import sparse

from recnb.data.held_out import hold_out
from recnb.data.schema import Sequences
from recnb.data.settings import SplitConfig
from recnb.data.split import replace_heldout
from recnb.errors import DataError
from recnb.llm.settings import TuneConfig, TuneStage
from recnb.llm.training_cases import ranking_examples, training_cases


def test_a_case_is_a_place_in_a_training_sequence() -> None:
    held = toy().held
    cases = training_cases(held, 150, T, C, 0)
    rows = [held.train.items[a:b].tolist() for a, b in zip(held.train.offsets, held.train.offsets[1:], strict=False)]
    for history, target, listed in zip(cases.histories, cases.targets, cases.candidates, strict=True):
        shown = [*history[history >= 0].tolist(), int(target)]
        users = [
            user for user, row in enumerate(rows)
            for end in range(2, len(row) + 1) if row[max(0, end - 1 - T) : end] == shown
        ]  # fmt: skip
        assert users and len(set(listed.tolist())) == C and target in listed
        free = [user for user in users if not set(listed.tolist()) - {target} & set(rows[user])]
        assert free, "no other candidate is the user's own, as far as training knows"


def test_who_has_almost_everything_is_left_out() -> None:
    """Of five items the first user has four; three candidates need two others."""
    train = Sequences(np.array([0, 4, 6]), np.array([0, 1, 2, 3, 0, 1], np.int32))
    owned = sparse.csr_matrix((np.ones(6, bool), train.items, train.offsets), shape=(2, 5))
    held = dataclasses.replace(toy().held, train=train, owned=owned, users={"train": np.arange(2), "test": np.empty(0, int)})
    assert training_cases(held, 8, T, 3, 0).targets.tolist() == [1] * 8
    with pytest.raises(DataError, match="4 items that they do not have; there is none"):
        training_cases(held, 8, T, 5, 0)


def test_nobody_twice_before_everybody_was_once() -> None:
    """Users of three training items each, that nobody else has; the last of them has one alone."""
    train = Sequences(np.append(np.arange(0, 31, 3), 31), np.arange(31, dtype=np.int32))
    owned = sparse.csr_matrix((np.ones(31, bool), train.items, train.offsets), shape=(11, 40))
    held = dataclasses.replace(toy().held, train=train, owned=owned, users={"train": np.arange(11), "test": np.empty(0, int)})
    users = training_cases(held, 35, T, C, 0).targets // 3
    for start in range(0, 30, 10):
        assert sorted(users[start : start + 10].tolist()) == list(range(10))
    assert len(set(users[30:].tolist())) == 5


def test_what_is_held_out_changes_no_case() -> None:
    """The poison: other validation and test items; not even the wrong answers know of them."""
    dataset = toy().dataset
    held = hold_out(replace_heldout(dataset, np.random.default_rng(0)), SplitConfig(), T, 3)
    one, other = training_cases(toy().held, 99, T, C, 0), training_cases(held, 99, T, C, 0)
    assert (toy().held.targets["test"] != held.targets["test"]).all()
    for name in ("histories", "targets", "candidates"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_seeds_and_stages_draw_other_cases_and_kinds_the_same() -> None:
    config = TuneConfig(stages=[TuneStage(examples=30), TuneStage(examples=30)])
    examples_of = ranking_examples(toy().prompts, toy().held, config, T, C, 0)
    text, hybrid, later = examples_of(0, "text"), examples_of(0, "hybrid"), examples_of(1, "text")
    assert [one.item for one in text] == [one.item for one in hybrid] != [one.item for one in later]
    assert all((one.prompt.slots < 0).all() for one in text)
    for one in hybrid:
        assert (one.prompt.slots >= 0).any() and one.item in one.prompt.slots
        assert np.array_equal(one.answer, toy().prompts.answers[one.item])
        assert (one.answer < toy().prompts.rows).all(), "a slot is never to be written"


def test_a_stage_may_list_fewer_about_the_same_users_and_targets() -> None:
    few, many = (TuneConfig(stages=[TuneStage(examples=30, candidates=count)]) for count in (3, None))
    short, long = (ranking_examples(toy().prompts, toy().held, one, T, C, 0)(0, "hybrid") for one in (few, many))
    assert [one.item for one in short] == [one.item for one in long]
    for examples, count in ((short, 3), (long, C)):
        for one in examples:
            listed = one.prompt.slots[one.prompt.spans["candidates"]]
            assert (listed >= 0).sum() == count and one.item in listed


def test_nobody_to_learn_from_is_said() -> None:
    held = dataclasses.replace(toy().held, train=Sequences(np.arange(4), np.arange(3, dtype=np.int32)))
    with pytest.raises(DataError, match="two events or more"):
        training_cases(held, 5, T, C, 0)
