"""Artifacts: whole or not at all, verified before use, and a key that changes with everything a result depends on."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sandbox import FREE_STAGES as STAGES

from recnb.artifacts import (
    _is_full_disk,
    files_of,
    git_commit,
    hash_artifact,
    hash_json,
    write_atomic,
    write_folder_atomic,
    write_text,
)
from recnb.eager_llm.recipe import EagerLLM as Recipe
from recnb.errors import ArtifactError, RecipeError, ResourceError
from recnb.settings import StageSpec
from recnb.workflow import manifest
from recnb.workflow.graph import stage_named
from recnb.workflow.manifest import damaged_artifacts, read_manifest, stage_parts
from recnb.workflow.recipe import load_recipe
from recnb.workflow.stage import Stage

DATA, EMBEDDINGS, INDEX = STAGES[:3]
RECIPE = "name: mine\ndata: {source: toy}\nruntime: {threads: 1, device: cpu}\n"


def stage_key(spec: StageSpec, recipe: Recipe, root: Path) -> str:
    return hash_json(stage_parts(spec, recipe, root))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Recipe, "stages", STAGES)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "mine.yaml").write_text(RECIPE)
    for spec in STAGES:
        write_notebook(tmp_path, spec.name, ["import numpy"])
    return tmp_path


def write_notebook(root: Path, name: str, sources: list[str], outputs: list[Any] | None = None) -> None:
    cell = {"cell_type": "code", "metadata": {}, "outputs": outputs or [], "execution_count": 3}
    cells = [cell | {"source": source} for source in sources]
    text = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    path = stage_named(name, STAGES).file(root)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def open_stage(root: Path, name: str, *overrides: str) -> Stage:
    return Stage.open(name, root / "params" / "mine.yaml", overrides, root)


def recipe_of(root: Path, *overrides: str) -> Recipe:
    return load_recipe(root / "params" / "mine.yaml", overrides)


def make_data(root: Path, **artifacts: Any) -> Stage:
    stage = open_stage(root, "01_data")
    for name, value in (artifacts or {"x.npy": np.arange(5)}).items():
        stage.write(name, value)
    stage.close()
    return stage


# --- round trips -----------------------------------------------------------------------------------------------------


def test_every_format_comes_back_as_it_went(root: Path) -> None:
    frame = pd.DataFrame({"title": ["Heat", "é\u202e<b>"], "categories": [["a", "b"], []], "n": [1, 2]})
    table = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    facts = {"a": 1, "b": [0.5, None], "ü": "x", "yes": True}
    stage = open_stage(root, "01_data")
    stage.write("x.npy", table[:, ::2])  # not contiguous
    stage.write("frame.parquet", frame)
    stage.write("facts.json", facts)
    stage.write("t.safetensors", {"s1": table, "b1": table.T})
    stage.write("words.txt", "naïve\n")
    stage.write_folder("model", lambda folder: (folder / "w.bin").write_bytes(b"weights"))
    assert np.array_equal(stage.read("01_data", "x.npy"), table[:, ::2]), "what is written can be read before closing"
    stage.close()

    later = open_stage(root, "02_embeddings")
    assert np.array_equal(later.read("01_data", "x.npy"), table[:, ::2])
    back = later.read("01_data", "frame.parquet")
    assert back["title"].tolist() == frame["title"].tolist()
    assert [list(c) for c in back["categories"]] == [["a", "b"], []]
    assert later.read("01_data", "facts.json") == facts
    tensors = later.read("data", "t.safetensors")
    assert np.array_equal(tensors["b1"], table.T) and tensors["s1"].dtype == np.float32
    assert later.read("01", "words.txt") == "naïve\n"
    assert (later.path("01_data", "model") / "w.bin").read_bytes() == b"weights"


def test_json_takes_numpy_and_never_holds_what_is_no_json(root: Path) -> None:
    numbers = {"n": np.int64(3), "r": np.float32(0.5), "v": np.arange(2), "bad": float("nan"), "inf": np.inf}
    stage = make_data(root, **{"f.json": {**numbers, 3: Path("a/b")}})
    text = (stage.folder / "f.json").read_text()
    expected = {"n": 3, "r": 0.5, "v": [0, 1], "bad": None, "inf": None, "3": "a/b"}
    assert json.loads(text, parse_constant=pytest.fail) == expected


def test_an_unknown_format_is_refused(root: Path) -> None:
    with pytest.raises(ArtifactError, match=r"artifact 'x.pkl': expected one of .npy, .parquet"):
        open_stage(root, "01_data").write("x.pkl", [1])


def test_arrays_of_objects_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        open_stage(root, "01_data").write("x.npy", np.array([{}, []], dtype=object))
    assert not list((root / "runs" / "mine" / "01_data").glob("*x.npy"))


def test_same_values_same_bytes(root: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    first = make_data(root, **{"f.parquet": frame, "t.safetensors": {"b": np.ones(3), "a": np.zeros(2)}})
    before = read_manifest(first.recipe, "01_data", root)["artifacts"]  # type: ignore[index]
    again = make_data(root, **{"f.parquet": frame.copy(), "t.safetensors": {"b": np.ones(3), "a": np.zeros(2)}})
    assert read_manifest(again.recipe, "01_data", root)["artifacts"] == before  # type: ignore[index]


# --- the manifest ----------------------------------------------------------------------------------------------------


def test_the_manifest_says_what_a_reader_needs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = open_stage(root, "01_data")
    stage.write("x.npy", np.arange(5))
    stage.note(users=np.int64(7), share=0.25)
    stage.note(users=8)
    stage.close()
    made = json.loads((stage.folder / "manifest.json").read_text())
    content = (stage.folder / "x.npy").read_bytes()
    assert made["artifacts"] == {"x.npy": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}}
    assert made["facts"] == {"users": 8, "share": 0.25}
    assert made["key"] == stage_key(DATA, stage.recipe, root) and made["recipe"]["data"]["source"] == "toy"
    assert (made["seed"], made["device"], made["dtype"], made["threads"]) == (42, "cpu", "float32", 1)
    assert made["seconds"] > 0 and made["peak_memory"] > 2**20 and made["peak_gpu_memory"] is None
    assert made["versions"]["numpy"] == np.__version__ and "commit" in made
    assert capsys.readouterr().out == "01_data complete: x.npy\n", "one line, the same in every run"


def test_a_stage_without_its_manifest_is_incomplete(root: Path) -> None:
    stage = open_stage(root, "01_data")
    stage.write("x.npy", np.arange(5))
    with pytest.raises(ArtifactError, match=r"02_embeddings needs 01_data, .*run notebooks/01_data.ipynb"):
        open_stage(root, "02_embeddings")


# --- opening costs no result ------------------------------------------------------------------------------------------


def declare(monkeypatch: pytest.MonkeyPatch, *outputs: str, optional: tuple[str, ...] = ()) -> None:
    """01_data writes these."""
    monkeypatch.setattr(Recipe, "stages", (replace(STAGES[0], outputs=outputs, optional=optional), *STAGES[1:]))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a stage by its name."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files_of(folder)}


@pytest.mark.parametrize("override", ["", "seed=9"], ids=["unchanged", "changed"])
def test_what_was_made_stays_until_close_replaces_it(root: Path, override: str) -> None:
    folder, overrides = make_data(root, **{"x.npy": np.arange(5), "gone.txt": "old"}).folder, [override] * bool(override)
    before = contents(folder)
    stage = open_stage(root, "01_data", *overrides)
    assert contents(folder) == before
    for value in (3, 4):
        stage.write("x.npy", np.arange(value))
        assert {name: content for name, content in contents(folder).items() if "scratch-" not in name} == before
        assert len(stage.read("01_data", "x.npy")) == value, "what is written is read at once"
        assert len(open_stage(root, "02_embeddings").read("01_data", "x.npy")) == 5, "and by nobody else"
    stage.close()
    assert len(open_stage(root, "02_embeddings", *overrides).read("01_data", "x.npy")) == 4
    assert set(contents(folder)) == {"x.npy", "manifest.json"}, "what it no longer writes is gone, and no trace is left"


def test_an_unchanged_stage_can_be_looked_at(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_data(root).folder
    before = contents(folder)
    capsys.readouterr()
    stage = open_stage(root, "01_data")
    assert stage.read("01_data", "x.npy").tolist() == [0, 1, 2, 3, 4]
    stage.note(users=9)
    stage.scratch("checkpoints")
    stage.close()
    assert capsys.readouterr().out == "01_data was only looked at: its artifacts are as they were\n"
    assert contents(folder) == before
    with pytest.raises(ArtifactError, match="01_data has no artifact 'x.npy'; it has: none"):
        open_stage(root, "01_data", "seed=9").read("01_data", "x.npy")


def test_a_stage_closes_with_all_that_it_declares(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, "x.npy", "y.npy", optional=("list_*.txt",))
    stage = open_stage(root, "01_data")
    for written, missing in (("", "x.npy, y.npy"), ("list_a.txt", "x.npy, y.npy"), ("y.npy", "x.npy")):
        if written:
            stage.write(written, np.arange(2))
        with pytest.raises(ArtifactError, match=f"01_data has not written {missing}: run all cells of notebooks/01_data"):
            stage.close()
    stage.write("x.npy", np.arange(3))
    stage.close()
    before = contents(stage.folder)
    again = open_stage(root, "01_data")
    again.write("x.npy", np.arange(9))
    with pytest.raises(ArtifactError, match="has not written y.npy: .* What was made before is as it was"):
        again.close()
    assert {name: content for name, content in contents(stage.folder).items() if "scratch-" not in name} == before
    changed = open_stage(root, "01_data", "seed=9")
    with pytest.raises(ArtifactError, match="has not written x.npy, y.npy"):
        changed.close()
    (again._new / "x.npy").unlink()
    again.write("y.npy", np.arange(9))
    with pytest.raises(ArtifactError, match="has not written x.npy"):
        again.close()
    assert read_manifest(recipe_of(root), "01_data", root) is not None


def test_of_two_kernels_with_one_stage_none_takes_what_the_other_wrote(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "x.npy", "y.npy")
    made = open_stage(root, "01_data")
    for name in ("x.npy", "y.npy"):
        made.write(name, np.arange(2))
    made.close()
    before = contents(made.folder)
    one, other = open_stage(root, "01_data"), open_stage(root, "01_data")
    other.write("x.npy", np.arange(3))
    for name in ("x.npy", "y.npy"):
        one.write(name, np.arange(4))
    other.write("y.npy", np.arange(5))
    for stage, lost in ((one, "y.npy"), (other, "x.npy")):
        with pytest.raises(ArtifactError, match=f"has not written {lost}: .* in one kernel at a time"):
            stage.close()
    assert {name: content for name, content in contents(made.folder).items() if "scratch-" not in name} == before
    other.write("x.npy", np.arange(3))
    other.close()
    assert [len(open_stage(root, "01_data").read("01_data", name)) for name in ("x.npy", "y.npy")] == [3, 5]


def test_a_stage_may_declare_every_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, optional=("*",))
    for _ in range(2):
        assert set(contents(make_data(root).folder)) == {"x.npy", "manifest.json"}


def test_a_manifest_without_what_the_stage_always_writes_is_made_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_stage(root, "01_data").close()
    made = read_manifest(recipe_of(root), "01_data", root)
    declare(monkeypatch, "x.npy")
    assert made and damaged_artifacts(recipe_of(root), "01_data", root, made) == ["x.npy"]
    with pytest.raises(ArtifactError, match="has not written x.npy"):
        open_stage(root, "01_data").close()


def test_a_name_that_is_not_declared_is_refused_with_the_nearest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, "items.parquet", optional=("lists_*.npy",))
    stage = open_stage(root, "01_data")
    said = r"01_data declares no artifact 'item.parquet'; declared: items.parquet, lists_\*.npy; nearest: 'items.parquet'"
    for look in (False, True):
        stage.writes = not look
        with pytest.raises(ArtifactError, match=said):
            stage.write("item.parquet", pd.DataFrame())
        with pytest.raises(ArtifactError, match="declares no artifact 'page'"):
            stage.write_folder("page", lambda folder: None)


def test_nothing_is_written_after_close(root: Path) -> None:
    stage = make_data(root)
    before = contents(stage.folder)
    with pytest.raises(ArtifactError, match=r"01_data is closed, so y.npy is not kept: run its cells from the first on"):
        stage.write("y.npy", np.arange(2))
    with pytest.raises(ArtifactError, match="so a note is not kept"):
        stage.note(users=2)
    stage.close()
    assert contents(stage.folder) == before and stage.read("01_data", "x.npy")[-1] == 4


def test_a_close_broken_off_anywhere_leaves_old_or_new_or_nothing_complete(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step on the disk in turn: no manifest ever stands over other files than its own."""
    steps = ["os.replace", "pathlib.Path.unlink", "pathlib.Path.mkdir", "shutil.rmtree"]
    folder, states = make_data(root, **{"x.npy": np.arange(5), "y.npy": np.arange(5)}).folder, []
    for last in range(40):
        stage = open_stage(root, "01_data", f"seed={last}")
        (stage.scratch("checkpoints") / "step-5").touch()
        for name in ("x.npy", "y.npy"):
            stage.write(name, np.full(2, last))
        left = iter(range(last))
        with monkeypatch.context() as patched:
            for step in steps:
                patched.setattr(step, dying(resolve_name(step), left))
            try:
                stage.close()
            except KeyboardInterrupt:
                pass
            else:
                break
        made = read_manifest(stage.recipe, "01_data", root)
        states.append("none" if made is None else "new" if made["key"] == stage.key else "old")
        assert made is None or damaged_artifacts(stage.recipe, "01_data", root, made) == []
        assert states[-1] == "new" or (stage.scratch("checkpoints") / "step-5").is_file(), "it goes on from there"
        make_data(root, **{"x.npy": np.arange(5), "y.npy": np.arange(5)})
        assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "x.npy", "y.npy"]
    assert list(dict.fromkeys(states)) == ["old", "none", "new"] and last > 9


def dying(step: Callable[..., Any], left: Iterator[int]) -> Callable[..., Any]:
    """A step that is the last one when nothing is left."""

    def call(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    return call


def test_a_full_disk_at_close_leaves_the_old_result(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_data(root).folder
    stage = open_stage(root, "01_data", "seed=9")
    stage.write("x.npy", np.arange(9))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match="disk is full"):
            stage.close()
        with pytest.raises(ResourceError, match="disk is full"):
            open_stage(root, "01_data").write("x.npy", np.arange(7))
    assert len(np.load(folder / "x.npy")) == 5 and read_manifest(recipe_of(root), "01_data", root)
    stage.close()
    assert len(np.load(folder / "x.npy")) == 9, "with space again, the same call goes on"


def test_inputs_made_from_one_another(root: Path) -> None:
    make_data(root)
    second = open_stage(root, "02_embeddings")
    second.write("s.npy", np.arange(2))
    second.close()
    open_stage(root, "03_index")
    make_data(root, **{"x.npy": np.arange(6)})
    said = "03_index needs 02_embeddings, which was made from another 01_data: run notebooks/02_embeddings.ipynb again"
    with pytest.raises(ArtifactError, match=said):
        open_stage(root, "03_index")


def test_a_refused_open_leaves_the_stage_as_it_was(root: Path) -> None:
    make_data(root)
    second = open_stage(root, "02_embeddings")
    second.write("s.npy", np.arange(2))
    second.close()
    (root / "runs/mine/01_data/x.npy").write_bytes(b"rot")
    with pytest.raises(ArtifactError):
        open_stage(root, "02_embeddings")
    assert (second.folder / "manifest.json").is_file()


@pytest.mark.parametrize(
    "damage",
    [
        *("{", "[]", '{"key": 1}', "\x00", "[" * 100_000),
        *({"artifacts": 3}, {"artifacts": {"x.npy": {}}}, {"artifacts": {"x.npy": None}}, {"recipe": []}, {"parts": None}),
        *({"facts": 3}, {"finished": 3}, {"parts": {}}, {"key": "k"}, {"stage": "03_index"}, {"recipe_name": 3}),
        *({name: ...} for name in ("recipe", "finished", "device", "commit")),
    ],
    ids=lambda damage: str(damage)[:40],
)
def test_a_damaged_manifest_counts_as_none(damage: str | dict[str, Any], root: Path) -> None:
    path = make_data(root).folder / "manifest.json"
    made = json.loads(path.read_text())
    if isinstance(damage, dict):
        damage = json.dumps({name: value for name, value in {**made, **damage}.items() if value is not ...})
    path.write_text(damage)
    assert read_manifest(recipe_of(root), "01_data", root) is None


# --- damage ----------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(b""), Path.unlink])
def test_a_damaged_artifact_is_named_with_its_cure_and_never_used(root: Path, damage: Callable[[Path], Any]) -> None:
    folder = make_data(root).folder
    damage(folder / "x.npy")
    with pytest.raises(ArtifactError, match=r"x\.npy is (damaged|gone).*notebooks/01_data\.ipynb"):
        open_stage(root, "02_embeddings")


def test_damage_after_opening_is_found_too(root: Path) -> None:
    folder = make_data(root).folder
    later = open_stage(root, "02_embeddings")
    time.sleep(0.02)
    flip(folder / "x.npy")
    with pytest.raises(ArtifactError, match="damaged"):
        later.read("01_data", "x.npy")


def test_damage_inside_a_folder_is_found(root: Path) -> None:
    stage = open_stage(root, "01_data")
    stage.write_folder("model", lambda folder: [(folder / n).write_bytes(n.encode()) for n in ("a", "b")])
    stage.close()
    manifest = read_manifest(stage.recipe, "01_data", root)
    assert manifest and damaged_artifacts(stage.recipe, "01_data", root, manifest) == []
    (stage.folder / "model" / "a").rename(stage.folder / "model" / "c")
    assert damaged_artifacts(stage.recipe, "01_data", root, manifest) == ["model"]


def test_results_of_another_recipe_are_not_used(root: Path) -> None:
    make_data(root)
    with pytest.raises(ArtifactError, match=r"made with another recipe \(data.k_core was 0, is 3\)"):
        open_stage(root, "02_embeddings", "data.k_core=3")
    open_stage(root, "02_embeddings", "map.neighbours=9")  # nothing that 01_data depends on


# --- declared access -------------------------------------------------------------------------------------------------


def test_only_declared_sections_and_inputs(root: Path) -> None:
    make_data(root)
    stage = open_stage(root, "02_embeddings")
    assert stage.config("embeddings") == stage.recipe.embeddings
    with pytest.raises(RecipeError, match="does not declare recipe section 'train'; declared: data, embeddings"):
        stage.config("train")
    with pytest.raises(ArtifactError, match="02_embeddings does not declare 03_index as an input; declared: 01_data"):
        stage.read("03_index", "codes.npy")
    with pytest.raises(ArtifactError, match="01_data has no artifact 'y.npy'; it has: x.npy"):
        stage.read("01_data", "y.npy")


def test_root_and_recipe_are_found_from_a_notebook_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "notebooks")
    stage = Stage.open("01_data", "params/mine.yaml")
    assert stage.root == root and stage.folder == root / "runs" / "mine" / "01_data"


def test_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="no folder with notebooks/ and params/ here or above"):
        Stage.open("01_data", "mine.yaml")


def test_a_loaded_recipe_takes_no_overrides(root: Path) -> None:
    with pytest.raises(RecipeError, match="overrides need a recipe file"):
        Stage.open("01_data", recipe_of(root), ["seed=1"], root)
    assert Stage.open("01_data", recipe_of(root), root=root).recipe.name == "mine"


def test_what_was_made_once_is_not_made_again_after_a_kill(root: Path) -> None:
    made = open_stage(root, "01_data").once("lists-a + b", lambda: {"kept": np.arange(6).reshape(2, 3)})
    again = open_stage(root, "01_data")
    stored = again.once("lists-a + b", lambda: pytest.fail("made again"))
    np.testing.assert_array_equal(stored["kept"], made["kept"])
    assert set(again.once("other", lambda: {"x": np.zeros(1)})) == {"x"}
    again.writes = False  # another process of the same launch: it reads what is there, as the first one does
    np.testing.assert_array_equal(again.once("lists-a + b", lambda: pytest.fail("made again"))["kept"], made["kept"])
    assert set(again.once("third", lambda: {"x": np.ones(1)})) == {"x"} != set(again.once("third", lambda: {"y": np.ones(1)}))
    again.writes = True
    again.close()
    assert not list(again.folder.glob("scratch-*"))


def test_scratch_survives_a_kill_serves_one_key_and_goes_at_the_end(root: Path) -> None:
    checkpoint = open_stage(root, "01_data").scratch("checkpoints") / "step-5"
    checkpoint.write_text("state")
    again = open_stage(root, "01_data")
    assert (again.scratch("checkpoints") / "step-5").read_text() == "state"
    other = open_stage(root, "01_data", "seed=9")
    assert not list(other.scratch("checkpoints").iterdir()), "a checkpoint of another recipe is not resumed"
    assert (again.scratch("checkpoints") / "step-5").is_file(), "and another recipe does not cost it"
    other.close()
    assert not list(other.folder.glob("scratch-*"))


def test_figures_belong_to_the_report(root: Path) -> None:
    path = open_stage(root, "01_data").figure("lengths")
    assert path == root / "reports" / "mine" / "figures" / "01_data-lengths.png" and path.parent.is_dir()


# --- writing: full disk, kill ----------------------------------------------------------------------------------------


def fail_with(code: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(code, os.strerror(code))

    return write


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_artifact_whole(tmp_path: Path, code: int) -> None:
    path = tmp_path / "x.npy"
    write_text(path, "old")
    with pytest.raises(ResourceError, match=r"x.npy: the disk is full .*free some space"):
        write_atomic(path, fail_with(code))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.npy"]


def test_a_disk_that_is_full_only_at_the_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="disk is full"):
        write_text(tmp_path / "x.npy", "new")
    assert os.listdir(tmp_path) == []


def test_a_really_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError) as error:
        full.write(b"x")
    assert _is_full_disk(error.value)


def test_a_full_disk_inside_a_library_that_raises_its_own_error(tmp_path: Path) -> None:
    class LibraryError(Exception):
        pass

    def fill(folder: Path) -> None:
        (folder / "part").write_bytes(b"x")
        raise LibraryError("Error while serializing: I/O error: No space left on device (os error 28)")

    write_folder_atomic(tmp_path / "model", lambda folder: (folder / "w").write_bytes(b"old"))
    with pytest.raises(ResourceError, match="disk is full"):
        write_folder_atomic(tmp_path / "model", fill)
    assert (tmp_path / "model" / "w").read_bytes() == b"old" and os.listdir(tmp_path) == ["model"]


def test_any_other_error_passes_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output"):
        write_atomic(tmp_path / "x", fail_with(errno.EIO))
    with pytest.raises(ZeroDivisionError):
        write_folder_atomic(tmp_path / "m", lambda folder: 1 / 0)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    write_folder_atomic(tmp_path / "m", lambda folder: (folder / "old").touch())
    write_folder_atomic(tmp_path / "m", lambda folder: (folder / "new").touch())
    assert os.listdir(tmp_path / "m") == ["new"] and os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_kill_9_in_the_middle_of_a_write_leaves_no_half_artifact(tmp_path: Path, kind: str) -> None:
    """A process is killed while it writes, again and again; what is there is always one of the whole versions."""
    path = tmp_path / "x"
    code = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from recnb.workflow.stage import write_atomic, write_folder_atomic
        path = Path({str(path)!r})
        def slowly(path):
            file = path.open("wb", buffering=0)
            for part in range(40):
                file.write(bytes([version]) * 50_000)
                if version > 1: time.sleep(0.002)
        version = 1
        while True:
            if {kind == "file"}:
                write_atomic(path, slowly)
            else:
                write_folder_atomic(path, lambda folder: slowly(folder / "w"))
            if version == 1: print("ready", flush=True)
            version = 2 + version % 5
    """)
    for delay in (0.01, 0.05, 0.11):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        file = path if kind == "file" else path / "w"
        if kind == "folder" and not path.exists():
            continue  # killed between the two renames: the stage has no manifest and is made again
        content = file.read_bytes()
        assert len(content) == 2_000_000 and len(set(content)) == 1
    assert [p for p in tmp_path.iterdir() if p != path], "the kill did hit a write: its temporary is still there"


def test_leftovers_of_a_kill_go_with_the_next_close(root: Path) -> None:
    folder = make_data(root).folder
    (folder / ".tmp-77-x.npy").write_bytes(b"half")
    (folder / ".tmp-77-model").mkdir()
    make_data(root)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "x.npy"]


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_key_counts_code_and_prose_but_no_output(root: Path) -> None:
    recipe = recipe_of(root)
    key = stage_key(DATA, recipe, root)
    write_notebook(root, "01_data", ["import numpy"], [{"output_type": "stream", "name": "stdout", "text": "7"}])
    assert stage_key(DATA, recipe, root) == key
    write_notebook(root, "01_data", ["import numpy as np"])
    assert stage_key(DATA, recipe, root) != key


@pytest.mark.parametrize(
    ("override", "counts"),
    [
        ("data.k_core=2", True), ("seed=1", True), ("runtime.dtype=bfloat16", True), ("data.toy.users=9", True),
        ("train.epochs=1", False), ("title=other", False), ("runtime.max_hours=3", False),
        ("runtime.solutions=false", False),
    ],
)  # fmt: skip
def test_the_key_counts_declared_sections_seed_and_runtime(root: Path, override: str, counts: bool) -> None:
    key = stage_key(DATA, recipe_of(root), root)
    assert (stage_key(DATA, recipe_of(root, override), root) != key) == counts


def test_the_key_counts_inputs(root: Path) -> None:
    recipe = recipe_of(root)
    with pytest.raises(ArtifactError, match="01_data, which is not complete"):
        stage_key(EMBEDDINGS, recipe, root)
    make_data(root, **{"x.npy": np.arange(3)})
    key = stage_key(EMBEDDINGS, recipe, root)
    make_data(root, **{"x.npy": np.arange(3)})
    assert stage_key(EMBEDDINGS, recipe, root) == key, "made again with the same content: nothing to do"
    make_data(root, **{"x.npy": np.arange(4)})
    assert stage_key(EMBEDDINGS, recipe, root) != key


def test_the_key_counts_files_that_the_recipe_names(root: Path) -> None:
    (root / "mydata").mkdir()
    source = root / "mydata" / "interactions.csv"
    source.write_text("user_id,item_id\n")
    recipe = recipe_of(root, "data.source=files", "data.path=mydata")
    assert manifest.outside_files(DATA, recipe, root) == [source]
    key = stage_key(DATA, recipe, root)
    source.write_text("user_id,item_id,t\n")
    assert stage_key(DATA, recipe, root) != key
    assert manifest.outside_files(INDEX, recipe, root) == []


def test_the_key_counts_files_in_the_home_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root / "home"))
    (root / "home" / "model").mkdir(parents=True)
    (root / "home" / "model" / "config.json").write_text("{}")
    recipe = recipe_of(root, "embeddings.semantic.model=~/model", "embeddings.semantic.encoder=sentence")
    assert [file.name for file in manifest.outside_files(EMBEDDINGS, recipe, root)] == ["config.json"]


def test_commit_of_a_project_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) == ""
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) == ""
    monkeypatch.setenv("RECNB_COMMIT", "abc")
    assert git_commit(tmp_path) == "abc", "a copy without its history is told"


def test_commit_of_a_project_with_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b.c")
    (tmp_path / "x").write_text("1")
    for command in ("init -q", "add x", "commit -q -m one", "tag v1"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    clean = git_commit(tmp_path)
    assert len(clean) == 12 and set(clean) <= set("0123456789abcdef")
    (tmp_path / "y").write_text("not tracked")
    assert git_commit(tmp_path) == clean
    (tmp_path / "x").write_text("22")
    assert git_commit(tmp_path) == f"{clean}+"


def test_hash_of_a_folder_is_that_of_names_and_contents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "w").write_bytes(b"1")
    assert hash_artifact(tmp_path / "a") == hash_artifact(tmp_path / "b")
    (tmp_path / "b" / "in" / "w").write_bytes(b"2")
    assert hash_artifact(tmp_path / "a") != hash_artifact(tmp_path / "b")


def test_stage_names() -> None:
    assert stage_named("03", STAGES) is INDEX
