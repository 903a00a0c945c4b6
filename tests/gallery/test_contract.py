"""What every system of the gallery has to be, asked of all of them on the toy."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gallery_bench import C, D, sets_of, toy_bench

from recnb.errors import RecipeError
from recnb.gallery import interface
from recnb.gallery.interface import SYSTEMS, Retriever, rankers, without_test

each_system = pytest.mark.parametrize("system", SYSTEMS)


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    return toy_bench(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def rows(laid):
    """The rows of a system, trained once."""
    made: dict[str, list] = {}
    return lambda system: made.setdefault(system, rankers(system, laid[0])) if system not in made else made[system]


@each_system
def test_scores_are_finite_the_same_again_and_whoever_else_is_asked(system, rows, laid):
    held = laid[1]
    histories, items = held.histories["test"], sets_of(held, "test").items
    before = histories.copy(), items.copy()
    for row in rows(system):
        found = row.scores(histories, items)
        assert found.shape == (len(histories), D, C) and np.isfinite(found).all() and found.dtype == np.float32
        np.testing.assert_array_equal(found, row.scores(histories, items), err_msg=row.name)
        if "other-history" not in row.name:  # whose control it is to look at a neighbour
            np.testing.assert_allclose(found[1:3], row.scores(histories[1:3], items[1:3]), atol=1e-4, err_msg=row.name)
    assert all(map(np.array_equal, before, (histories, items))), "what is asked is not changed"


@each_system
def test_a_history_counts(system, rows, laid):
    """Longer padding changes nothing, another history changes something."""
    histories, items = laid[1].histories["test"], sets_of(laid[1], "test").items
    wider = np.pad(histories, ((0, 0), (3, 0)), constant_values=-1)
    for row in rows(system):
        found = row.scores(histories, items)
        np.testing.assert_allclose(row.scores(wider, items), found, atol=1e-4, err_msg=row.name)
        moved = np.abs(row.scores(histories[::-1], items) - found).max() > 1e-6
        assert moved or row.name == "bigrec/text-alone", row.name  # which may write one and the same title to all


@each_system
def test_names_are_the_file_s_and_prompts_hold_no_number_of_an_item(system, rows, laid):
    bench, held = laid
    items = sets_of(held, "test").items[0, 0]
    found = rows(system)
    assert len({row.name for row in found}) == len(found) and {row.name.split("/")[0] for row in found} == {system}
    for row in found:
        assert (row.learned.examples > 0) == (row.learned.parameters > 0)
        if (prompt := row.prompt(held.histories["test"][0], items)) is not None:
            words = bench.prompts.tokenizer.decode(prompt.ids[prompt.slots < 0])
            assert not re.search(r"\bitem[ _]?\d", words) and prompt.spans["history"].stop <= len(prompt.ids)


@each_system
def test_a_retriever_scores_candidates_as_it_scores_the_catalogue(system, rows, laid):
    histories, items = laid[1].histories["test"], sets_of(laid[1], "test").items
    for row in [row for row in rows(system) if isinstance(row, Retriever)]:
        whole = row.catalogue(histories)
        assert whole.shape == (len(histories), laid[0].n_items)
        np.testing.assert_allclose(row.scores(histories, items), interface.of_candidates(whole, items), atol=1e-5)


@each_system
def test_no_system_sees_what_is_tested(system, rows, laid, tmp_path):
    """Poison: other test users, histories and targets, the same trainings and scores."""
    bench, held = laid
    parts = {name: {**getattr(held, name), "test": getattr(held, name)["test"][::-1]} for name in ("users", "targets")}
    poisoned = without_test(replace(held, **parts))
    assert all("test" not in getattr(poisoned, name) for name in ("users", "histories", "targets"))
    histories, items = held.histories["test"], sets_of(held, "test").items
    for row, other in zip(rows(system), rankers(system, replace(bench, held=poisoned, keep=tmp_path)), strict=True):
        np.testing.assert_array_equal(row.scores(histories, items), other.scores(histories, items), err_msg=row.name)


@each_system
def test_a_system_is_a_small_file(system):
    text = (Path(interface.__file__).parent / f"{system}.py").read_text(encoding="utf-8")
    assert sum(1 for line in text.splitlines() if line.strip()) <= 80


def test_an_unknown_system_is_named_with_its_nearest(laid):
    with pytest.raises(RecipeError, match="llamarek.*nearest: 'llamarec'"):
        rankers("llamarek", laid[0])
