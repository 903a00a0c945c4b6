"""Intents: who is asked, what is kept, what a file may say, what the report counts and when the gate closes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recnb.data.schema import Sequences
from recnb.data.sessions import Samples, Sessions, every_prefix
from recnb.errors import DataError, ModelNotFoundError, RecnbError
from recnb.llm.continuations import continuations
from recnb.llm.pretrained import load_causal_lm
from recnb.llm4sbr.intent_files import answerer, questions_frame, read_answers, read_cache, unanswered, write_cache
from recnb.llm4sbr.intent_report import agreement, gate, intent_report
from recnb.llm4sbr.intents import (
    COLUMNS,
    TYPES,
    Questions,
    ask,
    asked_about,
    asker_of,
    catalogue_lines,
    draw_sessions,
    input_keys,
)
from recnb.llm4sbr.prompts import Prompter, clean_answer
from recnb.llm4sbr.settings import GateConfig, IntentsConfig

TITLES = [f"A {kind} of {thing}" for kind in ("story", "film") for thing in ("robots", "crime", "space", "children")]
IDS = [f"i{number}" for number in range(len(TITLES))]


def samples(sessions: int = 12, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 7, sessions)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return every_prefix(Sequences(offsets, rng.integers(0, len(TITLES), offsets[-1]).astype(np.int32)))


@pytest.fixture
def config(tiny_folder) -> IntentsConfig:
    return IntentsConfig(source="llm", model=str(tiny_folder), items=4, max_tokens=5, shard=10)


class Loader:
    """Gives the tiny model, and counts how often it is asked for it."""

    def __init__(self, folder) -> None:
        self.folder, self.calls, self.passes = folder, 0, 0

    def __call__(self):
        self.calls += 1
        model, tokenizer = load_causal_lm(str(self.folder))
        model.model.register_forward_pre_hook(self.count)
        return model, tokenizer

    def count(self, *_) -> None:
        self.passes += 1


def questions(config: IntentsConfig, asker: str = "someone", found: Samples | None = None) -> Questions:
    return Questions.about(found or samples(), catalogue_lines(IDS, TITLES, config), config, asker)


# --- what is asked --------------------------------------------------------------------------------------------------


def test_a_question_shows_the_latest_items_and_never_the_target(config) -> None:
    found = samples()
    asked = questions(config, found=found)
    for row, (start, end) in enumerate(zip(found.start, found.end, strict=True)):
        wanted = found.items[start:end][-config.items :].tolist()
        assert [item for item in asked.inputs[asked.sample[row]].tolist() if item >= 0] == wanted


def test_the_target_changes_no_question(config) -> None:
    found = samples()
    last = np.append(np.diff(found.session) > 0, True)
    other = found.items.copy()
    other[found.end[last]] = (other[found.end[last]] + 1) % len(TITLES)  # a session's last click is only ever a target
    changed = Samples(other, found.start, found.end, found.session, found.number)
    assert np.array_equal(questions(config, found=found).keys, questions(config, found=changed).keys)


def test_keys_differ_by_items_order_words_and_title(config) -> None:
    lines = catalogue_lines(IDS, TITLES, config)
    rows = np.array([[-1, 0, 1], [-1, 1, 0], [-1, -1, 0], [0, 0, 1]])
    keys = input_keys(rows, lines, "one")
    others = [input_keys(rows, lines, "two"), input_keys(rows, ["i0\tother", *lines[1:]], "one")]
    assert len({*keys, *others[0], *others[1]}) == 3 * len(keys)
    wider = np.pad(rows, ((0, 0), (2, 0)), constant_values=-1)
    assert np.array_equal(input_keys(wider, lines, "one"), keys), "padding is no item"


def test_the_asker_is_words_settings_and_model(config, tmp_path) -> None:
    changed = [config.model_copy(update=update) for update in ({"max_tokens": 6}, {"with_ids": True})]
    assert len({asker_of(each) for each in (config, *changed)}) == 3
    assert asker_of(config.model_copy(update={"batch_tokens": 999, "views": ["merged"]})) == asker_of(config)


@pytest.mark.parametrize("count", [0, 1, 30, 99, 100, 500])
def test_drawn_sessions_are_a_share_of_each_part(count: int) -> None:
    part = np.repeat([0, 1, 2], [70, 10, 20])
    chosen = draw_sessions(part, count, 7)
    assert chosen.sum() == (count if 0 < count < 100 else 100)
    wanted = np.array([0.7, 0.1, 0.2]) * chosen.sum()
    assert np.abs(np.bincount(part[chosen], minlength=3) - wanted).max() <= 1
    assert np.array_equal(chosen, draw_sessions(part, count, 7))
    assert (chosen <= draw_sessions(part, 60 if 0 < count < 60 else 0, 7)).all()


@pytest.mark.parametrize("prefixes", ["all", "last"])
def test_every_prefix_of_the_drawn_sessions_is_asked_about_or_the_whole_alone(prefixes: str) -> None:
    found = samples(40)
    rows = np.flatnonzero(np.diff(found.session, append=40))  # the last sample of each session
    offsets = np.append(0, found.end[rows] + 1)
    nobody, part = np.zeros(40, np.int32), np.repeat(np.arange(3), [28, 4, 8]).astype(np.int8)
    sessions = Sessions(offsets, found.items, np.zeros(offsets[-1]), nobody, part)
    asked = asked_about(sessions, found, IntentsConfig(sessions=10, prefixes=prefixes), 7)
    drawn = np.flatnonzero(draw_sessions(part, 10, 7))
    wanted = [row for row in range(len(found)) if found.session[row] in drawn and (prefixes == "all" or row in rows)]
    assert asked.number.tolist() == wanted and len(drawn) == 10 and (prefixes == "all" or len(asked) == 10)


# --- asking ---------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_each_prompt_alone(config, tmp_path) -> None:
    load, asked = Loader(config.model), questions(config)
    answers = ask(asked, TITLES, config, tmp_path, load)
    assert list(answers.columns) == list(COLUMNS)
    assert answers["key"].tolist() == np.repeat(asked.keys, 2).tolist()
    assert answers["view"].tolist() == ["long", "short"] * len(asked.keys)
    model, tokenizer = load()
    prompter = Prompter.build(tokenizer, TITLES, config)
    forks = prompter.forks(asked.inputs, asked.views)
    alone = [forks.take(np.array([fork])) for fork in range(len(forks.rows))]
    texts = [prompter.decode(continuations(model, one, prompter.stops(), config.max_tokens, 1).ids)[0] for one in alone]
    assert answers["text"].tolist() == [clean_answer(text, config) for text in texts]


@pytest.mark.parametrize("source", ["state", "score"])
def test_a_reading_answers_with_a_title_and_depends_on_the_session(config, tmp_path, source: str) -> None:
    config, titles = config.model_copy(update={"source": source}), [f"{12 + n}. {title}" for n, title in enumerate(TITLES)]
    asked = questions(config)
    answers = ask(asked, titles, config, tmp_path, Loader(config.model))
    assert set(answers["text"]) <= set(titles) and answers["text"].nunique() > 1
    assert len(answers) == len(asked) and np.isfinite(answers["logprob"]).all()


def test_what_is_answered_asks_no_model(config, tmp_path) -> None:
    load, asked = Loader(config.model), questions(config)
    first = ask(asked, TITLES, config, tmp_path, load)
    assert load.calls == 1 and load.passes > 0
    passes = load.passes
    again = ask(asked, TITLES, config, tmp_path, load)
    assert (load.calls, load.passes) == (1, passes)
    pd.testing.assert_frame_equal(first, again)


def test_a_broken_run_loses_one_shard_and_ends_the_same(config, tmp_path) -> None:
    whole = ask(questions(config), TITLES, config, tmp_path / "whole", Loader(config.model))
    count = len(list((tmp_path / "whole").iterdir()))

    def broken():
        model, tokenizer = load_causal_lm(config.model)

        def stop(*_):
            if len(list((tmp_path / "broken").glob("*.parquet"))) == count - 2:
                raise KeyboardInterrupt

        model.model.register_forward_pre_hook(stop)
        return model, tokenizer

    with pytest.raises(KeyboardInterrupt):
        ask(questions(config), TITLES, config, tmp_path / "broken", broken)
    load = Loader(config.model)
    ended = ask(questions(config), TITLES, config, tmp_path / "broken", load)
    pd.testing.assert_frame_equal(ended, whole)
    complete = Loader(config.model)
    ask(questions(config), TITLES, config, tmp_path / "other", complete)
    assert count > 3 and 0 < load.passes < complete.passes


def test_rows_point_questions_to_their_answers(config, tmp_path) -> None:
    asked = questions(config)
    answers = ask(asked, TITLES, config, tmp_path, Loader(config.model)).drop(index=3).reset_index(drop=True)
    rows = asked.rows(answers)
    assert rows.shape == (len(asked.inputs), 2) and (rows < 0).sum() == 1
    for question, view in np.argwhere(rows >= 0):
        answer = answers.iloc[rows[question, view]]
        assert (answer["key"], answer["view"]) == (asked.keys[question], asked.views[view])


# --- files ----------------------------------------------------------------------------------------------------------


def brought(tmp_path, rows: list[dict[str, str]], suffix: str):
    path = tmp_path / f"answers{suffix}"
    frame = pd.DataFrame(rows)
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".parquet"])
def test_a_persons_file_answers_questions(config, tmp_path, suffix: str) -> None:
    asked = questions(config, "file")
    rows = questions_frame(asked, IDS).assign(text=[f'1. "answer {n}"\nmore' for n in range(len(asked))])
    by_items = read_answers(brought(tmp_path, rows.drop(columns="key"), suffix), IDS, catalogue_lines(IDS, TITLES, config),
                            config)
    by_key = read_answers(brought(tmp_path, rows.drop(columns="items"), suffix), IDS, [], config)
    pd.testing.assert_frame_equal(by_items, by_key)
    assert asked.select(by_items)["text"].tolist() == [f"answer {n}" for n in range(len(asked))]
    assert unanswered(asked, by_items, IDS) == ""


def test_ids_with_spaces_have_another_mark_between_them(config, tmp_path) -> None:
    ids = [f"item {number}" for number in range(len(TITLES))]
    lines = catalogue_lines(ids, TITLES, config)
    asked = Questions.about(samples(), lines, config, "file")
    rows = questions_frame(asked, ids).assign(text="x")
    found = read_answers(brought(tmp_path, rows.drop(columns="key"), ".csv"), ids, lines, config)
    assert found["key"].tolist() == rows["key"].tolist() and " | " not in rows["items"][0]
    wide = rows.drop(columns="key").assign(items=rows["items"].str.replace("|", " | "))
    pd.testing.assert_frame_equal(read_answers(brought(tmp_path, wide, ".csv"), ids, lines, config), found)
    for items, what in {"item 1 item 2": "unknown item 'item 1 item 2'", "item 1|": "no items", "": "no items"}.items():
        with pytest.raises(DataError, match=f"line 2: {what}"):
            read_answers(brought(tmp_path, [{"items": items, "view": "long", "text": "x"}], ".csv"), ids, lines, config)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_no_text_is_an_empty_answer_and_no_word_of_ours(config, tmp_path, suffix: str) -> None:
    rows = [{"items": "i0", "view": "long", "text": None}, {"items": "i1", "view": " long ", "text": "x"}]
    found = read_answers(brought(tmp_path, rows, suffix), IDS, catalogue_lines(IDS, TITLES, config), config)
    assert found["text"].tolist() == ["", "x"] and found["view"].tolist() == ["long", "long"]


def test_a_title_in_a_file_is_not_taken_for_a_list(config, tmp_path) -> None:
    lines = catalogue_lines(["a", "b"], ["12. Juli", "Heat"], config)
    path = brought(tmp_path, [{"items": "a", "view": "long", "text": text} for text in ("12. Juli", "12. Heat")], ".csv")
    assert read_answers(path, ["a", "b"], lines, config)["text"].tolist() == ["12. Juli", "Heat"]


def test_longer_inputs_of_a_file_are_cut_as_prompts_are(config, tmp_path) -> None:
    lines = catalogue_lines(IDS, TITLES, config)
    rows = [{"items": "i7 i6 i0 i1 i2 i3", "view": "long", "text": "x"}, {"items": "i0 i1 i2 i3", "view": "long", "text": "y"}]
    found = read_answers(brought(tmp_path, rows, ".csv"), IDS, lines, config)
    assert found["key"].nunique() == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"items": "i1 i88"}, "unknown item 'i88'.*nearest: 'i"), ({"view": "lnog"}, "view 'lnog'.*nearest: 'long'"),
        ({"items": ""}, "no items"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(config, tmp_path, suffix: str, spoilt: dict[str, str], message: str) -> None:
    good = {"items": "i1 i2", "view": "long", "text": "x"}
    path = brought(tmp_path, [good, good | spoilt, good], suffix)
    line = 3 if suffix == ".csv" else 2
    with pytest.raises(DataError, match=f"line {line}: {message}"):
        read_answers(path, IDS, catalogue_lines(IDS, TITLES, config), config)


def test_a_line_without_its_key_is_named_and_items_in_json_may_be_a_list(config, tmp_path) -> None:
    rows = [{"items": ["i1", "i2"], "view": "long", "text": "x"}, {"items": "i1 i2", "view": "short", "text": "y"}]
    lines = catalogue_lines(IDS, TITLES, config)
    found = read_answers(brought(tmp_path, rows, ".jsonl"), IDS, lines, config)
    assert found["key"].nunique() == 1
    mixed = [{"key": found["key"][0], "view": "long", "text": "x"}, rows[0]]
    with pytest.raises(DataError, match="line 2: no key"):
        read_answers(brought(tmp_path, mixed, ".jsonl"), IDS, lines, config)


def test_second_answers_to_one_question_are_told(config, tmp_path) -> None:
    lines, asked = catalogue_lines(IDS, TITLES, config), config.model_copy(update={"source": "file", "file": "answers.csv"})
    for texts, told in {("x", "x"): "", ("x", "y"): " 1 of them answer a question a second time"}.items():
        brought(tmp_path, [{"items": "i1 i2", "view": "long", "text": text} for text in texts], ".csv")
        said = answerer(asked, tmp_path, IDS, lines).said
        assert said.startswith("2 answers were read") and (told in said) and ("second time" in said) == bool(told)


def test_a_file_of_another_kind_or_without_a_column(config, tmp_path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_answers(tmp_path / "none.csv", IDS, [], config)
    (tmp_path / "answers.parquet").write_bytes(b"PAR1, they said")
    with pytest.raises(DataError, match="is not a parquet file"):
        read_answers(tmp_path / "answers.parquet", IDS, [], config)
    (tmp_path / "answers.txt").write_text("x")
    with pytest.raises(DataError, match=r"expected one of \.csv"):
        read_answers(tmp_path / "answers.txt", IDS, [], config)
    with pytest.raises(DataError, match="items"):
        read_answers(brought(tmp_path, [{"view": "long", "text": "x"}], ".csv"), IDS, [], config)


def test_missing_answers_are_counted_with_an_example(config, tmp_path) -> None:
    asked = questions(config, "file")
    rows = questions_frame(asked, IDS).assign(text="x")
    some = read_answers(brought(tmp_path, rows[1:], ".csv"), IDS, [], config)
    told = unanswered(asked, some, IDS)
    assert f"1 of {len(rows)} questions" in told and f"'{rows['items'][0]}', view {rows['view'][0]}" in told
    with pytest.raises(DataError, match="none of the"):
        unanswered(asked, some.assign(key="0"), IDS)


def test_the_projects_cache_stands_in_for_a_model_that_is_not_here(config, tmp_path) -> None:
    asked = questions(config, asker_of(config))
    answers = ask(asked, TITLES, config, tmp_path / "shards", Loader(config.model))
    away = config.model_copy(update={"model": "package:not_here", "cache": "kept.csv.gz"})
    lines = catalogue_lines(IDS, TITLES, config)
    write_cache(tmp_path / "kept.csv.gz", answers, away, asker_of(config), made="on a day")
    one = (tmp_path / "kept.csv.gz").read_bytes()
    write_cache(tmp_path / "kept.csv.gz", answers, away, asker_of(config), made="on a day")
    assert one == (tmp_path / "kept.csv.gz").read_bytes()
    found = answerer(away, tmp_path, IDS, lines)
    assert "not on this machine" in found.said and "on a day" in found.said
    again = Questions.about(samples(), lines, away, found.asker).select(found.kept)
    pd.testing.assert_frame_equal(again, answers)
    with pytest.raises(ModelNotFoundError):
        answerer(away.model_copy(update={"cache": None}), tmp_path, IDS, lines)
    with pytest.raises(DataError, match=r"intents.max_tokens = 5, the recipe says 9"):
        answerer(away.model_copy(update={"max_tokens": 9}), tmp_path, IDS, lines)


def test_a_cache_survives_odd_texts_and_holds_no_items(config, tmp_path) -> None:
    odd = pd.DataFrame({
        "key": ["a", "b", "c", "d"], "view": "long", "text": ["", "NA", 'say "x", then', "# no note"],
        "tokens": 3, "logprob": [-1.5, np.nan, 0.0, -2.25],
    }).astype(TYPES)  # fmt: skip
    write_cache(tmp_path / "kept.csv.gz", odd, config, "me")
    found, about = read_cache(tmp_path / "kept.csv.gz")
    pd.testing.assert_frame_equal(found, odd)
    assert about["asker"] == "me" and set(found.columns) == set(COLUMNS)


@pytest.mark.parametrize("content", [b"", b"not packed", b"\x1f\x8b\x08broken"])
def test_a_spoilt_cache_is_an_error(config, tmp_path, content: bytes) -> None:
    (tmp_path / "kept.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match="not a cache of intents"):
        read_cache(tmp_path / "kept.csv.gz", config)


@pytest.mark.parametrize("source", ["retrieval", "shuffled", "constant", "target"])
def test_a_source_that_is_no_model_asks_nobody(config, tmp_path, source: str) -> None:
    found = answerer(config.model_copy(update={"source": source}), tmp_path, IDS, [])
    assert found.kept is not None and found.kept.empty and "no language model" in found.said


def test_what_the_settings_name_and_miss(config, tmp_path) -> None:
    (tmp_path / "here.csv").write_text("x")
    away = {"model": "package:not_here"}

    def what(**update) -> str:
        return " ".join(found.what for found in config.model_copy(update=update).problems(tmp_path, None))

    assert what() == "" and "not installed" in what(**away)
    assert "not installed" in what(**away, cache="none.csv.gz") and what(**away, cache="here.csv") == ""
    assert "not installed" in what(**away, cache="here.csv", source="state"), "a cache has written answers alone"
    assert "no such file" in what(source="file", file="none.csv") and what(source="file", file="here.csv") == ""
    assert what(**away, source="retrieval") == ""
    named = config.model_copy(update={"source": "file", "file": "here.csv"}).files(tmp_path, None)
    assert named == [tmp_path / "here.csv"]


# --- report and gate ------------------------------------------------------------------------------------------------


def told(texts: list[str], view: str = "long") -> tuple[pd.DataFrame, Questions]:
    """Answers to the inputs 0 1 2, 3 4, 5."""
    inputs = np.array([[0, 1, 2], [-1, 3, 4], [-1, -1, 5]], np.int32)
    keys = np.array(list("abc"), dtype=object)
    values = {"key": keys, "view": view, "text": texts, "tokens": 4, "logprob": -2.0}
    return pd.DataFrame(values).astype(TYPES), Questions(inputs, (view,), keys, np.arange(3))


def test_the_report_by_hand() -> None:
    titles = ["Zero", "One", "Two", "Three", "Four", "zero "]
    found = intent_report(*told(["TWO", "nowhere", "Zero"]), titles)["long"]
    assert found["answers"] == 3 and found["empty"] == 0 and found["distinct"] == 1
    assert found["exact"] == pytest.approx(2 / 3)
    assert found["in_session"] == 1, "item 5 has the title of item 0"
    assert found["last"] == 1 and found["first"] == pytest.approx(1 / 2)
    assert found["tokens"] == 4 and found["logprob"] == pytest.approx(-0.5)
    other = intent_report(*told(["Three", "Zero", ""]), titles)["long"]
    assert other["exact"] == pytest.approx(2 / 3) and other["in_session"] == 0
    assert other["empty"] == pytest.approx(1 / 3)
    same = intent_report(*told(["One", "One", "Two"]), titles)["long"]
    assert same["distinct"] == pytest.approx(2 / 3)
    assert same["frequent"] == [["One", pytest.approx(2 / 3)], ["Two", pytest.approx(1 / 3)]]


def test_agreement_counts_inputs_whose_views_say_the_same() -> None:
    inputs, keys = np.array([[0], [1], [2]]), np.array(list("abc"), dtype=object)
    answers = pd.DataFrame({"key": list("aabbc"), "view": ["long", "short"] * 2 + ["long"], "text": list("xxyzy")})
    assert agreement(answers, Questions(inputs, ("long", "short"), keys, np.arange(3))) == 0.5


def judged(**found) -> dict[str, dict[str, object]]:
    good = {"answers": 100, "empty": 0.0, "distinct": 0.8, "frequent": [["x", 0.02]]}
    return {"long": good, "short": good | found}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"empty": 0.6}, "60% of the answers have no word.*max_empty"),
        ({"frequent": [["The Matrix", 0.9]]}, "'The Matrix' is 90% of the answers.*max_same"),
        ({"distinct": 0.02}, r"only 2.0% are distinct.*min_distinct"),
    ],
)
def test_the_gate_stops_and_says_what_to_change(found: dict[str, object], message: str) -> None:
    with pytest.raises(RecnbError, match=f"short: {message}.*intents.model.*retrieval"):
        gate(judged(**found), GateConfig())
    assert "nothing to judge" in gate({"short": judged(**found)["short"] | {"answers": 5}}, GateConfig())


def test_the_gate_is_open_for_answers_that_differ() -> None:
    assert "2.0%" in gate(judged(), GateConfig())
    assert "nothing to judge" in gate({}, GateConfig())


def test_a_model_that_says_the_same_to_everyone_is_stopped(config, tmp_path) -> None:
    model, tokenizer = load_causal_lm(config.model)
    for parameter in model.parameters():
        parameter.data.zero_()  # every token is as probable: the first one wins, always
    asked = questions(config)
    answers = ask(asked, TITLES, config, tmp_path, lambda: (model, tokenizer))
    with pytest.raises(RecnbError, match="of the answers"):
        gate(intent_report(answers, asked, TITLES), GateConfig())
