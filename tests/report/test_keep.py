"""Executed notebooks to commit: small, the same each time, no place of this machine, links that lead somewhere."""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from pages import notebook, shown
from PIL import Image

from recnb.eager_llm.recipe import EagerLLM
from recnb.errors import ArtifactError
from recnb.report import keep

KERNEL = {"name": "python3", "display_name": "Python 3"}
RECIPE = EagerLLM(name="mine")


def png(width: int, height: int = 40) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(noise).save(written, "png")
    return written.getvalue()


def wide() -> dict[str, Any]:
    data = {"image/png": base64.b64encode(png(1500)).decode(), "text/plain": ["a ", "picture"]}
    return shown(data | {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}, {"image/png": {"alt": "noise"}})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """01 and 03 have run, as papermill leaves them."""
    root = tmp_path / "project"
    for name in ("notebooks", "params"):
        (root / name).mkdir(parents=True)
    (root / "params" / "mine.yaml").write_text("name: mine\n")
    folder = root / "reports" / "mine" / "notebooks"
    folder.mkdir(parents=True)
    told = {"output_type": "stream", "name": "stderr",
            "text": [f"{root}/recnb/a.py:3: W\n", f"{tempfile.gettempdir()}/ipykernel_12/345.py:1: W\n", f"{Path.home()}/x {root}\n"]}  # fmt: skip
    gone = shown({"application/vnd.plotly.v1+json": {"data": []}})
    for name in ("01_data", "03_index"):
        executed = notebook(wide(), told, gone)
        executed["metadata"] = {"papermill": {"start_time": "2026-01-01"}, "kernelspec": KERNEL}
        run = {"execution": {"shell.execute_reply": "2026"}, "papermill": {"duration": 1.0}}
        for cell in executed["cells"]:
            cell["metadata"] |= run
        executed["cells"][0]["source"] = (
            "[a](../02_embeddings.ipynb) [b](../01_data.ipynb) [c](../../README.md) [d](https://x.org) [e](#here)"
        )
        injected = {"tags": ["injected-parameters"]} | run
        source = 'recipe = "/data/sets/mine.yaml"\noverrides = ["data.path=/data/sets/beauty", "train.epochs=1"]'
        executed["cells"].insert(1, executed["cells"][2] | {"metadata": injected, "source": source, "id": "p"})
        (folder / f"{name}.ipynb").write_text(json.dumps(executed))
    return root


def kept(project: Path, folder: Path, *stages: str) -> dict[str, str]:
    return {file.stem: file.read_text(encoding="utf-8") for file in keep.keep(RECIPE, project, folder, stages)}


def test_a_kept_notebook_is_whole_and_holds_no_place_of_this_machine(project: Path, tmp_path: Path) -> None:
    files = kept(project, project / "reports" / "example" / "notebooks")
    assert list(files) == ["01_data", "03_index"]
    for text in files.values():
        read = nbformat.reads(text, as_version=4)
        nbformat.validate(read)
        assert [cell.source for cell in read.cells][2:] == ["x = '<b>'", "y = 2"]
        for place in (str(project), str(Path.home()), "ipykernel_", "/data/sets", "papermill", "execute_reply", "2026"):
            assert place not in text, place
    stream = nbformat.reads(files["01_data"], as_version=4).cells[2].outputs[1]
    assert stream.text == "recnb/a.py:3: W\n:1: W\nx \n"
    assert 'recipe = "mine.yaml"' in nbformat.reads(files["01_data"], as_version=4).cells[1].source
    assert '"data.path=beauty", "train.epochs=1"' in nbformat.reads(files["01_data"], as_version=4).cells[1].source


def test_of_the_metadata_tags_and_seconds_stay(project: Path, tmp_path: Path) -> None:
    read = nbformat.reads(kept(project, tmp_path / "k")["01_data"], as_version=4)
    assert read.metadata == {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    assert [cell.metadata for cell in read.cells] == [
        {}, {"tags": ["injected-parameters"]}, {"recnb": {"seconds": 1.25}}, {"tags": ["solution"]}]  # fmt: skip


def test_pictures_are_small_and_outputs_that_nobody_sees_go(project: Path, tmp_path: Path) -> None:
    picture, _ = nbformat.reads(kept(project, tmp_path / "k")["01_data"], as_version=4).cells[2].outputs
    assert set(picture.data) == {"image/png", "text/plain"} and picture.metadata["image/png"]["alt"] == "noise"
    encoded = base64.b64decode(picture.data["image/png"])
    image = Image.open(io.BytesIO(encoded))
    assert image.width == 1000 and image.mode == "P" and len(encoded) < len(png(1500)) / 3


def test_links_lead_to_the_notebooks_beside_and_into_the_project(project: Path) -> None:
    folder = project / "reports" / "example" / "notebooks"
    source = nbformat.reads(kept(project, folder)["03_index"], as_version=4).cells[0].source
    assert source == ("[a](../../../notebooks/02_embeddings.ipynb) [b](01_data.ipynb) [c](../../../README.md) "
                      "[d](https://x.org) [e](#here)")  # fmt: skip


def test_keeping_twice_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    assert kept(project, tmp_path / "a") == kept(project, tmp_path / "a")
    assert list(kept(project, tmp_path / "b", "index")) == ["03_index"]


def test_the_command_says_what_is_missing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert keep.main(["params/mine.yaml", str(tmp_path / "k"), "01"]) == 0
    assert os.listdir(tmp_path / "k") == ["01_data.ipynb"] and "1 notebooks" in capsys.readouterr().out
    assert keep.main(["params/mine.yaml", str(tmp_path / "k"), "04_train"]) == 2
    assert "no executed page of 04_train in the report of 'mine'" in capsys.readouterr().err
    with pytest.raises(ArtifactError, match="no executed page of any notebook"):
        keep.keep(EagerLLM(name="other"), project, tmp_path / "k")
