"""Run All of several notebooks in one process, without a kernel start for each; what their cells show goes to a file:
instead of figures the words that stand for them. Solutions are left out where the recipe says so.

    python tests/walk.py OUT.json params/toy.yaml,01_data,02_embeddings params/other.yaml,01_data
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.figure import Figure

from recnb import style
from recnb.artifacts import find_root
from recnb.workflow.execute import SOLUTION
from recnb.workflow.graph import stage_named
from recnb.workflow.recipe import load_recipe


def run_all(shell: InteractiveShell, notebook: Path, recipe: str, left_out: set[str]) -> str:
    """Everything that a notebook's code cells print and display; stops at the first error."""
    shell.reset(new_session=False)
    shown = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or left_out & set(cell["metadata"].get("tags", [])):
            continue
        with capture_output() as captured:
            result = shell.run_cell("".join(cell["source"]))
        shown += [captured.stdout, *(str(output.data) for output in captured.outputs)]
        result.raise_error()
        if "parameters" in cell["metadata"].get("tags", []):
            shell.push({"recipe": recipe, "overrides": []})
    return "\n".join(shown)


def show(figure: Figure, alt: str, save: Path | None = None) -> None:
    """In place of :func:`recnb.style.show`, which takes longest of what a toy's notebook does."""
    print(alt)
    plt.close(figure)


if __name__ == "__main__":
    style.show = show
    shell, root = InteractiveShell.instance(colors="nocolor"), find_root()
    found: dict[str, str] = {}
    for walk in sys.argv[2:]:
        recipe, *names = walk.split(",")
        loaded = load_recipe(root / recipe)
        left_out = set() if loaded.runtime.solutions else {SOLUTION}
        for name in names:
            notebook = stage_named(name, loaded.stages).file(root)
            found[f"{recipe},{name}"] = run_all(shell, notebook, recipe, left_out)
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
