"""What a recipe lacks is said before its first stage runs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from sandbox import ROOT

from recnb.errors import ResourceError
from recnb.workflow import preflight
from recnb.workflow.plan import Plan, make_plan
from recnb.workflow.recipe import load_recipe
from recnb.workflow.run import run

ENOUGH = preflight.Machine(memory=2**40)
LACKING = {
    "data.source=files data.path=nowhere": ("01_data", "data.path=..."),
    "data.source=files data.path=~nobody-here/data": ("01_data", "data.path=..."),
    "embeddings.semantic.model=package:no_such_encoder": ("02_embeddings", "pip install no-such-encoder"),
    "embeddings.semantic.model=package:no.such": ("02_embeddings", "pip install no.such"),
    "index.semantic_file=gone.json": ("03_index", "beside the data"),
    "tasks.preference_file=gone.jsonl": ("04_train", "tasks.preference_file"),
    "backbone.kind=pretrained backbone.model=./gone.gguf": ("04_train", "backbone.model"),
}


def plan(tmp_path: Path, changes: str, last: str | None = None) -> Plan:
    apart = [f"paths.runs={tmp_path / 'runs'}", f"paths.reports={tmp_path / 'reports'}"]
    return make_plan(ROOT / "params" / "toy.yaml", [*changes.split(), *apart], last=last, root=ROOT)


def test_nothing_lacks_a_toy() -> None:
    assert preflight.problems(load_recipe(ROOT / "params" / "toy.yaml"), ROOT, ENOUGH) == []


@pytest.mark.parametrize("changes", LACKING)
def test_what_a_later_stage_would_miss_is_refused_before_the_first(tmp_path: Path, changes: str) -> None:
    stage, way = LACKING[changes]
    wanted = plan(tmp_path, changes)
    assert [each.stage for each in preflight.problems(wanted.recipe, ROOT, ENOUGH)] == [stage]
    with pytest.raises(ResourceError, match=way):
        run(wanted)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "reports").exists()


def test_what_does_not_fit_is_refused_with_the_keys_that_lower_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = preflight.Machine(2**37)
    monkeypatch.setattr(preflight, "machine_for", lambda recipe, root: machine)
    wanted = plan(tmp_path, "backbone.width=65536")
    found = {each.stage: each for each in preflight.problems(wanted.recipe, ROOT, machine)}
    assert "04_train needs 513." in found["04_train"].what and "115.2 GiB of 128.0 GiB may be" in found["04_train"].what
    assert "or lower: train.batch_size" in found["04_train"].way and "03_index" not in found
    with pytest.raises(ResourceError, match="04_train needs .*\n  -> a smaller model, more memory, or lower: "):
        run(wanted)
    assert [d.spec.name for d in run(plan(tmp_path, "backbone.width=65536", last="01"))] == ["01_data"]


@pytest.mark.parametrize(("device", "stages"), [("cpu", []), ("auto", ["04_train", "05_anneal", "10_speed"])])
def test_a_gpu_is_filled_only_by_a_recipe_that_uses_it(tmp_path: Path, device: str, stages: list[str]) -> None:
    recipe = plan(tmp_path, f"backbone.width=65536 runtime.device={device}").recipe
    found = preflight.problems(recipe, ROOT, preflight.Machine(2**40, gpu_memory=2**36))
    assert [each.stage for each in found] == stages
    assert all("57.6 GiB of 64.0 GiB may be filled" in each.what and "of GPU memory (" in each.what for each in found)


@pytest.mark.parametrize("sign", ["torch", "nvidia-smi", "/proc/driver/nvidia", "/dev/nvidiactl", "none"])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_gpu_is_looked_for_by_any_sign_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str, device: str
) -> None:
    """A container may lack the driver's folder; without a sign, torch is not loaded in vain."""
    import torch

    recipe = plan(tmp_path, f"backbone.width=65536 runtime.device={device}").recipe
    card = SimpleNamespace(name="New Card", total_memory=2**36)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(shutil, "which", lambda name: name if name == sign else None)
    monkeypatch.setattr(os.path, "exists", lambda path: path == sign)
    modules = {name: module for name, module in sys.modules.items() if name != "torch"}
    monkeypatch.setattr(preflight, "sys", SimpleNamespace(modules=sys.modules if sign == "torch" else modules))
    found = preflight.machine_for(recipe, ROOT)
    assert (found.gpu, found.gpu_memory) == (("New Card", 2**36) if device == "auto" and sign != "none" else ("", 0))


def test_what_a_range_does_not_reach_is_not_asked_for(tmp_path: Path) -> None:
    assert [d.spec.name for d in run(plan(tmp_path, "tasks.preference_file=gone.jsonl", last="01"))] == ["01_data"]
