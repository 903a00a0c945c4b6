"""The table: the same sets for every row, ranks as the protocol has them, differences by user."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gallery_bench import SEED, C, D, T, fitted, sets_of, toy_bench

from recnb.evaluation.candidates import CandidateSets, draw_candidates
from recnb.gallery.interface import Learned
from recnb.gallery.llmseqsim import Similar
from recnb.gallery.recipe import Gallery
from recnb.gallery.table import (
    WHOLE,
    ask,
    differences,
    intervals,
    lay_bench,
    outcomes,
    over_seeds,
    plain_rows,
    sets_for,
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    bench, held = toy_bench(tmp_path_factory.mktemp("kept"))
    popularity = bench.models["popularity"].counts
    own = held.owned_by("test"), held.targets["test"], C, D
    sets = {rule: draw_candidates(*own, rule, SEED, popularity=popularity) for rule in ("uniform", "popularity")}
    rows = plain_rows(bench.models, held.train, bench.n_items, SEED)
    return {row.name: ask(row, held.histories["test"], sets) for row in rows}, sets, held


class Oracle:
    """Knows the targets."""

    def __init__(self, targets, n_items):
        self.table = np.eye(n_items)[targets]

    def scores(self, histories):
        return self.table


def test_baselines_stand_beside_and_chance_is_chance(asked):
    entries, _, held = asked
    assert list(entries) == ["random", "popularity", "itemknn", "sasrec"]
    counts = np.bincount(held.train.items, minlength=entries["popularity"].whole.shape[1])
    np.testing.assert_array_equal(entries["popularity"].whole[0], counts)
    assert entries["sasrec"].cost.parameters > 0 == entries["popularity"].cost.parameters
    assert entries["sasrec"].cost.examples == 2 * (len(held.train.items) - len(held.train)), "two epochs"


def test_who_knows_the_target_is_first_everywhere(asked):
    entries, sets, held = asked
    row = Similar("oracle", Oracle(held.targets["test"], entries["random"].whole.shape[1]))
    found = outcomes(ask(row, held.histories["test"], sets), sets, [5])
    assert all(np.all(values == 1) for own in found.values() for values in own.values())
    assert set(found) == {"uniform", "popularity", WHOLE} and set(found["uniform"]) == {"HR@1", "N@5", "MRR"}


def test_a_target_that_is_not_listed_is_a_miss(asked):
    entries, sets, held = asked
    outside = {"uniform": CandidateSets(sets["uniform"].items, np.full(len(held.targets["test"]), 10**6), "uniform")}
    entry = replace(entries["sasrec"], whole=None, scores={"uniform": entries["sasrec"].scores["uniform"]})
    found = outcomes(entry, outside, [5])
    assert set(found) == {"uniform"} and all(not values.any() for values in found["uniform"].values())


def test_differences_are_paired_and_sorted_by_the_last_rule(asked):
    entries, sets, _ = asked
    each = {name: outcomes(entry, sets, [5]) for name, entry in entries.items()}
    frame = differences(each, "sasrec", "HR@1", sets, 200, SEED)
    assert set(frame.system) == {"random", "popularity", "itemknn"} and len(frame) == 6
    last = frame[frame.rule == "popularity"]
    assert last["diff"].is_monotonic_decreasing
    row = last.iloc[0]
    own, bar = (each[name]["popularity"]["HR@1"].mean() for name in (row.system, "sasrec"))
    assert row["diff"] == pytest.approx(own - bar)
    means = intervals(each, 200, SEED).set_index(["system", "rule", "metric"])["mean"]
    assert means["sasrec", "popularity", "HR@1"] == pytest.approx(bar)


def test_a_user_s_sets_of_all_rules_are_asked_together(asked):
    entries, sets, held = asked

    class Lister:
        """Scores an item by its number and by the draw that it stands in; it pays for every set."""

        name, answer, learned = "lister/variant", "title", Learned()

        def scores(self, histories, items):
            return (items + 1000 * np.arange(items.shape[1])[None, :, None]).astype(np.float32)

    found = ask(Lister(), held.histories["test"], sets)
    for number, (rule, one) in enumerate(sets.items()):
        draws = (number * D + np.arange(D))[None, :, None]
        np.testing.assert_array_equal(found.scores[rule], one.items + 1000 * draws)
    assert found.asked == 2 * D and found.whole is None
    chief = sets_for(Lister(), sets, "popularity")
    assert list(chief) == ["popularity"] and ask(Lister(), held.histories["test"], chief).asked == D
    assert sets_for(Similar("llm2rec/before", Oracle(held.targets["test"], 40)), sets, "popularity") is sets
    each = {name: outcomes(entry, sets, [5]) for name, entry in entries.items()} | {
        "lister/variant": outcomes(ask(Lister(), held.histories["test"], chief), sets, [5])}  # fmt: skip
    frame = differences(each, "sasrec", "HR@1", sets, 200, SEED)
    assert frame[frame.system == "lister/variant"].rule.tolist() == ["popularity"]


def test_seeds_are_averaged_by_user():
    one, other = ({"uniform": {"HR@1": np.array(values)}} for values in ([0.0, 1.0], [1.0, 1.0]))
    assert over_seeds([one, other])["uniform"]["HR@1"].tolist() == [0.5, 1.0]


def test_a_bench_is_laid_by_a_recipe(tmp_path):
    bench, held = toy_bench(tmp_path)
    recipe = Gallery(name="toy", llm=bench.llm, tune=bench.tune, seed=SEED)
    laid = lay_bench(recipe, bench.titles, held, sets_of(held, "valid").items, bench.models, tmp_path)
    assert "test" not in laid.held.targets and laid.prompts.titles == bench.prompts.titles
    assert fitted("popularity", held, bench.n_items).counts.sum() == len(laid.held.train.items) and T == 8
