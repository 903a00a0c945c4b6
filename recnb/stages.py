"""The stage graph: one notebook per stage, what it reads from the recipe and from other stages, what it writes."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any


@dataclass(frozen=True)
class StageSpec:
    """One stage.

    Attributes:
        name: notebook name without suffix, and folder name under ``runs/<recipe>``.
        sections: recipe sections it may read; its key depends on them (``seed`` and ``runtime`` always count).
        inputs: stages whose artifacts it may read.
        modules: ``recnb`` modules it uses; the key depends on their source and on what they import.
        deterministic: same recipe, same machine: identical artifact hashes.
        switch: recipe key that says whether a run includes the stage; empty: it always does.
    """

    name: str
    sections: tuple[str, ...]
    inputs: tuple[str, ...]
    modules: tuple[str, ...]
    deterministic: bool = True
    switch: str = ""

    def belongs_to(self, recipe: Any) -> bool:
        """Whether a run of this recipe includes the stage."""
        return not self.switch or bool(attrgetter(self.switch)(recipe))


STAGES: tuple[StageSpec, ...] = (
    StageSpec("01_data", ("data",), (), ("data", "figures.data")),
    StageSpec("02_embeddings", ("data", "embeddings"), ("01_data",), ("semantic", "behaviour", "figures.embeddings")),
    StageSpec(
        "03_index",
        ("data", "index"),
        ("01_data", "02_embeddings"),
        ("data", "index", "published_index", "index_health", "figures.index"),
    ),
    StageSpec(
        "04_train",
        ("data", "backbone", "tasks", "train", "decode"),
        ("01_data", "02_embeddings", "03_index"),
        ("train", "tasks", "model", "decode", "figures.training"),
    ),
    StageSpec(
        "05_anneal",
        ("data", "backbone", "tasks", "train", "anneal", "decode"),
        ("01_data", "02_embeddings", "03_index", "04_train"),
        ("anneal", "train", "figures.training"),
    ),
    StageSpec(
        "06_evaluate",
        ("data", "tasks", "decode", "evaluate"),
        ("01_data", "02_embeddings", "03_index", "04_train", "05_anneal"),
        ("evaluate", "baselines", "decode", "figures.evaluation"),
    ),
    StageSpec(
        "07_case_studies",
        ("data", "tasks", "train", "decode", "cases"),
        ("01_data", "03_index", "04_train", "05_anneal", "06_evaluate"),
        ("explain", "decode", "tasks", "model", "baselines", "figures.cases"),
    ),
    StageSpec(
        "08_prefix_map",
        ("map",),
        ("01_data", "02_embeddings", "03_index", "04_train", "05_anneal"),
        ("index", "index_health", "model", "figures.maps"),
        deterministic=False,
    ),
    StageSpec(
        "09_ablations",
        ("ablations",),
        ("05_anneal",),
        ("claims", "judge", "ledger", "table", "figures.ablations"),
        switch="ablations.enabled",
    ),
    StageSpec(
        "10_speed",
        ("data", "embeddings", "backbone", "tasks", "train", "decode", "evaluate", "speed"),
        ("01_data", "02_embeddings", "03_index", "04_train", "05_anneal", "06_evaluate"),
        ("speed", "figures.speed"),
        deterministic=False,
        switch="speed.enabled",
    ),
)


def stage(name: str) -> StageSpec:
    """The stage with this name, or the one it abbreviates uniquely (``03``, ``index``).

    Raises:
        KeyError: no such stage; the message lists the valid names.
    """
    matches = [spec for spec in STAGES if name in (spec.name, spec.name[:2], spec.name[3:])]
    if len(matches) != 1:
        raise KeyError(f"no stage '{name}'; valid: {', '.join(spec.name for spec in STAGES)}")
    return matches[0]
