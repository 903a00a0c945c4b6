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

CARD = "README.md"
_PUNCTUATION = re.compile(r"([!-'*+./:-@\[-`{-~])")  # all of ASCII's but the brackets, comma and hyphen of plain prose
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,39}")
_SYSTEMS = {"eager-llm": "trained, with adapter", "eager-llm-no-adapter": "trained, without adapter"}
_SOURCES = {"both": "text and behaviour", "semantic": "text", "behaviour": "behaviour", "random": "chance"}


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
    front = yaml.safe_dump(front_matter(about), sort_keys=False, allow_unicode=True)
    return str(_template().render(about, front=Fixed(front), example=example))


def front_matter(about: dict[str, Any]) -> dict[str, Any]:
    """What the Hugging Face hub reads: library, task, tags; the licence is that of data and backbone."""
    base = about["training"]["base_model"]
    return {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "other",
        "license_name": "terms-of-data-and-backbone",
        **({"base_model": base} if base else {}),
        "tags": ["recommendation", "sequential-recommendation", "generative-recommendation", "semantic-ids",
                 "eager-llm", "recnb"],
    }  # fmt: skip


def as_text(value: Any) -> Any:
    """A value as text that Markdown prints and does not read; what is marked as markup, and numbers, stay.

    >>> print(as_text("# a <b>title</b>"))
    \\# a \\<b\\>title\\<\\/b\\>
    """
    if isinstance(value, Fixed | int):
        return value
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return Fixed(_PUNCTUATION.sub(r"\\\1", " ".join(text.split())))


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
    return Fixed("`" + "".join(c for c in str(value) if c.isprintable() and c != "`") + "`")


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # not HTML: `finalize` escapes for Markdown
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=as_text,
        keep_trailing_newline=True,
    )
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.globals["sources"] = _SOURCES
    environment.filters |= {"code": _code, "rows": _rows, "ours": Fixed}
    return environment.get_template("card.md.j2")
