"""What a stage's key knows of our code: what its notebook reaches, definition by definition, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sandbox import ROOT, STAGES

from recnb.workflow.manifest import notebook_cells
from recnb.workflow.sources import Home, sources_of, used_sources

FILES = {
    "__init__.py": "import lazy_loader\n", "__init__.pyi": "from . import index as index\nfrom .index.trie import Trie as Trie\n",
    "errors.py": "def nearest(): ...\n",
    "index/__init__.py": "", "index/__init__.pyi": "from .trie import Trie as Trie, unused as unused\n",
    "index/trie.py": "WIDTH = 1\nfrom recnb.errors import nearest\n\nclass Trie:\n    wide = WIDTH\n    def f(self): nearest()\n\ndef unused(): ...\n",
    "llm/__init__.py": "",
    "llm/beam.py": "from recnb.index import trie\n\ndef search(x):\n    from recnb.llm import late\n    return trie.Trie, late.g\n",
    "llm/late.py": "from .other import *\n\ndef g() -> int:\n    \"\"\"Says.\"\"\"\n    return 1\n",
    "llm/two.py": "def one():\n    from .late import g\n    return g\n\ndef other():\n    from ..index.trie import unused as g\n    return g\n",
    "llm/settings.py": "class DecodeConfig: ...\n",
    "studies/__init__.py": "", "studies/ledger.py": "def rows(): return 'rows.yaml'\n", "studies/rows.yaml": "a: 1\n",
    "llm/published.yaml": "b: 1\n",
    "studies/reads.py": "class Row:\n    x: int\n\nclass Table:\n    rows: list[Row]\n\ndef read(): return Table, 'published.yaml'\n",
    "studies/odd.py": "import math\ntry:\n    import fast as m\nexcept ImportError:\n    m = None\nif m:\n    def f(): return WIDE\nelse:\n    def f(): return 2\nWIDE = 1\nTABLE = {}\nfor name in 'ab':\n    TABLE[name] = f\n",
}  # fmt: skip


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package in the place of recnb's own source."""
    for name, text in FILES.items():
        path = tmp_path / "recnb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "recnb"


def home(package: Path) -> Home:
    """The small package, with a wing for a system's files."""
    return Home((package,), package / "llm")


TRIE = {"recnb.index.trie.Trie", "recnb.index.trie.WIDTH"}


@pytest.mark.parametrize(
    ("cell", "reached"),
    [
        ("from recnb import Trie\nTrie()", TRIE),  # through the face, and errors change no result
        ("from recnb.index import Trie as T\nT()", TRIE),
        ("from recnb import index\nindex.Trie()", TRIE),
        ("import recnb.index.trie as t\nt.unused()", {"recnb.index.trie.unused"}),
        ("from recnb.index import trie\nprint(trie)", TRIE | {"recnb.index.trie.unused"}),  # handed on whole
        ("from recnb import Trie", set()),  # a name that nothing uses
        ("%matplotlib inline\n!ls\nfrom recnb.llm.beam import search\nsearch(1)",
         TRIE | {"recnb.llm.beam.search", "recnb.llm.late.g"}),
        ("from recnb.llm.two import one\none()",  # one name of two origins in a file: both count, so none is missed
         {"recnb.llm.two.one", "recnb.llm.late.g", "recnb.index.trie.unused"}),
        ("from recnb.llm.settings import DecodeConfig\nDecodeConfig()", set()),  # its values are hashed
        ("from recnb.studies import ledger\nledger.rows()", {"recnb.studies.ledger.rows", "recnb.studies.ledger rows.yaml"}),
        ("from recnb.studies.reads import read\nread()",  # what libraries read of a class's fields; a file of the wing
         {f"recnb.studies.reads{name}" for name in (".read", ".Table", ".Row", " published.yaml")}),
        ("from recnb.studies.odd import TABLE\nTABLE", {f"recnb.studies.odd.{name}" for name in ("TABLE", "f", "m", "WIDE", "name")}),
        ("import recnb\nr = recnb\nr.Trie()", TRIE | {"recnb.index.trie.unused"}),  # a face handed on whole
        ("from recnb.index import *\nTrie()", TRIE | {"recnb.index.trie.unused"}),
        ("try:\n    from recnb import Trie\n    Trie()\nexcept ValueError: ...", TRIE),
        ("from recnb import Trie\n%time Trie()", TRIE),
        ("from recnb import Trie\nx = %timeit -n 3 -o Trie()", TRIE),
        ("from recnb import Trie\nx = %time Trie()\nTrie?\nif x:\n    !ls", TRIE),
        ("from recnb import Trie\nx = (7\n  % Trie())", TRIE),
        ("from recnb import absent\nabsent()", set()),
        ("import recnb.index.trie\nrecnb.index.trie.unused()", {"recnb.index.trie.unused"}),
        ("from ... import above\nabove()", set()),
        *((odd, set()) for odd in ("def f(:", "\0", "-" * 100_000 + "1", f"x = {'+'.join('1' * 20_000)}", f"a{'.b' * 9_999}")),
    ],
)  # fmt: skip
def test_names_are_followed_to_what_defines_them(package: Path, cell: str, reached: set[str]) -> None:
    assert set(used_sources([cell], home(package))) == reached


def test_a_cell_that_is_no_python_hides_no_other(package: Path) -> None:
    cells = ["%%bash\nfor i in 1; do ls; done", "from recnb import Trie", "Trie()"]
    assert set(used_sources(cells, home(package))) == TRIE


def changed(package: Path, name: str, before: str, after: str, cell: str) -> set[str]:
    """Definitions whose hash differs after a change to a file."""
    other = shutil.copytree(package, package.parent / f"other-{abs(hash((name, after)))}" / "recnb")
    text = (other / name).read_text()
    assert before in text
    (other / name).write_text(text.replace(before, after))
    one, two = used_sources([cell], home(package)), used_sources([cell], home(other))
    return {key for key in {*one, *two} if one.get(key) != two.get(key)}


def test_code_counts_and_words_do_not(package: Path) -> None:
    cell = "from recnb.llm.beam import search\nsearch(1)"
    assert changed(package, "index/trie.py", "WIDTH = 1", "WIDTH = 2", cell) == {"recnb.index.trie.WIDTH"}
    assert changed(package, "llm/late.py", "return 1", "return 2", cell) == {"recnb.llm.late.g"}
    assert not changed(package, "llm/late.py", "Says.", "Says more.", cell), "a docstring"
    assert not changed(package, "llm/late.py", "-> int", "-> float", cell), "an annotation"
    assert not changed(package, "index/trie.py", "WIDTH = 1", "WIDTH = 1  # one", cell), "a comment"
    fields = "from recnb.studies.reads import read\nread()"
    assert changed(package, "studies/reads.py", "x: int", "x: float", fields) == {"recnb.studies.reads.Row"}
    assert changed(package, "llm/published.yaml", "1", "2", fields) == {"recnb.studies.reads published.yaml"}
    assert not changed(package, "index/trie.py", "def unused(): ...", "def unused(): return 1", cell), "what is not used"
    rows = "from recnb.studies.ledger import rows\nrows()"
    assert changed(package, "studies/rows.yaml", "1", "2", rows) == {"recnb.studies.ledger rows.yaml"}


def code(name: str) -> list[str]:
    return [source for kind, source in notebook_cells(STAGES[name].file(ROOT)) if kind == "code"]


def test_a_changed_function_runs_exactly_the_stages_that_use_it(tmp_path: Path) -> None:
    """In the real house: k-means makes the index, and the contests time it; nobody else is disturbed."""
    other = shutil.copytree(ROOT / "recnb", tmp_path / "recnb", ignore=shutil.ignore_patterns("__pycache__"))
    for name, touched in (("index/build.py", "build_index"), ("index/kmeans.py", "balanced_kmeans")):
        text = (other / name).read_text(encoding="utf-8")
        place = text.index("\n    \"\"\"", text.index(f"def {touched}("))
        (other / name).write_text(f"{text[:place]}\n    print('changed')\n{text[place:]}", encoding="utf-8")
    again = {name for name in STAGES if used_sources(code(name)) != used_sources(code(name), Home((other,), other))}
    assert again == {"03_index", "10_speed"}


@pytest.mark.parametrize(
    ("file", "stages"), [("published.yaml", {"06_evaluate", "09_ablations"}), ("claims.yaml", {"09_ablations"})]
)
def test_a_systems_own_files_count_where_they_are_read(file: str, stages: set[str], tmp_path: Path) -> None:
    other = shutil.copytree(ROOT / "recnb", tmp_path / "recnb", ignore=shutil.ignore_patterns("__pycache__"))
    path = other / "eager_llm" / file
    path.write_text(path.read_text(encoding="utf-8") + "# more\n", encoding="utf-8")
    kept, now = Home(wing=ROOT / "recnb" / "eager_llm"), Home((other,), other / "eager_llm")
    assert {name for name in STAGES if used_sources(code(name), kept) != used_sources(code(name), now)} == stages


def test_every_import_of_a_notebook_is_found() -> None:
    for name in STAGES:
        used = used_sources(code(name))
        assert len(used) > 50, f"{name} reaches {len(used)} definitions"
        assert any(key.startswith("recnb.artifacts.") for key in used), "how artifacts are written is part of each"
        assert not any(key.startswith(("recnb.workflow.", "recnb.errors.")) for key in used)


def test_one_function_by_its_address() -> None:
    found = sources_of("recnb.eager_llm.ranks:model_ranks")
    assert {"recnb.eager_llm.ranks.model_ranks", "recnb.llm.beam.recommend"} <= set(found)
