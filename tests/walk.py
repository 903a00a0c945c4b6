"""Run All of several notebooks in one process, without a kernel start for each; what their cells show goes to a file.

    python tests/walk.py OUT.json params/toy.yaml,01_data,02_embeddings params/other.yaml,01_data
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from recnb.artifacts import find_root
from recnb.workflow.graph import stage_named
from recnb.workflow.recipe import load_recipe


def run_all(shell: InteractiveShell, notebook: Path, recipe: str) -> str:
    """Everything that a notebook's code cells print and display; stops at the first error."""
    shell.reset(new_session=False)
    shown = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        with capture_output() as captured:
            result = shell.run_cell("".join(cell["source"]))
        shown += [captured.stdout, *(str(output.data) for output in captured.outputs)]
        result.raise_error()
        if "parameters" in cell["metadata"].get("tags", []):
            shell.push({"recipe": recipe, "overrides": []})
    return "\n".join(shown)


if __name__ == "__main__":
    shell, root = InteractiveShell.instance(colors="nocolor"), find_root()
    found: dict[str, str] = {}
    for walk in sys.argv[2:]:
        recipe, *names = walk.split(",")
        stages = load_recipe(root / recipe).stages
        found |= {f"{recipe},{name}": run_all(shell, stage_named(name, stages).file(root), recipe) for name in names}
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
