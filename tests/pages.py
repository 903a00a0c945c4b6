"""What tests of pages share: a hostile text, a small picture, notebook and evaluation, and a reader of tags."""

from __future__ import annotations

import base64
import html.parser
import re
from typing import Any

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
METRICS: dict[str, Any] = {
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


def several(low: float, high: float) -> dict[str, Any]:
    seeds = {"42": {"R@10": low, "N@10": 0.05}, "43": {"R@10": high, "N@10": 0.05}, "44": {"R@10": high, "N@10": 0.05}}
    return {"kept": {"R@10": (low + 2 * high) / 3, "N@10": 0.05, "per_seed": seeds}}


EARLIER = {
    "recipe_hash": "aa", "seeds": [42, 43, 44], "systems": {"ours": several(0.07, 0.1), "popularity": several(0.04, 0.04)},
    "runs": [{"commit": "0123456789ab", "hardware": "two cores"}, {"commit": "0123456789ab+", "hardware": "two cores"}],
}  # fmt: skip


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
