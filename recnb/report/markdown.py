"""Markdown and HTML of notebooks as HTML that runs nothing: titles of a catalogue may hold markup, or TeX."""

import html
import re
import secrets
from collections.abc import Callable
from functools import cache
from xml.etree.ElementTree import tostring

from latex2mathml.converter import convert_to_element
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath, MathInlineParser
from nbconvert.preprocessors.sanitize import ALLOWED_TAGS, SanitizeHTML

_TAGS = (
    "br caption del details div h1 h2 h3 h4 h5 hr mark p pre s small span sub summary sup "
    "table tbody td tfoot th thead tr u"
)
_ATTRIBUTES = {"*": ["class", "style", "title", "colspan", "rowspan", "scope", "open"], "a": ["href"]}
_SANITIZER = SanitizeHTML(tags=sorted({*ALLOWED_TAGS, *_TAGS.split()}), attributes=_ATTRIBUTES, strip=True)
_FUNCTION = re.compile(r"\\(?:log|ln|exp|max|min)(?:_\w|_\{[^{}]*\})?(?=\s+[\w\\])")


def safe_html(text: str) -> str:
    """HTML without anything that runs, loads or draws over the page."""
    text = re.sub(r"<(script|style)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    return str(_SANITIZER.sanitize_html_tags(text))


def markdown(text: str, page_of: Callable[[str], str]) -> str:
    """Markdown as safe HTML, its formulas (``$...$`` and ``$$...$$``) as MathML.

    ``page_of``: what a link to a notebook should lead to; where there is nothing, its text stands alone.
    """
    renderer = _Renderer(page_of)
    page = safe_html(MarkdownWithMath(renderer, inline=_Inline(hard_wrap=False)).render(text))
    for word, drawn in renderer.formulas.items():
        page = page.replace(word, drawn)
    return page


@cache
def formula(tex: str, display: str) -> str:
    """TeX without dollars as MathML that runs nothing, ``inline`` or ``block``; what the converter does not know stays
    as it is, in code type."""
    spaced = _FUNCTION.sub(r"\g<0>\\,", tex).replace("{aligned}", "{align*}")  # log p is not logp
    try:
        root = convert_to_element(spaced, display=display)
    except Exception:  # two dollars may hold anything
        return f"<code>{html.escape(tex)}</code>"
    for part in root.iter():
        part.text = html.unescape(part.text or "")  # the converter's own entities; tostring escapes what it must
        for name in ("href", "style", "class"):
            part.attrib.pop(name, None)
    drawn = tostring(root, encoding="unicode", short_empty_elements=False)
    return f"<code>{html.escape(tex)}</code>" if "\\" in drawn or "&amp;" in drawn else drawn


class _Inline(MathInlineParser):
    """Prices are no formulas: a dollar opens or closes one only where it touches it, and nothing before or after."""

    SPECIFICATION = MathInlineParser.SPECIFICATION | {
        "inline_math_tex": r"(?<![\\$\w])\$(?P<math_inline_tex>[^\s$](?:[^$\n]*?[^\s$\\])?)\$(?![\w$])"
    }


class _Renderer(IPythonRenderer):
    """Sets formulas aside: a word, another each time, holds the place of each until the rest has been made safe."""

    def __init__(self, page_of: Callable[[str], str]) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)
        self.page_of = page_of
        self.formulas: dict[str, str] = {}

    def block_math(self, body: str) -> str:
        return self._aside(body, "block")

    def inline_math(self, body: str) -> str:
        return self._aside(body, "inline")

    def latex_environment(self, name: str, body: str) -> str:
        return self._aside(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        page = self.page_of(url) if url.endswith(".ipynb") and "://" not in url else url
        return str(super().link(text, page, title)) if page else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return text  # a page loads nothing: what a badge says is the text of its link

    def _aside(self, tex: str, display: str) -> str:
        word = f"formula{secrets.token_hex(12)}"
        self.formulas[word] = formula(tex.strip(), display)
        return word
