"""What our own comparisons say: of each choice, of the paper's claims, of what was tried.

Comparisons are what :mod:`recnb.studies.comparisons` left in ``reports/ablations``; claims stand in ``claims.yaml`` of
a system's wing, without their answers. Shown in ``notebooks/studies/ablations.ipynb``.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from recnb.artifacts import read_artifact
from recnb.evaluation.verdicts import judged_in, over_seeds, side, with_interval
from recnb.settings import read_wing

if TYPE_CHECKING:
    import pandas as pd

HOLDS, FAILS, OPEN, MISSING = "holds here", "does not hold here", "cannot be told", "not measured"
AS_CLAIMED, CONTRARY = "two trained models differ, as claimed", "two trained models differ, the other way"
Comparisons = Mapping[str, Mapping[str, Any]]
Row = Mapping[str, Any]
_DIFFERENCE = ("diff", "low", "high", "over")


def read_comparisons(root: Path, reports: str = "reports") -> dict[str, dict[str, Any]]:
    """All measured comparisons of a project, by file name without suffix."""
    return {path.stem: read_artifact(path) for path in sorted((root / reports / "ablations").glob("*.json"))}


def of_system(comparisons: Comparisons, system: str) -> dict[str, Mapping[str, Any]]:
    """Those of the recipes of one system; files from before there were several are EAGER-LLM's."""
    return {name: found for name, found in comparisons.items() if found.get("system", "eager_llm") == system}


def choices(comparison: Mapping[str, Any], metric: str = "") -> list[dict[str, Any]]:
    """Rows of a comparison, each with its difference from the first row (:func:`pair`), which has none itself, and the
    ``recipe_hash`` of all. No metric: the one that it is judged in."""
    rows, told = comparison.get("rows", []), {"recipe_hash": comparison.get("recipe_hash", "")}
    metric = metric or judged_in(next(iter(rows), {}))
    return [row | (pair(comparison, row["choice"], rows[0]["choice"], metric) or {}) | told for row in rows]


def pair(comparison: Mapping[str, Any], one: str, other: str, metric: str) -> dict[str, Any] | None:
    """``one`` minus ``other``: diff, low, high, over; none if either was not measured, or not in this metric.

    The file keeps each pair once, with the later row first; the other way round its interval is mirrored.
    """
    minus = {row["choice"]: row["minus"] for row in comparison["rows"]}
    if found := minus.get(one, {}).get(other, {}).get(metric):
        return found
    found = minus.get(other, {}).get(one, {}).get(metric)
    return found and found | {"diff": -found["diff"], "low": -found["high"], "high": -found["low"]}


def verdict(found: Mapping[str, Any] | None) -> str:
    """What a difference's interval allows to say of "the first is better": of methods if it is over seeds too, else of
    two trained models.

    >>> verdict({"low": 0.001, "high": 0.003, "over": "users and seeds"}), verdict({"low": 0.001, "high": 0.003})
    ('holds here', 'two trained models differ, as claimed')
    >>> verdict({"low": -0.001, "high": 0.003}), verdict(None)
    ('cannot be told', 'not measured')
    """
    if found is None:
        return MISSING
    return ((OPEN, HOLDS, FAILS) if over_seeds(found) else (OPEN, AS_CLAIMED, CONTRARY))[side(found)]


def unfinished(comparisons: Comparisons, recipe: str, systems: Collection[str]) -> list[str]:
    """Where the tuning of a baseline stopped early, a sentence each: comparisons that judge one of ``systems`` in the
    recipe of this name, with choices that were not run."""
    return [
        f"{found['judged']} may be under-tuned: of {name}, {len(found['missing'])} choices were not run "
        f"({'; '.join(found['missing'])})."
        for name, found in comparisons.items()
        if found.get("missing") and found["judged"] in systems and Path(found["base"]).stem == recipe
    ]


class Question(BaseModel):
    """Is ``better`` better than ``worse`` in ``comparison``?"""

    model_config = ConfigDict(extra="forbid", frozen=True)
    comparison: str = ""
    better: str = ""
    worse: str = ""

    def difference(self, comparisons: Comparisons, metric: str) -> dict[str, Any] | None:
        """:func:`pair` of the two; none without the comparison."""
        comparison = comparisons.get(self.comparison)
        return pair(comparison, self.better, self.worse, metric) if comparison else None


class Claim(Question):
    """One claim of a paper as a question, without its answer."""

    claim: str = Field(min_length=1)
    part: str = Field(min_length=1)
    metric: str = Field("", description="in which it is asked, where that is not the reader's choice")
    note: str = Field("", description="what must be known beside the verdict, without figures")


class Step(Question):
    """One entry of the log: what was tried, and where its result was measured: figures are looked up, not written."""

    date: datetime.date
    tried: str = Field(min_length=1)
    said: str = Field("", description="what was found where no comparison holds it, without figures")


def read_claims(wing: str) -> list[Claim]:
    """The claims of a system's paper: ``claims.yaml`` in its wing (:attr:`recnb.settings.Recipe.wing`)."""
    return [Claim.model_validate(entry) for entry in read_wing(wing, "claims.yaml")]


def read_log(root: Path, comparisons: Comparisons, metric: str = "R@10", reports: str = "reports") -> list[str]:
    """The log of what was tried (``reports/ablations/log.yaml``), oldest first, each step with what came of it: the
    difference in ``metric`` by ``comparisons`` (:func:`read_comparisons`), or what was said."""
    path = root / reports / "ablations" / "log.yaml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else []
    lines = []
    for step in (Step.model_validate(entry) for entry in entries):
        found = step.difference(comparisons, metric)
        measured = f"{metric} {with_interval(found)}" if found else ""
        lines.append(f"{step.date}: {step.tried} → {'; '.join(filter(None, (measured, step.said))) or 'not measured'}")
    return lines


def as_comparison(scores: Mapping[str, Row], minus: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """The systems of one run as a comparison, so that claims can be asked of them.

    Args:
        scores: system -> its metrics; minus: system -> what it has more than others (rows with against, metric, diff,
            low, high, over).
    """
    rows = []
    for system, values in scores.items():
        found: dict[str, dict[str, Row]] = {}
        for row in minus.get(system, ()):
            found.setdefault(row["against"], {})[row["metric"]] = {name: row[name] for name in _DIFFERENCE}
        rows.append({"choice": system, **values, "minus": found})
    return {"rows": rows}


def answered(claims: Sequence[Claim], comparisons: Comparisons, metric: str = "R@10") -> pd.DataFrame:
    """One row per claim, in their order. Returns part, claim, better, worse, comparison, ``metric`` (the claim's own if
    it has one), ``of_better`` and ``of_worse`` (their values in it), diff, low, high, over, verdict, note.
    """
    import pandas as pd  # late: a report's page needs none of it

    rows = []
    for claim in claims:
        measured = comparisons.get(claim.comparison, {"rows": []})["rows"]
        asked = claim.metric or metric
        values = {row["choice"]: row.get(asked) for row in measured}
        found = claim.difference(comparisons, asked)
        rows.append(
            {name: getattr(claim, name) for name in ("claim", "part", "better", "worse", "comparison")}
            | {"metric": asked, "of_better": values.get(claim.better), "of_worse": values.get(claim.worse)}
            | (found or {"diff": None, "low": None, "high": None, "over": ""})
            | {"verdict": verdict(found), "note": claim.note}
        )
    return pd.DataFrame(rows).astype(dict.fromkeys(("of_better", "of_worse", "diff", "low", "high"), float))


def effects(comparison: Mapping[str, Any], metric: str = "R@10") -> pd.DataFrame:
    """:func:`choices` as a frame: choice, the metric, N@10, seeds (how many), diff, low, high, over, parameters, steps
    (both may be missing), minutes."""
    import pandas as pd

    names = ["choice", metric, "N@10", "seeds", "diff", "low", "high", "over", "parameters", "steps", "seconds"]
    found = pd.DataFrame(choices(comparison, metric)).reindex(columns=list(dict.fromkeys(names)))
    return found.assign(seeds=found["seeds"].map(len), minutes=found["seconds"] / 60).drop(columns="seconds")


def shared_effects(small: Mapping[str, Any], large: Mapping[str, Any], metric: str = "R@10") -> pd.DataFrame:
    """Whether a cheap comparison ranks choices as a dear one does: the choices both have, with their effects. Returns
    choice, small, large (differences from the first shared choice), same_sign; empty if fewer than two are shared.
    """
    import pandas as pd

    known = {row["choice"] for row in large["rows"]}
    names = [row["choice"] for row in small["rows"] if row["choice"] in known]
    rows = []
    for name in names[1:]:
        one, other = (pair(comparison, name, names[0], metric) or {} for comparison in (small, large))
        rows.append((name, one.get("diff"), other.get("diff")))
    found = pd.DataFrame(rows, columns=["choice", "small", "large"]).astype({"small": float, "large": float})
    return found.assign(same_sign=found["small"] * found["large"] > 0)
