"""A published index in place of text clusters: reading the file, joining it with behaviour, refusing what cannot work."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sandbox import ROOT

from recnb.errors import DataError, IndexGateError, RecipeError
from recnb.index.build import build_index
from recnb.index.health import index_health
from recnb.index.published import find_codes, read_codes
from recnb.index.settings import IndexConfig
from recnb.workflow import doctor, manifest
from recnb.workflow.graph import stage_named
from recnb.workflow.recipe import load_recipe

N, K = 30, 6
IDS = [f"B{number:03d}" for number in range(N)]
CODES = np.stack([np.arange(N) // K, np.arange(N) % K, np.zeros(N, int)], axis=1)


def tokens(codes: np.ndarray = CODES) -> dict[str, Any]:
    return {item: [f"<{'abc'[place]}_{code}>" for place, code in enumerate(row)] for item, row in zip(IDS, codes)}


def write(path: Path, table: Any) -> Path:
    content = json.dumps(table).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def behaviour(n: int = N) -> dict[str, np.ndarray]:
    return {"behaviour": np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)}


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index.json", "index.json.gz"])
def test_codes_are_read_in_the_order_of_the_catalogue(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, tokens() | {"not in the catalogue": ["<a_9>"]})
    np.testing.assert_array_equal(read_codes(path, IDS[::-1]), CODES[::-1])
    np.testing.assert_array_equal(read_codes(write(path, dict(zip(IDS, CODES.tolist()))), IDS), CODES), "plain numbers"


@pytest.mark.parametrize(("table", "says"), [
    ({k: v for k, v in tokens().items() if k not in ("B003", "B004")}, "no codes for 2 of 30 items .first: 'B003'.*nearest"),
    (tokens() | {"B007": ["<a_1>"]}, r"item 'B007' has \[\"<a_1>\"\]; expected a list of 3 tokens"),
    (tokens() | {"B000": "<a_1>"}, "item 'B000' has .*expected a list of some tokens"),
    (tokens() | {"B007": ["<a_1>", "<b_>", "<c_2>"]}, "item 'B007': token '<b_>'; expected a token such as <a_12>"),
    (tokens() | {"B007": ["<a_1>", -2, 1]}, "token '-2'"), (tokens() | {"B007": [0, 99999999999, 0]}, "from 0 to 65535"),
    (["<a_1>"], "expected an object like .*found a list"),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_named(table: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"index.json: .*{says}"):
        read_codes(write(tmp_path / "index.json", table), IDS)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"B000": [', encoding="utf-8")
    with pytest.raises(DataError, match="index.json: line 1: not JSON"):
        read_codes(tmp_path / "index.json", IDS)


def test_the_file_lies_beside_the_data_or_where_the_recipe_says(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    here, beside = write(tmp_path / "semantic_index.json", {}), write(tmp_path / "data" / "index.json", {})
    assert find_codes("index.json", "data", tmp_path) == beside
    assert find_codes("semantic_index.json", "data", tmp_path) == here == find_codes(str(here), None, tmp_path)
    with pytest.raises(DataError, match="indx.json: no such file.*nearest: 'index.json'"):
        find_codes("indx.json", "data", tmp_path)


# --- the index --------------------------------------------------------------------------------------------------------

BOTH = IndexConfig(semantic_file="index.json", levels=2)
ALONE = IndexConfig(source="semantic", semantic_file="index.json")


def test_published_columns_stand_beside_our_own() -> None:
    repeated = CODES.copy()
    repeated[5] = repeated[4]  # the file does not tell these two apart
    index = build_index(behaviour(), BOTH, 0, repeated)
    assert index.columns == ("s1", "s2", "s3", "b1", "b2") and index.codes_per_level == 6
    np.testing.assert_array_equal(index.source_codes("semantic"), repeated)
    assert len(np.unique(index.codes, axis=0)) == N == len(np.unique(index.source_codes("behaviour"), axis=0))
    assert set(index.centroids) == {"b1", "b2"}, "without text nobody knows what a published code stands for"
    report = index_health(index, behaviour(), [[]] * N, seed=0)
    assert report["unique"] == 1 and report["unique_by_source"]["semantic"] == pytest.approx(28 / 30)


def test_text_says_what_published_codes_stand_for() -> None:
    text = np.random.default_rng(1).normal(size=(N, 5)).astype(np.float32)
    index = build_index(behaviour() | {"semantic": text}, BOTH, 0, CODES)
    for code in range(5):
        np.testing.assert_allclose(index.centroids["s1"][code], text[CODES[:, 0] == code].mean(0), atol=1e-6)


def test_behaviour_does_not_depend_on_the_file() -> None:
    plain = build_index(behaviour(), IndexConfig(source="both", codes=8, semantic_file="x"), 0, CODES)
    other = build_index(behaviour(), IndexConfig(source="both", codes=8, semantic_file="x"), 0, CODES[::-1])
    np.testing.assert_array_equal(plain.source_codes("behaviour"), other.source_codes("behaviour"))


def test_published_codes_alone() -> None:
    index = build_index({}, ALONE, 0, CODES)
    assert index.columns == ("s1", "s2", "s3") and index.codes_per_level == 6 and not index.centroids
    assert build_index({}, IndexConfig(source="semantic", semantic_file="x", codes=9), 0, CODES).codes_per_level == 9
    repeated = CODES.copy()
    repeated[[5, 20]] = repeated[4]
    with pytest.raises(IndexGateError, match=r"(?s)2 of 30 items repeat.*items 4 and 5.*expected index.source = both"):
        build_index({}, ALONE, 0, repeated)


def test_k_covers_the_file_and_the_catalogue() -> None:
    assert build_index(behaviour(), BOTH, 0, CODES * 10).codes_per_level == 51
    with pytest.raises(IndexGateError, match="index.codes = 4: index.json has codes up to 5; expected index.codes >= 6"):
        build_index(behaviour(), BOTH.model_copy(update={"codes": 4}), 0, CODES)


def test_order_and_sizes_are_checked() -> None:
    order = ["b1", "s1", "b2", "s2", "s3"]
    assert build_index(behaviour(), BOTH.model_copy(update={"order": order}), 0, CODES).columns == tuple(order)
    with pytest.raises(RecipeError, match=r"'s3' is missing; expected each of \[s1, s2, s3, b1, b2\] once"):
        build_index(behaviour(), BOTH.model_copy(update={"order": order[:4]}), 0, CODES)
    with pytest.raises(IndexGateError, match="number of items: .*'behaviour': 29, 'semantic codes': 30"):
        build_index(behaviour(29), BOTH, 0, CODES)
    with pytest.raises(RecipeError, match="semantic_file and its codes go together"):
        build_index(behaviour(), BOTH, 0)


# --- the recipe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "says"), [
    ("embeddings: {semantic: {encoder: none}}", "train.lambda_semantic = 0.1, .*encoder is none; expected .* = 0"),
    ("embeddings: {semantic: {encoder: none}}\ntrain: {lambda_semantic: 0}", "index.source = both, .*index.semantic_file"),
    ("embeddings: {semantic: {encoder: none}}\ntrain: {lambda_semantic: 0}\nindex: {source: random}\nspeed: {enabled: true}",
     "speed.enabled = true, .*encoder is none; expected speed.enabled = false"),
    ("index: {source: random, semantic_file: x.json}", "index: semantic_file is for source: both or semantic"),
    ("data: {source: toy, text_columns: {title: name}}", "data: text_columns is for source: files"),
    ("data: {source: files, text_columns: {name: title}}", "text_columns.name"),
])  # fmt: skip
def test_recipes_that_contradict_themselves_are_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"name: a\n{text}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=says):
        load_recipe(tmp_path / "a.yaml")


def test_doctor_and_keys_know_the_file_and_ask_for_no_encoder(tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "params" / "amazon" / "instruments-llama.yaml")
    assert not recipe.embeddings.problems(tmp_path, recipe), "no encoder"
    machine = doctor.Machine(cores=1, memory=2**36, disk=2**40, gpu="GPU", gpu_memory=2**36)
    folder = tmp_path / "data" / "instruments"
    folder.mkdir(parents=True)
    for name in ("interactions.csv.gz", "items.jsonl.gz"):
        (folder / name).write_bytes(b"x")
    assert any("published index is not here" in each.what for each in doctor.problems(recipe, tmp_path, machine))
    (folder / "semantic_index_letter.json.gz").write_bytes(b"x")
    assert any("published index is not here" in each.what for each in doctor.problems(recipe, tmp_path, machine))
    (folder / "semantic_index_letter.json.gz").write_bytes(gzip.compress(b"{}"))
    assert not any("published index" in each.what for each in doctor.problems(recipe, tmp_path, machine))
    told = recipe.model_copy(update={"tasks": recipe.tasks.model_copy(update={"preference_file": "said.jsonl"})})
    assert any("preferences are not here: said.jsonl" in each.what for each in doctor.problems(told, tmp_path, machine))
    (tmp_path / "said.jsonl").write_bytes(b"x")
    assert not any("preferences" in each.what for each in doctor.problems(told, tmp_path, machine))
    read = [file.name for file in manifest.outside_files(stage_named("03_index", recipe.stages), recipe, tmp_path)]
    assert read == ["semantic_index_letter.json.gz"], "another file is another index"


def test_a_recipe_without_text_is_valid(tmp_path: Path) -> None:
    text = "name: a\nembeddings: {semantic: {encoder: none}}\ntrain: {lambda_semantic: 0}\nindex: {"
    for index in ("semantic_file: x.json}", "source: behaviour}", "source: random}"):
        (tmp_path / "a.yaml").write_text(text + index, encoding="utf-8")
        load_recipe(tmp_path / "a.yaml")
