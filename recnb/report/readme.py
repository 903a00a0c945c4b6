"""Fill the tables of ``reports/README.md`` from committed results, so that no figure there is typed by hand.

``make ledger`` runs ``python -m recnb.report.readme``; a test compares them. A table stands between the marks
``<!-- name -->`` and ``<!-- /name -->``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from recnb.artifacts import find_root, write_text
from recnb.errors import ArtifactError, RecnbError
from recnb.report.result import ORIGIN, ledger_table, markdown_table

PAGE = "reports/README.md"
LEDGERS: dict[str, tuple[str, ...]] = {  # mark -> the files of its rows
    "ledger": ("reports/example/ledger.json",),
    "beauty": ("reports/beauty-cpu/results.json", "reports/beauty-cpu-head/results.json"),
    "sports": ("reports/sports-cpu/results.json",),
    "instruments": ("reports/instruments-cpu/results.json",),
    "speed": ("reports/example/speed.json",),
}


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
    return [name for name in LEDGERS if filled(root, name) != (root / PAGE).read_text(encoding="utf-8")]


def filled(root: Path, name: str) -> str:
    """The page with the table of this mark as it should be; raises as :func:`stale`."""
    text, begin, end = (root / PAGE).read_text(encoding="utf-8"), f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ArtifactError(f"{root / PAGE}: expected one {begin} and one {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{mark_body(root, name)}\n{end}{rest.split(end)[1]}"


def mark_body(root: Path, name: str) -> str:
    """What belongs between two marks: a table, and one line on where its measured rows come from. A row that stands in
    several files is shown once; errors as of :func:`read_rows`."""
    rows: dict[str, dict[str, Any]] = {}  # by all that is said of each
    for row in (row for source in LEDGERS[name] for row in read_rows(root / source)):
        rows.setdefault(json.dumps({key: row[key] for key in row if key not in ORIGIN}), row)
    found = {key: sorted({str(row[key]) for row in rows.values() if row.get(key)}) for key in ORIGIN}
    said = "; ".join(f"{key} {', '.join(values)}" for key, values in found.items() if values)
    table = markdown_table(ledger_table(list(rows.values())))
    return f"{table}\n\nMeasured rows: {said}." if said else table


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


if __name__ == "__main__":
    sys.exit(main())
