"""The ledger: what was published, what we measured, how far apart they are, and why. Shown in ``06_evaluate``.

Published rows come from ``published.yaml`` and are never mixed with measured ones: each row says which it is, and where
it comes from. Only the protocol of the papers (seen items kept) stands beside published numbers.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field

from recnb.errors import RecipeError, nearest

METRICS = ("R@5", "R@10", "N@5", "N@10")


class PublishedRow(BaseModel):
    """One row of a published table; a metric that the source does not give is None."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = Field(min_length=1)
    kind: Literal["published", "derived"]
    source: str = Field(min_length=1)
    recall5: float | None = Field(None, alias="R@5", ge=0, le=1)
    recall10: float | None = Field(None, alias="R@10", ge=0, le=1)
    ndcg5: float | None = Field(None, alias="N@5", ge=0, le=1)
    ndcg10: float | None = Field(None, alias="N@10", ge=0, le=1)

    def scores(self) -> dict[str, float | None]:
        """Metric name -> value, as :func:`recnb.evaluation.metrics.metrics` names them."""
        return dict(zip(METRICS, (self.recall5, self.recall10, self.ndcg5, self.ndcg10), strict=True))


class Published(BaseModel):
    """What was published on one data set. ``target`` is the system that this project reproduces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    target: str
    rows: list[PublishedRow]

    def target_scores(self) -> dict[str, float | None]:
        """Metrics of the replication target."""
        return next(row.scores() for row in self.rows if row.system == self.target)


def published(key: str, wing: str) -> Published | None:
    """Published results on the data set of this key; none for an empty key: nothing was published on that data.

    Args:
        key: of the data set, as recipes name it (``evaluate.published``).
        wing: the package of a system (:attr:`recnb.settings.Recipe.wing`), where its ``published.yaml`` lies.

    Raises:
        RecipeError: no such key; the message names the nearest one.
    """
    if not key:
        return None
    tables = yaml.safe_load(resources.files(wing).joinpath("published.yaml").read_text(encoding="utf-8"))
    if key not in tables:
        raise RecipeError(
            f"published = '{key}': {wing} has published rows of {', '.join(tables)}{nearest(key, tables)}; leave it "
            "empty for a data set on which nothing was published"
        )
    return Published.model_validate(tables[key])


def build_ledger(
    measured: Mapping[str, Mapping[str, float]],
    reference: Published | None,
    why: Mapping[str, str],
    commit: str,
    hardware: str,
) -> pd.DataFrame:
    """Published rows, then ours, with the gap to the replication target.

    Args:
        measured: system -> metrics, in the order in which they should stand; the papers' protocol.
        reference: from :func:`published`.
        why: system -> what sets it apart from the target's conditions.
        commit, hardware: of the measurement; published rows leave them empty.

    Returns:
        columns system, R@5, R@10, N@5, N@10, kind, gap R@10, gap N@10, why, commit, hardware. A gap is relative
        (-0.25: a quarter below the target) and missing where there is no target to compare with.
    """
    target = reference.target_scores() if reference else {}
    theirs = [
        {"system": row.system, **row.scores(), "kind": row.kind, "why": row.source, "commit": "", "hardware": ""}
        for row in (reference.rows if reference else [])
    ]
    ours = [
        {"system": system, **scores, "kind": "measured", "why": why.get(system, ""), "commit": commit,
         "hardware": hardware}
        for system, scores in measured.items()
    ]  # fmt: skip
    rows = [row | {f"gap {metric}": _gap(row.get(metric), target.get(metric)) for metric in ("R@10", "N@10")}
            for row in theirs + ours]  # fmt: skip
    extra = [name for scores in measured.values() for name in scores if name not in METRICS]
    columns = ["system", *METRICS, *dict.fromkeys(extra), "kind", "gap R@10", "gap N@10", "why", "commit", "hardware"]
    frame = pd.DataFrame(rows, columns=columns)
    numbers = [*METRICS, *dict.fromkeys(extra), "gap R@10", "gap N@10"]
    return frame.astype(dict.fromkeys(numbers, float))


def _gap(value: Any, target: Any) -> float | None:
    return None if value is None or target is None else float(value) / float(target) - 1.0


def ledger_records(ledger: pd.DataFrame) -> Sequence[dict[str, Any]]:
    """Rows as plain values for ``ledger.json``; a missing number is None."""
    return [{str(k): (None if pd.isna(v) else v) for k, v in row.items()} for row in ledger.to_dict("records")]


def hardware(device: str, threads: int) -> str:
    """What a measurement ran on, in a few words: ``"Intel Xeon ... , 2 threads"`` or the GPU's name."""
    if device == "cuda":
        import torch

        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{_processor()}, {threads} thread{'s' if threads != 1 else ''}"


def _processor(source: Path = Path("/proc/cpuinfo")) -> str:
    """Model name of the processor; what python knows of it where Linux does not say."""
    lines = source.read_text(encoding="utf-8").splitlines() if source.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
