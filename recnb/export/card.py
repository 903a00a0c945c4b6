"""The model card of an exported model: the README.md that a stranger finds beside the weights.

Everything on it comes from ``recnb.json`` (:mod:`recnb.export.write`). No item's text stands on it; names that a person
or a file gave (the data set, the recipe's title) are escaped, so that none of them becomes markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recnb.style import escape, plain

FRONT_MATTER = {  # what the Hugging Face hub reads; the licence is that of data and backbone
    "library_name": "transformers",
    "pipeline_tag": "text-generation",
    "license": "other",
    "license_name": "terms-of-data-and-backbone",
    "tags": ["recommendation", "sequential-recommendation", "generative-recommendation", "semantic-ids", "eager-llm",
             "recnb"],
}  # fmt: skip
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,39}")
_SYSTEMS = {"eager-llm": "trained, with adapter", "eager-llm-no-adapter": "trained, without adapter"}
_SOURCES = {"both": "text and behaviour", "semantic": "text", "behaviour": "behaviour", "random": "chance"}
_LONGEST = 2000  # characters of a text on the card


class Fixed(str):
    """Text that is ours, Markdown and all; any other text is escaped."""


def model_card(about: dict[str, Any], item_ids: Sequence[str]) -> str:
    """The card as Markdown with YAML front matter.

    Args:
        about: what ``recnb.json`` says.
        item_ids: of the catalogue; the examples use the first two that are plain enough for a command line.
    """
    plain = [item for item in item_ids[:1000] if _PLAIN_ID.fullmatch(item)]
    example = [*plain[:2], "FIRST_ITEM_ID", "NEXT_ITEM_ID"][:2]
    base = about["training"]["base_model"]
    matter = FRONT_MATTER | ({"base_model": base} if base else {})
    front = yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)
    return str(_template().render(about, front=Fixed(front), example=example))


def _rows(measured: dict[str, Any]) -> list[list[Fixed]]:
    """Header, rule and one line per system, this model first."""
    systems, ours = measured["systems"], measured["ours"]
    names = list(systems[ours])
    rows = [["system", *names], ["---", *["---:"] * len(names)]]
    for system in sorted(systems, key=lambda name: name != ours):
        told = _SYSTEMS.get(system, system)
        told = f"**this model** ({told})" if system == ours else told
        rows.append([told, *(f"{systems[system][name]:.4f}" for name in names)])
    return [[Fixed(cell) for cell in row] for row in rows]


def _code(value: Any) -> Fixed:
    """A value in backticks; what would end the code is left out."""
    return Fixed(f"`{plain(value, _LONGEST).replace('`', '')}`")


def _escaped(value: Any) -> Any:
    """What the template does to each value: text is escaped, numbers and text of ours are not."""
    return value if isinstance(value, Fixed | int) else Fixed(escape(value, _LONGEST))


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=_escaped,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["sources"] = _SOURCES
    environment.filters |= {"code": _code, "rows": _rows, "ours": Fixed}
    return environment.get_template("card.md.j2")
