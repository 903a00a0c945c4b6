"""Fill the tables of README.md from the committed example report, so that no figure there is typed by hand.

``make ledger`` runs ``python -m recnb.report.readme``; a test compares them. The ledger of quality is made in
``06_evaluate``, that of speed in ``10_speed``.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from recnb.artifacts import find_root, write_atomic
from recnb.errors import ArtifactError, RecnbError

LEDGERS = {  # by the name of the mark
    "ledger": ("reports/example/ledger.json",),
    "beauty": ("reports/beauty-cpu/results.json", "reports/beauty-cpu-head/results.json"),
    "sports": ("reports/sports-cpu/results.json",),
    "instruments": ("reports/instruments-cpu/results.json",),
    "speed": ("reports/example/speed.json",),
}
_LEFT_OUT = {"commit", "hardware", "source"}  # the same in every measured row: said once, below the table


def table(*sources: Path) -> str:
    """Ledger files as one Markdown table, with one line below it on where the measured rows come from.

    Args:
        sources: JSON, a list of rows or ``{"rows": [...]}``, as ``06_evaluate`` and ``recnb table`` write it; a row
            that stands in several files is shown once.

    Raises:
        ArtifactError: no such file, or no rows in it.
    """
    rows = _rows(sources[0])
    for source in sources[1:]:
        known = [_cells(row) for row in rows]
        rows += [row for row in _rows(source) if _cells(row) not in known]
    names = [name for name in rows[0] if name not in _LEFT_OUT and any(_shown(row.get(name)) for row in rows)]
    lines = [names, ["---:" if _numeric(rows, name) else "---" for name in names]]
    lines += [[_shown(row.get(name)) for name in names] for row in rows]
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in lines] + _origin(rows))


def marks(name: str) -> tuple[str, str]:
    """What stands before and behind a table in the page."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def fill(page: Path, *sources: Path, name: str = "ledger") -> bool:
    """Put the table of these files between the marks of this name in a page; True if the page changed.

    Raises:
        ArtifactError: the ledger or the marks are missing.
    """
    text, (begin, end) = page.read_text(encoding="utf-8"), marks(name)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ArtifactError(f"{page}: expected one {begin} and one {end}")
    before, rest = text.split(begin)
    new = f"{before}{begin}\n{table(*sources)}\n{end}{rest.split(end)[1]}"
    if new != text:
        write_atomic(page, lambda file: file.write(new.encode()))
    return new != text


def main() -> int:
    """Fill README.md of the project around the working directory."""
    try:
        root = find_root()
        every = {name: [root / source for source in sources] for name, sources in LEDGERS.items()}
        changed = [fill(root / "README.md", *sources, name=name) for name, sources in every.items()]
    except RecnbError as error:
        print(f"recnb: {error}", file=sys.stderr)
        return 2
    print("README.md: ledgers " + ("filled in" if any(changed) else "are up to date"))
    return 0


def _rows(source: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{source}: no such file; `recnb run` makes one in runs/<recipe>/06_evaluate") from None
    except ValueError as error:
        raise ArtifactError(f"{source}: not JSON: {error}") from None
    rows = content.get("rows") if isinstance(content, dict) else content
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ArtifactError(f"{source}: expected a list of rows")
    return rows


def _cells(row: dict[str, Any]) -> dict[str, str]:
    """What a reader sees of a row."""
    return {name: _shown(value) for name, value in row.items() if name not in _LEFT_OUT}


def _numeric(rows: list[dict[str, Any]], name: str) -> bool:
    return all(isinstance(row.get(name), int | float | None) for row in rows)


def _shown(value: Any) -> str:
    """A cell: four decimals as the papers print them, nothing for a missing number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _origin(rows: list[dict[str, Any]]) -> list[str]:
    found = {name: sorted({str(row[name]) for row in rows if row.get(name)}) for name in ("commit", "hardware")}
    said = [f"{name} {', '.join(values)}" for name, values in found.items() if values]
    return ["", f"Measured rows: {'; '.join(said)}."] if said else []


if __name__ == "__main__":
    sys.exit(main())
