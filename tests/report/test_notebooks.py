"""Notebooks as pages: code that folds, links that lead somewhere, formulas as MathML, outputs that run nothing."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

import pytest
from pages import HOSTILE, PNG, Parsed, assert_safe_and_offline, notebook, shown

from recnb.report import markdown, notebooks

ROOT = Path(__file__).parents[2]
LINKS = {name: name for name in ("01_data", "02_embeddings")}


def rendered(tmp_path: Path, *outputs: dict[str, Any]) -> str:
    executed = tmp_path / "01_data.ipynb"
    executed.write_text(json.dumps(notebook(*outputs)))
    assert notebooks.render_page(executed, "mine", LINKS)
    return executed.with_suffix(".html").read_text(encoding="utf-8")


def test_a_page_folds_code_and_works_offline(tmp_path: Path) -> None:
    text = rendered(tmp_path, {"output_type": "stream", "name": "stdout", "text": ["a\n", "<b>\n"]})
    parsed = assert_safe_and_offline(text, scripts=1)
    folds = [d for d in parsed.all("details") if d.get("class") == "in"]
    assert len(folds) == 2 and all("open" in fold for fold in folds)
    assert [d for d in parsed.all("details") if d.get("class") == "solution"]
    assert parsed.all("button") and "Hide code" in parsed.text and "1.2 s" in parsed.text
    assert "a\n<b>" in parsed.text
    hrefs = [link["href"] for link in parsed.all("a")]
    assert "02_embeddings.html" in hrefs and "../index.html" in hrefs and "01_data.ipynb" in hrefs
    assert "02_embeddings.ipynb" not in hrefs
    assert "01 · Data · mine" in parsed.text


def test_pictures_carry_their_alternative_text(tmp_path: Path) -> None:
    data = {"image/png": base64.b64encode(PNG).decode() + "\n", "text/plain": "x"}
    images = Parsed(rendered(tmp_path, shown(data, {"image/png": {"alt": f'A "curve" {HOSTILE}'}}))).all("img")
    assert [image["alt"] for image in images if "png" in (image["src"] or "")] == [f'A "curve" {HOSTILE}']


@pytest.mark.parametrize(
    "data",
    [
        {"text/html": f"<table><tr><td onclick='x()'>{HOSTILE}</td></tr></table><style>td {{color: url(a)}}</style>"},
        {"text/html": ["<iframe src='//a'></iframe>", "<a href='javascript:alert(1)'>kept text</a>", "<p>b</p>"]},
        {"text/markdown": f"- **{HOSTILE}** kept text [x](javascript:alert(1))"},
        {"application/javascript": "alert(1)", "text/plain": f"kept text {HOSTILE}"},
        {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "kept text"},
        {"application/vnd.plotly.v1+json": {"data": []}},
        {"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"},
    ],
)  # fmt: skip
def test_an_output_runs_nothing(tmp_path: Path, data: dict[str, Any]) -> None:
    text = rendered(tmp_path, shown(data))
    assert_safe_and_offline(text, scripts=1)
    if "kept text" in str(data):
        assert "kept text" in text


def test_tables_and_formulas_of_outputs_survive_the_cleaning(tmp_path: Path) -> None:
    html_table = "<table border='1'><thead><tr><th>R@10</th></tr></thead><tr><td>0.08</td></tr></table>"
    marked = "| a | b |\n|---|---|\n| 1 | $x^2$ |\n\n**bold** `code $z$`"
    text = rendered(tmp_path, shown({"text/html": html_table}), shown({"text/markdown": marked}))
    parsed = Parsed(text)
    assert len(parsed.all("table")) == 2 and "R@10" in parsed.text and "code $z$" in parsed.text
    assert len(parsed.all("math")) == 2 and "<msup><mi>x</mi><mn>2</mn></msup>" in text


def test_mathematics_of_an_output_is_ours_alone(tmp_path: Path) -> None:
    """MathML passes only where our own code made it of TeX, and TeX cannot run anything either."""
    theirs = "<math href='javascript:alert(1)'><mtext onclick='x()'>kept text</mtext></math>"
    tex = rf"$\text{{{HOSTILE}}} \href{{javascript:alert(1)}}{{x}} \style{{color:url(a)}}{{y}}$"
    for kind in ("text/html", "text/markdown"):
        text = rendered(tmp_path, shown({kind: theirs}), shown({"text/markdown": f"{tex} $a<b>c$"}))
        parsed = assert_safe_and_offline(text, scripts=1)
        assert "kept text" in parsed.text and len(parsed.all("math")) == 3 and not parsed.all("img")
        assert "alert(2)" in parsed.text and "<b>c" in parsed.text


def test_errors_are_shown_without_colours_codes(tmp_path: Path) -> None:
    error = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE\x1b[0m: <v>"]}
    assert "E: <v>" in Parsed(rendered(tmp_path, error)).text


def test_a_page_is_made_again_only_when_it_must(tmp_path: Path) -> None:
    rendered(tmp_path)
    executed, alone = tmp_path / "01_data.ipynb", {"01_data": "01_data"}
    assert not notebooks.render_page(executed, "mine", LINKS)
    assert notebooks.render_page(executed, "mine", dict(reversed(LINKS.items()))), "another neighbour"
    assert notebooks.render_page(executed, "mine", alone), "another page has gone"
    executed.write_text(executed.read_text().replace("y = 2", "y = 3"))
    assert notebooks.render_page(executed, "mine", alone), "another notebook"


def test_links_start_where_the_notebook_lies(tmp_path: Path) -> None:
    executed = tmp_path / "03_index.ipynb"
    links = {"02_embeddings": "02_embeddings", "tiny/02_embeddings": "wrong", "tiny/03_index": "03_index",
             "studies/ablations": "09_ablations"}  # fmt: skip
    card = "# T\n[a](../02_embeddings.ipynb) [b](../studies/ablations.ipynb) [c](../llm4sbr/03.ipynb) [d](x.md)"
    cells = [{"cell_type": "markdown", "metadata": {}, "source": card, "id": "a"}]
    executed.write_text(json.dumps(notebook() | {"cells": cells}))
    assert notebooks.render_page(executed, "mine", links)
    parsed = Parsed(executed.with_suffix(".html").read_text(encoding="utf-8"))
    hrefs = [link["href"] for link in parsed.all("a")]
    around = ["../index.html", "wrong.html", "09_ablations.html", "03_index.ipynb"]
    assert hrefs == [*around, "02_embeddings.html", "09_ablations.html", "x.md"]
    assert "c d" in parsed.text, "no page: plain text"


def test_wide_code_and_tables_stay_in_their_boxes(tmp_path: Path) -> None:
    """At every width: lines of code wrap, tables scroll on a screen, and on paper both wrap."""
    text = rendered(tmp_path)
    screen, paper = text.split("</style>")[0].rsplit("@media print", 1)
    assert "table { font-size:7.5pt; }" in screen.split("@media print", 1)[1], "numbers stay whole on paper"
    assert "\npre { white-space:pre-wrap; overflow-wrap:anywhere;" in screen
    assert ":is(.text,.out) table { display:block; max-width:100%; overflow-x:auto; }" in screen
    assert "table { display:table; }" in paper and ".text pre { white-space:pre-wrap; }" in paper


def test_a_badge_is_a_link_in_words() -> None:
    drawn = converted("[![Open it](https://x.org/badge.svg)](https://x.org/y.ipynb) ![<b onclick=x>](z.png) [gone](y.ipynb)")
    assert '<a href="https://x.org/y.ipynb">Open it</a>' in drawn and drawn.count("<a ") == 1
    assert "<img" not in drawn and not [1 for _, attributes in Parsed(drawn).tags if "onclick" in attributes] and "gone" in drawn


# --- formulas -------------------------------------------------------------------------------------------------------


def converted(text: str) -> str:
    return markdown.markdown(text, lambda link: "")


def test_formulas_are_drawn_and_code_is_left_alone() -> None:
    prose = "a $\\lambda_1$ b `$c$` and\n\n$$\\frac{a}{b} = \\text{x}$$\n\n```\n$d$\n```\n costs $5 or \\$6 and 7$ x"
    drawn = converted(prose)
    assert [math["display"] for math in Parsed(drawn).all("math")] == ["inline", "block"]
    assert "<msub><mi>λ</mi><mn>1</mn></msub>" in drawn and "<mfrac>" in drawn and "<mtext>x</mtext>" in drawn
    assert "<code>$c$</code>" in drawn and "$d$" in drawn and "costs $5 or $6 and 7$ x" in drawn


@pytest.mark.parametrize("tex", ["\\nonsense{x}<b>", "\\left( <b>", "a & <b>", "<b>_"])
def test_what_cannot_be_drawn_stays_readable(tex: str) -> None:
    assert markdown.formula(tex, "inline") == f"<code>{html.escape(tex)}</code>"


def test_a_formula_sets_functions_apart_and_knows_aligned_lines() -> None:
    assert "<mi>log</mi><mspace" in markdown.formula(r"\log p", "inline")
    assert "<mi>log</mi><mo" in markdown.formula(r"\log(p)", "inline")
    assert markdown.formula(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "block").count("<mtr>") == 2


def test_every_formula_of_the_notebooks_is_drawn() -> None:
    sources = [cell for path in sorted((ROOT / "notebooks").rglob("*.ipynb"))
               for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "markdown"]  # fmt: skip
    renderer = markdown._Renderer(lambda link: link)
    for cell in sources:
        markdown.MarkdownWithMath(renderer, inline=markdown._Inline(hard_wrap=False)).render("".join(cell["source"]))
    assert len(renderer.formulas) > 10
    assert not [drawn for drawn in renderer.formulas.values() if not drawn.startswith("<math")]


def test_a_title_is_the_first_heading() -> None:
    assert notebooks.title_of(notebook(), "x") == "01 · Data"
    assert notebooks.title_of({"cells": []}, "01_data") == "01_data"
