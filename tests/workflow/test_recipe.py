"""Recipes: what is wrong is said with file, line, key, expectation and the nearest valid key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from recnb.eager_llm.recipe import STAGES, EagerLLM as Recipe, TrainConfig
from recnb.errors import RecipeError
from recnb.workflow import recipe as recipe_module, recipe_text
from recnb.workflow.graph import stage_named
from recnb.workflow.recipe import load_recipe, recipe_hash, valid_keys


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def save(text: str | bytes, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return save


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\ntrain:\n  epoch: 3\n", ["mine.yaml:3", "'train.epoch'", "nearest valid key: train.epochs"]),
        ("name: a\nseeds: 3\n", ["mine.yaml:2", "'seeds'", "nearest valid key: seed"]),
        ("name: a\nevaluate: {sampled_negatives: 9}\n", ["mine.yaml:2", "evaluate.sampled_negatives", "nearest valid key"]),
        ("name: a\nevaluate: {bert4rec: {width: 9}}\n", ["evaluate.bert4rec", "width must be a multiple of heads (2)"]),
        ("name: a\nevaluate: {baselines: [tiger]}\nindex: {source: random}\n",
         ["evaluate.baselines: tiger", "index.source = random", "both or semantic"]),
        ("name: a\ntrian: {epochs: 1}\n", ["mine.yaml:2", "nearest valid key: train"]),
        ("name: a\nepochs: 3\n", ["unknown key 'epochs'", "epochs"]),
        ("name: a\ndata: {toy: {user: 9}}\n", ["'data.toy.user'", "data.toy.users"]),
        ("name: a\ntrain: {batch_size: '32'}\n", ["train.batch_size = '32'", "expected a valid integer"]),
        ("name: a\nruntime: {threads: true}\n", ["runtime.threads = True", "expected a valid integer"]),
        ("name: a\ntrain: {epochs: three}\n", ["train.epochs = 'three'", "valid number"]),
        ("name: a\ntrain: {temperature: 0}\n", ["train.temperature = 0", "greater than 0"]),
        ("name: a\ntrain: {temperature: .nan}\n", ["train.temperature = nan", "finite number"]),
        ("name: a\ndecode: {beam: 0}\n", ["decode.beam = 0", "greater than or equal to 1"]),
        ("name: a\nindex: {codes: 1}\n", ["index.codes = 1", "greater than or equal to 2", "'auto'"]),
        ("name: a\nindex: {source: text}\n", ["index.source = 'text'", "'semantic'"]),
        ("name: a\ntasks: {mixture: {seqrek: 1}}\n", ["tasks.mixture.seqrek", "'seqrec'"]),
        ("name: a\nevaluate: {cutoffs: [5, 0]}\n", ["evaluate.cutoffs.1 = 0"]),
        ("name: a\ndecode: {beam: 5}\n", ["mine.yaml: decode.beam = 5 gives", "R@10: expected decode.beam >= 10"]),
        ("name: a\ntrain: 3\n", ["train = 3", "mine.yaml:2"]),
        ("name: a\nbackbone: {kind: pretrained}\n", ["backbone: kind: pretrained needs a model"]),
        ("name: a\ntrain: {con_position: before_response}\n", ["needs expand: per_target"]),
        ("name: ../out\n", ["name = '../out'", "pattern"]),
        ("title: no name\n", ["key 'name' is missing"]),
        ("name: a\nname: b\n", ["'name' is given twice (line 2)"]),
        ("name: a\ntrain: &t {epochs: *t}\n", ["not a YAML file", "recursive"]),
        ("name: a\nseed: 2020-99-01\n", ["not a YAML file: month must be in 1..12"]),
        ("- a\n- b\n", ["expected a mapping of sections, found list"]),
        ("", ["expected a mapping of sections, found NoneType"]),
        ("name: [a\n", ["not a YAML file"]),
        (b"name: \xff\xfe\n", ["not a YAML file"]),
        ("name: !!python/object/apply:os.system [ls]\n", ["not a YAML file"]),
    ],
)
def test_a_wrong_recipe_is_refused_with_what_where_and_what_else(write: Any, text: str, expected: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(write(text))
    for part in expected:
        assert part in str(error.value)


def test_every_problem_is_said_at_once(write: Any) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(write("name: a\nseeds: 1\ntrain: {epoch: 1}\ndecode: {beam: -1}\n"))
    assert len(str(error.value).splitlines()) == 3


def test_a_missing_file_names_the_nearest(write: Any, tmp_path: Path) -> None:
    write("name: quickstart\n", "quickstart.yaml")
    with pytest.raises(RecipeError, match=r"no such recipe file; nearest: .*quickstart\.yaml"):
        load_recipe(tmp_path / "quikstart.yaml")


def test_overrides_are_applied_in_order_and_read_as_yaml(write: Any) -> None:
    path = write("name: a\ntrain: {epochs: 5}\n")
    recipe = load_recipe(path, ["train.epochs=1", "index.order=[s1, b1]", "train.epochs=2.5", "data.toy.users=7"])
    assert (recipe.train.epochs, recipe.index.order, recipe.data.toy.users) == (2.5, ["s1", "b1"], 7)
    assert load_recipe(path, ["train.learning_rate=3e-4"]).train.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epoch=1", "nearest valid key: train.epochs"),
        ("train.epochs", "expected key=value"),
        ("train.epochs=many", "--set train.epochs=many"),
        ("seed.x=1", "'seed' is not a section"),
        ("train.epochs=[", "the value is not YAML"),
        ("decode.beam=2.5", "--set decode.beam=2.5: decode.beam = 2.5"),
        ("evaluate.bootstrap=1", "--set evaluate.bootstrap=1: evaluate.bootstrap = 1"),
    ],
)
def test_wrong_overrides(write: Any, override: str, expected: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(expected)):
        load_recipe(write("name: a\nseed: 1\n"), [override])


@given(st.sampled_from(valid_keys()), st.integers(0, 30), st.sampled_from("abcdefgh"))
def test_a_misspelt_key_is_refused_and_a_likely_one_named(key: str, place: int, letter: str) -> None:
    section, _, leaf = key.rpartition(".")
    place = place % len(leaf)
    wrong = f"{section}." * bool(section) + leaf[:place] + letter + leaf[place:]
    if wrong in valid_keys():
        return
    named = recipe_module._nearest(wrong, valid_keys()).removeprefix("; nearest valid key: ")
    assert named in valid_keys() or any(other.startswith(named + ".") for other in valid_keys())
    assert named.partition(".")[0] == key.partition(".")[0] or len(leaf) < 6


def test_one_changed_setting_leaves_the_strong_ones_of_sampled_sasrec(write: Any) -> None:
    found = load_recipe(write("name: a\nevaluate: {sasrec_sampled: {epochs: 3}}\n")).evaluate.sasrec_sampled
    assert found.epochs == 3 and (found.negatives, found.dropout, found.blocks, found.patience) == (256, 0.5, 1, 8)


def test_sections_are_frozen_and_closed() -> None:
    config = TrainConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 3
    with pytest.raises(ValueError, match="extra"):
        TrainConfig(epoch=3)  # type: ignore[call-arg]


def test_hash_depends_on_values_not_on_order() -> None:
    assert recipe_hash({"a": 1, "b": 2}) == recipe_hash({"b": 2, "a": 1})
    assert recipe_hash(TrainConfig()) != recipe_hash(TrainConfig(epochs=4))
    assert recipe_hash(TrainConfig()) == recipe_hash(TrainConfig(epochs=3))


def test_stages_form_a_graph_over_known_sections() -> None:
    for place, spec in enumerate(STAGES):
        assert set(spec.inputs) <= {before.name for before in STAGES[:place]}
        assert set(spec.sections) <= set(Recipe.model_fields)


def test_a_stage_is_found_by_name_number_or_short_name() -> None:
    found = [stage_named(asked, STAGES) for asked in ("03_index", "03", "index", "eager_llm/03_index")]
    assert all(spec is STAGES[2] for spec in found)
    with pytest.raises(RecipeError, match="no stage 'indx'; nearest: '03_index'; stages: 01_data"):
        stage_named("indx", STAGES)


# --- showing ---------------------------------------------------------------------------------------------------------


def test_a_shown_recipe_is_a_recipe(write: Any) -> None:
    recipe = load_recipe(write("name: a\ntrain: {epochs: 5}\nindex: {order: [s1, b1]}\ntitle: 'é: [x]'\n"))
    assert load_recipe(write(recipe_text.as_yaml(recipe), "again.yaml")) == recipe


def test_shown_values_carry_reasons_and_marks(write: Any) -> None:
    text = recipe_text.with_reasons(load_recipe(write("name: a\ntrain: {epochs: 5}\n")))
    assert any(line.startswith("*") and "epochs: 5" in line for line in text.splitlines())
    warmup = next(line for line in text.splitlines() if "warmup" in line)
    assert warmup.startswith("  ") and "warmup: 0.05" in warmup and "# share of all steps" in warmup
    assert yaml.safe_load("\n".join(line[2:] for line in text.splitlines()[1:]))["train"]["epochs"] == 5


def test_one_section(write: Any) -> None:
    recipe = load_recipe(write("name: a\n"))
    text = recipe_text.with_reasons(recipe, "embeddings.semantic")
    assert "encoder: sentence" in text and "epochs" not in text
    with pytest.raises(RecipeError, match="no section 'embedding'; sections: paths.*; nearest: 'embeddings'"):
        recipe_text.with_reasons(recipe, "embedding")


def test_differences(write: Any) -> None:
    mine = load_recipe(write("name: a\ntrain: {epochs: 5}\n"))
    theirs = load_recipe(write("name: b\ndata: {path: x}\n", "b.yaml"))
    rows = recipe_text.differences(mine, theirs)
    assert rows == [("data.path", None, "x"), ("train.epochs", 5.0, 3.0)]
    table = recipe_text.side_by_side(rows, ("a", "b"))
    assert table.splitlines()[0].split() == ["key", "a", "b"] and "null" in table
    assert recipe_text.differences(mine, mine) == []


def test_every_setting_says_what_it_is() -> None:
    assert not [key for key, reason in recipe_text.reasons(Recipe).items() if not reason]
