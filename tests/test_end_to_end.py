"""The whole toy walk: the same twice, resumed after a kill, blind to held-out events, never on damaged artifacts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from sandbox import ROOT, STAGES, TOY, Again, ToyRun, cells_of, kernel, new_sandbox, papermill, recnb, walk

pytestmark = pytest.mark.e2e
DETERMINISTIC = [spec.name for spec in STAGES.values() if spec.deterministic]
COMMAND = [sys.executable, "-m", "recnb"]


def manifest(root: Path, stage: str, recipe: str = "toy") -> dict:
    return json.loads((root / "runs" / recipe / stage / "manifest.json").read_text(encoding="utf-8"))


def hashes(root: Path, stage: str, recipe: str = "toy") -> dict[str, str]:
    return {name: entry["sha256"] for name, entry in manifest(root, stage, recipe)["artifacts"].items()}


@pytest.fixture(scope="session")
def twin(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The toy run in another folder, as `recnb run` leaves it: its pages and its report; and what the command printed."""
    root = tmp_path_factory.mktemp("twin") / "copy"
    shutil.copytree(toy_run.root, root)
    pages = root / "reports" / "toy" / "notebooks"
    pages.mkdir(parents=True, exist_ok=True)
    for name in STAGES:
        shutil.copy(toy_run.executed(name), pages / f"{name}.ipynb")
    result = recnb(root, "run", TOY)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return root, result.stdout + result.stderr


@pytest.fixture
def twin_copy(twin: tuple[Path, str], tmp_path: Path) -> Path:
    shutil.copytree(twin[0], tmp_path / "twin")
    return tmp_path / "twin"


# --- the same twice -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("stage", DETERMINISTIC)
def test_twice_gives_identical_artifacts(stage: str, toy_run: ToyRun, again: Again) -> None:
    """Each notebook by papermill in one folder, all its cells once more in another: not a bit of difference."""
    ours, theirs = hashes(toy_run.root, stage), hashes(again.root, stage)
    assert ours and ours == theirs
    assert manifest(toy_run.root, stage)["finished"] < manifest(again.root, stage)["finished"], "it was made again"


@pytest.mark.slow
def test_twice_gives_identical_codes_and_metrics(toy_run: ToyRun, again: Again) -> None:
    other = ToyRun(again.root)
    codes = [np.load(run.artifact("03_index", "codes.npy")) for run in (toy_run, other)]
    assert np.array_equal(*codes) and len(np.unique(codes[0], axis=0)) == len(codes[0])
    texts = [run.artifact("06_evaluate", "metrics.json").read_text(encoding="utf-8") for run in (toy_run, other)]
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_the_other_stages_make_the_same_files(toy_run: ToyRun, again: Again) -> None:
    for name in STAGES:
        assert set(hashes(toy_run.root, name)) == set(hashes(again.root, name))


def test_the_model_learned_the_toy(toy_run: ToyRun) -> None:
    """The pipeline does not only run: on a catalogue with structure, lists beat chance by far."""
    text = toy_run.artifact("06_evaluate", "metrics.json").read_text(encoding="utf-8")
    numbers = [float(value) for value in re.findall(r'"R@10": ([0-9.]+)', text)]
    items = np.load(toy_run.artifact("03_index", "codes.npy")).shape[0]
    assert numbers and max(numbers) > 1.5 * 10 / items


def test_readme_names_what_the_stages_write(toy_run: ToyRun) -> None:
    readme = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    for spec in STAGES.values():
        row = next(line for line in readme.splitlines() if line.startswith("|") and f"({spec.notebook}.ipynb)" in line)
        named = set(re.findall(r"`([^`]+)`", row.split("|")[-2]))
        assert named and named <= set(hashes(toy_run.root, spec.name)), f"notebooks/README.md, row {spec.name}"


def test_toy_is_quick(toy_run: ToyRun) -> None:
    """Seconds of computing, ten kernels that load no libraries included: about 100, and half as much again or more on a
    core that shares its caches with another run; a loaded machine's waiting does not count."""
    assert 20 < toy_run.seconds < 250


# --- the report and the second run ----------------------------------------------------------------------------------


def test_the_report_is_there_and_its_links_lead_somewhere(twin: tuple[Path, str]) -> None:
    root, printed = twin
    page = root / "reports" / "toy" / "index.html"
    assert "reports/toy/index.html" in printed
    html = page.read_text(encoding="utf-8")
    local = {link for link in re.findall(r'(?:href|src)="([^"#]+)', html) if not re.match(r"[a-z]+:", link)}
    assert not [link for link in local if not (page.parent / link).exists()]
    for spec in STAGES.values():
        assert spec.name in html
    assert str(root) not in html, "a report names no machine"


def test_a_second_run_does_nothing_and_says_why(twin: tuple[Path, str]) -> None:
    root = twin[0]
    before = {spec.name: manifest(root, spec.name) for spec in STAGES.values()}
    started = time.perf_counter()
    result = recnb(root, "run", TOY)
    seconds = time.perf_counter() - started
    assert result.returncode == 0, result.stderr
    said = [line for line in (result.stdout + result.stderr).splitlines() if "skipped" in line]
    assert len(said) == len(STAGES) and all("unchanged" in line for line in said)
    assert {spec.name: manifest(root, spec.name) for spec in STAGES.values()} == before
    assert seconds < 60, "alone it is a few seconds"


def test_a_changed_setting_runs_only_what_depends_on_it(twin: tuple[Path, str]) -> None:
    result = recnb(twin[0], "run", TOY, "--explain", "--set", "map.neighbours=9")
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line[:2].isdigit()}
    assert set(lines) == {spec.name for spec in STAGES.values()}
    assert {name for name, line in lines.items() if line.split()[1] == "run"} == {"08_prefix_map"}
    assert "map.neighbours" in lines["08_prefix_map"]


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("train.epoch=1", "train.epochs"), ("trian.epochs=1", "train.epochs"), ("decode.beam=0", "decode.beam"),
     ("train.epochs=many", "train.epochs")],
)  # fmt: skip
def test_a_bad_setting_stops_before_anything_starts(override: str, nearest: str, tmp_path: Path) -> None:
    root = new_sandbox(tmp_path / "sandbox")
    result = recnb(root, "run", TOY, "--set", override)
    assert result.returncode == 2 and nearest in result.stderr and "Traceback" not in result.stderr
    assert not (root / "runs").exists() and not (root / "reports" / "toy").exists()


def test_by_plain_papermill_in_a_kernel_that_loads_its_libraries_a_notebook_comes_out_the_same(toy_copy: ToyRun) -> None:
    """As README says, nothing of ours around it."""
    before, finished = hashes(toy_copy.root, "03_index"), manifest(toy_copy.root, "03_index")["finished"]
    result = papermill(toy_copy.root, "03_index")
    assert result.returncode == 0, result.stderr[-2000:]
    assert hashes(toy_copy.root, "03_index") == before and manifest(toy_copy.root, "03_index")["finished"] > finished


def test_a_missing_input_names_the_notebook_that_makes_it(tmp_path: Path) -> None:
    result = papermill(new_sandbox(tmp_path / "sandbox"), "03_index")
    assert result.returncode != 0 and "ArtifactError" in result.stderr and "01_data" in result.stderr


# --- opened and left ------------------------------------------------------------------------------------------------


def test_a_notebook_opened_and_left_costs_no_result(toy_copy: ToyRun) -> None:
    """04's first three cells, and its kernel is killed; the same and `stage.close()`: 05 opens, and nothing is to be run."""
    folder, before = toy_copy.artifact("04_train", "model").parent, manifest(toy_copy.root, "04_train")
    first = cells_of(STAGES["04_train"].file(toy_copy.root))[:3]
    toy = f"recipe = {TOY!r}"
    with kernel(folder_of(toy_copy)) as cell:
        assert "Error" not in "".join(map(cell, [first[0], toy, *first[1:]]))
    with kernel(folder_of(toy_copy)) as cell:
        later = cells_of(STAGES["05_anneal"].file(toy_copy.root))
        assert "Error" not in "".join(map(cell, [later[0], toy, later[1]]))
        assert "Error" not in "".join(map(cell, first[1:])) + cell("stage.path('04_train', 'model')")
        assert cell("stage.close()") == "04_train was only looked at: its artifacts are as they were\n"
        assert "04_train is closed" in cell("stage.write('train.json', {})")
    assert manifest(toy_copy.root, "04_train") == before and not list(folder.glob("scratch-*"))
    said = recnb(toy_copy.root, "run", TOY, "--explain").stdout
    assert [line.split()[1] for line in said.splitlines()] == ["skip"] * len(STAGES)


def folder_of(run: ToyRun) -> Path:
    return STAGES["04_train"].file(run.root).parent


# --- damage ---------------------------------------------------------------------------------------------------------


def spoil(path: Path) -> None:
    """Flip the last byte: the size stays."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def test_a_damaged_artifact_is_refused_by_the_notebook_that_reads_it(toy_copy: ToyRun) -> None:
    spoil(toy_copy.artifact("02_embeddings", "semantic.npy"))
    result = papermill(toy_copy.root, "03_index")
    assert result.returncode != 0 and "semantic.npy" in result.stderr and "02_embeddings" in result.stderr


@pytest.mark.slow
def test_a_damaged_artifact_is_named_and_rebuilt(twin_copy: Path) -> None:
    before = hashes(twin_copy, "03_index")
    spoil(twin_copy / "runs" / "toy" / "03_index" / "codes.npy")
    result = recnb(twin_copy, "run", TOY)
    assert result.returncode == 0, result.stderr
    said = (result.stdout + result.stderr).splitlines()
    assert any("03_index" in line and "codes.npy" in line for line in said)
    assert hashes(twin_copy, "03_index") == before
    assert sum("skipped" in line for line in said) == len(STAGES) - 1, "the rebuilt codes are the same, so all else is"


# --- kill -9 --------------------------------------------------------------------------------------------------------


def kill_tree(process: subprocess.Popen) -> None:
    """SIGKILL to a process and all that it started: nobody gets to clean up."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=30)
    process.wait(timeout=30)


def run_and_kill(root: Path, arguments: list[str], when: Callable[[], bool], timeout: float = 240) -> bool:
    """Start recnb and kill it as soon as ``when`` says so; False if it ended before."""
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen([*COMMAND, *arguments], cwd=root, stdout=nowhere, stderr=nowhere)
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        if when():
            kill_tree(process)
            return True
        time.sleep(0.005)
    assert process.poll() is not None, "the moment never came"
    return False


@pytest.mark.slow
def test_killed_in_the_middle_of_training_it_goes_on_to_the_same_result(twin: tuple[Path, str], tmp_path: Path) -> None:
    root = tmp_path / "killed"
    shutil.copytree(twin[0], root)
    for stage in ("04_train", "05_anneal", "06_evaluate", "07_case_studies", "08_prefix_map"):
        shutil.rmtree(root / "runs" / "toy" / stage)
    folder = root / "runs" / "toy" / "04_train"
    checkpoint = lambda: any(folder.glob("scratch-*/*/checkpoint-*/trainer_state.json"))  # noqa: E731
    assert run_and_kill(root, ["run", TOY, "--to", "04_train"], checkpoint), "it ended before its first checkpoint"
    assert not (folder / "manifest.json").exists(), "a killed stage is incomplete"
    assert any(folder.glob("scratch-*/*/checkpoint-*")), "and its checkpoint survives"

    result = recnb(root, "run", TOY, "--to", "04_train")
    assert result.returncode == 0, result.stderr
    said = result.stdout + result.stderr
    assert re.search(r"04_train.*(broken off|interrupted|not complete)", said)
    assert sum("skipped" in line for line in said.splitlines()) == 3, "what was complete is not done again"
    assert hashes(root, "04_train") == hashes(twin[0], "04_train"), "as if it had not been killed"
    leftovers = [path.name for path in folder.iterdir() if path.name.startswith((".tmp-", "scratch-"))]
    assert not leftovers


# --- poison ---------------------------------------------------------------------------------------------------------

POISON_STAGES = ("01_data", "02_embeddings", "03_index", "04_train", "05_anneal")

def toy_events() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The toy catalogue as two tables: user_id, item_id, order; and the items."""
    from recnb.data.sources import load_dataset
    from recnb.workflow.recipe import load_recipe

    recipe = load_recipe(ROOT / TOY)
    data = load_dataset(recipe.data, ROOT, recipe.seed)
    users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    order = np.arange(len(users)) - data.offsets[users]
    ids = data.items["item_id"].to_numpy()
    events = pd.DataFrame({"user_id": [f"u{u}" for u in users], "item_id": ids[data.sequence], "order": order})
    return events, data.items


def poisoned(events: pd.DataFrame, last: int, seed: int = 0) -> pd.DataFrame:
    """The same events with each user's last ``last`` items swapped for other items of the catalogue."""
    events, rng = events.copy(), np.random.default_rng(seed)
    catalogue = np.sort(events["item_id"].unique())
    place = events.groupby("user_id").cumcount(ascending=False).to_numpy()
    held_out = place < last
    shift = rng.integers(1, len(catalogue), size=held_out.sum())
    current = np.searchsorted(catalogue, events.loc[held_out, "item_id"])
    events.loc[held_out, "item_id"] = catalogue[(current + shift) % len(catalogue)]
    return events


def prepare(root: Path, name: str, events: pd.DataFrame, items: pd.DataFrame, early_stopping: str) -> None:
    """A recipe of this name on these tables."""
    folder = root / "data" / name
    folder.mkdir(parents=True)
    events.to_csv(folder / "interactions.csv", index=False)
    items[["item_id", "title", "description", "brand", "categories"]].to_json(
        folder / "items.jsonl", orient="records", lines=True
    )
    tree = yaml.safe_load((ROOT / TOY).read_text(encoding="utf-8"))
    tree |= {"name": name, "data": {"source": "files", "path": f"data/{name}", "max_history": 8}}
    tree["runtime"]["solutions"] = False
    tree["train"] |= {"early_stopping": early_stopping, "epochs": 2, "evaluate_every": 1}
    (root / "params" / f"{name}.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")


@pytest.fixture(scope="module")
def poison_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs of stages 01 to 05: clean and poisoned, with validation free to choose the epoch and without; and two
    stages of one with a training event swapped."""
    root = new_sandbox(tmp_path_factory.mktemp("poison"))
    events, items = toy_events()
    for early_stopping, last in (("R@10", 1), ("none", 2)):
        suffix = early_stopping[0].lower()
        prepare(root, f"clean-{suffix}", events, items, early_stopping)
        prepare(root, f"poisoned-{suffix}", poisoned(events, last), items, early_stopping)
    leaked, first = events.copy(), events.groupby("user_id").cumcount() == 0
    leaked.loc[first, "item_id"] = np.roll(leaked.loc[first, "item_id"].to_numpy(), 1)
    prepare(root, "leak", leaked, items, "R@10")
    names = [f"{kind}-{suffix}" for suffix in "rn" for kind in ("clean", "poisoned")]
    walk(root, *(",".join([f"params/{name}.yaml", *POISON_STAGES]) for name in names),
         ",".join(["params/leak.yaml", *POISON_STAGES[:2]]))  # fmt: skip
    return root


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["r", "n"])
def test_the_poison_is_in_the_data(suffix: str, poison_runs: Path) -> None:
    pair = [hashes(poison_runs, "01_data", f"{kind}-{suffix}") for kind in ("clean", "poisoned")]
    assert pair[0]["interactions.parquet"] != pair[1]["interactions.parquet"]
    assert pair[0]["items.parquet"] == pair[1]["items.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", POISON_STAGES[1:])
def test_no_test_event_reaches_anything_that_is_trained(stage: str, poison_runs: Path) -> None:
    """Every test item swapped: embeddings, index, model, choice of epoch and adapter stay the same, bit for bit."""
    assert hashes(poison_runs, stage, "clean-r") == hashes(poison_runs, stage, "poisoned-r")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["02_embeddings", "03_index"])
def test_no_held_out_event_reaches_an_encoder_or_the_index(stage: str, poison_runs: Path) -> None:
    assert hashes(poison_runs, stage, "clean-n") == hashes(poison_runs, stage, "poisoned-n")


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "weights"), [("04_train", "model"), ("05_anneal", "adapter")])
def test_no_held_out_event_is_trained_on(stage: str, weights: str, poison_runs: Path) -> None:
    """With a fixed number of epochs, not even validation can be felt in the weights."""
    clean, dirty = (hashes(poison_runs, stage, f"{kind}-n") for kind in ("clean", "poisoned"))
    assert clean[weights] == dirty[weights]


@pytest.mark.slow
def test_the_poison_test_can_fail(poison_runs: Path) -> None:
    """A training event swapped does change embeddings: the comparison is not blind."""
    clean, leak = hashes(poison_runs, "02_embeddings", "clean-r"), hashes(poison_runs, "02_embeddings", "leak")
    assert clean["behaviour.npy"] != leak["behaviour.npy"] and clean["semantic.npy"] == leak["semantic.npy"]
