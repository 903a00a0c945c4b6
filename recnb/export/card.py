"""The model card of an exported model: the README.md that a stranger finds beside the weights.

Everything on it comes from ``recnb.json`` (:mod:`recnb.export.write`). No item's text stands on it; names that a person
or a file gave (the data set, the recipe's title) are escaped, so that none of them becomes markup.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recnb.report.result import Table, markdown_table
from recnb.style import escape, plain

_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,39}")
_SYSTEMS = {"eager-llm": "trained, with adapter", "eager-llm-no-adapter": "trained, without adapter"}
_SOURCES = {"both": "text and behaviour", "semantic": "text", "behaviour": "behaviour", "random": "chance"}
_LONGEST = 2000  # characters of a text on the card


class Fixed(str):
    """Text that is ours, Markdown and all; any other text is escaped."""


def model_card(about: dict[str, Any], item_ids: Sequence[str]) -> str:
    """The card as Markdown with YAML front matter, of what ``recnb.json`` says.

    Its examples use the first two ``item_ids`` that are plain enough for a command line.
    """
    usable = [item for item in item_ids[:1000] if _PLAIN_ID.fullmatch(item)]
    example = [*usable[:2], "FIRST_ITEM_ID", "NEXT_ITEM_ID"][:2]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, finalize=_escaped,
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"code": _code, "table": _table, "ours": Fixed}
    return environment.get_template("card.md.j2").render(about, example=example, sources=_SOURCES)


def _table(measured: dict[str, Any]) -> Fixed:
    """One row per system, this model first."""
    systems, ours = measured["systems"], measured["ours"]
    told = _SYSTEMS | {ours: f"**this model** ({_SYSTEMS.get(ours, ours)})"}
    metrics, order = list(systems[ours]), sorted(systems, key=lambda name: name != ours)
    rows = [[told.get(name, name), *(f"{systems[name][metric]:.4f}" for metric in metrics)] for name in order]
    return Fixed(markdown_table(Table([("system", ""), *((metric, "n") for metric in metrics)], rows)))


def _code(value: Any) -> Fixed:
    """A value in backticks; what would end the code is left out."""
    return Fixed(f"`{plain(value, _LONGEST).replace('`', '')}`")


def _escaped(value: Any) -> Any:
    """What the template does to each value: text is escaped, numbers and text of ours are not."""
    return value if isinstance(value, Fixed | int) else Fixed(escape(value, _LONGEST))
