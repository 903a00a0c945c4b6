"""``pytest --nbval``, each notebook in a kernel of its own; of several, none has to load its libraries
(:mod:`recnb.workflow.warm`).

    python tests/nbval_run.py -q executed/01_data.ipynb executed/02_embeddings.ipynb
"""

import sys
from contextlib import closing, nullcontext

import pytest

from recnb.workflow.warm import Parent

if __name__ == "__main__":
    sys.modules["rfc3987_syntax"] = None  # as recnb.cli does
    several = sum(argument.endswith(".ipynb") for argument in sys.argv) > 1
    with closing(Parent({})) as parent, parent.kernels() if several else nullcontext():
        sys.exit(pytest.main(["--nbval", *sys.argv[1:]]))
