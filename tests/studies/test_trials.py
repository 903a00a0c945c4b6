"""Trials: what one run may take from another, and what does not fit into the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox import FREE_STAGES

from recnb.eager_llm.recipe import EagerLLM
from recnb.errors import ResourceError
from recnb.studies import trials
from recnb.workflow.manifest import stage_folder
from recnb.workflow.plan import Decision, decide, make_plan
from recnb.workflow.stage import Stage


def trial(project: Path, name: str, *overrides: str) -> trials.Trial:
    plan = make_plan("params/toy.yaml", [f"name={name}", *overrides], last="04_train", root=project)
    return trials.Trial(name, plan, plan.recipe)


def test_what_comes_out_the_same_is_copied_not_made_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, changed = (make_plan("params/toy.yaml", [f"name={n}"], last="04_train", root=project) for n in ("a", "b"))
    for stage in ("01_data", "02_embeddings", "03_index", "04_train"):
        folder = stage_folder(base.recipe, stage, project)
        folder.mkdir(parents=True)
        (folder / "x").write_text(stage)
    stale = ["02_embeddings"]
    monkeypatch.setattr(trials, "decide", lambda spec, plan: Decision(spec, spec.name in stale, ""))
    trials.take_over(changed, base.recipe)
    assert (stage_folder(changed.recipe, "01_data", project) / "x").read_text() == "01_data"
    assert not stage_folder(changed.recipe, "02_embeddings", project).exists()
    assert stage_folder(changed.recipe, "03_index", project).exists(), "behind one that is otherwise, as long as it is the same"
    assert not stage_folder(changed.recipe, "04_train", project).exists(), "the last one is the run's own"
    stale.clear()
    (stage_folder(changed.recipe, "01_data", project) / "x").write_text("its own")
    trials.take_over(changed, base.recipe)
    assert (stage_folder(changed.recipe, "01_data", project) / "x").read_text() == "its own"
    assert (stage_folder(changed.recipe, "02_embeddings", project) / "x").read_text() == "02_embeddings"


def test_a_copy_counts_as_made_under_its_new_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EagerLLM, "stages", FREE_STAGES)
    base, other = trial(project, "a"), trial(project, "b")
    stage = Stage.open("01_data", base.recipe, root=project)
    stage.write("x.txt", "made once")
    stage.close()
    open_again = Stage.open("01_data", base.recipe, root=project)
    (open_again.scratch("checkpoints") / "large").touch()
    trials.take_over(other.plan, base.recipe)
    assert (stage_folder(other.recipe, "01_data", project) / "x.txt").read_text() == "made once"
    assert not decide(other.plan.stages[0], other.plan).run
    assert not list(stage_folder(other.recipe, "01_data", project).glob("scratch-*")), "another run's work is its own"


def test_what_was_made_with_other_settings_is_not_even_copied(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, other = trial(project, "a"), trial(project, "b", "data.toy.users=50")
    stage_folder(base.recipe, "01_data", project).mkdir(parents=True)
    monkeypatch.setattr(trials.shutil, "copytree", lambda *folders: pytest.fail("it was copied"))
    trials.take_over(other.plan, base.recipe)


def test_what_does_not_fit_is_said_and_the_others_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan) -> None:  # type: ignore[no-untyped-def]
        if plan.recipe.name != "small":
            raise ResourceError("too large; try --set train.batch_size=8")

    monkeypatch.setattr(trials, "run", run)
    large, small, said = trial(project, "large"), trial(project, "small"), list[str]()
    assert list(trials.run_trials(Path("f.yaml"), [large, small], 0, said.append)) == [small]
    assert said == ["large, seed 7: left out: too large; try --set train.batch_size=8"]
    with pytest.raises(ResourceError, match="f.yaml: nothing of it can run on this machine: large"):
        list(trials.run_trials(Path("f.yaml"), [large, large], 0, said.append))
