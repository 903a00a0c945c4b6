"""What an exported folder holds, and whether it is whole."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from recnb.artifacts import hash_artifact, read_json
from recnb.errors import ArtifactError, nearest
from recnb.llm.settings import DecodeConfig

ABOUT, ITEMS, INDEX, ADAPTER, CARD = "recnb.json", "items.jsonl", "index.json", "adapter", "README.md"
FORMAT, VERSION = "recnb-export", 1


class AdapterUse(BaseModel):
    """Whether there is an adapter, and whether validation preferred the model with it, so that it is used."""

    present: bool
    chosen_on_validation: bool


class Inference(BaseModel):
    """What a prompt and a search depend on, beside the weights."""

    max_history: int
    separator: str
    instruction: tuple[str, str]
    con_before: bool
    decode: DecodeConfig
    adapter: AdapterUse


class About(BaseModel):
    """What ``recnb.json`` must say for the folder to be of use; all else in it is for its reader."""

    model_config = ConfigDict(extra="allow", frozen=True)

    format: Literal["recnb-export"]
    version: Literal[1]
    commit: str
    dtype: str
    inference: Inference
    measured: dict[str, Any] | None
    files: dict[str, dict[str, Any]]  # by path: sha256 and bytes


def read_about(folder: Path) -> About:
    """``recnb.json`` of an exported folder."""
    expected = f"expected a folder that `recnb export` wrote, with config.json, model.safetensors, {ITEMS} and {ABOUT}"
    if not folder.is_dir():
        beside = [path.parent.name for path in folder.absolute().parent.glob(f"*/{ABOUT}")]
        raise ArtifactError(f"{folder}: no such folder{nearest(folder.name, beside, 0.3)}; {expected}")
    try:
        return About.model_validate(read_json(folder / ABOUT))
    except ValidationError as error:
        problem = error.errors()[0]
    key = ".".join(map(str, problem["loc"]))
    if key == "version" and problem["type"] != "missing":
        raise ArtifactError(f"{folder}: an export of version {problem['input']}; this recnb reads version {VERSION}")
    if key in ("", "format", "version"):
        raise ArtifactError(f"{folder}: not an export; {expected}")
    raise ArtifactError(f"{folder / ABOUT}: {key}: {problem['msg']}; export again")


def check_target(target: Path) -> None:
    """A folder may be written if it is new, empty, or an earlier export with nothing added."""
    expected = "expected a new folder, an empty one, or an earlier export"
    if target.exists() and not target.is_dir():
        raise ArtifactError(f"{target}: is a file; {expected}")
    there = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    try:
        known = {ABOUT, CARD, *read_about(target).files} if there else set()
    except ArtifactError:
        raise ArtifactError(f"{target}: is not empty and not an export of ours; {expected}. Nothing written") from None
    if foreign := sorted(there - known):
        named = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        raise ArtifactError(f"{target}: holds files that no export wrote ({named}); move them away. Nothing written")


def check_files(folder: Path, about: About, names: Iterable[str]) -> None:
    """Files of an exported folder must be there and as they were written."""
    for name in sorted(names):
        if not (found := hash_artifact(folder / name)):
            raise ArtifactError(f"{folder / name} is gone; export again, or fetch the whole folder again")
        if found != about.files.get(name, {}).get("sha256"):
            changed = f"does not match its checksum in {ABOUT}: damaged or changed, so it is not used"
            raise ArtifactError(f"{folder / name} {changed}")
