"""The instructions of the tasks, from ``templates.yaml``: what stands before and after the history, item or query."""

from __future__ import annotations

from pathlib import Path

import yaml

TEMPLATES: dict[str, list[tuple[str, str]]] = {
    task: [tuple(text.split("{}")) for text in texts]  # type: ignore[misc]
    for task, texts in yaml.safe_load(Path(__file__).with_name("templates.yaml").read_text("utf-8")).items()
}
