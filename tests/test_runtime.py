"""Device, dtype, threads and seeds: what is chosen, why, and what is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recnb import runtime
from recnb.errors import ResourceError
from recnb.settings import RuntimeConfig


@pytest.fixture(autouse=True)
def _restore() -> object:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: "Old Card")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("config", "key"),
    [
        (RuntimeConfig(require_gpu=True), "runtime.require_gpu = true"),
        (RuntimeConfig(device="cpu", require_gpu=True), "runtime.require_gpu = true"),
        (RuntimeConfig(device="cuda"), "runtime.device = cuda"),
        (RuntimeConfig(device="mps"), "runtime.device = mps"),
    ],
)
def test_no_gpu_where_the_recipe_demands_one(config: RuntimeConfig, key: str) -> None:
    with pytest.raises(ResourceError) as error:
        runtime.start(config, 1)
    assert key in str(error.value) and "--set runtime.require_gpu=false" in str(error.value)


@pytest.mark.usefixtures("no_gpu")
def test_auto_takes_the_cpu_in_float32_and_says_why() -> None:
    chosen = runtime.start(RuntimeConfig(threads=2), 3)
    assert (chosen.device, chosen.dtype, chosen.threads, chosen.seed) == ("cpu", torch.float32, 2, 3)
    assert chosen.reasons["device"] == "no GPU found" and torch.get_num_threads() == 2
    lines = str(chosen).splitlines()
    assert lines[0].split() == ["device", "cpu", "no", "GPU", "found"] and lines[2].split()[:2] == ["threads", "2"]


@pytest.mark.usefixtures("gpu")
def test_a_gpu_without_bfloat16() -> None:
    chosen = runtime.start(RuntimeConfig(), 3)
    assert (chosen.device, chosen.dtype) == ("cuda", torch.float32) and "Old Card" in chosen.reasons["device"]
    with pytest.raises(ResourceError, match="Old Card has no bfloat16; expected: auto or float32"):
        runtime.start(RuntimeConfig(dtype="bfloat16"), 3)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert runtime.start(RuntimeConfig(), 3).dtype == torch.bfloat16
    assert runtime.start(RuntimeConfig(dtype="float32"), 3).dtype == torch.float32
    assert runtime.start(RuntimeConfig(device="cpu"), 3).dtype == torch.float32


def test_bfloat16_on_a_cpu_only_when_asked_for_and_only_with_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: {"avx512f", "avx512_bf16"})
    chosen = runtime.start(RuntimeConfig(device="cpu", dtype="bfloat16"), 3)
    assert chosen.dtype == torch.bfloat16 and "this CPU has units for it" in chosen.reasons["dtype"]
    chosen = runtime.start(RuntimeConfig(device="cpu"), 3)
    assert chosen.dtype == torch.float32 and "(this CPU has units for it)" in chosen.reasons["dtype"]

    monkeypatch.setattr(runtime, "_cpu_flags", lambda: {"avx512f", "avx2"})
    chosen = runtime.start(RuntimeConfig(device="cpu"), 3)
    assert chosen.dtype == torch.float32 and "(this CPU has no units for it)" in chosen.reasons["dtype"]
    with pytest.raises(ResourceError, match="runtime.dtype = bfloat16, but this CPU has no bfloat16 units.*float32"):
        runtime.start(RuntimeConfig(device="cpu", dtype="bfloat16"), 3)


def test_instruction_sets_are_read_where_the_system_lists_them() -> None:
    flags = runtime._cpu_flags()
    assert (len(flags) > 5) == Path("/proc/cpuinfo").is_file()


def test_every_generator_is_seeded() -> None:
    def draws() -> tuple[float, float, float]:
        runtime.start(RuntimeConfig(device="cpu"), 5)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    assert draws() == draws()
    first = draws()
    runtime.start(RuntimeConfig(device="cpu"), 6)
    assert random.random() != first[0]


def test_cpu_arithmetic_is_repeatable_and_memory_is_not_filled() -> None:
    runtime.start(RuntimeConfig(device="cpu"), 5)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


def test_threads_come_from_the_recipe_then_the_environment_then_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert runtime.choose_threads(5) == (5, "set by the recipe")
    assert runtime.choose_threads(0) == (3, "set by OMP_NUM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert runtime.choose_threads(0) == (runtime.usable_cores(), "one per core at hand")
    assert runtime.usable_cores() >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux tells a process where it may run")
def test_cores_obey_the_affinity_of_the_process() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from recnb import runtime; print(runtime.usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_threads_sleep_while_they_wait_unless_the_user_wants_otherwise() -> None:
    """Set when recnb is imported, before any library brings OpenMP along; every process that we start inherits it."""
    names = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"]
    ask = [sys.executable, "-c", f"import os, recnb; print(*map(os.environ.get, {names}))"]
    for said, wanted in (
        ({}, "PASSIVE 1000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE 7"),
    ):
        environment = {name: value for name, value in os.environ.items() if name not in names} | said
        done = subprocess.run(ask, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == wanted


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("0", False), ("", False)])
def test_progress_can_be_decided(monkeypatch: pytest.MonkeyPatch, value: str, wanted: bool) -> None:
    monkeypatch.setenv("RECNB_PROGRESS", value)
    assert runtime.wants_progress() is wanted


def test_progress_is_on_in_a_live_notebook_and_off_in_an_executed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECNB_PROGRESS", "JPY_SESSION_NAME", "VSCODE_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert runtime.wants_progress() is False
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/01_data.ipynb")
    assert runtime.wants_progress() is True


def test_peak_memory_grows_with_what_is_held() -> None:
    before = runtime.memory_peak()
    block = np.ones(60 * 2**20 // 8)
    assert runtime.memory_peak() >= min(before, block.nbytes) and before > 10 * 2**20


def test_peak_memory_is_of_this_process_not_of_the_one_that_started_it() -> None:
    """A parent that holds 300 MiB starts a small child; ru_maxrss of the child would say 300 MiB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc")
    code = (
        "import subprocess, sys; block = b'x' * (300 * 2**20); "
        "subprocess.run([sys.executable, '-c', 'from recnb.runtime import memory_peak; print(memory_peak())'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) < 250 * 2**20


def test_gpu_memory_is_none_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.gpu_memory_peak("cpu") is None
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    assert runtime.gpu_memory_peak("cuda") == 7


def test_the_allocator_is_told_where_there_is_one_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[int, int] = {}

    class Glibc:
        """A C library that can be told."""

        @staticmethod
        def mallopt(option: int, size: int) -> int:
            told[option] = size
            return 1

    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda name: Glibc)
    runtime._keep_freed_memory()
    assert told[-3] == 32 * 2**20 and told[-1] >= told[-3], "freed blocks stay, whatever their size"
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda name: object())  # another C library has no such function
    runtime._keep_freed_memory()
