"""What an evaluation found, for people: its ``metrics.json`` and ``ledger.json`` as tables, verdicts and tiles.

``metrics.json`` maps, under ``systems``, system to protocol to metric to value; ``ours`` is the system that validation
chose and ``cutoffs`` lists the k of its metrics. All else in it may be missing; sentences under ``said`` stand first.
``chief`` names the protocol and the metric by which rows are judged: without it R@k of the largest k, seen items kept.
"""

from __future__ import annotations

import html
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from recnb.evaluation.verdicts import judged_in, side, told
from recnb.studies.ledger import Published, shortfall

_METRIC = re.compile(r"^\w+@\d+")
_PROTOCOLS = {"kept": "seen items kept", "removed": "seen items removed"}
_ONCE = "A run gives the same numbers again on one machine with one number of threads; elsewhere it goes its own way."
ORIGIN = ("commit", "hardware")  # the same in every measured row: said elsewhere


class Best(str):
    """A value that stands in bold on a page."""

    def __html__(self) -> str:
        return f"<b>{html.escape(self)}</b>"


class Table(NamedTuple):
    """What the page's one macro for tables draws; looks are classes of index.css."""

    columns: Sequence[tuple[str, str]]  # name and look: n (a number), mono, soft, hash, bar
    rows: Sequence[Sequence[str]]  # texts, one per column; those of :class:`Best` stand in bold
    looks: Sequence[str] = ()  # of the rows; none: all alike
    groups: Mapping[str, int] = {}  # a line above the columns, what some of them share -> how many those are


def markdown_table(table: Table) -> str:
    """A table as Markdown: numbers to the right, the best in bold.

    >>> print(markdown_table(ledger_table([{"system": "a | b", "R@10": 0.5, "kind": "measured", "note": None}])))
    | system | R@10 | kind |
    | --- | ---: | --- |
    | a \\| b | **0.5000** | measured |
    """
    names, looks = zip(*table.columns, strict=True)
    rule = ["---:" if look == "n" else "---" for look in looks]
    lines = [names, rule, *(map(_markdown, row) for row in table.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _markdown(cell: str) -> str:
    plain = cell.replace("|", "\\|").replace("\n", " ")
    return f"**{plain}**" if isinstance(cell, Best) else plain


def result_table(metrics: dict[str, Any]) -> Table:
    """All systems under all protocols, ours marked."""
    systems = metrics.get("systems", {})
    scores = {name: {(p, m): v for p, row in both.items() for m, v in row.items()} for name, both in systems.items()}
    protocols = list(dict.fromkeys(protocol for row in scores.values() for protocol, _ in row))
    keys = sorted(dict.fromkeys(key for row in scores.values() for key in row), key=lambda key: protocols.index(key[0]))
    best = {key: _best(row.get(key) for row in scores.values()) for key in keys}
    rows = [[name, *(_cell(key[1], row.get(key), best[key]) for key in keys)] for name, row in scores.items()]
    groups = {"": 1} | Counter(_PROTOCOLS.get(protocol, protocol) for protocol, _ in keys)
    columns = [("system", ""), *((metric, "n") for _, metric in keys)]
    return Table(columns, rows, ["ours" if name == metrics.get("ours") else "" for name in scores], groups)


def ledger_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Ledger rows: the columns that say something, the best measured value of each metric in bold."""
    known = [name for name in dict.fromkeys(chain(*rows)) if name not in ORIGIN]
    names = [name for name in known if any(row.get(name) not in (None, "") for row in rows)]
    numeric = [name for name in names if all(isinstance(row.get(name), int | float | None) for row in rows)]
    measured = [row for row in rows if row.get("kind") == "measured"]
    best = {name: _best(row.get(name) for row in measured) for name in names if _METRIC.match(name)}
    cells = [[_cell(n, row.get(n), best.get(n) if row in measured else None) for n in names] for row in rows]
    looks = {"kind": "kind"} | dict.fromkeys(numeric, "n")
    return Table([(name, looks.get(name, "")) for name in names], cells, [str(row.get("kind", "")) for row in rows])


def choices_table(choices: Sequence[dict[str, Any]]) -> Table:
    """Rows of :func:`recnb.studies.claims.choices`: the recipe, then one change each, in bold where its interval leaves
    out zero; sizes of models, steps and minutes where all are known. What the first row changes is said there alone."""
    shared = set(choices[0]["changed"]) if choices else set()
    known = [name for name in ("parameters", "steps", "seconds") if all(name in row for row in choices)]
    metric = judged_in(next(iter(choices), {}))
    scored = ["N@10"] if metric == "R@10" else []
    columns_known = ("minutes" if name == "seconds" else name for name in known)
    names = [metric, *scored, f"change of {metric}", *columns_known]
    rows = []
    for row in choices:
        change = f"{row['diff']:+.4f}" if "diff" in row else ""
        rows.append([
            row["choice"], f"{row[metric]:.4f} ± {row['margin']:.4f}", *(f"{row[m]:.4f}" for m in scored),
            Best(change) if change and side(row) else change,
            *(f"{row[name] / 60:.1f}" if name == "seconds" else f"{row[name]:,}" for name in known),
            " ".join(change for change in row["changed"] if row is choices[0] or change not in shared),
        ])  # fmt: skip
    columns = [("choice", ""), *((name, "n") for name in names), ("changed", "mono soft")]
    return Table(columns, rows, ["ours", *([""] * (len(rows) - 1))])


def choices_said(choices: Sequence[Mapping[str, Any]], metrics: dict[str, Any], settings: str, made: Any) -> str:
    """Why the recipe's own row among its choices is not what a run found on validation; empty without such numbers.

    Args:
        choices: as of :func:`recnb.studies.claims.choices`.
        metrics, settings, made: of the run, its :func:`recnb.workflow.recipe.settings_hash`, its manifest.
    """
    checks = metrics.get("budget", {}).get("validation")
    if not choices or not checks:
        return ""
    then, now = (f"commit {r.get('commit')}, {r.get('device')}, threads {r.get('threads')}" for r in (choices[0], made))
    both = f"R@10 {choices[0]['R@10']:.4f} ({then}), and {max(checks):.4f} in the run of this page ({now})"
    same = _same_settings(choices[0]["recipe_hash"], settings)
    return with_legend(f"The first row is this recipe too: {both}, {same}. {_ONCE}")


def _same_settings(then: str, now: str) -> str:
    other = f"with settings of another hash ({then}, here {now or 'not known'}), so the two need not agree"
    return "with the same settings" if then == now else other


def seeds_table(earlier: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], ours: str) -> Table:
    """A run (its ledger's ``rows``, and what validation chose as ``ours``) beside several seeds measured before, a
    ``results.json`` of :mod:`recnb.studies.tables`: mean ± sd, lowest and highest; no rows without several seeds."""
    if len(earlier.get("seeds", ())) < 2:
        return Table((), ())
    run = {row["system"]: row for row in rows if row.get("kind") == "measured"}
    run["ours"] = run.get(ours, {})
    protocol = (earlier.get("runs") or [{}])[0].get("protocol", "kept")
    kept = {system: both[protocol] for system, both in earlier["systems"].items() if system in run and protocol in both}
    columns, lines = [("system", "")], [[system] for system in kept]
    for metric in ("R@10", "N@10") if protocol == "kept" else ("R@1",):
        columns += [(f"{metric} here", "n"), (f"{metric}, {len(earlier['seeds'])} seeds", "n")]
        for line in lines:
            line += [_cell(metric, run[line[0]].get(metric), None), _over_seeds(kept[line[0]], metric)]
    return Table(columns, lines, ["ours", *[""] * (len(kept) - 1)])


def seeds_said(earlier: Mapping[str, Any], settings: str) -> str:
    """Where the seeds of :func:`seeds_table` come from, and whether the run has their ``settings`` (their hash)."""
    if not earlier:
        return ""
    found = {key: ", ".join(sorted({run[key] for run in earlier["runs"]})) for key in ORIGIN}
    where = f"with seeds {', '.join(map(str, earlier['seeds']))} on {found['hardware']}, commit {found['commit']}"
    return with_legend(f"Measured before {where}, {_same_settings(earlier['recipe_hash'], settings)}. {_ONCE}")


def _over_seeds(found: Mapping[str, Any], metric: str) -> str:
    values = [scores[metric] for scores in found["per_seed"].values()]
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def with_legend(text: str) -> str:
    """A line that names commits, and what a ``+`` behind one means.

    >>> with_legend("commit 0123456789ab+")
    'commit 0123456789ab+ (+: with uncommitted changes)'
    """
    return f"{text} (+: with uncommitted changes)" if re.search(r"\b[0-9a-f]{7,40}\+", text) else text


def verdicts(metrics: dict[str, Any], reference: Published | None = None) -> list[str]:
    """One sentence per opponent and metric, as far as the paired interval allows to speak. Of an opponent that was
    published (``reference``) it says how far ours of it lies from that."""
    (protocol, metric), ours = _chief(metrics), metrics.get("ours", "ours")
    sentences = []
    for row in metrics.get("ours_minus", {}).get(protocol, []):
        if str(row.get("metric", "")).partition("@")[2] == metric.partition("@")[2]:
            against = row["against"]
            mine = metrics.get("systems", {}).get(against, {})
            short = shortfall(against, mine.get("kept", {}), reference)
            said = f"{row['metric']}: {told(row, ours, against)}"
            sentences.append(f"{said}; {against} here: {short}" if short else said)
    return sentences


def headline(metrics: dict[str, Any], slug: str) -> list[tuple[str, str]]:
    """Tiles on top of the page, (value, label): ours, then the best baselines.

    Of the system's own rows, whose names begin with ``slug``, only the one that validation chose gets a tile.
    """
    scores, ours = _main_scores(metrics), metrics.get("ours")
    shown = [name for name in scores if name == ours or not name.startswith(slug)]
    shown.sort(key=lambda name: (name != ours, -scores[name]))
    return [(f"{scores[name]:.4f}", f"{_chief(metrics)[1]}, {name}") for name in shown[:4]]


def budget(metrics: dict[str, Any]) -> list[str]:
    """What a small budget costs, in sentences: how small the model is, and whether it was still getting better."""
    spent = metrics.get("budget")
    if not spent:
        return []
    millions, papers, checks = spent["parameters"] / 1e6, 1 / spent["of_the_papers"], spent["validation"]
    lines = [f"The model has {millions:,.2f} million parameters, one for every {papers:,.0f} of the paper's, and was "
             f"trained for {spent['steps']:,} steps."]  # fmt: skip
    if len(checks) >= 2:
        gain = checks[-1] - checks[-2]
        state = "still getting better" if gain > 0 else "no longer getting better"
        lines.append("Validation R@10 over training: " + " → ".join(f"{value:.4f}" for value in checks)
                     + f"; it was {state} when training stopped ({gain:+.4f} from the last two checks).")  # fmt: skip
    scores, ours = _main_scores(metrics), metrics.get("ours")
    best = max(scores, key=lambda name: scores[name], default=ours)
    if best != ours and scores.get(ours):
        ratio = f"{scores[best] / scores[ours]:.2f} times our {_chief(metrics)[1]}"
        lines.append(f"The best system on this page, {best}, reaches {ratio}.")
    return lines


def _chief(metrics: dict[str, Any]) -> tuple[str, str]:
    """The protocol and the metric by which rows are judged."""
    found = metrics.get("chief", {})
    return found.get("protocol", "kept"), found.get("metric", f"R@{max(metrics.get('cutoffs', []), default=0)}")


def _main_scores(metrics: dict[str, Any]) -> dict[Any, float]:
    """The chief metric of each system that has it."""
    protocol, metric = _chief(metrics)
    scores = {name: both.get(protocol, {}).get(metric) for name, both in metrics.get("systems", {}).items()}
    return {name: value for name, value in scores.items() if value is not None}


def _best(values: Iterable[Any]) -> float | None:
    return max((value for value in values if isinstance(value, int | float)), default=None)


def _cell(name: str, value: Any, best: float | None) -> str:
    if value is None:
        return ""
    if name.startswith("gap") and isinstance(value, float):
        return f"{100 * value:+.1f} %"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return Best(text) if value == best else text
