"""The paper's claims, asked of our own comparisons: holds here, does not, or cannot be told.

Comparisons are what :mod:`recnb.studies.compare` left in ``reports/ablations``; claims stand in ``claims.yaml`` of a
system's wing, without their answers. Shown in ``notebooks/studies/ablations.ipynb``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field

HOLDS, FAILS, OPEN, MISSING = "holds here", "does not hold here", "cannot be told", "not measured"
Comparisons = Mapping[str, Mapping[str, Any]]


class Claim(BaseModel):
    """One claim as a question: is ``better`` better than ``worse`` in ``comparison``?"""

    model_config = ConfigDict(extra="forbid", frozen=True)
    claim: str = Field(min_length=1)
    part: str = Field(min_length=1)
    comparison: str
    better: str
    worse: str
    note: str = Field("", description="what must be known beside the verdict, without figures")


def read_claims(wing: str) -> list[Claim]:
    """The claims of a system's paper: ``claims.yaml`` in its wing (:attr:`recnb.settings.Recipe.wing`)."""
    text = resources.files(wing).joinpath("claims.yaml").read_text(encoding="utf-8")
    return [Claim.model_validate(entry) for entry in yaml.safe_load(text)]


def read_comparisons(root: Path, reports: str = "reports") -> dict[str, dict[str, Any]]:
    """All measured comparisons of a project, by file name without suffix."""
    files = sorted((root / reports / "ablations").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def pair(comparison: Mapping[str, Any], one: str, other: str, metric: str) -> dict[str, Any] | None:
    """``one`` minus ``other``: diff, low, high, over; none if either was not measured, or not in this metric.

    The file keeps each pair once, with the later row first; the other way round its interval is mirrored.
    """
    rows = {row["choice"]: row for row in comparison["rows"]}
    if one not in rows or other not in rows:
        return None
    if other in rows[one]["minus"]:
        return rows[one]["minus"][other].get(metric)
    found = rows[other]["minus"].get(one, {}).get(metric)
    return found and {"diff": -found["diff"], "low": -found["high"], "high": -found["low"], "over": found["over"]}


def verdict(found: Mapping[str, Any] | None) -> str:
    """What a difference's interval allows to say of "the first is better".

    >>> verdict({"low": 0.001, "high": 0.003}), verdict({"low": -0.001, "high": 0.003}), verdict(None)
    ('holds here', 'cannot be told', 'not measured')
    """
    if found is None:
        return MISSING
    if found["low"] <= 0 <= found["high"]:
        return OPEN
    return HOLDS if found["low"] > 0 else FAILS


class Step(BaseModel):
    """One entry of the log: what was tried, and where its result was measured: figures are looked up, not written."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    date: datetime.date
    tried: str = Field(min_length=1)
    comparison: str = ""
    better: str = ""
    worse: str = ""
    said: str = Field("", description="what was found where no comparison holds it, without figures")


def read_log(root: Path, comparisons: Comparisons, metric: str = "R@10", reports: str = "reports") -> list[str]:
    """The log of what was tried, oldest first, each step with what came of it.

    Args:
        root: project root; the log is ``reports/ablations/log.yaml``.
        comparisons: of :func:`read_comparisons`.
        metric: in which a difference is given.
    """
    path = root / reports / "ablations" / "log.yaml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else []
    lines = []
    for step in (Step.model_validate(entry) for entry in entries):
        comparison = comparisons.get(step.comparison)
        found = pair(comparison, step.better, step.worse, metric) if comparison else None
        measured = f"{metric} {found['diff']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]" if found else ""
        lines.append(f"{step.date}: {step.tried} → {'; '.join(filter(None, (measured, step.said))) or 'not measured'}")
    return lines


def judged(claims: list[Claim], comparisons: Comparisons, metric: str = "R@10") -> pd.DataFrame:
    """One row per claim, in the order of ``claims``.

    Returns:
        part, claim, better, worse, ``of_better`` and ``of_worse`` (their values in ``metric``), diff, low, high, over,
        verdict, note.
    """
    rows = []
    for claim in claims:
        comparison = comparisons.get(claim.comparison)
        values = {row["choice"]: row.get(metric) for row in comparison["rows"]} if comparison else {}
        found = pair(comparison, claim.better, claim.worse, metric) if comparison else None
        numbers = found or {"diff": None, "low": None, "high": None, "over": ""}
        said = claim.model_dump(include={"part", "claim", "better", "worse"})
        said |= {"of_better": values.get(claim.better), "of_worse": values.get(claim.worse)}
        rows.append(said | numbers | {"verdict": verdict(found), "note": claim.note})
    return pd.DataFrame(rows).astype(dict.fromkeys(("of_better", "of_worse", "diff", "low", "high"), float))


def effects(comparison: Mapping[str, Any], metric: str = "R@10") -> pd.DataFrame:
    """What each choice changed against the first row: choice, value, seeds, diff, low, high, over, steps, seconds.

    The first row has no difference (missing).
    """
    first = comparison["rows"][0]["choice"]
    rows = [
        {"choice": row["choice"], metric: row.get(metric), "N@10": row["N@10"], "seeds": len(row["seeds"])}
        | ((pair(comparison, row["choice"], first, metric) or {}) if row["choice"] != first else {})
        | {"steps": row.get("steps"), "minutes": row.get("seconds", float("nan")) / 60}
        for row in comparison["rows"]
    ]
    columns = ["choice", metric, *({"N@10": 0} if metric != "N@10" else {}), "seeds", "diff", "low", "high", "over"]
    return pd.DataFrame(rows, columns=[*columns, "steps", "minutes"])


def agreement(small: Mapping[str, Any], large: Mapping[str, Any], metric: str = "R@10") -> pd.DataFrame:
    """Whether a cheap comparison ranks choices as a dear one does: the choices both have, with their effects.

    Returns:
        choice, small, large (differences from the first shared choice), same_sign; empty if fewer than two are shared.
    """
    names = [row["choice"] for row in small["rows"]]
    names = [name for name in names if name in {row["choice"] for row in large["rows"]}]
    rows = []
    for name in names[1:]:
        one, other = (pair(comparison, name, names[0], metric) for comparison in (small, large))
        assert one is not None and other is not None  # both hold both
        rows.append({"choice": name, "small": one["diff"], "large": other["diff"],
                     "same_sign": bool(one["diff"] * other["diff"] > 0)})  # fmt: skip
    return pd.DataFrame(rows, columns=["choice", "small", "large", "same_sign"])


def main_table(
    results: list[dict[str, Any]], published: Mapping[str, Any] | None, protocol: str = "kept"
) -> pd.DataFrame:
    """Published and measured rows of one data set: system, recipe, metrics, sd of R@10 over seeds, seeds, kind.

    Args:
        results: of :func:`recnb.studies.table.read_results`, those of one data set.
        published: ``{system: (metrics, kind)}`` or none.
        protocol: ``kept`` (the papers': seen items stay in the lists) or ``removed``; published rows belong to the
            first alone.
    """
    rows = [
        {"system": system, "recipe": "", **scores, "kind": kind}
        for system, (scores, kind) in (published or {}).items()
    ]
    for result in results:
        rows += [
            {"system": system, "recipe": result["recipe"], "sd": result["spread"][system].get("R@10"),
             "seeds": len(result["seeds"]), "kind": "measured here"}
            | {metric: both[protocol][metric] for metric in ("R@5", "R@10", "N@5", "N@10")}
            for system, both in result["systems"].items() if system != "ours"
        ]  # fmt: skip
    columns = ["system", "recipe", "R@5", "R@10", "N@5", "N@10", "sd", "seeds", "kind"]
    return pd.DataFrame(rows, columns=columns).sort_values("N@10", ascending=False, ignore_index=True)
