"""The ledger: what was published, what we measured, how far apart they are, and why. Shown where a system is evaluated.

Published rows come from a system's ``published.yaml`` and are never mixed with measured ones: each row says which it
is, and where it comes from. Only the protocol of the papers (seen items kept) stands beside published numbers.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recnb.errors import RecipeError, nearest
from recnb.evaluation.verdicts import judged_in
from recnb.settings import read_wing

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("R@5", "R@10", "N@5", "N@10")  # in every ledger; a row may have others
FAMILIES = ("R", "M", "N", "mrr_release", "ndcg_release")  # of metrics, each at a cutoff, in this order
GAPS = {"gap R@10": "R@10", "gap N@10": "N@10"}
Score = Annotated[float, Field(ge=0, le=1)]
_METRIC = re.compile(rf"({'|'.join(FAMILIES)})@([1-9]\d*)")
Row = Mapping[str, Any]


class PublishedRow(BaseModel):
    """One row of a published table: who, whence, and its metrics (``"R@10": 0.08``); what its source does not give is
    left out."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Score]
    system: str = Field(min_length=1)
    kind: Literal["published", "derived"]
    source: str = Field(min_length=1)
    same_as: str = Field("", description="which of our baselines is this system with this loss")

    @model_validator(mode="after")
    def _others_are_metrics(self) -> Self:
        if wrong := [name for name in self.__pydantic_extra__ if not _METRIC.fullmatch(name)]:
            known = f"expected {', '.join(type(self).model_fields)}, or a metric: {', '.join(FAMILIES)} at a cutoff"
            raise ValueError(f"{self.system}: {', '.join(wrong)}: {known}, such as R@10")
        return self

    def scores(self) -> dict[str, float | None]:
        """Metric name -> value, as :func:`recnb.evaluation.metrics.metrics` names them; None for one of
        :data:`METRICS` that the source does not give."""
        return dict.fromkeys(METRICS) | self.__pydantic_extra__


class Published(BaseModel):
    """What was published on one data set. ``target`` is the system that this project reproduces."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: str
    target: str
    rows: list[PublishedRow]

    def target_scores(self) -> dict[str, float | None]:
        """Metrics of the replication target."""
        return next(row.scores() for row in self.rows if row.system == self.target)


def read_published(key: str, wing: str) -> Published | None:
    """Published results on the data set of a key (:attr:`recnb.settings.Recipe.published`), from the ``published.yaml``
    of a system's wing (:attr:`recnb.settings.Recipe.wing`); none for an empty key: nothing was published on that data.

    Raises:
        RecipeError: no such key; the message names the nearest one.
    """
    if not key:
        return None
    tables = read_wing(wing, "published.yaml")
    if key not in tables:
        raise RecipeError(
            f"published = '{key}': {wing} has published rows of {', '.join(tables)}{nearest(key, tables)}; leave it "
            "empty for a data set on which nothing was published"
        )
    return Published.model_validate(tables[key])


def shortfall(system: str, scores: Row, reference: Published | None) -> str:
    """How far our run of a baseline lies from published runs of the same (their ``same_as``), in words; empty: none is.

    >>> theirs = {"system": "S", "kind": "published", "source": "a paper", "same_as": "s", "R@10": 0.2}
    >>> shortfall("s", {"R@10": 0.15}, Published.model_validate({"dataset": "d", "target": "S", "rows": [theirs]}))
    'R@10 25.0 % below the published S'
    """
    found = []
    for row in reference.rows if reference and system else ():
        if row.same_as == system:
            both = [(name, scores.get(name), row.scores()[name]) for name in METRICS]
            gaps = [(name, 100 * (ours / value - 1)) for name, ours, value in both if ours and value]
            said = [f"{name} {abs(gap):.1f} % {'below' if gap < 0 else 'above'}" for name, gap in gaps]
            found.append(f"{', '.join(said)} the published {row.system}")
    return "; ".join(found)


def build_ledger(measured: Sequence[Row], reference: Published | None) -> pd.DataFrame:
    """Published rows, then ours, with the gap to the replication target; a baseline's "why" ends with its
    :func:`shortfall`.

    Args:
        measured: system, metrics (the papers' protocol), why (what sets it apart from the target's conditions), commit
            and hardware of each, in the order in which they should stand.

    Returns:
        columns system, R@5, R@10, N@5, N@10 (and other metrics of any row), kind, gap R@10, gap N@10, why, commit,
        hardware. A gap is relative (-0.25: a quarter below the target) and missing without a target to compare with.
    """
    import pandas as pd  # late: a report's page needs none of it

    rows = _published_rows(reference)
    for row in measured:
        why = "; ".join(filter(None, (row.get("why"), shortfall(row["system"], row, reference))))
        rows.append({**row, "kind": "measured", "why": why})
    numbers = sorted({*METRICS, *(name for row in rows for name in row if "@" in name)}, key=_place)
    frame = pd.DataFrame(rows, columns=["system", *numbers, "kind", *GAPS, "why", "commit", "hardware"])
    frame = frame.astype(dict.fromkeys([*numbers, *GAPS], float))
    target = reference.target_scores() if reference else {}
    for gap, metric in GAPS.items():
        frame[gap] = frame[metric] / (target.get(metric) or float("nan")) - 1.0
    return frame


def _place(metric: str) -> tuple[int, int]:
    """Where a metric stands in a ledger: recalls first, and the nearer cutoff before the farther."""
    family, cutoff = metric.split("@")
    return (*FAMILIES, family).index(family), int(cutoff)


def _published_rows(reference: Published | None) -> list[dict[str, Any]]:
    return [
        {"system": row.system, "recipe": "", **row.scores(), "kind": row.kind, "why": row.source, "commit": "",
         "hardware": ""}
        for row in (reference.rows if reference else [])
    ]  # fmt: skip


def ledger_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values for a JSON file; a missing number is None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def measured_rows(result: Mapping[str, Any], protocol: str = "kept") -> list[dict[str, Any]]:
    """A row per system of one recipe's results (:func:`recnb.studies.tables.read_results`): system, recipe, metrics
    (means over users and seeds), sd over seeds of R@10, or R@1, seeds, kind."""
    known = {system: both[protocol] for system, both in result["systems"].items() if protocol in both}
    about = {"recipe": result["recipe"], "seeds": len(result["seeds"]), "kind": "measured"}
    return [
        {"system": system, **{metric: value for metric, value in found.items() if _METRIC.fullmatch(metric)}, **about,
         "sd": result["spread"][system].get(judged_in(found))}
        for system, found in known.items() if system != "ours"
    ]  # fmt: skip


def main_table(results: Sequence[Row], reference: Published | None, protocol: str = "kept") -> pd.DataFrame:
    """Published rows of one data set and :func:`measured_rows` of its results, the best N@10 first.

    Published rows belong to the protocol ``kept`` alone (the papers': seen items stay in the lists). Returns columns
    system, recipe, R@5, R@10, N@5, N@10, sd, seeds, kind.
    """
    import pandas as pd

    rows = _published_rows(reference) + [row for result in results for row in measured_rows(result, protocol)]
    frame = pd.DataFrame(rows, columns=["system", "recipe", *METRICS, "sd", "seeds", "kind"])
    return frame.sort_values("N@10", ascending=False, ignore_index=True)


def hardware(device: str, threads: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What a measurement ran on, in a few words: ``"Intel Xeon ... , 2 threads"`` or the GPU's name.

    Linux names the processor in ``cpuinfo``; elsewhere python says what it knows.
    """
    if device == "cuda":
        import torch

        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    named = re.search(r"^model name\s*:(.*)", text, re.M)
    processor = named.group(1).strip() if named else platform.processor() or platform.machine()
    return f"{processor}, {threads} thread{'s' if threads != 1 else ''}"
