"""The house rules: floors, documented and typed functions, one complete lock, a README whose commands exist."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recnb.artifacts import hash_artifact

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "recnb").rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


# --- wings ----------------------------------------------------------------------------------------------------------


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"}
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment, check=False)


def test_a_wing_imports_only_wings_below_it() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


def test_the_rule_is_not_blind(tmp_path: Path) -> None:
    """A system that imports a room above it is caught, and so is a wing that the rule does not know."""
    shutil.copytree(ROOT / "recnb", tmp_path / "recnb", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "recnb" / "eager_llm" / "model.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef upward() -> None:\n    import recnb.workflow.stage\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0 and "recnb.eager_llm is not allowed to import recnb.workflow" in done.stdout
    (tmp_path / "recnb" / "attic.py").write_text("", encoding="utf-8")
    assert "attic" in lint_imports(tmp_path).stdout


def test_the_hall_is_small() -> None:
    entries = [path for path in (ROOT / "recnb").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 25, sorted(path.name for path in entries)


def faces() -> dict[str, set[str]]:
    """Every package of recnb and what it offers."""
    stubs = (ROOT / "recnb").rglob("__init__.pyi")
    return {module_name(path): {alias.name for node in parse(path).body if isinstance(node, ast.ImportFrom)
                                for alias in node.names} for path in stubs}  # fmt: skip


def test_every_wing_has_a_face_that_offers_what_it_says() -> None:
    packages = {module_name(path) for path in SOURCES if path.name == "__init__.py"}
    assert set(faces()) == packages
    for package, names in faces().items():
        loaded = importlib.import_module(package)
        assert names == set(loaded.__all__)
        assert all(hasattr(loaded, name) for name in names)


def test_notebooks_import_from_faces() -> None:
    offered, wrong = faces(), []
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for node in ast.walk(ast.parse("\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recnb"):
                wrong += [f"{path.name}: {node.module}.{alias.name}" for alias in node.names
                          if alias.name not in offered.get(node.module or "", ())]  # fmt: skip
    assert not wrong


def test_no_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "helpers", "misc", "common", "tools"}
    assert not [path for path in SOURCES if drawers & {path.stem, *path.relative_to(ROOT).parts[1:-1]}]


# --- functions ------------------------------------------------------------------------------------------------------


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """(dotted name, function, public) for module functions and methods; functions inside functions are not public."""

    def walk(node: ast.AST, prefix: str, public: bool) -> Iterator[tuple[str, ast.FunctionDef, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.", public and not child.name.startswith("_"))
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name, child, public and not child.name.startswith("_")  # type: ignore[misc]
                yield from walk(child, f"{prefix}{child.name}.", False)
            else:
                yield from walk(child, prefix, public)

    return walk(parse(path), "", True)


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    doc = function.body[0] if ast.get_docstring(function) else None
    return (function.end_lineno or 0) - function.lineno + 1 - ((doc.end_lineno or 0) - doc.lineno + 1 if doc else 0)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_public_names_are_documented_and_typed(path: Path) -> None:
    assert ast.get_docstring(parse(path)), f"{path.name}: the module has no docstring"
    problems = []
    for name, function, public in functions(path):
        if not public:
            continue
        overridden = any("override" in ast.unparse(d) or "setter" in ast.unparse(d) for d in function.decorator_list)
        if not ast.get_docstring(function) and not overridden:
            problems.append(f"{name}: no docstring")
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        problems += [f"{name}: argument {argument} has no type" for argument in bare]
        if function.returns is None:
            problems.append(f"{name}: no return type")
    classes = [n for n in ast.walk(parse(path)) if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    problems += [f"class {c.name}: no docstring" for c in classes if not ast.get_docstring(c)]
    assert not problems


def test_nobody_scrolls_to_read_a_function() -> None:
    lengths = {f"{module_name(path)}.{name}": length(f) for path in SOURCES for name, f, _ in functions(path)}
    assert not {name: lines for name, lines in lengths.items() if lines > 60}
    assert statistics.median(lengths.values()) <= 15


def test_no_mutable_globals_and_no_pickle() -> None:
    problems = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Global):
                problems.append(f"{path.name}:{node.lineno}: global {', '.join(node.names)}")
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", "") or ""}
                names -= {"joblib"} if names == {"joblib", "cpu_count"} else set()  # that one counts cores
                problems += [f"{path.name}:{node.lineno}: {n}" for n in names & {"pickle", "joblib", "dill", "shelve"}]
    assert not problems


# --- environment ----------------------------------------------------------------------------------------------------


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(*extras: str) -> list[Requirement]:
    names = project()["dependencies"] + [r for e in extras for r in project()["optional-dependencies"][e]]
    return [Requirement(text) for text in names]


def lock_lines() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def pins() -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lock_lines())}


def test_the_lock_says_how_it_was_made_and_pins_everything_exactly() -> None:
    assert "Made by:" in (ROOT / "requirements.lock").read_text(encoding="utf-8")
    loose = [line for line in lock_lines() if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._!]+", line)]
    assert not loose, "only name==version: no hash, address, path or local label"
    assert len(pins()) == len(lock_lines()), "a package is pinned twice"


def test_the_lock_holds_what_pyproject_names() -> None:
    locked = pins()
    for requirement in declared("test"):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} against locked {version}"


def test_the_lock_is_closed() -> None:
    """What a locked package needs on this platform is locked too."""
    locked, missing = pins(), set()
    for name in locked:
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for text in needs:
            need = Requirement(text)
            wanted = need.marker is None or Marker(str(need.marker)).evaluate({"extra": ""})
            if wanted and canonicalize_name(need.name) not in locked:
                missing.add(f"{need.name} (of {name})")
    cuda = re.compile(r"^(nvidia-|cuda-|triton|setuptools)")  # a CUDA build of torch pins its own libraries
    assert not {text for text in missing if not cuda.match(text)}


def test_imports_are_declared() -> None:
    import sys

    owners = metadata.packages_distributions()
    allowed = {canonicalize_name(r.name) for r in declared("speed", "sessions")} | {"pydantic-core"}  # pydantic's other half
    undeclared = set()
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {module.split(".")[0] for module in modules} - {"recnb", "", "__future__"}:
                names = {canonicalize_name(owner) for owner in owners.get(top, [top])}
                if top not in sys.stdlib_module_names and not names & allowed:
                    undeclared.add(f"{path.name}: {top}")
    assert not undeclared


def test_conda_users_get_the_same_pins() -> None:
    assert "- -r requirements.lock" in (ROOT / "environment.yml").read_text(encoding="utf-8")


def test_ci_does_what_a_user_does() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(f"make {target}" in script for target in ("env", "lint", "test"))
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=False).returncode == 0


# --- Makefile -------------------------------------------------------------------------------------------------------


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def test_makefile_has_the_promised_targets() -> None:
    assert {"report", "test", "test-fast", "lab", "lint", "clean", "gemma", "env"} <= make_targets()


def test_a_python_too_old_gets_a_sentence(tmp_path: Path) -> None:
    old = tmp_path / "python-of-yore"
    old.write_text("#!/bin/sh\ncase \"$2\" in *version_info*) exit 1;; *) echo 3.8.10;; esac\n", encoding="utf-8")
    old.chmod(0o755)
    command = ["make", "env", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "3.8.10" in result.stderr and "3.11 or newer" in result.stderr and "PYTHON=" in result.stderr


def test_a_missing_python_gets_a_sentence(tmp_path: Path) -> None:
    command = ["make", "env", "PYTHON=python-nowhere", f"VENV={tmp_path / 'venv'}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode != 0 and "'python-nowhere' is not here" in result.stderr


def test_an_unchanged_environment_costs_nothing(tmp_path: Path) -> None:
    """With a stamp that fits lock and pyproject, `make env` neither creates nor installs; a changed lock does."""
    files = [ROOT / "requirements.lock", ROOT / "pyproject.toml"]
    checksum = subprocess.run(["cksum"], input=b"".join(f.read_bytes() for f in files), capture_output=True, check=True)
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n", encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / ".recnb-stamp").write_text(checksum.stdout.decode().strip(), encoding="utf-8")
    make = ["make", "env", f"VENV={tmp_path}"]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    assert not (tmp_path / "called").exists()
    (tmp_path / ".recnb-stamp").write_text("another lock", encoding="utf-8")
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "called").exists()
    assert (tmp_path / ".recnb-stamp").read_text(encoding="utf-8") == checksum.stdout.decode().strip()


# --- the pages ------------------------------------------------------------------------------------------------------

PAGES = {name: ROOT / name for name in
         ("README.md", "notebooks/README.md", "params/README.md", "reports/README.md", "reports/example/README.md")}  # fmt: skip


@pytest.fixture(scope="module")
def pages() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in PAGES.values())


def commands(text: str, word: str) -> list[str]:
    """Command lines that start with ``word`` in code blocks and code spans."""
    blocks = [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M) if kind in ("", "bash")]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return [line for line in lines if line.startswith(word + " ")]


def test_the_first_page_is_short_and_sells() -> None:
    lines = PAGES["README.md"].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
    first = "\n".join(lines[:40])
    assert all(part in first for part in ("# recnb", "report.png", "EAGER-LLM", "LLM4SBR", "RSLLM", "make report", "make test"))


def test_the_taste_of_python_tastes(tmp_path: Path) -> None:
    """Eight lines through the face, as they stand on the first page."""
    taste = re.findall(r"```python\n(.*?)```", PAGES["README.md"].read_text(encoding="utf-8"), re.S)[0]
    assert len([line for line in taste.splitlines() if line]) == 8
    done = subprocess.run([sys.executable, "-c", taste], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "'N@10'" in done.stdout and "epoch" in done.stdout


def test_make_commands_exist(pages: str) -> None:
    named = {command.split()[1] for command in commands(pages, "make")}
    assert {"report", "test"} <= named <= make_targets()


def test_recnb_commands_parse(pages: str) -> None:
    from recnb.cli import main

    heads = {tuple(re.findall(r"^[a-z]+(?: (?:show|validate|diff))?", c.removeprefix("recnb "))) for c in
             commands(pages, "recnb")}  # fmt: skip
    assert ("run",) in heads and ("doctor",) in heads
    for (head,) in heads:
        with pytest.raises(SystemExit) as stop:
            main([*head.split(), "--help"])
        assert not stop.value.code, f"recnb {head} is not a command"


def test_settings_exist(pages: str) -> None:
    from recnb.workflow.recipe import valid_keys

    keys = set(re.findall(r"--set ([a-z_.]+)=", pages))
    assert keys and keys <= set(valid_keys())


@pytest.mark.parametrize("name", PAGES)
def test_links_and_files_exist(name: str) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    links = {link for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) if "://" not in link}
    assert not [link for link in links if not (PAGES[name].parent / link).exists()]
    files = set(re.findall(r"(?<![\w/])params/[\w./-]+\.yaml", text)) - {"params/mine.yaml"}  # the one the reader writes
    assert not [file for file in files if not (ROOT / file).exists()]


def test_anchors_exist() -> None:
    def slug(heading: str) -> str:
        return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")

    for name, path in PAGES.items():
        for page, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text(encoding="utf-8")):
            target = path.parent / page if page else path
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in {slug(heading) for heading in headings}, f"{name}: {page}#{anchor}"


def test_every_notebook_and_recipe_has_its_place() -> None:
    walks, recipes = (PAGES[name].read_text(encoding="utf-8") for name in ("notebooks/README.md", "params/README.md"))
    assert not [path.name for path in (ROOT / "notebooks").rglob("*.ipynb") if path.stem not in walks]
    assert not [path.name for path in (ROOT / "params").glob("*.yaml") if path.stem not in recipes]
    assert not [path.name for path in (ROOT / "params").iterdir() if path.is_dir() and f"params/{path.name}/" not in recipes]
    tree = PAGES["README.md"].read_text(encoding="utf-8")
    folders = [path.name for path in (ROOT / "notebooks").iterdir() if any(path.glob("*.ipynb"))]
    assert folders and not [name for name in folders if f"── {name}/ " not in tree]


def test_the_tree_is_the_tree() -> None:
    tree = re.search(r"```text\n(.*?)```", PAGES["README.md"].read_text(encoding="utf-8"), re.S)
    assert tree
    inside = set(re.findall(r"^[├└]── (\S+)", tree.group(1)[tree.group(1).index("\nrecnb/") :], re.M))
    there = {path.name + "/" * path.is_dir() for path in (ROOT / "recnb").iterdir() if not path.name.startswith("__")}
    assert inside == there


def test_the_tables_are_the_committed_ones() -> None:
    """No figure is typed: the table between the marks is what the command makes of the committed results."""
    from recnb.report import readme

    assert set(readme.LEDGERS) >= {"ledger", "beauty", "sports", "instruments", "speed"}
    assert readme.stale(ROOT) == [], "stale: run `make ledger`"


# --- what must not be in any file -----------------------------------------------------------------------------------

FORBIDDEN = {
    "a place on some machine": re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp/[a-z])/?\w*/"),
    "a package index": re.compile("py" + r"pi\.org|files\.python" + "hosted|find-" + "links|extra-index" + "-url"),
    "a file address": re.compile("file:" + "///"),
    "a secret": re.compile(r"hf_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a merge conflict": re.compile(r"^(<{7}|>{7}) ", re.M),
}
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".lock", ".ipynb", ".html", ".json", ".cfg", ".txt", ".css", ".js", ""}


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_forbidden_strings() -> None:
    found = []
    for path in tracked():
        if path.suffix not in TEXT or path == Path(__file__).resolve():
            continue
        picture = r"(base64,|\"image/png\": \")[A-Za-z0-9+/=]+"
        text = re.sub(picture, "a picture", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(ROOT)}: {what}: {m.group(0)!r}" for what, pattern in FORBIDDEN.items()
                  if (m := pattern.search(text))]  # fmt: skip
    assert not found


def test_nothing_large_or_generated_is_committed() -> None:
    large = [p.relative_to(ROOT).as_posix() for p in tracked() if p.stat().st_size > 3_000_000]
    made = {".npy", ".safetensors", ".parquet", ".pyc", ".pkl"}
    generated = {p.relative_to(ROOT).as_posix() for p in tracked() if p.suffix in made}
    assert not large and generated <= set(measured_ranks())


def measured_ranks() -> dict[str, str]:
    """Ranks that committed results name: path -> sha256."""
    results = [(path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in ROOT.glob("reports/*/results.json")]
    named = [(folder / f"ranks-{run['seed']}.parquet", run.get("ranks")) for folder, one in results for run in one["runs"]]
    return {path.relative_to(ROOT).as_posix(): sha for path, sha in named if sha}


def test_committed_ranks_are_those_of_the_results() -> None:
    named = measured_ranks()
    assert named and {name: hash_artifact(ROOT / name) for name in named} == named
