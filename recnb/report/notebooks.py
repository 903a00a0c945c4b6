"""Executed notebooks as HTML pages that work without a network: code foldable, formulas drawn, outputs made safe."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recnb import __version__
from recnb.artifacts import write_atomic

TEMPLATES = Path(__file__).parent / "templates"
_LINK = re.compile(r'href="(?:[\w.-]+/)*(\w+)\.ipynb"')
_STAMP = "<!-- made from "
_CODE_OR_MATH = re.compile(
    r"(?P<code>```.*?```|~~~.*?~~~|``.+?``|`[^`\n]+`)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]*?[^\s$\\])?)\$(?![\w$])",
    re.DOTALL,
)
# mathtext knows most of TeX's math, but not these names
_TEX = {
    r"\text{": r"\mathrm{", r"\operatorname{": r"\mathrm{", r"\lVert": r"\|", r"\rVert": r"\|", r"\tfrac": r"\frac",
    r"\ge ": r"\geq ", r"\le ": r"\leq ", r"\!": "", r"\;": r"\ ",
}  # fmt: skip
_BLOCKS = ("details", "summary", "p", "h1", "h2", "h3", "h4", "h5", "hr", "br", "div", "pre")
_TABLES = ("table", "thead", "tbody", "tfoot", "tr", "th", "td", "caption")
_INLINE = ("span", "sub", "sup", "s", "mark", "small", "u")
_ATTRIBUTES = {
    "*": ["class", "style", "title"],
    "a": ["href", "title"],
    "td": ["colspan", "rowspan", "style", "class"],
    "th": ["colspan", "rowspan", "scope", "style", "class"],
    "details": ["open"],
}


def render_page(
    executed: Path,
    target: Path,
    stage: str,
    recipe: str,
    links: Mapping[str, str],
    previous: str = "",
    following: str = "",
) -> bool:
    """Write an executed notebook as one HTML page; nothing is done if the page is up to date.

    Args:
        executed: the notebook.
        target: the page.
        stage: its name; ``previous`` and ``following`` are those of its neighbours' pages, empty if there is none.
        recipe: name of the recipe, for the title.
        links: names of notebooks, as their links have them, to names of pages.

    Returns:
        True if the page was written.
    """
    source = executed.read_bytes()
    stamp = _stamp(source, previous, following)
    if target.is_file() and target.read_text(encoding="utf-8").startswith(stamp):
        return False
    notebook = json.loads(source)
    title = title_of(notebook, stage)
    facts = {"stage": stage, "recipe": recipe, "previous": previous, "next": following, "title": title}
    page = _export(notebook, facts, links)
    write_atomic(target, lambda file: file.write(f"{stamp}\n{page}".encode()))
    return True


def title_of(notebook: dict[str, Any], default: str) -> str:
    """First heading of a notebook: its title."""
    for cell in notebook["cells"]:
        found = re.search(r"^# +(.+)$", "".join(cell["source"]), re.MULTILINE)
        if cell["cell_type"] == "markdown" and found:
            return found.group(1).strip()
    return default


def draw_math(markdown: str) -> str:
    """Replace ``$...$`` and ``$$...$$`` outside code by drawn formulas, with the TeX as their alternative text."""

    def drawn(match: re.Match[str]) -> str:
        if match.group("code"):
            return match.group(0)
        block = match.group("block") is not None
        return formula((match.group("block") or match.group("inline")).strip(), block)

    return _CODE_OR_MATH.sub(drawn, markdown)


@cache
def formula(tex: str, block: bool) -> str:
    """A formula as an inline SVG image on the text's baseline; what mathtext cannot draw stays as TeX in code type."""
    alt = html.escape(tex, quote=True).replace("\n", " ")
    try:
        width, height, depth, svg = _draw(tex.replace(r"\frac", r"\dfrac") if block else tex, 14.0 if block else 13.0)
    except (ValueError, RuntimeError):
        return f"<code>{alt}</code>"
    style = f"width:{width / 13:.3f}em;height:{height / 13:.3f}em"
    style += "" if block else f";vertical-align:{-depth / 13:.3f}em"
    data = base64.b64encode(svg).decode()
    kind = "math block" if block else "math"
    return f'<img class="{kind}" style="{style}" alt="{alt}" src="data:image/svg+xml;base64,{data}">'


def safe_html(text: str) -> str:
    """HTML of a notebook output without anything that runs: titles of a catalogue may hold markup."""
    text = re.sub(r"<(script|style)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    return _sanitizer().sanitize_html_tags(text)


def _export(notebook: dict[str, Any], facts: dict[str, str], links: Mapping[str, str]) -> str:
    import nbformat
    from nbconvert import HTMLExporter

    node = nbformat.from_dict(_prepared(notebook))
    exporter = HTMLExporter(template_name="page", extra_template_basedirs=[str(TEMPLATES)])
    css = (TEMPLATES / "base.css").read_text(encoding="utf-8") + (TEMPLATES / "page.css").read_text(encoding="utf-8")
    body, _ = exporter.from_notebook_node(node, resources={"recnb": facts | {"css": css}})
    body = _LINK.sub(lambda found: f'href="{links[found[1]]}.html"' if found[1] in links else found[0], body)
    return body.replace("@notebook@", f"{facts['stage']}.ipynb")


def _prepared(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy whose formulas are drawn and whose outputs are safe."""
    copy = json.loads(json.dumps(notebook))
    for cell in copy["cells"]:
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            cell["source"] = draw_math(cell["source"])
        for output in cell.get("outputs", []):
            if isinstance(output.get("text"), list):
                output["text"] = "".join(output["text"])
            if "data" in output:
                output["data"] = _safe_data(output["data"])
    copy["cells"] = [cell for cell in copy["cells"] if cell["cell_type"] != "raw"]
    return copy


def _safe_data(data: dict[str, Any]) -> dict[str, Any]:
    joined = {kind: "".join(value) if isinstance(value, list) else value for kind, value in data.items()}
    if "text/markdown" in joined and "text/html" not in joined:
        from nbconvert.filters import markdown2html

        joined["text/html"] = draw_marked(markdown2html, joined.pop("text/markdown"))
    elif "text/html" in joined:
        joined["text/html"] = safe_html(joined["text/html"])
    wanted = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/plain")
    return {kind: joined[kind] for kind in wanted if kind in joined}


def draw_marked(convert: Any, markdown: str) -> str:
    """Markdown of an output as safe HTML; its formulas are put in after the cleaning, which would drop images."""
    formulas: list[str] = []

    def keep(match: re.Match[str]) -> str:
        if match.group("code"):
            return match.group(0)
        tex, block = match.group("block") or match.group("inline"), match.group("block") is not None
        formulas.append(formula(tex.strip(), block))
        return f"RECNBFORMULA{len(formulas) - 1}X"

    cleaned = safe_html(convert(_CODE_OR_MATH.sub(keep, markdown)))
    return re.sub(r"RECNBFORMULA(\d+)X", lambda found: formulas[int(found.group(1))], cleaned)


@cache
def _sanitizer() -> Any:
    from nbconvert.preprocessors import sanitize

    tags = sorted({*sanitize.ALLOWED_TAGS, *_BLOCKS, *_TABLES, *_INLINE})
    return sanitize.SanitizeHTML(tags=tags, attributes=_ATTRIBUTES, strip=True)


def _draw(tex: str, points: float) -> tuple[float, float, float, bytes]:
    """(width, height, depth) in points, and the SVG."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser

    for unknown, known in _TEX.items():
        tex = tex.replace(unknown, known)
    text = f"${' '.join(tex.split())}$"
    font = FontProperties(size=points, math_fontfamily="stix")
    width, height, depth, _, _ = MathTextParser("path").parse(text, dpi=72, prop=font)
    with matplotlib.rc_context({"svg.hashsalt": "recnb", "svg.fonttype": "path"}):
        figure = Figure(figsize=(width / 72, height / 72))
        figure.text(0, depth / height, text, fontproperties=font, color="#1a2330")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", dpi=72, transparent=True, metadata={"Date": None})
    return float(width), float(height), float(depth), buffer.getvalue()


def _stamp(source: bytes, *neighbours: str) -> str:
    """First line of a page: what it was made from, so that only what changed is made again."""
    digest = hashlib.sha256(source + "|".join((__version__, *neighbours)).encode())
    for file in (*sorted(TEMPLATES.rglob("*.j2")), *sorted(TEMPLATES.glob("*.css")), Path(__file__)):
        digest.update(file.read_bytes())
    return f"{_STAMP}{digest.hexdigest()[:32]} -->"
