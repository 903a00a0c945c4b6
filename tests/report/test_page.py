"""The report: self-contained, true to manifests and ledger, safe whatever a title holds, made again only if needed."""

from __future__ import annotations

import base64
import html.parser
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from recnb.artifacts import hash_artifact
from recnb.eager_llm.recipe import EagerLLM as Recipe
from recnb.report import notebooks, page
from recnb.workflow.manifest import read_manifest
from recnb.workflow.recipe import load_recipe
from recnb.workflow.stage import Stage

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
OURS = {"kind": "measured", "commit": "abc"}
LEDGER = [
    {"system": "EAGER-LLM", "R@5": 0.0548, "R@10": 0.083, "kind": "published", "gap R@10": 0.0, "why": "cited"},
    {"system": "ours", "R@5": 0.05, "R@10": 0.0812, "gap R@10": -0.0217, "why": HOSTILE, **OURS},
    {"system": "popularity", "R@5": 0.06, "R@10": 0.0412, "gap R@10": -0.5, "why": "", **OURS},
    {"system": "silent", "R@5": None, "R@10": None, "kind": "published", "gap R@10": None, "why": ""},
]


def notebook(*outputs: dict[str, Any]) -> dict[str, Any]:
    card = ["# 01 · Data\n", "and $x_i^2$, `$no$`, [next](02_embeddings.ipynb)"]
    run = {"cell_type": "code", "execution_count": 1}
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "metadata": {}, "source": card, "id": "a"},
        {**run, "metadata": {"recnb": {"seconds": 1.25}}, "source": "x = '<b>'", "outputs": list(outputs), "id": "b"},
        {**run, "metadata": {"tags": ["solution"]}, "source": "y = 2", "outputs": [], "id": "c"},
    ]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def shown(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": metadata or {}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    (tmp_path / "params" / "mine.yaml").write_text(
        f"name: mine\ntitle: '{HOSTILE}'\ntrain: {{epochs: 5}}\nruntime: {{device: cpu, threads: 1}}\n"
    )
    return tmp_path


@pytest.fixture
def recipe(project: Path) -> Recipe:
    return load_recipe(project / "params" / "mine.yaml")


@pytest.fixture
def done(project: Path, recipe: Recipe) -> Path:
    """Two stages complete: 01_data with a page and a figure, 06_evaluate (its inputs forgotten) with a ledger."""
    stage = Stage.open("01_data", recipe, root=project)
    stage.write("x.json", [1])
    stage.note(items=1682, sparsity=0.936953, title=HOSTILE[:20], cold_targets=0.0)
    stage.figure("lengths").write_bytes(PNG)
    stage.figure("lengths").with_suffix(".txt").write_text(f"Lengths {HOSTILE}")
    stage.close()
    folder = project / "reports" / "mine" / "notebooks"
    folder.mkdir(parents=True)
    (folder / "01_data.ipynb").write_text(json.dumps(notebook()))
    evaluate = project / "runs" / "mine" / "06_evaluate"
    evaluate.mkdir(parents=True)
    (evaluate / "ledger.json").write_text(json.dumps(LEDGER))
    made = read_manifest(recipe, "01_data", project)
    assert made
    sha = hash_artifact(evaluate / "ledger.json")
    made |= {"stage": "06_evaluate", "artifacts": {"ledger.json": {"sha256": sha, "bytes": 9}}, "facts": {}}
    made |= {"device": "cuda", "peak_gpu_memory": 3 * 2**30}
    (evaluate / "manifest.json").write_text(json.dumps(made))
    return project


def page_of(project: Path, recipe: Recipe) -> str:
    return page.build_report(recipe, project, "params/mine.yaml", ["train.epochs=5"]).read_text(encoding="utf-8")


class Parsed(html.parser.HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def assert_safe_and_offline(text: str, scripts: int = 0) -> Parsed:
    parsed = Parsed(text)
    assert len(parsed.all("script")) == scripts
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert not re.match(r"(https?:)?//|javascript:", value), value
    assert "@import" not in text and "url(" not in text
    return parsed


# --- the index ------------------------------------------------------------------------------------------------------


def test_the_page_is_self_contained_and_safe(done: Path, recipe: Recipe) -> None:
    parsed = assert_safe_and_offline(page_of(done, recipe))
    assert all(image["src"] and image["src"].startswith("data:image/png;base64,") for image in parsed.all("img"))
    assert [image["alt"] for image in parsed.all("img")] == [f"Lengths {HOSTILE}"]
    links = {link["href"] for link in parsed.all("a") if not (link["href"] or "").startswith("#")}
    assert links == {"notebooks/01_data.html", "metrics.json"}
    assert all((done / "reports" / "mine" / str(link)).is_file() for link in links)
    assert str(done) not in page_of(done, recipe)


def test_the_page_shows_what_was_done(done: Path, recipe: Recipe) -> None:
    parsed = Parsed(page_of(done, recipe))
    text = " ".join(parsed.text.split())
    made = read_manifest(recipe, "01_data", done)
    assert made
    for expected in (
        "recnb run params/mine.yaml --set 'train.epochs=5'", "2 of 8 stages are complete", "1,682", "0.937",
        made["artifacts"]["x.json"]["sha256"], made["versions"]["torch"], "train.epochs", "passes over the mixture",
        "3.0 GiB", "not run yet", "cuda", "-2.2 %", "0.0812",
    ):  # fmt: skip
        assert expected in text, expected


def test_settings_are_those_that_differ_from_the_defaults(recipe: Recipe) -> None:
    keys = [key for key, *_ in page._settings(recipe)]
    assert keys == ["runtime.device", "runtime.threads", "train.epochs"]


def test_the_ledger_marks_the_best_measured_value_of_each_metric() -> None:
    table = page.ledger_table(LEDGER)
    names = [name for name, _ in table["columns"]]
    assert names == ["system", "R@5", "R@10", "kind", "gap R@10", "why"]
    best = {(row["cells"][0]["text"], name) for row in table["rows"]
            for name, cell in zip(names, row["cells"], strict=True) if cell["best"]}  # fmt: skip
    assert best == {("ours", "R@10"), ("popularity", "R@5")}, "a published row is never the best measured"
    assert [numeric for _, numeric in table["columns"]] == [False, True, True, False, True, False]
    assert table["rows"][3]["cells"][1]["text"] == ""
    assert page.headline_of_ledger(LEDGER) == [("0.0812", "R@10, ours"), ("0.0412", "R@10, popularity")]


def test_no_ledger_no_table(done: Path, recipe: Recipe) -> None:
    path = done / "runs" / "mine" / "06_evaluate" / "ledger.json"
    path.write_text(path.read_text().replace("0.0812", "0.9812"))
    assert "0.9812" not in page_of(done, recipe), "a ledger that does not match its manifest is not shown"
    path.unlink()
    assert "The ledger" not in page_of(done, recipe)
    assert page.ledger_table([]) == {"columns": [], "rows": []}


def test_an_empty_project_has_a_page_too(project: Path, recipe: Recipe) -> None:
    text = " ".join(Parsed(page_of(project, recipe)).text.split())
    assert "0 of 8 stages are complete" in text and text.count("not run yet") == 8


def test_metrics_are_there_for_machines(done: Path, recipe: Recipe) -> None:
    page_of(done, recipe)
    content = json.loads((done / "reports" / "mine" / "metrics.json").read_text())
    assert content["stages"]["01_data"]["facts"]["items"] == 1682 and content["ledger"] == LEDGER


def test_pictures_that_matter_come_first(tmp_path: Path) -> None:
    names = ["01_data-a", "06_evaluate-bias", "06_evaluate-metrics", "08_prefix_map-umap", "03_index-sizes", "custom"]
    for place, name in enumerate(names):
        (tmp_path / f"{name}.png").write_bytes(PNG)
        os.utime(tmp_path / f"{name}.png", (1000 + place, 1000 + place))
    chosen, rest = page.pictures(tmp_path, {"01_data": "notebooks/01_data.html"}, Recipe.pictures)
    assert [f"{p.stage}-{p.name}" for p in chosen] == ["06_evaluate-metrics", "08_prefix_map-umap", "03_index-sizes"]
    assert [p.stage for p in rest] == ["01_data", "06_evaluate", "custom"]
    assert rest[0].page == "notebooks/01_data.html" and rest[2].page == ""


METRICS = {
    "ours": "eager", "cutoffs": [5, 10],
    "budget": {"parameters": 670_000, "of_the_papers": 1e-4, "steps": 1734, "validation": [0.05, 0.09, 0.08]},
    "systems": {
        "eager": {"kept": {"R@10": 0.08, "N@10": 0.05}, "removed": {"R@10": 0.1, "N@10": 0.06}},
        "popularity": {"kept": {"R@10": 0.04, "N@10": 0.02}, "removed": {"R@10": 0.05, "N@10": 0.03}},
        "sasrec": {"kept": {"R@10": 0.09, "N@10": 0.05}},
    },
    "ours_minus": {"kept": [
        {"metric": "R@10", "against": "popularity", "diff": 0.04, "low": 0.02, "high": 0.06, "p": 0.001},
        {"metric": "R@10", "against": "sasrec", "diff": -0.01, "low": -0.02, "high": 0.001, "p": 0.2},
        {"metric": "N@10", "against": HOSTILE, "diff": -0.03, "low": -0.04, "high": -0.01, "p": 0.01},
        {"metric": "R@5", "against": "sasrec", "diff": 1.0, "low": 1.0, "high": 1.0, "p": 0.0},
    ]},
}  # fmt: skip


def test_the_result_gives_both_protocols_and_marks_the_best() -> None:
    table = page.result_table(METRICS)
    assert table["protocols"] == {"kept": 2, "removed": 2} and table["metrics"] == ["R@10", "N@10"] * 2
    best = {row["system"]: [cell["best"] for cell in row["cells"]] for row in table["rows"]}
    assert best["eager"] == [False, True, True, True] and best["sasrec"] == [True, True, False, False]
    assert [row["ours"] for row in table["rows"]] == [True, False, False]
    assert page.headline(METRICS, "eager-llm") == [
        ("0.0800", "R@10, eager"), ("0.0900", "R@10, sasrec"), ("0.0400", "R@10, popularity")]  # fmt: skip


def test_verdicts_say_no_more_than_their_intervals() -> None:
    said = page.verdicts(METRICS)
    assert said[0] == "R@10: eager is clearly better than popularity, +0.0400 [+0.0200, +0.0600]"
    assert "not clearly different from sasrec" in said[1] and "clearly worse than" in said[2] and len(said) == 3


def test_the_budget_is_said_in_sentences() -> None:
    size, trend, bar = page.budget(METRICS)
    assert "0.67 million parameters, one for every 10,000 of the paper's" in size and "1,734 steps" in size
    assert "0.0500 → 0.0900 → 0.0800; it was no longer getting better" in trend and "-0.0100" in trend
    assert bar == "The best system on this page, sasrec, reaches 1.12 times our R@10."
    better = METRICS | {"budget": METRICS["budget"] | {"validation": [0.05, 0.09]}}  # type: ignore[operator]
    assert "it was still getting better" in page.budget(better)[1]


def test_choices_say_which_changes_are_clear(done: Path, recipe: Recipe) -> None:
    rows = [
        {"choice": name, "changed": [change], "R@10": recall, "N@10": 0.05, "margin": 0.02, "steps": 1734, "commit": "abc",
         "users": 943, "minus": {"as it is": {"R@10": {"diff": recall - 0.13, "low": low, "high": high}}}}
        for name, change, recall, low, high in
        [("as it is", "", 0.13, 0, 0), ("noise", "a=1", 0.12, -0.03, 0.01), (HOSTILE, "b=2", 0.05, -0.1, -0.06)]
    ]  # fmt: skip
    rows[0]["minus"] = {}
    folder = done / "reports" / "ablations"
    folder.mkdir(parents=True)
    (folder / "mine.json").write_text(json.dumps({"rows": rows}))
    text = page_of(done, recipe)
    parsed = assert_safe_and_offline(text)
    assert "0.1300 ± 0.0200" in parsed.text and HOSTILE in parsed.text and "943 users" in parsed.text
    assert [cell for cell in parsed.all("td") if "best" in (cell.get("class") or "")] and ">-0.0100<" in text
    assert 'class="n best">-0.0800<' in text and 'class="n">-0.0100<' in text


def test_no_metrics_no_result() -> None:
    assert page.result_table({})["rows"] == [] and page.verdicts({}) == [] and page.headline({}, "eager-llm") == []
    assert page.budget({}) == []


def test_the_result_stands_on_the_page(done: Path, recipe: Recipe) -> None:
    folder = done / "runs" / "mine" / "06_evaluate"
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artifacts"]["metrics.json"] = {"sha256": hash_artifact(folder / "metrics.json"), "bytes": 9}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    parsed = assert_safe_and_offline(page_of(done, recipe))
    text = " ".join(parsed.text.split())
    assert "seen items removed" in text and "R@10: eager is clearly better than popularity" in text and HOSTILE in text


def test_an_unchanged_report_is_not_written_again(done: Path, recipe: Recipe) -> None:
    page_of(done, recipe)
    files = [done / "reports" / "mine" / name for name in ("index.html", "metrics.json", "notebooks/01_data.html")]
    before = [file.stat().st_mtime_ns for file in files]
    time.sleep(0.01)
    page_of(done, recipe)
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "yes"), (None, "none"), (12345, "12,345"), (0.123456, "0.1235"), (123456.7, "123,457"), ("a", "a"),
     ([1, 2.5], "1, 2.5"), ({"a": 1, "b": [2]}, "a 1, b 2"), (0.0, "0")],
)  # fmt: skip
def test_facts_for_people(value: Any, text: str) -> None:
    assert page.shown(value) == text


LINKS = {name: name for name in ("01_data", "02_embeddings")}

# --- notebook pages -------------------------------------------------------------------------------------------------


def rendered(tmp_path: Path, *outputs: dict[str, Any]) -> str:
    executed, target = tmp_path / "01_data.ipynb", tmp_path / "01_data.html"
    executed.write_text(json.dumps(notebook(*outputs)))
    assert notebooks.render_page(executed, target, "01_data", "mine", LINKS, following="02_embeddings")
    return target.read_text(encoding="utf-8")


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
    parsed = Parsed(rendered(tmp_path, shown({"text/html": html_table}), shown({"text/markdown": marked})))
    assert len(parsed.all("table")) == 2 and "R@10" in parsed.text and "code $z$" in parsed.text
    assert "x^2" in [image["alt"] for image in parsed.all("img")]


def test_errors_are_shown_without_colours_codes(tmp_path: Path) -> None:
    error = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE\x1b[0m: <v>"]}
    assert "E: <v>" in Parsed(rendered(tmp_path, error)).text


def test_a_page_is_made_again_only_when_it_must(tmp_path: Path) -> None:
    rendered(tmp_path)
    executed, target = tmp_path / "01_data.ipynb", tmp_path / "01_data.html"
    assert not notebooks.render_page(executed, target, "01_data", "mine", LINKS, following="02_embeddings")
    assert notebooks.render_page(executed, target, "01_data", "mine", LINKS, following=""), "another neighbour"
    executed.write_text(executed.read_text().replace("y = 2", "y = 3"))
    assert notebooks.render_page(executed, target, "01_data", "mine", LINKS), "another notebook"


def test_formulas_are_drawn_and_code_is_left_alone() -> None:
    prose = "a $\\lambda_1$ b `$c$` and\n\n$$\\frac{a}{b} = \\text{x}$$\n\n```\n$d$\n```\n costs $5 or \\$6 and 7$ x"
    drawn = notebooks.draw_math(prose)
    images = Parsed(drawn).all("img")
    assert [image["alt"] for image in images] == ["\\lambda_1", "\\frac{a}{b} = \\text{x}"]
    assert all((image["src"] or "").startswith("data:image/svg+xml;base64,") for image in images)
    assert "vertical-align" in (images[0]["style"] or "") and images[1]["class"] == "math block"
    assert "`$c$`" in drawn and "```\n$d$\n```" in drawn and "costs $5 or \\$6 and 7$ x" in drawn


def test_what_cannot_be_drawn_stays_readable() -> None:
    assert notebooks.formula("\\begin{cases}1\\end{cases}<b>", False) == "<code>\\begin{cases}1\\end{cases}&lt;b&gt;</code>"


def test_a_drawing_is_the_same_every_time() -> None:
    notebooks.formula.cache_clear()
    first = notebooks.formula("x^2", True)
    notebooks.formula.cache_clear()
    assert notebooks.formula("x^2", True) == first


def test_a_title_is_the_first_heading() -> None:
    assert notebooks.title_of(notebook(), "x") == "01 · Data"
    assert notebooks.title_of({"cells": []}, "01_data") == "01_data"
