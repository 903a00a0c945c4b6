"""Rules, words, mixtures, S-POP, FPMC and vectors against slow, obvious twins."""

from __future__ import annotations

import doctest
import math
import re
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from recnb.data.schema import Sequences
from recnb.errors import DataError, ModelNotFoundError, RecipeError
from recnb.index.health import query_rows
from recnb.recommenders import choice, cornac_models, mixture, recency, rules, words
from recnb.recommenders.choice import choose
from recnb.recommenders.content import VectorSimilarity
from recnb.recommenders.cornac_models import FPMC, fit_fpmc, fit_spop
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.interface import ranked_lists, top_items
from recnb.recommenders.mixture import Mixture, fit_mixture, level
from recnb.recommenders.recency import NeverTwice, count_repeats, settle_seen
from recnb.recommenders.rules import Rules, count_pairs, fit_rules, rule_table
from recnb.recommenders.settings import BaselinesConfig, FpmcConfig, RulesConfig, WordsConfig
from recnb.recommenders.words import Words, fit_words, tfidf

N = 9
SESSIONS = Sequences(np.array([0, 3, 4, 8]), np.array([0, 1, 2, 5, 1, 2, 1, 3], np.int32))  # one of a single item


def random_sequences(seed: int, rows: int = 12, items: int = N) -> Sequences:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, rows)
    return Sequences(np.append(0, np.cumsum(lengths)), rng.integers(0, items, lengths.sum()).astype(np.int32))


def random_histories(seed: int, rows: int = 7, length: int = 5) -> np.ndarray:
    """Left-padded, the first one empty; items come again."""
    rng = np.random.default_rng([seed, 1])
    histories = rng.integers(0, N, (rows, length))
    histories[np.arange(length) < rng.integers(0, length, rows)[:, None]] = -1
    histories[0] = -1
    return histories


def lists_of(sequences: Sequences) -> list[list[int]]:
    return [sequences.items[a:b].tolist() for a, b in zip(sequences.offsets, sequences.offsets[1:], strict=False)]


def newest_first(history: np.ndarray) -> list[int]:
    return [int(item) for item in history[::-1] if item >= 0]


def test_docstrings_tell_the_truth() -> None:
    for module in (choice, mixture, recency, rules, words):
        result = doctest.testmod(module)
        assert not result.failed, module


# --- rules ------------------------------------------------------------------------------------------------------------


def naive_rules(
    train: Sequences, histories: np.ndarray, reach: int, power: float, rows: float, columns: float, back: float, decay: float
) -> np.ndarray:
    """Dictionaries and loops."""
    votes: Counter[tuple[int, int]] = Counter()
    for items in lists_of(train):
        for a in range(len(items)):
            for b in range(a + 1, min(a + reach, len(items) - 1) + 1):
                votes[items[a], items[b]] += (b - a) ** -power
                votes[items[b], items[a]] += back * (b - a) ** -power
    row_sums, column_sums = Counter(), Counter()
    for (i, j), value in votes.items():
        row_sums[i] += value
        column_sums[j] += value
    scores = np.zeros((len(histories), N))
    for u, history in enumerate(histories):
        for k, i in enumerate(newest_first(history)):
            for j in range(N):
                if votes[i, j]:
                    scores[u, j] += decay**k * votes[i, j] / (row_sums[i] ** rows * column_sums[j] ** columns)
    return scores


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), reach=st.integers(1, 12), power=st.sampled_from([0.0, 1.0, 1.5]),
       rows=st.sampled_from([0.0, 0.5, 1.0]), columns=st.sampled_from([0.0, 0.3]), back=st.sampled_from([0.0, 0.5, 1.0]),
       decay=st.sampled_from([0.0, 0.7, 1.0]))  # fmt: skip
def test_rules_are_the_naive_ones(
    seed: int, reach: int, power: float, rows: float, columns: float, back: float, decay: float
) -> None:
    train, histories = random_sequences(seed), random_histories(seed)
    ours = Rules(rule_table(count_pairs(train, N, reach, power), rows, columns, back), decay).scores(histories)
    assert ours.shape == (len(histories), N) and ours.dtype == np.float32
    assert ours == pytest.approx(naive_rules(train, histories, reach, power, rows, columns, back, decay), abs=1e-5)


def test_rules_by_hand() -> None:
    pairs = count_pairs(SESSIONS, N, 2)
    # 0 1 2 and 1 2 1 3: 1 -> 2 twice side by side; 2 -> 1 once; 1 -> 1 at distance two; 1 -> 3 once; 2 -> 3 at two
    assert pairs.toarray()[:4, :4].tolist() == [[0, 1, 0.5, 0], [0, 0.5, 2, 1], [0, 1, 0, 0.5], [0, 0, 0, 0]]
    scores = Rules(rule_table(pairs, 0.5, 0.0, 0.0), 0.5).scores(np.array([[-1, 0, 1], [-1, -1, -1], [5, 5, 5]]))
    expected = np.array([0, 0.5, 2, 1]) / math.sqrt(3.5) + 0.5 * np.array([0, 1, 0.5, 0]) / math.sqrt(1.5)
    assert scores[0, :4] == pytest.approx(expected)
    assert not scores[1:].any(), "no history, or an item that nothing follows: no votes"


def test_sequences_without_a_pair_give_an_empty_table() -> None:
    for alone in (Sequences(np.arange(4), np.array([1, 1, 2], np.int32)), Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32))):
        assert count_pairs(alone, N, 10).nnz == 0
        assert rule_table(count_pairs(alone, N, 10), 0.5, 0.5, 1.0).shape == (N, N)


def test_no_pair_crosses_the_end_of_a_sequence() -> None:
    assert count_pairs(SESSIONS, N, 10)[:, 5].nnz == 0 == count_pairs(SESSIONS, N, 10)[5].nnz


def test_rules_choose_on_validation_what_the_data_follow() -> None:
    """Only the newest item tells what comes next: votes of older ones mislead."""
    rng = np.random.default_rng(0)
    train = Sequences(np.arange(0, 2 * 80 + 1, 2), np.array([(i, i + 1) for i in rng.integers(0, N - 1, 80)], np.int32).ravel())
    newest = rng.integers(0, N - 1, 60)
    histories = np.concatenate([rng.integers(0, N, (60, 4)), newest[:, None]], axis=1)
    config = RulesConfig(decay=[1.0, 0.0, 0.5], backward=[1.0, 0.0], row_power=[0.5], seen="kept")
    fitted, told = fit_rules(train, N, config, (histories, newest + 1))
    assert isinstance(fitted, Rules) and fitted.decay == 0.0
    assert re.search(r"decay 0 \(of 1, 0, 0.5\); backward 0 \(of 1, 0\): N@10 [\d.]+ on validation; seen items kept", told)
    single = RulesConfig(decay=[0.7], backward=[0.0], row_power=[0.5], seen="kept")
    assert fit_rules(train, N, single, (histories, newest + 1))[1].startswith("nothing to choose")


# --- what was had -----------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_repeats_are_the_naive_count(seed: int) -> None:
    train = random_sequences(seed)
    share, chance, popularity = [], [], np.bincount(train.items, minlength=N) / len(train.items)
    for items in lists_of(train):
        for t in range(1, len(items)):
            share.append(items[t] in items[:t])
            chance.append(sum(popularity[i] for i in set(items[:t])))
    found = count_repeats(train, N)
    assert (found.share, found.chance) == pytest.approx((np.mean(share or [0]), np.mean(chance or [0])))


def test_whoever_never_repeats_is_never_shown_what_was_had() -> None:
    never = Sequences(np.array([0, 3, 6]), np.array([0, 1, 2, 2, 3, 0], np.int32))
    always = Sequences(np.array([0, 3, 6]), np.array([1, 1, 1, 2, 2, 2], np.int32))
    assert settle_seen("learned", never, N).masked and not settle_seen("learned", always, N).masked
    assert settle_seen("masked", always, N).masked and not settle_seen("kept", never, N).masked
    assert "0.00% of training items repeat" in settle_seen("learned", never, N).told
    votes = Rules(rule_table(count_pairs(always, N, 2), 0.0, 0.0, 0.0), 0.7)
    scores = NeverTwice(votes).scores(np.array([[-1, 3, 1], [-1, -1, -1]]))
    assert np.isneginf(scores[0, [1, 3]]).all() and np.isfinite(scores).sum() == 2 * N - 2
    assert np.isfinite(votes.scores(np.array([[1, 2]]))).all(), "the masked copy is its own"


# --- words ------------------------------------------------------------------------------------------------------------

TEXTS = ["Red nail polish", "red NAIL file!", "", "Shampoo, red; red", "shampoo 200ml", "200ml oil", "unique", "~ ~", "oil"]


def naive_tfidf(texts: list[str]) -> list[dict[str, float]]:
    bags = [Counter(re.findall("[a-z0-9]+", text.lower())) for text in texts]
    documents = Counter(word for bag in bags for word in bag)
    rows = []
    for bag in bags:
        row = {w: (1 + math.log(tf)) * math.log(len(texts) / documents[w]) for w, tf in bag.items() if documents[w] >= 2}
        length = math.sqrt(sum(value**2 for value in row.values()))
        rows.append({w: value / length for w, value in row.items() if length})
    return rows


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), decay=st.sampled_from([0.0, 0.5, 1.0]))
def test_words_are_the_naive_ones(seed: int, decay: float) -> None:
    rng, histories = np.random.default_rng(seed), random_histories(seed)
    texts = [" ".join(rng.choice(["a", "b2", "c", "dd", "e"], rng.integers(0, 6))) for _ in range(N - 1)] + ["a a b2"]
    texts[0] = "a c"
    vectors = naive_tfidf(texts)
    scores = np.zeros((len(histories), N))
    for u, history in enumerate(histories):
        for k, i in enumerate(newest_first(history)):
            for j in range(N):
                scores[u, j] += decay**k * sum(value * vectors[j].get(word, 0.0) for word, value in vectors[i].items())
    ours = Words(tfidf(texts), decay).scores(histories)
    assert ours.shape == scores.shape and ours == pytest.approx(scores, abs=1e-5)


def test_words_by_hand_and_items_without_text() -> None:
    vectors = tfidf(TEXTS)
    assert vectors.shape == (9, 5), "200ml, nail, oil, red, shampoo stand in two texts or more"
    red, nail = math.log(9 / 3), math.log(9 / 2)
    cosine = (nail**2 + red**2) / (nail**2 + red**2)  # polish and file stand in one text each
    scores = Words(vectors, 0.5).scores(np.array([[-1, 0], [-1, 2], [6, 7]]))
    assert scores[0, [0, 1]] == pytest.approx([1.0, cosine])
    assert not scores[0, [2, 5, 6, 7]].any() and not scores[1:].any()
    twice = (1 + math.log(2)) * red
    assert scores[0, 3] == pytest.approx(twice * red / math.hypot(twice, nail) / math.hypot(red, nail))


@pytest.mark.parametrize("texts", [["", ""], ["one", "two"], []])
def test_texts_that_share_no_word_are_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match=f"no word stands in two of the {len(texts)} items' texts"):
        tfidf(texts)


def test_a_word_that_all_have_weighs_nothing() -> None:
    assert not tfidf(["beauty", "beauty", "beauty"]).toarray().any()


def test_words_choose_their_decay() -> None:
    texts = [f"kind{i % 3} all" for i in range(N)]
    histories = np.array([[0, 0, 0, 1], [1, 1, 1, 2], [3, 3, 3, 4]])
    words, told = fit_words(texts, WordsConfig(decay=[1.0, 0.1], seen="masked"), settle_seen("masked", SESSIONS, N),
                            (histories, np.array([4, 5, 7])))  # fmt: skip
    assert isinstance(words, NeverTwice) and isinstance(words.scorer, Words) and words.scorer.decay == 0.1, told


# --- mixtures ---------------------------------------------------------------------------------------------------------


class Fixed:
    """Scores by the newest item, from a table (N, N)."""

    def __init__(self, table: np.ndarray) -> None:
        self.table, self.asked = table, 0

    def scores(self, histories: np.ndarray) -> np.ndarray:
        self.asked += 1
        return self.table[histories[:, -1]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), shift=st.sampled_from([0.0, -50.0, 1e4]), scale=st.sampled_from([1e-2, 1.0, 1e3]))
def test_levelled_rows_have_mean_0_and_deviation_1_whatever_their_scale(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    scores = (rng.standard_normal((5, N)) + shift) * scale
    scores[rng.random((5, N)) < 0.2] = -np.inf
    ours = level(scores.astype(np.float32))
    for row, given_ in zip(ours, scores.astype(np.float32), strict=True):
        known = [float(value) for value in given_ if value > -np.inf]
        assert np.isneginf(row).tolist() == np.isneginf(given_).tolist()
        if len(known) < 2:
            assert np.isfinite(row).sum() == len(known) and not row[np.isfinite(row)].any()
            continue
        mean = sum(known) / len(known)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in known) / len(known))
        expected = [(value - mean) / deviation for value in known]
        assert row[np.isfinite(row)] == pytest.approx(expected, abs=0.02 if shift else 1e-3)


def test_rows_of_equal_scores_level_to_nothing() -> None:
    for value in (0.0, 0.1, -1e6, 3e7):
        assert not level(np.full((2, 12_101), value, np.float32)).any()
    assert np.isneginf(level(np.full((1, 3), -np.inf))).all()


def test_levelling_leaves_the_scores_alone() -> None:
    scores = np.array([[1.0, 2.0, -np.inf]], np.float32)
    level(scores)
    assert scores.tolist() == [[1.0, 2.0, -np.inf]]


def test_a_mixture_is_the_weighted_sum_and_asks_nobody_for_nothing() -> None:
    rng = np.random.default_rng(1)
    a, b, c = (Fixed(rng.standard_normal((N, N))) for _ in range(3))
    histories = np.array([[-1, 3], [2, 8]])
    mixed = Mixture({"a": a, "b": b, "c": c}, {"a": 1.0, "b": 0.5, "c": 0.0}).scores(histories)
    assert mixed == pytest.approx(level(a.table[[3, 8]]) + 0.5 * level(b.table[[3, 8]]), abs=1e-5)
    assert mixed.dtype == np.float32 and (a.asked, b.asked, c.asked) == (1, 1, 0)


def test_what_a_member_excludes_stays_excluded() -> None:
    a, b = Fixed(np.eye(N)), Fixed(np.ones((N, N)) + np.eye(N))
    mixed = Mixture({"a": NeverTwice(a), "b": b}, {"a": 1.0, "b": 3.0}).scores(np.array([[4, 2]]))
    assert np.isneginf(mixed[0, [2, 4]]).all() and np.isfinite(mixed).sum() == N - 2


def test_weights_are_those_of_a_full_search_and_useless_members_are_left_out() -> None:
    rng = np.random.default_rng(3)
    histories, truth = rng.integers(0, N, (700, 2)), rng.permuted(np.tile(np.arange(N), (N, 1)), axis=1)
    targets = truth[histories[:, -1], 0]
    signal = np.zeros((N, N))
    signal[np.arange(N), truth[:, 0]] = 1.0
    members = {"weak": Fixed(signal + rng.standard_normal((N, N))),
               "good": Fixed(100 + 7 * (signal + 0.5 * rng.standard_normal((N, N)))),
               "flat": Fixed(np.ones((N, N)))}  # fmt: skip
    mixed, found = fit_mixture(members, histories, targets, grid=(0.0, 1.0, 3.0))
    each = {}
    for good in (0.0, 1.0, 3.0):
        for flat in (0.0, 1.0):
            tried = Mixture(members, {"weak": 1.0, "good": good, "flat": flat})
            ranks = [sum(row > row[t]) + (sum(row == row[t]) - 1) / 2 for row, t in zip(tried.scores(histories), targets, strict=True)]
            each[good, flat] = np.mean([1 / math.log2(rank + 2) for rank in ranks])
    assert found.reached == pytest.approx(max(each.values())) and mixed.weights["flat"] == 0.0
    assert each[mixed.weights["good"], mixed.weights["flat"]] == max(each.values()) > each[0.0, 0.0]
    assert mixed.weights["weak"] == 1.0 and f"good {mixed.weights['good']:g} (of 0, 1, 3)" in found.told()


def test_a_choice_holds_few_rows_at_once_and_looks_at_no_more_samples_than_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class Watched(Fixed):
        def scores(self, histories: np.ndarray) -> np.ndarray:
            sizes.append(len(histories))
            return super().scores(histories)

    rng = np.random.default_rng(0)
    members = {name: Watched(rng.standard_normal((N, N))) for name in "ab"}
    histories, targets = rng.integers(0, N, (500, 3)), rng.integers(0, N, 500)
    whole = fit_mixture(members, histories, targets, grid=(1.0, 0.5), samples=100)
    monkeypatch.setattr(mixture, "_ROWS", 32)
    sizes.clear()
    parts = fit_mixture(members, histories, targets, grid=(1.0, 0.5), samples=100)
    assert max(sizes) == 32 and parts[0].weights == whole[0].weights
    assert parts[1].reached == pytest.approx(whole[1].reached)
    assert len(query_rows(500, 100)) == 100 == len(set(query_rows(500, 100))) and query_rows(3, 100).tolist() == [0, 1, 2]


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 members and 1 samples"):
        fit_mixture({}, np.zeros((1, 1), int), np.zeros(1, int))
    with pytest.raises(ValueError, match="1 members and 0 samples"):
        fit_mixture({"a": Fixed(np.eye(N))}, np.zeros((0, 1), int), np.zeros(0, int))


def test_a_search_keeps_the_first_of_equals_and_ends() -> None:
    asked = []
    found = choose({"a": [1.0, 2.0], "b": [3.0]}, lambda tried: asked.append(len(tried)) or [0.0] * len(tried))
    assert found.setting == {"a": 1.0, "b": 3.0} and asked == [2]
    assert choose({"a": [1.0]}, lambda tried: 1 / 0).reached is None


# --- cornac -----------------------------------------------------------------------------------------------------------


def test_spop_scores_as_cornac_does() -> None:
    from cornac.models import SPop

    train, histories = random_sequences(4), random_histories(4)
    theirs = SPop().fit(cornac_models._sessions(cornac_models._cornac("spop"), train, N))
    expected = np.stack([theirs.score(0, newest_first(row)) for row in histories])
    assert fit_spop(train, N).scores(histories) == pytest.approx(expected)
    assert fit_spop(SESSIONS, N).scores(np.array([[1, 2, 1]]))[0, [1, 2, 0]] == pytest.approx([3, 1 + 2 / 3, 1 / 3])


def test_fpmc_scores_as_cornac_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from cornac.models import FPMC as Theirs

    models, fit = [], Theirs.fit
    monkeypatch.setattr(Theirs, "fit", lambda self, *args: models.append(self) or fit(self, *args))
    train, histories = random_sequences(5), random_histories(5)[1:]
    ours = fit_fpmc(train, N, FpmcConfig(width=4, epochs=3, batch_size=8, negatives=6), seed=1)
    expected = np.stack([models[0].score(0, newest_first(row)[::-1]) for row in histories])
    assert ours.scores(histories) == pytest.approx(expected, abs=1e-5) and np.ptp(expected, axis=1).min() > 0
    assert ours.scores(np.full((1, 3), -1))[0] == pytest.approx(ours.bias)
    again = fit_fpmc(train, N, FpmcConfig(width=4, epochs=3, batch_size=8, negatives=6), seed=1)
    assert np.array_equal(again.scores(histories), ours.scores(histories)), "the same seed, the same model"


def test_fpmc_learns_what_follows_what() -> None:
    rng = np.random.default_rng(0)
    walks = (rng.integers(0, N, (80, 1)) + np.arange(6)) % N
    train = Sequences(np.arange(0, 80 * 6 + 1, 6), walks.astype(np.int32).ravel())
    model = fit_fpmc(train, N, FpmcConfig(width=16, epochs=30, batch_size=32, negatives=16), seed=0)
    assert isinstance(model, FPMC)
    assert (top_items(model.scores(np.arange(N)[:, None]), 1)[:, 0] == (np.arange(N) + 1) % N).all()


def test_without_cornac_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "cornac" or name.startswith("cornac.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cornac", None)
    with pytest.raises(ModelNotFoundError, match=r"fpmc is cornac's.*pip install 'recnb\[sessions\]'"):
        fit_fpmc(SESSIONS, N, FpmcConfig(), seed=0)


# --- vectors ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), decay=st.sampled_from([0.0, 0.6, 1.0]))
def test_vector_similarity_is_the_naive_one(seed: int, decay: float) -> None:
    rng, histories = np.random.default_rng(seed), random_histories(seed)
    vectors = rng.standard_normal((N, 4)) * 3
    vectors[2] = 0  # an item without text
    unit = [v / (math.sqrt(sum(x * x for x in v)) or 1) for v in vectors]
    ours = VectorSimilarity(vectors, decay).scores(histories)
    for u, history in enumerate(histories):
        profile = sum((decay**k * unit[i] for k, i in enumerate(newest_first(history))), np.zeros(4))
        length = math.sqrt(sum(x * x for x in profile))
        for j in range(N):
            assert ours[u, j] == pytest.approx(profile @ unit[j] / length if length else 0.0, abs=1e-4)


def test_decay_0_is_the_last_item_and_1_the_mean() -> None:
    vectors = np.eye(3, dtype=np.float32)
    histories = np.array([[-1, 0, 1], [2, 2, 2]])
    assert VectorSimilarity(vectors, 0.0).scores(histories).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert VectorSimilarity(vectors, 1.0).scores(histories)[0] == pytest.approx([0.5**0.5, 0.5**0.5, 0])


# --- one way in -------------------------------------------------------------------------------------------------------

SHARED = [f"kind{i % 3} {'red' if i < 4 else 'blue'}" for i in range(N)]
ASKED = {"seed": 0, "validation": (random_histories(7), np.arange(7))}


@pytest.mark.parametrize("name", ["rules", "words", "rules+words", "spop", "fpmc"])
def test_every_counting_row_of_a_recipe_fits_and_lists(name: str) -> None:
    config = BaselinesConfig(baselines=[name], fpmc=FpmcConfig(width=4, epochs=1, batch_size=8, negatives=4))
    train, histories = random_sequences(8), random_histories(8)
    fitted, told = fit_baseline(name, train, N, config, 5, texts=SHARED, **ASKED)  # type: ignore[arg-type]
    assert told and fitted.scores(histories).shape == (7, N) and fitted.scores(histories).dtype == np.float32
    assert np.array_equal(ranked_lists(fitted, histories, 4, users=3), top_items(fitted.scores(histories), 4))
    again, words_again = fit_baseline(name, train, N, config, 5, texts=SHARED, **ASKED)  # type: ignore[arg-type]
    assert told == words_again and np.array_equal(fitted.scores(histories), again.scores(histories))


def test_rules_and_words_together_say_what_each_chose() -> None:
    fitted, told = fit_baseline("rules+words", random_sequences(8), N, BaselinesConfig(), 5, texts=SHARED, **ASKED)  # type: ignore[arg-type]
    assert isinstance(fitted, Mixture) and list(fitted.members) == ["rules", "words"]
    assert re.fullmatch(r"words [\d.]+ \(of .*\): N@10 .* on validation \(rules: .*; words: .*\)", told)


@pytest.mark.parametrize("name", ["words", "rules+words"])
def test_words_want_the_texts_of_all_items(name: str) -> None:
    with pytest.raises(RecipeError, match="words needs the items' texts"):
        fit_baseline(name, SESSIONS, N, BaselinesConfig(), 5, **ASKED)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="texts of 2 items, expected 9"):
        fit_baseline(name, SESSIONS, N, BaselinesConfig(), 5, texts=["a", "a"], **ASKED)  # type: ignore[arg-type]
