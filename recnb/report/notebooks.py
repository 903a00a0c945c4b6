"""Executed notebooks as HTML pages that work without a network: code foldable, formulas drawn, outputs made safe."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recnb import __version__
from recnb.artifacts import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(executed: Path, recipe: str, links: Mapping[str, str]) -> bool:
    """Write an executed notebook of a recipe as one HTML page beside it; False: its page is up to date.

    ``links`` are all pages in their order, this one among them: which notebook below ``notebooks/``, without suffix ->
    name of its page. A link to any other notebook becomes plain text.
    """
    source, target = executed.read_text(encoding="utf-8"), executed.with_suffix(".html")
    stamp = _stamp(source, executed.stem, recipe, json.dumps(dict(links)))
    if target.is_file() and target.read_text(encoding="utf-8").startswith(stamp):
        return False
    import nbformat
    from nbconvert.filters import Highlight2HTML, ansi2html

    from recnb.report.markdown import markdown, safe_html

    pages = list(links.values())
    place = pages.index(executed.stem)

    def page_of(link: str) -> str:
        page = links.get(linked(list(links)[place], link).removesuffix(".ipynb"))
        return f"{page}.html" if page else ""

    page = templates().get_template("page.html.j2").render(
        cells=nbformat.reads(source, as_version=4).cells,
        title=title_of(json.loads(source), executed.stem),
        executed=executed.name,
        recipe=recipe, previous=["", *pages][place], following=[*pages, ""][place + 1],
        markdown=lambda text: markdown(text, page_of),
        safe_html=safe_html, ansi=ansi2html, highlight=Highlight2HTML(pygments_lexer="ipython3"),
    )  # fmt: skip
    write_text(target, f"{stamp}\n{page}\n")
    return True


def linked(notebook: str, link: str) -> str:
    """Where a relative link leads: ``../01_data.ipynb`` in ``eager_llm/03_index`` to ``01_data.ipynb``."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(notebook), link))


def title_of(notebook: dict[str, Any], default: str) -> str:
    """First heading of a notebook: its title."""
    for cell in notebook.get("cells", []):
        found = re.search(r"^# +(.+)$", "".join(cell["source"]), re.MULTILINE)
        if cell["cell_type"] == "markdown" and found:
            return found.group(1).strip()
    return default


@cache
def templates() -> Environment:
    """The templates of all pages; whatever is put into one is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment


def _stamp(*made_from: str) -> str:
    """First line of a page: what it was made from, so that only what changed is made again."""
    own = (*sorted(_TEMPLATES.iterdir()), *sorted(Path(__file__).parent.glob("*.py")))
    parts = [__version__, *made_from, *(file.read_text(encoding="utf-8") for file in own)]
    return f"<!-- made from {hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]} -->"
