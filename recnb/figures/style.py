"""One style for every figure, and the one way to show it: with alt text, and saved for the report page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import seaborn as sns
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = sns.color_palette("colorblind")


def use_style() -> None:
    """Set the house style: colour-blind palette, readable at half width."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update(
        {"figure.dpi": 100, "savefig.bbox": "tight", "axes.spines.top": False, "axes.spines.right": False}
    )


def show(figure: Figure, alt: str, save: Path | None = None) -> None:
    """Display a figure with its alt text in the notebook, save it as PNG when ``save`` is given, and close it.

    Args:
        figure: the figure.
        alt: one sentence that says what the figure shows; round the numbers in it.
        save: a path ending in ``.png``; the alt text is stored beside it as ``.txt`` for the report page.
    """
    from IPython import get_ipython
    from IPython.display import display

    picture = _png(figure)
    plt.close(figure)
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_bytes(picture)
        save.with_suffix(".txt").write_text(alt, encoding="utf-8")
    if get_ipython() is None:  # a script, e.g. one process of several: words are all that can be shown
        print(alt)
        return
    bundle = {"image/png": picture, "text/plain": alt}
    display(bundle, metadata={"image/png": {"alt": alt}}, raw=True)


def _png(figure: Figure) -> bytes:
    """The figure in 256 colours: a third of the bytes, and a report is mostly pictures."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()
