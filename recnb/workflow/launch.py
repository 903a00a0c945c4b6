"""Run one stage on several GPUs (or processes): the cells of its notebook, as a script, under ``accelerate launch``.

    accelerate launch --num_processes 4 -m recnb.workflow.launch 04_train params/beauty.yaml
    torchrun --standalone --nproc_per_node 2 -m recnb.workflow.launch 06_evaluate params/quickstart.yaml   # CPUs, too

Every process runs the same cells and holds the whole model; only the first writes artifacts. 04_train and 05_anneal:
Trainer deals out the batches, so a step takes more of them. 02_embeddings and 06_evaluate: texts and users are shared
out batch by batch, and the artifacts are those of one process with as many threads. What is not shared out, every
process does for itself.
Afterwards ``recnb run params/beauty.yaml`` finds the stage done and goes on with the next one.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from recnb import distributed
from recnb.artifacts import read_json
from recnb.errors import RecnbError
from recnb.workflow.execute import SOLUTION
from recnb.workflow.plan import make_plan


def run_cells(notebook: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """Execute a notebook's code cells, but for solutions, in this process; returns the namespace that they leave.

    Args:
        notebook: an ``.ipynb`` file.
        parameters: set after the cell tagged ``parameters``, as papermill does.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(read_json(notebook)["cells"]):
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code" and SOLUTION not in tags:
            exec(compile("".join(cell["source"]), f"{notebook.name}[{number}]", "exec"), namespace)
            namespace |= parameters if "parameters" in tags else {}
    return namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: stage, recipe, overrides."""
    parser = argparse.ArgumentParser("accelerate launch -m recnb.workflow.launch", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("stage", help="its name: 02_embeddings, 04_train, 05_anneal, 06_evaluate")
    parser.add_argument("recipe", help="a recipe file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    os.environ.setdefault("MPLBACKEND", "agg")
    first = os.environ.get("RANK", "0") == "0"
    try:
        distributed.refuse_parts()
        plan = make_plan(options.recipe, options.overrides, options.stage, options.stage)
        with redirect_stdout(sys.stdout if first else io.StringIO()):
            run_cells(plan.stages[0].file(plan.root), {"recipe": options.recipe, "overrides": options.overrides})
        distributed.leave()
    except RecnbError as error:
        print(f"recnb: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
