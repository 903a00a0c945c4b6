"""The instructions of the tasks, from ``templates.yaml``: what stands before and after the history, item or query."""

from recnb.settings import read_wing

TEMPLATES: dict[str, list[tuple[str, str]]] = {
    task: [tuple(text.split("{}")) for text in texts]  # type: ignore[misc]
    for task, texts in read_wing("recnb.eager_llm", "templates.yaml").items()
}
