"""Comparisons: checked before they start, ordinary runs under names of their own, results with provenance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from recnb import compare as module
from recnb.errors import RecipeError
from recnb.pipeline import Decision, make_plan
from recnb.recipe import load_recipe
from recnb.store import stage_folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("params", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def write(project: Path, text: str) -> Path:
    path = project / "params" / "ablations" / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_committed_comparison_is_valid() -> None:
    for path in (ROOT / "params" / "ablations").glob("*.yaml"):
        comparison = module.read_comparison(path)
        for name, changes in comparison.variants.items():
            load_recipe(
                ROOT / comparison.base, module._overrides(str(ROOT / comparison.base), path.stem, name, changes)
            )


def test_mistakes_stop_it_before_the_first_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run", lambda plan: pytest.fail("something ran"))
    with pytest.raises(RecipeError, match="no such comparison"):
        module.compare(project / "none.yaml", project)
    with pytest.raises(RecipeError, match="variants"):
        module.compare(write(project, "base: params/toy.yaml\n"), project)
    with pytest.raises(RecipeError, match="nearest valid key: train.epochs"):
        module.compare(write(project, "base: params/toy.yaml\nvariants: {a: [], b: [train.epocs=1]}\n"), project)
    with pytest.raises(RecipeError, match="not YAML"):
        module.compare(write(project, "base: [\n"), project)


def test_rows_come_from_the_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(plan) -> None:  # type: ignore[no-untyped-def]
        asked.append((plan.recipe.name, plan.recipe.train.initialisation, plan.stages[-1].name))
        folder = stage_folder(plan.recipe, "04_train", project)
        folder.mkdir(parents=True)
        score = 0.1 if plan.recipe.train.initialisation == "centroid" else 0.05
        (folder / "train.json").write_text(
            json.dumps({"best_validation": {"R@10": score, "N@10": score / 2}, "steps": 7, "validation_users": 100})
        )
        manifest = {"seconds": 3.5, "commit": "abc", "device": "cpu", "threads": 2, "seed": 7}
        (folder / "manifest.json").write_text(json.dumps(manifest | {"key": "k", "artifacts": {}}))

    monkeypatch.setattr(module, "run", run)
    path = write(
        project, 'base: params/toy.yaml\nvariants: {as it is: [], "Mean start!": [train.initialisation=mean]}\n'
    )
    result = json.loads(module.compare(path, project, say=lambda line: None).read_text())
    assert asked == [("toy--mine-as-it-is", "centroid", "04_train"), ("toy--mine-mean-start", "mean", "04_train")]
    assert [row["R@10"] for row in result["rows"]] == [0.1, 0.05]
    assert result["rows"][0]["margin"] == pytest.approx(1.96 * 0.03)  # the square root of 0.1 * 0.9 / 100
    assert result["rows"][1]["changed"] == ["train.initialisation=mean"] and result["rows"][1]["commit"] == "abc"
    assert result["recipe_hash"]


def test_what_comes_out_the_same_is_copied_not_made_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, changed = (make_plan("params/toy.yaml", [f"name={n}"], last="04_train", root=project) for n in ("a", "b"))
    for stage in ("01_data", "02_embeddings"):
        folder = stage_folder(base.recipe, stage, project)
        folder.mkdir(parents=True)
        (folder / "x").write_text(stage)
    stale = ["02_embeddings"]
    monkeypatch.setattr(module, "decide", lambda spec, plan: Decision(spec, spec.name in stale, ""))
    module.take_over(changed, base.recipe)
    assert (stage_folder(changed.recipe, "01_data", project) / "x").read_text() == "01_data"
    assert not stage_folder(changed.recipe, "02_embeddings", project).exists()
    stale.clear()
    (stage_folder(changed.recipe, "01_data", project) / "x").write_text("its own")
    module.take_over(changed, base.recipe)
    assert (stage_folder(changed.recipe, "01_data", project) / "x").read_text() == "its own"
    assert (stage_folder(changed.recipe, "02_embeddings", project) / "x").read_text() == "02_embeddings"
