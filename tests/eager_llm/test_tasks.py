"""The six tasks: what is a target, what it is conditioned on, and that nothing held out is read."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sandbox import ROOT
from small import TASKS, USERS, K, L, N, T, builder, catalogue, sequences, vocabulary

from recnb.data.schema import Sequences, has_text, titles_of
from recnb.eager_llm.prompts import index2item_prompts, itemsearch_prompts, preference_prompts, seqrec_prompts
from recnb.eager_llm.tasks import ItemText, full_text, load_preferences, preference_text, tokenizer_texts
from recnb.errors import DataError
from recnb.llm.vocabulary import train_tokenizer

VOCABULARY = vocabulary()


def items_in(ids: np.ndarray) -> list[int]:
    """Item numbers found in a token sequence, by their first two tokens."""
    first = {int(t): i for i, t in enumerate(VOCABULARY.index_tokens[0])}
    second = {int(t): i for i, t in enumerate(VOCABULARY.index_tokens[1])}
    return [
        first[int(a)] * K + second[int(b)] for a, b in itertools.pairwise(ids) if int(a) in first and int(b) in second
    ]


def test_every_training_target_once_per_epoch() -> None:
    made = builder(VOCABULARY)
    train = sequences()
    wanted = Counter((u, p) for u in range(USERS) for p in range(1, train.lengths[u]))
    for epoch in range(4):
        rows = made.windows(epoch)
        found = Counter((int(u), p) for u, _, begin, stop in rows for p in range(begin, stop))
        assert found == wanted
        assert (rows[:, 3] - rows[:, 2]).max() <= T
    assert len({len(made.windows(e)) for e in range(20)}) == 1  # every epoch has the same number of steps


@pytest.mark.parametrize("length", [2, 3, T, T + 1, 2 * T, 2 * T + 1, 30])
def test_windows_of_any_length(length: int) -> None:
    train = Sequences(np.array([0, length]), np.arange(length, dtype=np.int32) % N)
    made = builder(VOCABULARY, train=train)
    for epoch in range(30):
        rows = made.windows(epoch)
        assert sorted(p for _, _, begin, stop in rows for p in range(begin, stop)) == list(range(1, length))


@pytest.mark.parametrize("separator", ["", ", "])
@pytest.mark.parametrize("burn_in", [0, 2, T])
def test_every_target_of_a_window_reads_a_pair_of_the_items_shown(burn_in: int, separator: str) -> None:
    """Cut before any of its targets, a window is the prompt for exactly the items it has shown: 1 to T, and burn_in."""
    tasks = TASKS.model_copy(update={"templates": 1, "mixture": {"seqrec": 1.0}, "separator": separator})
    made, train, checked = builder(VOCABULARY, tasks=tasks, burn_in=burn_in), sequences(), 0
    for sample, (user, first, begin, stop) in zip(made.epoch(0), made.windows(0), strict=True):
        events = train.items[train.offsets[user] : train.offsets[user + 1]]
        assert sample.labels.sum() == L * (stop - begin)
        for place in range(begin, stop):
            pair = [seqrec_prompts(VOCABULARY, [events[first:place]], tasks)[0], VOCABULARY.item_tokens[events[place]]]
            end = sum(map(len, pair))
            np.testing.assert_array_equal(sample.ids[:end], np.concatenate(pair))
            assert sample.labels[end - L : end].all() and sample.following[end - L - 1] == events[place]
            assert place - first == min(place, place - begin + 1 + burn_in)
            checked += 1
    assert checked == (train.lengths - 1).sum()


def test_what_a_target_sees_in_windows_and_in_pairs() -> None:
    """A pair shows up to T items; without burn-in windows show half as many; with one of T nothing is lost."""
    train = sequences()
    pairs = np.concatenate([np.minimum(np.arange(1, n), T) for n in train.lengths])
    seen = {}
    for burn_in in (0, T):
        rows = builder(VOCABULARY, burn_in=burn_in).windows(0)
        seen[burn_in] = {(user, p): p - first for user, first, begin, stop in rows.tolist() for p in range(begin, stop)}
    whole = {(user, p): min(p, T) for user, n in enumerate(train.lengths) for p in range(1, n)}
    assert np.mean(list(seen[0].values())) < 0.8 * pairs.mean()
    assert all(seen[T][target] >= items for target, items in whole.items())
    assert max(seen[T].values()) <= 2 * T


def test_labels_cover_whole_items_and_nothing_else() -> None:
    for sample in builder(VOCABULARY).epoch(0):
        answer = sample.ids[sample.labels]
        if sample.task in ("seqrec", "item2index", "itemsearch"):
            assert len(answer) % L == 0
            np.testing.assert_array_equal(answer[-L:], VOCABULARY.item_tokens[sample.target])
        assert sample.ids[-1] == VOCABULARY.con_id and not sample.labels[-1]


def test_con_before_the_response() -> None:
    for sample in builder(VOCABULARY, dense=False, con_before=True).epoch(0):
        place = int(np.flatnonzero(sample.ids == VOCABULARY.con_id)[0])
        assert sample.labels[place + 1 :].all() and not sample.labels[: place + 1].any()


def test_text_answers_end_with_eos() -> None:
    for sample in builder(VOCABULARY).epoch(0):
        if sample.task in ("index2item", "preferenceobtain"):
            assert sample.ids[sample.labels][-1] == VOCABULARY.eos_id
    assert all(s.target == -1 for s in builder(VOCABULARY).epoch(0) if s.task == "preferenceobtain")


def test_no_word_of_a_held_out_item_stands_in_any_sample() -> None:
    """Every text field of every item has a word of its own; those of shown items appear, those of hidden ones never."""
    digits = [f"{i // 10}{i % 10}" for i in range(N)]
    items = catalogue().assign(
        title=[f"The story {d}T" for d in digits], brand=[f"House {d}B" for d in digits],
        categories=[["Drama", f"Genre {d}C"] for d in digits],
    )  # fmt: skip
    vocab = vocabulary(items)
    text = ItemText.build(items, vocab, TASKS, 0)
    made = dataclasses.replace(builder(vocab), text=text)
    found: dict[str, set[str]] = {}
    for sample in itertools.chain.from_iterable(map(made.epoch, range(6))):
        found.setdefault(sample.task, set()).update(re.findall(r"\d\dT|\d\dB|\d\dC", vocab.decode(sample.ids)))
    hidden = {digits[i] for i in np.flatnonzero(text.hidden)}
    assert len(hidden) == round(0.2 * N)
    assert not any(word[:2] in hidden for words in found.values() for word in words)
    said = {task: {word[2] for word in words} for task, words in found.items()}
    assert said["item2index"] == said["index2item"] == {"T", "B", "C"} and said["fusionseqrec"] == {"T"}
    assert said["itemsearch"] == {"T", "C"} and "C" in said["preferenceobtain"] and not said["seqrec"]
    for held in np.flatnonzero(text.hidden).tolist():
        assert not text.title[held] and not text.full[held] and not text.categories[held] and not text.words[held]


def test_the_mixture_counts_samples() -> None:
    half = builder(VOCABULARY, tasks=TASKS.model_copy(update={"mixture": {"seqrec": 2.0, "item2index": 0.5}}))
    counts = Counter(s.task for s in half.epoch(0))
    assert counts["seqrec"] == 2 * len(half.windows(0))
    assert counts["item2index"] == round(0.5 * (N - round(0.2 * N)))
    assert set(counts) == {"seqrec", "item2index"}


def test_epochs_are_repeatable_and_differ() -> None:
    made, again = builder(VOCABULARY), builder(VOCABULARY)
    same = [a.ids.tolist() == b.ids.tolist() for a, b in zip(made.epoch(1), again.epoch(1), strict=True)]
    assert all(same)
    assert [s.ids.tolist() for s in made.epoch(0)] != [s.ids.tolist() for s in made.epoch(1)]


def test_selection_by_user_and_target() -> None:
    users, targets = np.zeros(USERS, dtype=bool), np.ones(N, dtype=bool)
    users[:4], targets[:10] = True, False
    tasks = TASKS.model_copy(update={"mixture": {"seqrec": 1.0}})
    for dense in (True, False):
        made = builder(VOCABULARY, dense=dense, tasks=tasks, users=users, targets=targets)
        answers = [i for s in made.epoch(0) for i in items_in(s.ids[s.labels])]
        assert answers and min(answers) >= 10
    with pytest.raises(DataError, match="no user is left"):
        builder(VOCABULARY, users=np.zeros(USERS, dtype=bool))
    with pytest.raises(DataError, match="no target is left"):
        builder(VOCABULARY, targets=np.zeros(N, dtype=bool))


def test_notebooks_hand_every_setting_of_windows_on() -> None:
    """A setting that a notebook forgets changes nothing, and is then said to have been measured."""
    for name in ("04_train", "05_anneal"):
        cells = json.loads((ROOT / "notebooks" / "eager_llm" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        tree = ast.parse("\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "TaskBuilder"]
        given = [{keyword.arg for keyword in call.keywords} for call in calls]
        assert given and all({"dense", "burn_in", "con_before"} <= names for names in given)


def test_prompts_end_where_the_answer_begins() -> None:
    config = TASKS.model_copy(update={"templates": 1, "mixture": {"seqrec": 1.0}})
    histories = np.array([[-1, -1, 3, 4], [0, 1, 2, 5]])
    prompts = seqrec_prompts(VOCABULARY, histories, config)
    assert [items_in(p) for p in prompts] == [[3, 4], [0, 1, 2, 5]]
    train = Sequences(np.array([0, 3]), np.array([3, 4, 9], dtype=np.int32))
    sample = builder(VOCABULARY, train=train, tasks=config).epoch(0)[0]
    start = np.flatnonzero(sample.labels)[-L]
    if len(items_in(sample.ids)) == 3:
        np.testing.assert_array_equal(sample.ids[:start], seqrec_prompts(VOCABULARY, np.array([[3, 4]]), config)[0])
    assert seqrec_prompts(VOCABULARY, histories, config, con_before=True)[0][-1] == VOCABULARY.con_id


def test_other_prompts() -> None:
    assert items_in(index2item_prompts(VOCABULARY, np.array([6]), TASKS)[0]) == [6]
    plain, shown = (
        itemsearch_prompts(VOCABULARY, ["Drama <s1_0>"], None, TASKS),
        itemsearch_prompts(VOCABULARY, ["Drama"], np.array([[1, 2]]), TASKS),
    )
    assert items_in(plain[0]) == [] and items_in(shown[0]) == [1, 2]
    assert "Drama <s1_0>" in VOCABULARY.decode(plain[0])
    assert items_in(preference_prompts(VOCABULARY, np.array([[-1, 8]]), TASKS)[0]) == [8]


def test_texts_of_items_without_a_title() -> None:
    items = catalogue(3, ["A title", "", " "])
    items.at[1, "description"] = "Only a description"
    items.at[2, "categories"] = []
    assert titles_of(items) == ["A title", "Only a description", "item i2"]
    items["brand"] = ["Acme", "", ""]
    assert full_text(items)[0] == "A title, by Acme (Drama)"


def test_preference_names_what_is_common() -> None:
    text = ItemText.build(catalogue(), VOCABULARY, TASKS.model_copy(update={"heldout_text": 0.0}), 0)
    sentence = preference_text(text, [0, 2, 4, 1])
    assert sentence.startswith("likes Drama, Comedy") and "story" in sentence


def test_a_given_preference_replaces_the_derived_one() -> None:
    tasks = TASKS.model_copy(update={"mixture": {"preferenceobtain": 1.0}})
    made = dataclasses.replace(builder(VOCABULARY, tasks=tasks), preferences={0: "wants quiet films"})
    texts = [VOCABULARY.decode(s.ids[s.labels]) for s in made.epoch(0)]
    assert sum("wants quiet films" in t for t in texts) == 1


def test_preferences_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "preferences.jsonl"
    path.write_text('{"user_id": "u2", "preference": "quiet films"}\n', encoding="utf-8")
    assert load_preferences(path, ["u1", "u2"]) == {1: "quiet films"}
    with pytest.raises(DataError, match="no such file"):
        load_preferences(tmp_path / "none.jsonl", ["u1"])
    path.write_text('{"user_id": 7, "preference": "a line\u2028break"}\n\n', encoding="utf-8")
    assert load_preferences(path, ["u1", "7"]) == {1: "a line\u2028break"}
    path.write_text('{"user_id": "u2", "preference": "x"}\n{"user": 3}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2: expected"):
        load_preferences(path, ["u1", "u2"])
    path.write_text('{"user_id": "u2", "preferences": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="no column 'preference'.*nearest.*preferences"):
        load_preferences(path, ["u1", "u2"])
    path.write_text('{"user_id": "u22", "preference": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 1: unknown user 'u22'.*nearest.*u2"):
        load_preferences(path, ["u1", "u2"])


# --- a catalogue that says little or nothing ------------------------------------------------------------------------


def silent(n: int = N, speaking: int = 0) -> pd.DataFrame:
    """A catalogue of which only the first few items have text."""
    items = catalogue(n)
    quiet = np.arange(n) >= speaking
    items["title"] = items["title"].where(~quiet, "")
    items["categories"] = [[] if q else c for q, c in zip(quiet, items["categories"], strict=True)]
    return items


def test_what_an_item_is_called_when_it_has_no_title() -> None:
    items = pd.DataFrame(
        {"item_id": list("abcd"), "title": "", "description": ["polymer gun cleaning picks", "", "", ""],
         "categories": [["Hunting"], ["Hunting", "Tools"], [], []], "brand": ["Tipton", "Ghost", "Nike", ""]}
    )  # fmt: skip
    assert titles_of(items) == ["polymer gun cleaning picks", "Hunting / Tools", "Nike", "item d"]
    assert full_text(items) == [
        "polymer gun cleaning picks, by Tipton (Hunting)", "Hunting / Tools, by Ghost (Hunting, Tools)", "Nike", "item d",
    ]  # fmt: skip
    assert has_text(items).tolist() == [True, True, True, False]
    assert tokenizer_texts(items) == full_text(items)[:3], "an id is no text"


def test_no_task_shows_an_item_that_has_no_text() -> None:
    text = ItemText.build(silent(speaking=10), VOCABULARY, TASKS, 0)
    drawn = builder(VOCABULARY).text.hidden
    assert np.array_equal(text.hidden, drawn | (np.arange(N) >= 10))
    assert np.array_equal(text.heldout, drawn & (np.arange(N) < 10)) and not text.silent
    made = dataclasses.replace(builder(VOCABULARY), text=text)
    for sample in made.epoch(0):
        assert not re.search(r"item i\d", VOCABULARY.decode(sample.ids))
        assert sample.task not in ("item2index", "index2item") or sample.target < 10


def test_a_catalogue_without_text_trains_on_sequences_alone() -> None:
    alone = TASKS.model_copy(update={"mixture": {"seqrec": 1.0, "item2index": 0.0}})
    text = ItemText.build(silent(), VOCABULARY, alone, 0)
    assert text.silent and text.hidden.all() and not text.heldout.any()
    made = dataclasses.replace(builder(VOCABULARY, tasks=alone), text=text)
    assert {sample.task for sample in made.epoch(0)} == {"seqrec"}
    with pytest.raises(DataError, match=r"tasks.mixture.item2index = 0.5, but no item .* has text.*seqrec"):
        dataclasses.replace(made, config=TASKS.model_copy(update={"mixture": {"seqrec": 1.0, "item2index": 0.5}}))
    learned = train_tokenizer(tokenizer_texts(silent()), 1000)
    assert len(learned.encode("Continue this history: ")) < 7, "the tokenizer learns the instructions instead"
