"""papermill's own command line for notebooks in turn, each in a kernel of its own; none has to load its libraries
(:mod:`recnb.workflow.warm`). Names on stdout those that came to their end.

    python tests/papermill_run.py params/toy.yaml 01_data=01_data 09_ablations=studies/ablations
"""

import sys
from contextlib import closing

from papermill.cli import papermill

from recnb.workflow.warm import Parent

if __name__ == "__main__":
    with closing(Parent({})) as parent, parent.kernels():
        for stage, notebook in (pair.split("=") for pair in sys.argv[2:]):
            files = [f"notebooks/{notebook}.ipynb", f"executed/{stage}.ipynb"]
            options = ["-p", "recipe", sys.argv[1], "-y", "overrides: []", "--no-progress-bar"]
            papermill.main([*files, *options], standalone_mode=False)
            print(stage, flush=True)
