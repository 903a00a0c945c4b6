"""On a machine that computes and has no notebooks: what the later stages import, without the packages around them."""

from __future__ import annotations

import ast
import json
import subprocess

from sandbox import ROOT, STAGES, python

ABSENT = ("IPython", "cornac", "gguf", "jupyter", "jupyter_core", "nbclient", "nbconvert", "nbformat", "nbval",
          "papermill", "umap")  # fmt: skip
BLOCKER = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def imports_of(stage: str) -> list[str]:
    """The import statements of a stage's notebook, but for what only shows."""
    cells = json.loads(STAGES[stage].file(ROOT).read_text(encoding="utf-8"))["cells"]
    trees = [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [text for text in map(ast.unparse, nodes) if "IPython" not in text]


def without(statements: list[str]) -> subprocess.CompletedProcess[str]:
    return python("-c", "\n".join([BLOCKER.format(absent=ABSENT), *statements]), cwd=ROOT)


def test_stages_import_without_what_shows_notebooks() -> None:
    wanted = [statement for stage in ("04_train", "05_anneal", "06_evaluate") for statement in imports_of(stage)]
    assert sum("from recnb.eager_llm import" in statement for statement in wanted) >= 3
    done = without([*wanted, "import recnb.workflow.launch", "assert not {'IPython', 'papermill'} & set(sys.modules)"])
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_is_absent_is_absent() -> None:
    for name in ("IPython", "papermill"):
        assert "ModuleNotFoundError" in without([f"import {name}.display"]).stderr
