"""A case drawn: a session, what was said about it, what became of that, and two lists with the target marked."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recnb.style import PALETTE, drawn

KINDS = {"in the session": PALETTE[2], "in the catalogue": PALETTE[0], "invented": PALETTE[3], "nothing": "0.6"}
_LINE = 30  # characters of a title


def case(
    session: Sequence[str], answers: Mapping[str, tuple[str, str, str]], lists: Mapping[str, Sequence[str]], target: str
) -> Figure:
    """One session, left to right: its titles, each view's answer and its nearest item, and the systems' first titles.

    Args:
        session: titles, oldest first; answers: view -> (what was said, a kind of :data:`KINDS`, title of the nearest).
        lists: system -> titles, best first; target: the title that came next, framed wherever it stands.
    """
    figure, axis = plt.subplots(figsize=(11, 3.6), layout="constrained")
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.axis("off")
    axis.grid(visible=False)
    _column(axis, 0.0, "the session", [*session], target)
    for place, (view, (said, kind, nearest)) in enumerate(answers.items()):
        top = 0.94 - 0.5 * place
        axis.text(0.28, top, f"{view}: {kind}", color=KINDS[kind], weight="bold", fontsize=10)
        axis.text(0.28, top - 0.1, drawn(f"“{said}”" if said else "(no answer)", _LINE), fontsize=9)
        axis.text(0.28, top - 0.2, "nearest item:", fontsize=8, color="0.4")
        _title(axis, 0.28, top - 0.29, nearest, target)
    for place, (system, titles) in enumerate(lists.items()):
        _column(axis, 0.55 + 0.24 * place, system, titles, target)
    return figure


def kinds_drawn(shares: pd.DataFrame) -> Figure:
    """What answers name, a bar per row of ``shares``: a column per kind of :data:`KINDS`, each row adds up to 1."""
    figure, axis = plt.subplots(figsize=(7, 0.5 * len(shares) + 1.2), layout="constrained")
    left = np.zeros(len(shares))
    for kind, colour in KINDS.items():
        width = shares[kind].to_numpy()
        axis.barh(range(len(shares)), width, left=left, color=colour, label=kind)
        left += width
    axis.set(xlabel="share of the answers", xlim=(0, 1), yticks=range(len(shares)), ylim=(len(shares) - 0.5, -0.5))
    axis.set_yticklabels([drawn(str(name)) for name in shares.index])
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize=9)
    return figure


def _column(axis: Axes, left: float, head: str, titles: Sequence[str], target: str) -> None:
    axis.text(left, 0.94, drawn(head, _LINE), weight="bold", fontsize=10)
    step = min(0.1, 0.88 / max(len(titles), 1))
    for row, title in enumerate(titles):
        _title(axis, left, 0.94 - (row + 1) * step, title, target)


def _title(axis: Axes, left: float, height: float, title: str, target: str) -> None:
    frame = {"boxstyle": "round,pad=0.2", "fc": "none", "ec": PALETTE[1], "lw": 1.8} if title == target else None
    axis.text(left, height, drawn(title, _LINE), fontsize=9, bbox=frame)
