"""The report's page: self-contained, true to manifests and ledger, safe whatever a title holds, for every system."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pages import EARLIER, HOSTILE, LEDGER, METRICS, PNG, Parsed, assert_safe_and_offline, notebook
from sandbox import FREE_STAGES

from recnb.artifacts import hash_artifact
from recnb.eager_llm.recipe import EagerLLM as Recipe
from recnb.report import page
from recnb.settings import Recipe as AnyRecipe, StageSpec
from recnb.workflow.manifest import read_manifest
from recnb.workflow.recipe import load_recipe, settings_hash
from recnb.workflow.stage import Stage


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Recipe, "stages", FREE_STAGES)
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    (tmp_path / "params" / "mine.yaml").write_text(
        f"name: mine\ntitle: '{HOSTILE}'\ntrain: {{epochs: 5}}\nruntime: {{device: cpu, threads: 1}}\n"
    )
    return tmp_path


@pytest.fixture
def recipe(project: Path) -> Recipe:
    return load_recipe(project / "params" / "mine.yaml")


@pytest.fixture
def done(project: Path, recipe: Recipe) -> Path:
    """Two stages complete: 01_data with a page and a figure, 06_evaluate (its inputs forgotten) with a ledger."""
    stage = Stage.open("01_data", recipe, root=project)
    stage.write("x.json", [1])
    stage.note(items=1682, sparsity=0.936953, title=HOSTILE[:20], cold_targets=0.0)
    stage.figure("lengths").write_bytes(PNG)
    stage.figure("lengths").with_suffix(".txt").write_text(f"Lengths {HOSTILE}")
    stage.close()
    folder = project / "reports" / "mine" / "notebooks"
    folder.mkdir(parents=True)
    (folder / "01_data.ipynb").write_text(json.dumps(notebook()))
    evaluate = project / "runs" / "mine" / "06_evaluate"
    evaluate.mkdir(parents=True)
    (evaluate / "ledger.json").write_text(json.dumps({"rows": LEDGER}))
    made = read_manifest(recipe, "01_data", project)
    assert made
    sha = hash_artifact(evaluate / "ledger.json")
    made |= {"stage": "06_evaluate", "artifacts": {"ledger.json": {"sha256": sha, "bytes": 9}}, "facts": {}}
    made |= {"device": "cuda", "peak_gpu_memory": 3 * 2**30}
    (evaluate / "manifest.json").write_text(json.dumps(made))
    return project


def page_of(project: Path, recipe: Recipe) -> str:
    return page.build_report(recipe, project, "params/mine.yaml", ["train.epochs=5"]).read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_safe(done: Path, recipe: Recipe) -> None:
    parsed = assert_safe_and_offline(page_of(done, recipe))
    assert all(image["src"] and image["src"].startswith("data:image/png;base64,") for image in parsed.all("img"))
    assert [image["alt"] for image in parsed.all("img")] == [f"Lengths {HOSTILE}"]
    links = {link["href"] for link in parsed.all("a") if not (link["href"] or "").startswith("#")}
    assert links == {"notebooks/01_data.html", "metrics.json"}
    assert all((done / "reports" / "mine" / str(link)).is_file() for link in links)
    assert str(done) not in page_of(done, recipe)


def test_the_page_shows_what_was_done(done: Path, recipe: Recipe) -> None:
    parsed = Parsed(page_of(done, recipe))
    text = " ".join(parsed.text.split())
    made = read_manifest(recipe, "01_data", done)
    assert made
    for expected in (
        "recnb run params/mine.yaml --set 'train.epochs=5'", "2 of 8 stages are complete", "1,682", "0.937",
        made["artifacts"]["x.json"]["sha256"], made["versions"]["torch"], "train.epochs", "passes over the mixture",
        "3.0 GiB", "not run yet", "cuda", "-2.2 %", "0.0812",
    ):  # fmt: skip
        assert expected in text, expected


def test_settings_are_those_that_differ_from_the_defaults(recipe: Recipe) -> None:
    keys = [key for key, *_ in page._settings(recipe)]
    assert keys == ["runtime.device", "runtime.threads", "train.epochs"]


def test_no_ledger_no_table(done: Path, recipe: Recipe) -> None:
    path = done / "runs" / "mine" / "06_evaluate" / "ledger.json"
    path.write_text(path.read_text().replace("0.0812", "0.9812"))
    assert "0.9812" not in page_of(done, recipe), "a ledger that does not match its manifest is not shown"
    path.unlink()
    assert "The ledger" not in page_of(done, recipe)


def test_an_empty_project_has_a_page_too(project: Path, recipe: Recipe) -> None:
    text = " ".join(Parsed(page_of(project, recipe)).text.split())
    assert "0 of 8 stages are complete" in text and text.count("not run yet") == 8


def test_metrics_are_there_for_machines(done: Path, recipe: Recipe) -> None:
    page_of(done, recipe)
    content = json.loads((done / "reports" / "mine" / "metrics.json").read_text())
    assert content["stages"]["01_data"]["facts"]["items"] == 1682 and content["ledger"] == LEDGER


def test_pictures_that_matter_come_first(tmp_path: Path) -> None:
    names = ["01_data-a", "06_evaluate-bias", "06_evaluate-metrics", "08_prefix_map-umap", "03_index-sizes", "custom"]
    for place, name in enumerate(names):
        (tmp_path / f"{name}.png").write_bytes(PNG)
        os.utime(tmp_path / f"{name}.png", (1000 + place, 1000 + place))
    chosen, rest = page.pictures(tmp_path, Recipe.pictures)
    assert [file.stem for file in chosen] == ["06_evaluate-metrics", "08_prefix_map-umap", "03_index-sizes"]
    assert [file.stem for file in rest] == ["01_data-a", "06_evaluate-bias", "custom"]
    assert page.pictures(tmp_path)[0] == page.pictures(tmp_path, ["99_none"])[0] != []


def test_choices_say_which_changes_are_clear(done: Path, recipe: Recipe) -> None:
    rows = [
        {"choice": name, "changed": [change], "R@10": recall, "N@10": 0.05, "margin": 0.02, "steps": 1734, "seconds": 60.0, "commit": "0123456789ab+",
         "users": 943, "minus": {"as it is": {"R@10": {"diff": recall - 0.13, "low": low, "high": high}}}}
        for name, change, recall, low, high in
        [("as it is", "", 0.13, 0, 0), ("noise", "a=1", 0.12, -0.03, 0.01), (HOSTILE, "b=2", 0.05, -0.1, -0.06)]
    ]  # fmt: skip
    rows[0]["minus"] = {}
    folder = done / "reports" / "ablations"
    folder.mkdir(parents=True)
    (folder / "mine.json").write_text(json.dumps({"rows": rows}))
    text = page_of(done, recipe)
    parsed = assert_safe_and_offline(text)
    assert "0.1300 ± 0.0200" in parsed.text and HOSTILE in parsed.text and "943 users" in parsed.text
    assert "0123456789ab+ (+: with uncommitted changes)." in " ".join(parsed.text.split())
    assert 'class="n"><b>-0.0800</b>' in text and 'class="n">-0.0100<' in text


def test_the_result_stands_on_the_page(done: Path, recipe: Recipe) -> None:
    folder = done / "runs" / "mine" / "06_evaluate"
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artifacts"]["metrics.json"] = {"sha256": hash_artifact(folder / "metrics.json"), "bytes": 9}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    parsed = assert_safe_and_offline(page_of(done, recipe))
    text = " ".join(parsed.text.split())
    assert "seen items removed" in text and "R@10: eager is above popularity" in text and HOSTILE in text
    assert "One run is one draw" not in text, "no seeds were measured"
    (done / "reports" / "mine" / "results.json").write_text(
        json.dumps(EARLIER | {"recipe_hash": settings_hash(recipe)})
    )
    text = " ".join(assert_safe_and_offline(page_of(done, recipe)).text.split())
    assert "with the same settings" in text and "0.0400 ± 0.0000 (0.0400 to 0.0400)" in text
    changed = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 6})})
    assert f"with settings of another hash ({settings_hash(recipe)}" in " ".join(Parsed(page_of(done, changed)).text.split())


def test_an_unchanged_report_is_not_written_again(done: Path, recipe: Recipe) -> None:
    page_of(done, recipe)
    files = [done / "reports" / "mine" / name for name in ("index.html", "metrics.json", "notebooks/01_data.html")]
    before = [file.stat().st_mtime_ns for file in files]
    time.sleep(0.01)
    page_of(done, recipe)
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "yes"), (None, "none"), (12345, "12,345"), (0.123456, "0.1235"), (123456.7, "123,457"), ("a", "a"),
     ([1, 2.5], "1, 2.5"), ({"a": 1, "b": [2]}, "a 1, b 2"), (0.0, "0")],
)  # fmt: skip
def test_facts_for_people(value: Any, text: str) -> None:
    assert page.shown(value) == text


# --- other systems --------------------------------------------------------------------------------------------------


class Tiny(AnyRecipe):
    """A system of two stages, the second an evaluation."""

    system: str = "tiny"
    stages: ClassVar = (
        StageSpec("01_data", (), (), "01_data", ()),
        StageSpec("02_judge", (), ("01_data",), "tiny/judge", ("metrics.json",)),
    )
    evaluation: ClassVar[str] = "02_judge"


class Silent(Tiny):
    """One that measures nothing."""

    evaluation: ClassVar[str] = ""


@pytest.fixture
def tiny(project: Path) -> Path:
    """The tiny system has run: two stages, metrics of one system only, and a page that links to a third notebook."""
    for spec in Tiny.stages:
        with_metrics = Stage.open(spec.name, Tiny(name="small"), root=project)
        if spec.name == Tiny.evaluation:
            metrics = {"systems": {"a": {"kept": {"R@10": 0.1}}}, "ours": "a", "cutoffs": [10]}
            with_metrics.write("metrics.json", metrics)
        with_metrics.close()
    folder = project / "reports" / "small" / "notebooks"
    folder.mkdir(parents=True)
    card = "# 02 · Judge\n[before](../01_data.ipynb) [after](../other/03.ipynb)"
    cells = [{"cell_type": "markdown", "metadata": {}, "source": card, "id": "a"}]
    (folder / "02_judge.ipynb").write_text(json.dumps(notebook() | {"cells": cells}))
    (folder / "01_data.ipynb").write_text(json.dumps(notebook()))
    return project


def test_a_system_that_the_report_does_not_know_has_a_page(tiny: Path) -> None:
    parsed = assert_safe_and_offline(page.build_report(Tiny(name="small"), tiny).read_text(encoding="utf-8"))
    text = " ".join(parsed.text.split())
    assert "2 of 2 stages are complete" in text and "0.1000R@10, a" in text and "seen items kept" in text
    assert "The ledger" not in text and "budget" not in text and "eager" not in text.lower()
    assert "Leave-one-out" not in text, "what a system ranks is for its recipe to say"


def test_a_system_without_metrics_has_a_page(tiny: Path) -> None:
    for name, complete in (("small", 2), ("new", 0)):
        text = " ".join(Parsed(page.build_report(Silent(name=name), tiny).read_text(encoding="utf-8")).text.split())
        assert f"{complete} of 2 stages are complete" in text and "The result" not in text and "0.1000" not in text


def test_links_between_pages_lead_somewhere_or_are_plain_text(tiny: Path) -> None:
    page.build_report(Tiny(name="small"), tiny)
    folder = tiny / "reports" / "small" / "notebooks"
    for name in ("01_data", "02_judge"):
        parsed = Parsed((folder / f"{name}.html").read_text(encoding="utf-8"))
        assert all((folder / str(link["href"])).is_file() for link in parsed.all("a")), name
    judge = Parsed((folder / "02_judge.html").read_text(encoding="utf-8"))
    assert "after" in judge.text and [link["href"] for link in judge.all("a")].count("01_data.html") == 2
    (folder / "01_data.ipynb").unlink()
    page.build_report(Tiny(name="small"), tiny)
    judge = Parsed((folder / "02_judge.html").read_text(encoding="utf-8"))
    assert "before" in judge.text and "01_data.html" not in {link["href"] for link in judge.all("a")}
