"""Fill the tables of ``reports/README.md`` from committed results, so that no figure there is typed by hand.

``make ledger`` runs ``python -m recnb.report.readme``; a test compares them. A table stands between the marks
``<!-- name -->`` and ``<!-- /name -->``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from recnb.artifacts import find_root, read_json, write_text
from recnb.errors import ArtifactError, RecnbError
from recnb.evaluation.verdicts import side, told, with_interval
from recnb.report import result
from recnb.report.result import ORIGIN, Best, Table, markdown_table, with_legend
from recnb.studies.claims import choices, of_system, pair, read_claims, read_comparisons, unfinished, verdict
from recnb.studies.ledger import read_published

PAGE = "reports/README.md"
LEDGERS: dict[str, tuple[str, ...]] = {  # mark -> the files of its rows
    "ledger": ("reports/example/ledger.json",),
    "beauty": ("reports/beauty-cpu/results.json", "reports/beauty-cpu-head/results.json"),
    "sports": ("reports/sports-cpu/results.json",),
    "instruments": ("reports/instruments-cpu/results.json",),
    "sessions": ("reports/example/sessions/ledger.json",),
    "sessions-beauty": ("reports/example/sessions/beauty.json",),
    "sessions-beauty-file-order": ("reports/example/sessions/beauty-file-order.json",),
    "ranking": ("reports/example/ranking/ledger.json",),
    "speed": ("reports/example/speed.json",),
}
EXAMPLE, SEEDS = "reports/example/metrics.json", "reports/quickstart/results.json"  # of one recipe
_SIDES = {1: "above zero", 0: "cannot be told", -1: "below zero"}
JUDGED = {  # mark -> a file of claims, and the metric that they are judged by
    "sessions-judged": ("reports/example/sessions/beauty-claims.json", "P@20"),
    "ranking-judged": ("reports/example/ranking/claims.json", "HR@1"),
}
BACKBONES = "reports/example/sessions/backbones"
GAINS = "Texts lift the session model", "Counting and the model together beat counting"  # claims
GALLERY = "reports/example/gallery/one_table.json"
CODEBOOKS = {  # comparison -> pairs of its choices that the text speaks of
    "beauty-choices-large": (
        ("K = 512", "proxy as it is"), ("K = 2,048", "K = 512"), ("one token per item", "K = 2,048"),
    ),
    "beauty-parameters": (
        ("K = 2,048", "proxy as it is"),
        ("the same, half the learning rate", "proxy as it is"),
        ("K = 2,048", "the same, half the learning rate"),
    ),
}  # fmt: skip


def main() -> int:
    """Fill all marks in the page of the project around the working directory."""
    try:
        root = find_root()
        changed = stale(root)
        for name in changed:
            write_text(root / PAGE, filled(root, name))
    except RecnbError as error:
        print(f"recnb: {error}", file=sys.stderr)
        return 2
    print(f"tables filled in: {', '.join(changed)}" if changed else "all tables are up to date")
    return 0


def stale(root: Path) -> list[str]:
    """Marks whose tables are not what the command makes of the committed rows.

    Raises:
        ArtifactError: a file with rows, or a mark, is missing.
    """
    return [name for name in (*LEDGERS, *BODIES) if filled(root, name) != (root / PAGE).read_text(encoding="utf-8")]


def filled(root: Path, name: str) -> str:
    """The page with the table of this mark as it should be; raises as :func:`stale`."""
    text, begin, end = (root / PAGE).read_text(encoding="utf-8"), f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ArtifactError(f"{root / PAGE}: expected one {begin} and one {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{BODIES.get(name, partial(mark_body, name=name))(root)}\n{end}{rest.split(end)[1]}"


def mark_body(root: Path, name: str) -> str:
    """What belongs between two marks: a table, one line on where its measured rows come from, and which baselines were
    not tuned to the end. A row that stands in several files is shown once; errors as of :func:`read_rows`."""
    rows: dict[str, dict[str, Any]] = {}  # by all that is said of each
    for row in (row for source in LEDGERS[name] for row in read_rows(root / source)):
        rows.setdefault(json.dumps({key: row[key] for key in row if key not in ORIGIN}), row)
    found = {key: sorted({str(row[key]) for row in rows.values() if row.get(key)}) for key in ORIGIN}
    said = "; ".join(f"{key} {', '.join(values)}" for key, values in found.items() if values)
    table = markdown_table(result.ledger_table(list(rows.values())))
    compared, results = read_comparisons(root), [read_json(root / source) for source in LEDGERS[name]]
    notes = [note for r in results for note in unfinished(compared, r.get("recipe", ""), r.get("systems", ()))]
    return "\n\n".join([table, *([with_legend(f"Measured rows: {said}.")] if said else []), *notes])


def seeds_body(root: Path) -> str:
    """The example's run beside several seeds of its recipe, and where they come from; a line if there are none yet."""
    kept, earlier = read_json(root / EXAMPLE), read_json(root / SEEDS)
    if len(earlier.get("seeds", ())) < 2:
        return "Several seeds of it have not been measured yet: `recnb table params/tables/quickstart.yaml`."
    table = result.seeds_table(earlier, kept["ledger"], kept["stages"]["06_evaluate"]["facts"]["ours"])
    return f"{markdown_table(table)}\n\n{result.seeds_said(earlier, kept.get('recipe_hash', ''))}"


def choices_body(root: Path) -> str:
    """The choices of some comparisons, and what the intervals allow to say of the pairs that the text speaks of."""
    every, parts = read_comparisons(root), []
    for name, pairs in CODEBOOKS.items():
        found = [(pair(every[name], one, other, "R@10"), one, other) for one, other in pairs]
        said = [told(d, f"'{a}'", f"'{b}'") if d else f"'{a}' and '{b}': not measured" for d, a, b in found]
        table = markdown_table(result.choices_table(choices(every[name])))
        parts.append("\n".join([f"`{name}`, validation R@10, paired:", "", table, "", *(f"- {line}" for line in said)]))
    return "\n\n".join(parts)


def judged_body(root: Path, name: str) -> str:
    """What a system's paper claims, and what a run says of it: points of a metric with intervals."""
    file, metric = JUDGED[name]
    claims = [c for c in read_json(root / file).get("claims", ()) if c.get("comparison", "run") == "run"]
    lines = [f"| {c['claim']} | {_points(c, 'diff')} | {c['verdict']} |" for c in claims if c["diff"] is not None]
    head = [f"| the paper's claims and our controls | {metric}, points | one seed |", "| --- | ---: | --- |"]
    return "\n".join([*head, *lines])


def gallery_body(root: Path) -> str:
    """The gallery's one table: HR@1 among the chief rule's candidates, its difference to SASRec, and what a row costs.

    Seconds are of a user and one set of candidates; a row that scores the catalogue does so once for all sets. Without
    a run that was kept, a line that says how to make one.
    """
    if not (found := read_json(root / GALLERY)):
        return "No run of it has been kept yet: `recnb run params/gallery.yaml`."
    chief, costs = found["chief"]["protocol"], found["cost"]
    own = {row["system"]: row for row in found["intervals"] if (row["rule"], row["metric"]) == (chief, "HR@1")}
    minus = {row["system"]: row for row in found["differences"] if row["rule"] == chief}
    rows = []
    for name in sorted(own, key=lambda name: -own[name]["mean"]):
        sets = found["draws"] * len(found["systems"][name].keys() - {"catalogue"})
        cost, level, gap = costs[name], own[name], minus.get(name)
        change = with_interval(gap, 3) if gap else ""
        paid = [f"{cost['seconds'] / sets:.3f}", f"{cost['read'] / sets:,.0f}", f"{cost['parameters']:,}"]
        rows.append([
            name, found["answers"][name], f"{level['mean']:.3f} [{level['low']:.3f}, {level['high']:.3f}]",
            Best(change) if gap and side(gap) else change, *paid, f"{cost['examples']:,}",
        ])  # fmt: skip
    columns = [("row", ""), ("answer", ""), *((name, "n") for name in (
        "HR@1", "minus SASRec", "seconds a set", "positions read", "weights trained", "examples"))]  # fmt: skip
    said = f"{found['split']}, {found['users']} users, sets of {found['candidates']} {chief} candidates, chance"
    return f"{markdown_table(Table(columns, rows))}\n\n{said} {1 / found['candidates']:.2f}."


def gains_body(root: Path) -> str:
    """For whom the texts of the run on Beauty gain over its plain session model, group by group."""
    gains = read_json(root / JUDGED["sessions-judged"][0])["gains"]
    lines = [f"| {by}: {row['group']} | {row['samples']:,} | {_points(row, 'mean')} | {_SIDES[side(row)]} |"
             for by, rows in gains.items() for row in rows]  # fmt: skip
    head = ["| samples | how many | gain in P@20, points | |", "| --- | ---: | ---: | --- |"]
    return "\n".join([*head, *lines])


def backbones_body(root: Path) -> str:
    """Session models on Beauty in points of P@5, 10, 20: plain, with texts, and with rules and words too; beside them
    what was published of the same model, P@20."""
    reference = read_published("beauty", "recnb.llm4sbr")
    theirs = {row.system: row for row in reference.rows} if reference else {}
    named, lines = {row.same_as: row.system for row in theirs.values()}, []
    for path in sorted((root / BACKBONES).glob("*.json")):
        found, name = read_json(path), path.stem
        shown = [found["systems"][key]["kept"] for key in (name, "llm4sbr", "rules+words+llm4sbr")]
        cells = [" ".join(f"{100 * one[f'R@{k}']:.2f}" for k in (5, 10, 20)) for one in shown]
        gains = [next(c for c in found["claims"] if c["claim"] == claim) for claim in GAINS]
        other = named[name.removesuffix("-views")]
        pair_of = [theirs[row].scores()["R@20"] or float("nan") for row in (other, f"{other} + LLM4SBR")]
        both = " → ".join(f"{100 * one:.2f}" for one in pair_of)
        lines.append(f"| {' | '.join([name, *cells, *(_points(gain, 'diff') for gain in gains), both])} |")
    head = ["| backbone | plain | with texts | rules+words+llm4sbr | texts, P@20 | over rules+words | published P@20 |",
            "| --- | --- | --- | --- | ---: | ---: | --- |"]  # fmt: skip
    return "\n".join([*head, *lines])


def compared_body(root: Path) -> str:
    """What comparisons say of LLM4SBR's claims: points of R@10 on validation, and the choices behind them."""
    compared = of_system(read_comparisons(root), "llm4sbr")
    asked = [claim for claim in read_claims("recnb.llm4sbr") if claim.comparison in compared]
    found = [(claim, claim.difference(compared, claim.metric)) for claim in asked]
    lines = [f"| {one.claim} | {one.part} | {_points(d, 'diff')} | {verdict(d)} |" for one, d in found if d]
    head = ["| the paper's claims and our controls | part | R@10, points | here |", "| --- | --- | ---: | --- |"]
    parts = [f"`{name}`, {one['about']}:\n\n{markdown_table(result.choices_table(choices(one)))}"
             for name, one in compared.items()]  # fmt: skip
    return "\n\n".join(["\n".join([*head, *lines]), *parts])


def _points(found: Mapping[str, Any], value: str) -> str:
    return with_interval({key: 100 * found[key] for key in (value, "low", "high")}, 2, value)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON file, a list of them or ``{"rows": [...]}``, as an evaluation and ``recnb table`` write it.

    Raises:
        ArtifactError: no such file, or no rows in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file; `recnb run` and `recnb table` make them") from None
    except ValueError as error:
        raise ArtifactError(f"{path}: not JSON: {error}") from None
    rows = content.get("rows") if isinstance(content, dict) else content
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ArtifactError(f"{path}: expected a list of rows")
    return rows


# marks that hold more than a ledger
BODIES = {
    "seeds": seeds_body, "codebook": choices_body, "sessions-gains": gains_body, "sessions-compared": compared_body,
    "sessions-backbones": backbones_body, "gallery": gallery_body,
}  # fmt: skip
BODIES |= {name: partial(judged_body, name=name) for name in JUDGED}

if __name__ == "__main__":
    sys.exit(main())
