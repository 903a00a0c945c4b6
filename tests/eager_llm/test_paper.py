"""What the paper ran with, and where recipes depart from it."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sandbox import ROOT
from small import TASKS, L, builder, catalogue, vocabulary

from recnb.eager_llm.paper import MARKS, departures, departures_by_design, published
from recnb.eager_llm.tasks import full_text
from recnb.evaluation import departures as wording
from recnb.settings import flatten
from recnb.workflow.recipe import load_recipe, valid_keys

PAPER = sorted((ROOT / "params" / "paper").glob("*.yaml"))
GPUS = 4
TOLD = published()["settings"]
SMALL = vocabulary()


def settings(name: str) -> dict[str, Any]:
    return flatten(load_recipe(ROOT / "params" / f"{name}.yaml").model_dump(mode="json"))


def mark_of(key: str) -> str:
    return next(iter(TOLD[key])) if key in TOLD else ""


def told_on_their_lines(path: Path, pattern: str) -> dict[str, str]:
    """Key -> what its comment says, of the settings whose comment matches; the pattern has one group."""
    told, parents = {}, []
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"( *)([a-z_0-9]+):", line):
            parents = [*parents[: len(found[1]) // 2], found[2]]
            if said := re.search(rf": +[^\s#].*?#.*?{pattern}", line):
                told[".".join(parents)] = said[1]
    return told


def within(key: str, listed: list[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in listed)


# --- the published settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_marks_of_the_paper_recipes_are_those_of_the_ledger(path: Path) -> None:
    """Line by line: what a comment marks as published is what departures are measured from, and nothing else is."""
    marks = told_on_their_lines(path, r"\[(P|R|\?|ours)\]")
    tree = flatten(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert set(marks) == set(tree)
    concerned = {key: mark for key, mark in marks.items() if key in TOLD or not within(key, published()["apart"])}
    said = {key: mark for key, mark in concerned.items() if mark in "PR" and key != "train.accumulate"}
    assert said == {key: mark_of(key) for key in TOLD if mark_of(key) in "PR"}
    values = tree | {"train.batch_size": tree["train.batch_size"] * tree["train.accumulate"] * GPUS}
    assert {key: values[key] for key in said} == {key: TOLD[key][mark] for key, mark in said.items()}


def test_every_setting_of_the_method_has_a_mark_or_is_named_as_unpublished() -> None:
    known, tree = valid_keys(), published()
    known = [key for key in known if key != "tasks.mixture"] + [key for key in TOLD if key.startswith("tasks.mixture.")]
    aside = [*tree["unpublished"], *tree["apart"], "system", "paths", "cases", "ablations", "speed"]
    unmarked = [key for key in known if key not in TOLD and not within(key, aside)]
    assert not unmarked, f"mark them in recnb/eager_llm/paper.yaml: {unmarked}"
    assert set(TOLD) <= set(known) and not [key for key in TOLD if within(key, tree["unpublished"])]
    assert all(any(within(key, [name]) for key in known) for name in tree["unpublished"])
    assert {mark for told in TOLD.values() for mark in told} - {"words"} == set(MARKS)


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_paper_recipes_do_not_depart_on_the_paper_s_machines(path: Path) -> None:
    assert departures(settings(f"paper/{path.stem}"), GPUS) == []
    assert [str(found) for found in departures(settings(f"paper/{path.stem}"))] == [
        "train.batch_size 32 (release: 128)"
    ]


@pytest.mark.parametrize("key", sorted(TOLD))
def test_each_setting_that_is_changed_is_found(key: str) -> None:
    run = settings("paper/llama7b-beauty") | {"train.batch_size": 128, "train.accumulate": 1}
    run |= {"backbone.kind": "scratch", "backbone.dropout": 0.0}
    value = run[key]
    other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else ["other"]
    changed = run | ({key: other} if key != "backbone.kind" else {})
    assert {found.setting for found in departures(changed)} == {"backbone.kind", key}


def test_what_hangs_on_other_settings() -> None:
    run = settings("paper/llama7b-beauty") | {"train.batch_size": 16, "train.accumulate": 8}
    assert departures(run | {"index.order": [], "backbone.dropout": 0.5}) == []
    without = {key: value for key, value in run.items() if key != "tasks.mixture.itemsearch"}
    assert [found.setting for found in departures(without)] == ["tasks.mixture.itemsearch"]


def test_the_quickstart_says_where_it_departs() -> None:
    lines = [str(found) for found in departures(settings("quickstart"))]
    assert "backbone.model none (paper: Llama-7B)" in lines
    assert 'tasks.separator none (release: ", ")' in lines
    assert "backbone.dropout 0.1 (not in the paper: 0)" in lines
    assert any(line.startswith("train.expand dense") for line in lines)
    assert not any(line.startswith("decode.beam") for line in lines)


@pytest.mark.parametrize("path", sorted((ROOT / "params" / "paper-small").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_small_recipe_departs_where_it_says_why(path: Path) -> None:
    """As published but for what its comments name; a backbone from scratch has no line for its model."""
    found = {departure.setting for departure in departures(settings(f"paper-small/{path.stem}"))}
    told = {re.sub(r"(tasks\.mixture)\..*", r"\1", setting) for setting in found - {"backbone.model"}}
    assert told == set(told_on_their_lines(path, "(departs: )"))
    big = settings(f"paper/llama7b-{path.stem.removesuffix('-paper-small')}")
    assert big["evaluate.published"] == settings(f"paper-small/{path.stem}")["evaluate.published"]
    sizes = {"embeddings.behaviour.width", "train.learning_rate", "anneal.learning_rate", "runtime.dtype"}
    reads = {"embeddings.semantic.encoder", "embeddings.semantic.model", "backbone.kind", "backbone.model"}
    if "instruments" not in path.stem:  # whose copy has no text
        assert found == sizes | reads


# --- what is otherwise by design: the words are held to the code ------------------------------------------------------


def by_design(part: str, **changes: Any) -> str:
    told = departures_by_design(settings("paper/llama7b-beauty") | changes)
    return " | ".join(found.here for found in told if found.setting == part)


def test_only_what_a_recipe_has_is_told() -> None:
    assert by_design("DIN") and not by_design("DIN", **{"embeddings.behaviour.encoder": "svd"})
    assert by_design("fusionseqrec") and not by_design("fusionseqrec", **{"tasks.mixture.fusionseqrec": 0.0})
    assert "separator" in by_design("tasks") and "separator" not in by_design("tasks", **{"tasks.separator": ""})
    preferences = "itemsearch, preferenceobtain"
    assert by_design(preferences) and not by_design(preferences, **{"tasks.preference_file": "mine.jsonl"})
    assert "axis" in by_design("index") and "axis" not in by_design("index", **{"index.second_level": "aligned"})
    assert all(told["mark"] in MARKS for told in published()["by_design"])


def test_titles_end_and_separator_are_as_told() -> None:
    tasks = TASKS.model_copy(update={"separator": ", ", "heldout_text": 0.0})
    made = builder(SMALL, dense=False, tasks=tasks).epoch(0)
    ids = {task: [sample.ids for sample in made if sample.task == task] for task in tasks.mixture}
    index = set(SMALL.index_tokens.ravel().tolist())
    titles = [SMALL.tokenizer.decode(row).count(" story part ") for row in ids["fusionseqrec"]
              if not index & set(row[: -L - 1].tolist())]  # fmt: skip
    assert max(titles) == int(re.search(r"last (\d)", by_design("fusionseqrec"))[1]) == 5
    for sample in made:
        in_words = sample.task in ("index2item", "preferenceobtain") or sample.ids[-2] not in index
        assert (sample.ids[-2] == SMALL.eos_id) == in_words, "only answers in words have an end"
        assert sample.ids[-1] == SMALL.con_id != SMALL.eos_id
    separator = SMALL.encode([", "])[0]
    for row in ids["seqrec"]:
        np.testing.assert_array_equal(row[-L - 1 - len(separator) : -L - 1], separator)


def test_an_item_s_text_is_as_told() -> None:
    items = catalogue().assign(brand="Penguin", description="A long description.")
    said = full_text(items)[0]
    assert all(part in said for part in ("story part 0", "Penguin", "Drama")) and "description" not in said
    assert "title, brand and categories" in by_design("tasks")


def test_docstrings_tell_the_truth() -> None:
    found = doctest.testmod(wording)
    assert found.attempted and not found.failed
