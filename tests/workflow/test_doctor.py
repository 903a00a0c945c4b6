"""The doctor: what can run on a given machine, what is missing, and the way to get it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recnb.eager_llm.recipe import EagerLLM as Recipe
from recnb.workflow import doctor
from recnb.workflow.doctor import Machine

GIB = 2**30
LAPTOP = Machine(cores=2, memory=8 * GIB, disk=50 * GIB, torch="2.13.0+cpu")
SERVER = Machine(128 * GIB, 80 * GIB, "Big Card", cores=16, disk=900 * GIB, torch="2.13.0+cu130")


@pytest.fixture(autouse=True)
def _empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    return tmp_path


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "mine", "data": {"source": "toy"}, **sections})


def said(problems: list[doctor.Problem]) -> str:
    return "\n".join(f"{p.what} -> {p.way}" for p in problems)


def test_a_plain_recipe_runs_on_a_laptop(root: Path) -> None:
    assert doctor.problems(recipe(), root, LAPTOP) == []


@pytest.mark.parametrize("runtime", [{"require_gpu": True}, {"device": "cuda"}])
def test_a_gpu_that_is_demanded(root: Path, runtime: dict[str, Any]) -> None:
    text = said(doctor.problems(recipe(runtime=runtime), root, LAPTOP))
    assert "it needs a GPU (runtime." in text and "this torch is a CPU build" in text and "--set runtime." in text
    assert doctor.problems(recipe(runtime=runtime), root, SERVER) == []


def test_data_that_is_not_here(root: Path) -> None:
    files = recipe(data={"source": "files", "path": "mine"})
    text = said(doctor.problems(files, root, LAPTOP))
    assert "its data (files) is not here" in text and "mine" in text and "--set data.path=" in text
    (root / "mine").mkdir()
    for name in ("interactions.csv", "items.csv"):
        (root / "mine" / name).write_text("item_id\n")
    assert doctor.problems(files, root, LAPTOP) == []


def test_data_that_could_be_fetched(root: Path) -> None:
    assert doctor.problems(recipe(data={"source": "movielens-100k"}), root, LAPTOP) == []
    text = said(doctor.problems(recipe(data={"source": "movielens-100k", "download": False}), root, LAPTOP))
    assert "data.download is off" in text


@pytest.mark.parametrize(
    ("model", "what", "way", "blocks"),
    [
        ("package:no_such_package", "is not installed", "pip install no-such-package", True),
        ("models/mine.gguf", "no such file", "--set embeddings.semantic.model", True),
        ("./models/mine", "no such file", "put it there", True),
        ("org/model", "not in the hub's cache", "fetched when needed", False),
    ],
)
def test_models_that_are_not_here(root: Path, model: str, what: str, way: str, blocks: bool) -> None:
    found = doctor.problems(recipe(embeddings={"semantic": {"model": model}}), root, LAPTOP)
    assert len(found) == 1 and what in found[0].what and way in found[0].way and found[0].blocks is blocks
    assert f"embeddings.semantic.model = {model}" in found[0].what


def test_models_that_are_here(root: Path, tmp_path: Path) -> None:
    (root / "models").mkdir()
    (root / "models" / "mine.gguf").touch()
    (tmp_path / "hub" / "models--org--model").mkdir(parents=True)
    both = recipe(
        embeddings={"semantic": {"model": "models/mine.gguf"}},
        backbone={"kind": "pretrained", "model": "org/model@main"},
    )
    assert doctor.problems(both, root, LAPTOP) == []


def test_a_disk_that_is_nearly_full(root: Path) -> None:
    text = said(doctor.problems(recipe(), root, Machine(8 * GIB, disk=GIB // 2)))
    assert "only 512 MiB of disk left" in text


def test_packages_are_held_against_the_lock(root: Path) -> None:
    assert doctor.differing_packages(root) == (0, [])
    import numpy

    lines = [f"numpy=={numpy.__version__}", "pandas==0.0.1", "no-such-package==1.0", "# torch==9"]
    (root / "requirements.lock").write_text("\n".join(lines))
    count, differing = doctor.differing_packages(root)
    assert count == 3 and len(differing) == 2
    assert differing[0].startswith("pandas ") and differing[1] == "no-such-package absent (lock: 1.0)"


def test_the_page_lists_recipes_with_a_verdict(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "a.yaml": "name: a\ndata: {source: toy}\nruntime: {max_hours: 3}\n",
        "b.yaml": "name: b\ndata: {source: toy}\nruntime: {require_gpu: true}\nembeddings: {semantic: {model: org/x}}\n",
        "c.yaml": "name: c\nseeds: 1\n",
        "d.yaml": "name: d\ndata: {source: toy}\nembeddings: {semantic: {model: org/x}}\n",
        "compared.yaml": "# what it bought\nbase: params/a.yaml\nvariants: {plain: [], other: [seed=7]}\n",
        "tables/tabled.yaml": "entries: [{recipe: params/a.yaml, seeds: [1, 2]}]\n",
    }
    (root / "params" / "tables").mkdir()
    for name, text in texts.items():
        (root / "params" / name).write_text(text)
    monkeypatch.setattr(doctor, "look", lambda root: LAPTOP)
    text, usable = doctor.examine(root)
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip().startswith("params/")}
    assert usable and lines["params/a.yaml"].endswith("runs here, up to 3 h")
    assert "cannot run here: it needs a GPU" in lines["params/b.yaml"]
    assert "not valid" in lines["params/c.yaml"] and "nearest valid key: seed" in lines["params/c.yaml"]
    assert lines["params/d.yaml"].endswith("runs here, after downloads")
    assert "compared.yaml" not in text and "tabled.yaml" not in text, "files that ask for runs of recipes are none"
    assert "cores        2" in text and "GPU          none (torch 2.13.0+cpu)" in text

    text, usable = doctor.examine(root, "params/b.yaml")
    assert not usable and "-> a machine with a GPU" in text and "complete    no stage yet" in text
    assert "in the hub's cache" in text and "04_train" in text and "may be filled" in text


def test_this_machine_is_seen_as_it_is(root: Path) -> None:
    machine = doctor.look(root)
    assert machine.cores >= 1 and machine.memory > GIB // 4 and machine.disk > 0 and machine.torch[0].isdigit()
