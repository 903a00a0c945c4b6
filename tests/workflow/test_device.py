"""Stages made on one device and used on another: the key holds what the recipe asks for, not what was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sandbox import FREE_STAGES, ROOT, TOY

from recnb.eager_llm.recipe import EagerLLM
from recnb.errors import ArtifactError
from recnb.workflow.stage import Stage


def opened(folder: Path, name: str, device: str) -> Stage:
    apart = [f"paths.runs={folder / 'runs'}", f"paths.reports={folder / 'reports'}"]
    return Stage.open(name, ROOT / TOY, [*apart, f"runtime.device={device}", "runtime.dtype=auto"], ROOT)


@pytest.fixture(autouse=True)
def free_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EagerLLM, "stages", FREE_STAGES)


@pytest.fixture
def found_gpu(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether torch finds a GPU, one with bfloat16: no, until the list is told so."""
    there: list[bool] = []
    deterministic = torch.get_deterministic_debug_mode()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(there))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: "New Card")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    yield there
    torch.set_deterministic_debug_mode(deterministic)


def test_a_stage_made_on_a_cpu_serves_a_gpu(tmp_path: Path, found_gpu: list[bool]) -> None:
    made = opened(tmp_path, "01_data", "auto")
    assert made.runtime.device == "cpu"
    made.write("x.npy", np.arange(5))
    made.close()
    found_gpu.append(True)
    used = opened(tmp_path, "02_embeddings", "auto")
    assert (used.runtime.device, used.runtime.dtype) == ("cuda", torch.bfloat16)
    assert used.read("01_data", "x.npy").tolist() == [0, 1, 2, 3, 4]
    assert opened(tmp_path, "01_data", "auto").key == made.key, "nor is it made again there"


def test_one_made_for_the_cpu_serves_no_other_and_the_message_says_how(tmp_path: Path, found_gpu: list[bool]) -> None:
    made = opened(tmp_path, "01_data", "cpu")
    made.write("x.npy", np.arange(5))
    made.close()
    found_gpu.append(True)
    for device in ("auto", "cuda"):
        with pytest.raises(ArtifactError, match=f"runtime.device was 'cpu', is '{device}'.*--set runtime.device=auto"):
            opened(tmp_path, "02_embeddings", device)
