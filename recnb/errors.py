"""Every error a user can cause, with one base class, so that the command line prints a sentence and not a trace."""

import difflib
from collections.abc import Iterable


class RecnbError(Exception):
    """Something the user can mend; the message says where it is, what was expected and the nearest valid choice."""


class RecipeError(RecnbError):
    """A recipe file or a ``--set`` override is not valid."""


class DataError(RecnbError):
    """A source file is missing, damaged or not in the documented format."""


class IndexGateError(RecnbError):
    """The item index cannot be built, or its health report is below the recipe's gate."""


class ArtifactError(RecnbError):
    """A stored artifact is missing, or does not match the hash in its manifest."""


class ModelNotFoundError(RecnbError):
    """A pretrained model is not on this machine; the message lists the ways to get it."""


class ResourceError(RecnbError):
    """The machine lacks what the recipe demands (a GPU, memory, disk)."""


def nearest(wanted: str, choices: Iterable[object], likeness: float = 0.0) -> str:
    """The end of a message about a wrong name: the valid one that looks most like it, if it is at least as like as
    ``likeness`` (0 to 1).

    >>> nearest("epoch", ["rank", "epochs"]), nearest("epoch", [])
    ("; nearest: 'epochs'", '')
    """
    close = difflib.get_close_matches(wanted, [str(choice) for choice in choices], n=1, cutoff=likeness)
    return f"; nearest: '{close[0]}'" if close else ""
