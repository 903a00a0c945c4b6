"""What an exported folder holds, and whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recnb.artifacts import hash_artifact
from recnb.errors import ArtifactError, nearest
from recnb.export.card import CARD

ABOUT, ITEMS, INDEX, ADAPTER = "recnb.json", "items.jsonl", "index.json", "adapter"
FORMAT, VERSION = "recnb-export", 1


def check_target(target: Path) -> None:
    """A folder may be written if it is new, empty, or an earlier export with nothing added.

    Raises:
        ArtifactError: it is something else; the message says what is in the way.
    """
    expected = "expected a new folder, an empty one, or an earlier export"
    if target.exists() and not target.is_dir():
        raise ArtifactError(f"{target}: is a file; {expected}")
    there = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    try:
        known = {ABOUT, CARD, *_read_about(target)["files"]} if there else set()
    except ArtifactError:
        raise ArtifactError(f"{target}: is not empty and not an export of ours; {expected}. Nothing written") from None
    if foreign := sorted(there - known):
        named = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        raise ArtifactError(f"{target}: holds files that no export wrote ({named}); move them away. Nothing written")


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": hash_artifact(path), "bytes": path.stat().st_size}
        for path in files
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_about(folder: Path) -> dict[str, Any]:
    """``recnb.json`` of an exported folder."""
    expected = f"expected a folder that `recnb export` wrote, with config.json, model.safetensors, {ITEMS} and {ABOUT}"
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder{_nearest_folder(folder)}; {expected}")
    try:
        about = _read_json(folder / ABOUT)
        known = about["format"] == FORMAT and {"version", "files", "inference"} <= about.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise ArtifactError(f"{folder}: not an export; {expected}")
    if about["version"] != VERSION:
        raise ArtifactError(f"{folder}: an export of version {about['version']}; this recnb reads version {VERSION}")
    return dict(about)


def _check_files(folder: Path, about: dict[str, Any], names: set[str]) -> None:
    for name in sorted(names):
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{path} is gone; export again, or fetch the whole folder again")
        if hash_artifact(path) != about["files"].get(name, {}).get("sha256"):
            raise ArtifactError(f"{path} does not match its checksum in {ABOUT}: damaged or changed, so it is not used")


def _nearest_folder(folder: Path) -> str:
    """The end of a message: the export beside the folder that is not there."""
    return nearest(folder.name, [path.parent.name for path in folder.absolute().parent.glob(f"*/{ABOUT}")], 0.3)
