"""How things look: text that nobody checked made harmless, tables, and one style for every figure.

Drawing is imported where something is drawn: text alone must not wait for it.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_COLOURS = "0173b2 de8f05 029e73 d55e00 cc78bc ca9161 fbafe4 949494 ece133 56b4e9"  # seaborn's "colorblind"
PALETTE = [(red / 255, green / 255, blue / 255) for red, green, blue in map(bytes.fromhex, _COLOURS.split())]
_MARKUP = re.compile(r"[&<>\"'\\`*_{}\[\]()#+\-!|~$^:@]|(?<=www)\.|(?<=\d)\.(?=\s)", re.IGNORECASE)


def percent(share: float) -> str:
    """A probability for people: two digits, never a false zero.

    Example:
        >>> percent(0.1234), percent(0.00123), percent(1e-9)
        ('12 %', '0.12 %', '<0.001 %')
    """
    return "<0.001 %" if share < 1e-5 else f"{100 * share:.2g} %" if share < 0.995 else "100 %"


def plain(text: str, limit: int = 60) -> str:
    """Text from a catalogue or a model as one harmless line: no control or direction marks, cut at ``limit``."""
    spaced = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in str(text))
    visible = "".join(c for c in spaced if not unicodedata.category(c).startswith("C"))
    line = " ".join(visible.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def drawn(text: str, limit: int = 60) -> str:
    """:func:`plain`, inside a figure: a dollar starts no formula."""
    return plain(text, limit).replace("$", r"\$")


def escape(text: str, limit: int = 60) -> str:
    """:func:`plain`, safe inside HTML and Markdown: shown as the characters it has, whatever they are."""
    return _MARKUP.sub(lambda found: f"&#{ord(found.group())};", plain(text, limit))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells each as a table for a terminal; the last column is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def table(frame: pd.DataFrame, caption: str = "", index: bool = False) -> Any:
    """A frame of strings and numbers (three digits) as an HTML table for a notebook, ``caption`` above it.

    Every text is escaped, and no formula read into it.
    """
    from IPython.display import HTML

    shown = frame.map(lambda value: escape(value, 200) if isinstance(value, str) else value)
    shown.columns = [escape(str(name), 200) for name in frame.columns]
    body = shown.to_html(index=index, escape=False, border=0, float_format=lambda value: f"{value:.3g}")
    body = body.replace('class="dataframe"', 'class="dataframe tex2jax_ignore mathjax_ignore"')
    return HTML(f"<p><b>{escape(caption, 200)}</b></p>{body}" if caption else body)


def use_style() -> None:
    """Set the house style: colour-blind palette, readable at half width."""
    import seaborn as sns

    more = {"figure.dpi": 100, "savefig.bbox": "tight", "axes.spines.top": False, "axes.spines.right": False}
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=more)


def show(figure: Figure, alt: str, save: Path | None = None) -> None:
    """Display a figure in the notebook, save it when a path ending in ``.png`` is given, and close it.

    ``alt`` is one sentence that says what it shows, numbers rounded; it is stored beside it as ``.txt`` for the report.
    """
    import matplotlib.pyplot as plt
    from IPython import get_ipython
    from IPython.display import display

    written = io.BytesIO()
    figure.savefig(written, format="png")
    plt.close(figure)
    picture = small_png(written.getvalue())
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_bytes(picture)
        save.with_suffix(".txt").write_text(alt, encoding="utf-8")
    if get_ipython() is None:  # a script, e.g. one process of several: words are all that can be shown
        print(alt)
        return
    display({"image/png": picture, "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)


def small_png(picture: bytes, width: int = 0) -> bytes:
    """A PNG in 256 colours, a third of the bytes; and, where a width is given, at most so many pixels wide."""
    from PIL import Image

    opened = Image.open(io.BytesIO(picture)).convert("RGBA")
    image = Image.new("RGBA", opened.size, "white")
    image.alpha_composite(opened)
    image = image.convert("RGB")
    if width and image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()
