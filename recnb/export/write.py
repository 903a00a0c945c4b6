"""A trained model to take away: one Hugging Face folder that needs no run, no recipe and no project around it.

``recnb export`` writes the folder from the artifacts of a run, ``recnb recommend`` asks it::

    model = load_export("exports/toy")                        # checks the folder; weights are read when first needed
    model.recommend([["i0003", "i0017"]], top=5)              # one list of items per history

The folder is also an ordinary transformers model: ``AutoModelForCausalLM.from_pretrained`` reads it alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recnb import __version__
from recnb.artifacts import write_folder_atomic
from recnb.eager_llm.recipe import EagerLLM
from recnb.eager_llm.templates import TEMPLATES
from recnb.errors import ArtifactError, RecipeError, ResourceError
from recnb.export.card import CARD, model_card
from recnb.export.folder import (
    ABOUT,
    ADAPTER,
    FORMAT,
    INDEX,
    ITEMS,
    VERSION,
    _checksums,
    _read_json,
    _write_json,
    check_target,
)
from recnb.settings import Recipe, flatten
from recnb.workflow.manifest import (
    artifact_hashes,
    damaged_artifacts,
    needed,
    notebook_of,
    read_manifest,
    recipe_changes,
    stage_folder,
)
from recnb.workflow.recipe import recipe_hash

_NEEDED = ("01_data", "03_index", "04_train", "05_anneal")
_NOT_FOR_INFERENCE = "projectors.safetensors"


# --- writing --------------------------------------------------------------------------------------------------------


def export_model(recipe: Recipe, root: Path, target: Path) -> Path:
    """Write a finished run as a folder that works alone; an earlier export there is replaced.

    Args:
        recipe: of the run; its stages 01, 03, 04 and 05 must be complete. What 06 measured is told if it is there.
        root: project root.
        target: the folder to write: new, empty, or an earlier export.

    Returns:
        ``target``, resolved.

    Raises:
        ArtifactError: a stage is missing, damaged or of another recipe (names its notebook); or ``target`` holds
            something else. Nothing is written then.
        ResourceError: the disk is full, or ``target`` cannot be written.
    """
    target = target.expanduser().resolve()
    check_target(target)
    if not isinstance(recipe, EagerLLM):
        raise RecipeError(f"{recipe.name}: export writes models of system eager_llm, and this is {recipe.system}")
    manifests = _finished(recipe, root)
    folders = {name: stage_folder(recipe, name, root) for name in (*_NEEDED, recipe.evaluation)}
    adapter = folders["05_anneal"] / ADAPTER if "adapter" in manifests["05_anneal"]["artifacts"] else None
    item_ids, titles = _catalogue(folders["01_data"])
    codes = np.load(folders["03_index"] / "codes.npy", allow_pickle=False)
    about = _about(recipe, root, folders, manifests)
    return write_export(target, folders["04_train"] / "model", adapter, item_ids, titles, codes, about)


def write_export(
    target: Path,
    model: Path,
    adapter: Path | None,
    item_ids: Sequence[str],
    titles: Sequence[str],
    codes: np.ndarray,
    about: dict[str, Any],
) -> Path:
    """Write the folder whole or not at all.

    Args:
        target: where; whatever lies there is replaced, see :func:`check_target`.
        model: what :func:`recnb.eager_llm.checkpoint.save_model` wrote.
        adapter: folder of a peft adapter, or None.
        item_ids, titles: N texts each.
        codes: (N, L) integers.
        about: what ``recnb.json`` says; the checksums of the files are added.

    Returns:
        ``target``.

    Raises:
        ResourceError: the disk is full, or the place cannot be written.
    """

    def fill(folder: Path) -> None:
        shutil.copytree(
            model, folder, copy_function=shutil.copyfile, dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(_NOT_FOR_INFERENCE),
        )  # fmt: skip
        if adapter is not None:
            shutil.copytree(adapter, folder / ADAPTER, copy_function=shutil.copyfile)
        _forget_places(folder)
        rows = zip(item_ids, titles, codes.tolist(), strict=True)
        lines = [json.dumps({"item_id": i, "title": t, "codes": c}, ensure_ascii=False) for i, t, c in rows]
        (folder / ITEMS).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        whole = {"format": FORMAT, "version": VERSION, **about, "files": _checksums(folder)}
        _write_json(folder / ABOUT, whole)
        (folder / CARD).write_text(model_card(whole, item_ids), encoding="utf-8")

    try:
        write_folder_atomic(target, fill)
    except OSError as error:
        raise ResourceError(f"{target}: cannot be written ({error.strerror or error}); name another folder") from error
    return target


def _finished(recipe: EagerLLM, root: Path) -> dict[str, dict[str, Any]]:
    """Manifests of the stages an export needs: complete, undamaged, of this recipe and made from one another."""
    manifests = {name: needed("export", name, recipe, root) for name in _NEEDED}
    for name, manifest in manifests.items():
        if problem := _problem(name, manifest, manifests, recipe, root):
            raise ArtifactError(
                f"export needs {name} of '{recipe.name}', which {problem}: run {notebook_of(name, recipe)} again, "
                "or `recnb run <recipe>`"
            )
    return manifests


def _problem(
    name: str, manifest: dict[str, Any], others: dict[str, dict[str, Any]], recipe: EagerLLM, root: Path
) -> str:
    """What is wrong with a stage's artifacts; empty if nothing is."""
    if changed := recipe_changes(name, recipe, manifest):
        return f"was made with another recipe ({'; '.join(changed[:3])})"
    hashes = {other: artifact_hashes(made) for other, made in others.items()}
    stale = [other for other, used in manifest["inputs"].items() if used != hashes.get(other, used)]
    if stale:
        return f"was made from another {stale[0]}"
    damaged = damaged_artifacts(recipe, name, root, manifest)
    return f"is damaged ({', '.join(damaged)})" if damaged else ""


def _catalogue(folder: Path) -> tuple[list[str], list[str]]:
    """Ids and titles of all items, as the prompts of the run knew them."""
    import pandas as pd

    from recnb.eager_llm.tasks import titles_of

    items = pd.read_parquet(folder / "items.parquet").reset_index(drop=True)
    return items["item_id"].astype(str).tolist(), titles_of(items)


def _about(
    recipe: EagerLLM, root: Path, folders: dict[str, Path], manifests: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """All that inference needs and a reader asks, without a place of this machine in it."""
    annealed = _read_json(folders["05_anneal"] / "anneal.json")
    trained = manifests["04_train"]
    return {
        "name": recipe.name,
        "title": recipe.title,
        "recipe_hash": recipe_hash(recipe),
        "seed": recipe.seed,
        "commit": trained["commit"],
        "dtype": trained["dtype"],
        "recnb": __version__,
        "versions": trained["versions"],
        "inference": inference_settings(recipe, annealed["adapter"], annealed["chosen_on_validation"]),
        "index": {**_read_json(folders["04_train"] / "model" / INDEX), "source": recipe.index.source},
        "data": _about_data(folders["01_data"], manifests["01_data"]),
        "training": _about_training(recipe, root, _read_json(folders["04_train"] / "train.json"), trained),
        "measured": _measured(recipe, root, folders[recipe.evaluation], manifests),
    }


def inference_settings(recipe: EagerLLM, adapter: bool, chosen: bool) -> dict[str, Any]:
    """What a prompt and a search depend on, beside the weights.

    Args:
        recipe: of the run.
        adapter: the folder holds an adapter.
        chosen: validation preferred the model with it, so it is used.
    """
    return {
        "max_history": recipe.data.max_history,
        "separator": recipe.tasks.separator,
        "instruction": list(TEMPLATES["seqrec"][0]),
        "con_before": recipe.train.con_position == "before_response",
        "decode": recipe.decode.model_dump(mode="json"),
        "adapter": {"present": adapter, "chosen_on_validation": chosen},
    }


def _about_data(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    dataset = _read_json(folder / "dataset.json")
    told = {name: dataset["provenance"].get(name) for name in ("source", "licence", "sha256")}
    counts = {name: dataset[name] for name in ("name", "users", "items", "interactions")}
    artifacts = {name: sha for name, sha in artifact_hashes(manifest).items() if name.endswith(".parquet")}
    return counts | told | {"artifacts": artifacts}


def _about_training(recipe: EagerLLM, root: Path, facts: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    from recnb.eager_llm.paper import departures

    settings = flatten(recipe.model_dump(mode="json"))
    backbone, public = _backbone(recipe.backbone.model, root)
    return {
        "backbone": backbone,
        "base_model": public,
        "parameters": facts["parameters"],
        "steps": facts["steps"],
        "seconds": manifest["seconds"],
        "device": manifest["device"],
        "tasks": [task for task, passes in recipe.tasks.mixture.items() if passes > 0],
        "epochs": recipe.train.epochs,
        "contrast": {"semantic": recipe.train.lambda_semantic, "behaviour": recipe.train.lambda_behaviour},
        "departures": departures(settings | {"backbone.model": backbone}),
    }


def _backbone(model: str, root: Path) -> tuple[str, str]:
    """How to name the pretrained model to a stranger, and its name on the hub; both empty if there is none."""
    if not model or model.startswith("package:"):
        return model, ""
    path = Path(model).expanduser()
    here = path.is_absolute() or path.suffix == ".gguf" or path.exists() or (root / path).exists()
    return (path.name, "") if here else (model, model.partition("@")[0])


def _measured(
    recipe: EagerLLM, root: Path, folder: Path, manifests: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """What 06 measured of this very model, seen items kept; None if it did not, or measured another."""
    manifest = read_manifest(recipe, recipe.evaluation, root)
    if manifest is None or _problem(recipe.evaluation, manifest, manifests, recipe, root):
        return None
    from recnb.report.page import verdicts

    metrics, ledger = _read_json(folder / "metrics.json"), _read_json(folder / "ledger.json")
    machines = sorted({row["hardware"] for row in ledger["rows"] if row["kind"] == "measured"})
    return {
        "protocol": "full ranking, leave-one-out, seen items kept",
        "users": metrics["users"],
        "ours": metrics["ours"],
        "systems": {system: both["kept"] for system, both in metrics["systems"].items()},
        "verdicts": verdicts(metrics),
        "hardware": ", ".join(machines),
        "commit": manifest["commit"],
    }


def _forget_places(folder: Path) -> None:
    """No path of this machine goes along; the adapter finds its backbone one folder up."""
    for path in folder.rglob("*.json"):
        content = _read_json(path)
        if not isinstance(content, dict):
            continue
        kept = {
            key: value for key, value in content.items()
            if not (key.endswith(("path", "file")) and isinstance(value, str) and Path(value).is_absolute())
        }  # fmt: skip
        if path.parent.name == ADAPTER and "base_model_name_or_path" in content:
            kept["base_model_name_or_path"] = ".."
        if kept != content:
            _write_json(path, kept)
