"""Benchmarks: contestants give equal outputs, and what is said of their times is arithmetic. Nothing is timed here."""

from __future__ import annotations

import gc

import numpy as np
import pandas as pd
import pytest
import torch

from recnb.index.build import codes_per_level
from recnb.index.settings import IndexConfig
from recnb.index.trie import Trie
from recnb.llm.settings import DecodeConfig
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.settings import SasrecConfig
from recnb.speed import retrieval
from recnb.speed.decoding import (
    SEARCH_PARTS,
    DictTrie,
    decoding_contest,
    evaluation_contest,
    same_lists,
    small_llama,
    synthetic_codes,
    synthetic_prompts,
)
from recnb.speed.indexing import synthetic_embeddings
from recnb.speed.measure import Contest, contest, curve, growth, parts_of, peak_memory
from recnb.speed.training import (
    Window,
    endless,
    head_contest,
    learning_curve,
    switch_contest,
    training_contest,
    windows_of_users,
)
from recnb.speed.tries import equal_fan_out_codes, same_allowed, trie_costs

FIRST = 60  # ids below are words


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return synthetic_codes(50, FIRST, 0)


@pytest.fixture(scope="module")
def llama(rows: np.ndarray):
    return small_llama(int(rows.max()) + 1, 32, 2, 0)


@pytest.fixture
def windows(rows: np.ndarray) -> list[Window]:
    rng = np.random.default_rng(0)
    return [Window(np.arange(1, 8), rows[rng.integers(50, size=length)]) for length in (6, 3, 5)]


# --- measuring ------------------------------------------------------------------------------------------------------


def test_every_contestant_runs_once_per_round_and_nobody_is_always_first() -> None:
    order: list[str] = []
    found = contest({name: lambda name=name: order.append(name) or name for name in "abc"}, rounds=3)
    rounds = [order[i : i + 3] for i in range(0, 12, 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds) and {r[0] for r in rounds} == {"a", "b", "c"}
    assert found.seconds.shape == (3, 3) and (found.seconds > 0).all().all(), "the first round is not counted"
    assert found.results == {"a": "a", "b": "b", "c": "c"}
    assert gc.get_freeze_count() == 0, "what was set aside for the contest is collected again"


def test_ratios_are_taken_within_a_round() -> None:
    """The third round hit a slow machine: the medians' ratio would be 2.5, that of neighbours is 2."""
    found = Contest(pd.DataFrame({"slow": [2.0, 5.0, 40.0], "fast": [1.0, 2.0, 20.0]}), {})
    assert found.ratio("slow", "fast") == 2.0
    table = found.table("fast")
    assert table.loc["slow", "times fast"] == 2.0 and table.loc["slow", "ratio to"] == 2.5


def test_growth_is_the_slope() -> None:
    sizes = np.array([10, 100, 1000])
    assert growth(sizes, 3 * sizes**2.0) == pytest.approx(2)
    assert growth(sizes, np.full(3, 7.0)) == pytest.approx(0)
    found = curve(lambda size: lambda: sum(range(size)), [10, 100], 1, "adding, numbers n")
    assert found["size"].tolist() == [10, 100] and found["slope"].nunique() == 1


def test_peak_memory_sees_what_was_freed_again() -> None:
    found = peak_memory(lambda: float(np.ones(20_000_000).sum()))
    assert np.isnan(found) or 150e6 < found < 200e6


def test_a_run_that_cannot_be_measured_is_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError("read-only")

    done: list[int] = []
    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    assert np.isnan(peak_memory(lambda: done.append(1))) and done == [1]


# --- decoding -------------------------------------------------------------------------------------------------------


def test_all_ways_to_decode_give_the_same_lists(rows: np.ndarray, llama) -> None:
    prompts = synthetic_prompts(5, 6, 3, rows, FIRST, 0)
    runners = decoding_contest(llama, prompts, rows, 6, 2)
    ours = runners["recnb"]()
    for name in set(runners) - {"prefill alone"}:
        same, apart = same_lists(ours, runners[name]())
        assert same == 1 and apart < 1e-4, name
    changed = (ours[0].copy(), ours[1])
    changed[0][2, [0, 1]] = changed[0][2, [1, 0]]
    assert same_lists(ours, changed)[0] == 0.8, "another order is another list"


def test_the_parts_of_a_search_are_those_that_it_calls(rows: np.ndarray, llama) -> None:
    prompts = synthetic_prompts(2, 6, 3, rows, FIRST, 0)
    parts = parts_of(decoding_contest(llama, prompts, rows, 6, 2)["recnb"], SEARCH_PARTS)
    assert list(parts.index) == [*SEARCH_PARTS, "rest"] and (parts > 0).all()
    nothing = parts_of(lambda: None, SEARCH_PARTS)
    assert (nothing.drop("rest") == 0).all()


def test_synthetic_codes_are_an_index() -> None:
    rows = synthetic_codes(1000, 100, 1)
    assert rows.shape == (1000, 4) and rows.min() >= 100
    assert all(len(np.unique(rows[:, part], axis=0)) == 1000 for part in (slice(0, 2), slice(2, 4)))
    assert Trie.from_tokens(rows).nodes_per_level() == [32, 1000, 1000, 1000]
    found = {n: codes_per_level(n, IndexConfig()) for n in (16, 17, 65_536, 12_101, 10**8)}
    assert list(found.values()) == [4, 5, 256, 111, 10_000]


def test_the_trie_of_dicts_allows_the_same(rows: np.ndarray) -> None:
    trie, tree = Trie.from_tokens(rows), DictTrie(rows)
    for row in rows[:10].tolist():
        assert all(sorted(tree.allowed(row[:depth])) == trie.allowed(row[:depth]) for depth in range(5))
    assert same_allowed(trie, tree, rows.tolist())
    assert tree.allowed([0]) == []
    costs = trie_costs(2048, 8, 0, dicts=True, rounds=1).set_index("trie")
    assert (costs["items"] == 2048).all() and costs["same"].all()
    prefixes, vocabulary = 1 + 2 + 64 + 2048, 2 + 3 * 32
    assert costs.loc["arrays", "bytes"] <= 32
    assert costs.loc["dense table (computed)", "bytes"] == pytest.approx(prefixes * vocabulary / 8 / 2048)
    assert costs["step"].notna().to_dict() == {"arrays": True, "dense table (computed)": False, "dicts": True}
    without = trie_costs(2048, 8, 0, dicts=False, rounds=1)
    assert without["trie"].tolist() == ["arrays", "dense table (computed)"] and without["same"].isna().all()
    assert not same_allowed(trie, DictTrie(rows[1:]), rows[:1].tolist())
    assert set(np.bincount(equal_fan_out_codes(4096, 0)[:, 0])) == {1024}, "1,024 items below each first token"


# --- training -------------------------------------------------------------------------------------------------------


def test_a_window_trains_what_its_pairs_train(llama, windows: list[Window]) -> None:
    before = {name: p.clone() for name, p in llama.named_parameters()}
    dense, plain = (run() for run in training_contest(llama, windows, 4).values())
    assert dense == pytest.approx(plain, abs=1e-5)
    assert all(torch.equal(before[name], p) for name, p in llama.named_parameters()), "every round starts alike"
    ours, everywhere = (run() for run in head_contest(llama, windows, 4).values())
    assert ours == pytest.approx(everywhere, abs=1e-5)


def test_pairs_have_the_window_s_own_histories(windows: list[Window]) -> None:
    window = windows[1]  # three items: two targets
    first, second = window.pairs()
    assert first.ids.tolist() == [*range(1, 8), *window.items[:2].ravel()]
    assert second.ids.tolist() == [*range(1, 8), *window.items.ravel()]
    assert first.ids[first.labels].tolist() == window.items[1].tolist()
    assert second.ids[second.labels].tolist() == window.items[2].tolist()


def test_windows_hold_each_target_once(rows: np.ndarray) -> None:
    items, offsets = np.arange(12), np.array([0, 1, 4, 12])
    cut = windows_of_users(items, offsets, rows, np.array([1]), 3)
    targets = [tuple(row) for window in cut for row in window.items[1:]]
    assert sorted(targets) == sorted(tuple(rows[i]) for i in [2, 3, *range(5, 12)])
    assert max(len(window.items) for window in cut) == 4


def test_a_learning_curve_learns(rows: np.ndarray) -> None:
    torch.manual_seed(0)
    weight = torch.nn.Linear(1, 1)
    batches = endless([1.0, 2.0, 3.0], 2, 0)
    drawn = [next(batches) for _ in range(30)]
    assert all(len(set(batch)) == 2 for batch in drawn) and len(set(map(tuple, drawn))) > 3, "shuffled anew each pass"

    def loss(batch: list[float]) -> torch.Tensor:
        x = torch.tensor(batch)[:, None]
        return ((weight(x) - 2 * x) ** 2).mean()

    untrained = float(loss([1.0, 2.0]).detach())
    found = learning_curve(loss, batches, weight, 0.05, 0.3, 3, lambda: float(loss([1.0, 2.0]).detach()))
    assert len(found) == 3 and found["steps"].is_monotonic_increasing and found["seconds"].is_monotonic_increasing
    assert found["value"].iloc[-1] < untrained / 2


def test_switches_change_the_time_and_not_the_loss(llama, windows: list[Window]) -> None:
    losses = {name: run() for name, run in switch_contest(llama, windows).items()}
    exact = losses.pop("as it is")
    assert losses.pop("bfloat16 (autocast)") == pytest.approx(exact, rel=0.02)
    assert all(loss == pytest.approx(exact, abs=1e-4) for loss in losses.values())


# --- evaluation, retrieval ------------------------------------------------------------------------------


def test_string_metrics_are_item_metrics(rows: np.ndarray, llama) -> None:
    class Tokens:
        """Ids as words: what a tokenizer does with index tokens."""

        def decode(self, ids: list[int]) -> str:
            return "".join(f"<{i}>" for i in ids)

    class Words:
        item_tokens, pad_id, tokenizer = rows, 0, Tokens()

    prompts = synthetic_prompts(6, 6, 3, rows, FIRST, 0)
    targets = np.arange(6) * 7
    config = DecodeConfig(beam=20, batch_size=4)
    ours, theirs = (run() for run in evaluation_contest(llama, Words(), prompts, targets, config, [5, 20]).values())  # type: ignore[arg-type]
    assert ours == pytest.approx(theirs) and ours["R@20"] > 0


def test_search_finds_the_nearest() -> None:
    pytest.importorskip("faiss", reason="an optional package")
    vectors = synthetic_embeddings(300, 16, 0)
    exact, near = (look(vectors[:9], 5) for look in retrieval.searches(vectors, 1).values())
    assert (exact == np.argsort(-(vectors[:9] @ vectors.T), axis=1)[:, :5]).all()
    assert retrieval.overlap(near, exact) > 0.8
    table = retrieval.against_search(lambda n: lambda: n, [100, 300], 9, 5, 1, 1)
    assert table.groupby("method").size().tolist() == [2, 2, 2] and (table["users per second"] > 0).all()
    exactly = table[table["method"] == "exact search"]
    assert exactly["of the exact list"].eq(1).all() and exactly["ms for one user"].gt(0).all()


def test_overlap_counts_items_wherever_they_stand() -> None:
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert retrieval.overlap(exact[:, ::-1], exact) == 1 and retrieval.overlap(exact + 10, exact) == 0
    assert retrieval.overlap(np.array([[1, 2, 9, 0], [8, 9, 0, 1]]), exact) == 3 / 8


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_user_vectors_find_what_the_model_scores(temperature: float) -> None:
    histories = np.array([[-1, -1, 3, 4, 0], [7, 2, 2, 9, 1]])
    model = SASRec(12, SasrecConfig(width=8, temperature=temperature), 4).eval()
    products = retrieval.user_vectors(model, histories) @ model.item_table().T
    np.testing.assert_allclose(products, model.scores(histories), atol=1e-5)
