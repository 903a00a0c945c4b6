"""A trained model to take away: one Hugging Face folder that needs no run, no recipe and no project around it.

``recnb export`` writes the folder from the artifacts of a run, ``recnb recommend`` asks it (:mod:`recnb.export.load`).
The folder is also an ordinary transformers model: ``AutoModelForCausalLM.from_pretrained`` reads it alone.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recnb import __version__
from recnb.artifacts import files_of, fingerprint, read_artifact, read_json, write_folder_atomic, write_json
from recnb.eager_llm.paper import departures
from recnb.eager_llm.recipe import EagerLLM
from recnb.eager_llm.templates import TEMPLATES
from recnb.errors import ArtifactError, RecipeError, ResourceError
from recnb.export.card import model_card
from recnb.export.folder import ABOUT, ADAPTER, CARD, FORMAT, INDEX, ITEMS, VERSION, check_target
from recnb.report.result import verdicts
from recnb.settings import Recipe, StageSpec, flatten
from recnb.studies.ledger import read_published
from recnb.workflow.manifest import artifact_hashes, needed, stage_folder, verified_inputs
from recnb.workflow.recipe import recipe_hash

_NEEDED = ("01_data", "03_index", "04_train", "05_anneal")
_NOT_FOR_INFERENCE = "projectors.safetensors"


def export_model(recipe: Recipe, root: Path, target: Path) -> Path:
    """Write a finished run as a folder that works alone; an earlier export there is replaced.

    Args:
        recipe, root: of the run; stages 01, 03, 04 and 05 must be complete. What 06 measured is told if it is there.
        target: the folder to write: new, empty, or an earlier export; returned, resolved.

    Raises:
        ArtifactError: a stage is missing, damaged or of another recipe (names its notebook); or ``target`` holds
            something else. Nothing is written then.
        ResourceError: the disk is full, or ``target`` cannot be written.
    """
    target = target.expanduser().resolve()
    check_target(target)
    if not isinstance(recipe, EagerLLM):
        raise RecipeError(f"{recipe.name}: export writes models of system eager_llm, and this is {recipe.system}")
    from recnb.eager_llm.tasks import titles_of

    manifests = _finished(_NEEDED, recipe, root)
    data, index, trained, annealed = (stage_folder(recipe, name, root) for name in _NEEDED)
    facts = read_artifact(annealed / "anneal.json")
    about = {
        "name": recipe.name,
        "title": recipe.title,
        "recipe_hash": recipe_hash(recipe),
        "seed": recipe.seed,
        "recnb": __version__,
        **{name: manifests["04_train"][name] for name in ("commit", "dtype", "versions")},
        "inference": inference_settings(recipe, facts["adapter"], facts["chosen_on_validation"]),
        "index": {**read_artifact(trained / "model" / INDEX), "source": recipe.index.source},
        "data": _data(read_artifact(data / "dataset.json"), manifests["01_data"]),
        "training": _training(recipe, root, read_artifact(trained / "train.json"), manifests["04_train"]),
        "measured": _measured(recipe, root),
    }
    table, codes = read_artifact(data / "items.parquet"), read_artifact(index / "codes.npy").tolist()
    columns = zip(table["item_id"].astype(str), titles_of(table), codes, strict=True)  # titles as prompts knew them
    items = [{"item_id": item_id, "title": title, "codes": own} for item_id, title, own in columns]
    return write_export(target, trained / "model", annealed / ADAPTER if facts["adapter"] else None, items, about)


def write_export(
    target: Path, model: Path, adapter: Path | None, items: Sequence[dict[str, Any]], about: dict[str, Any]
) -> Path:
    """Write the folder whole or not at all; whatever lies at ``target`` (returned) is replaced.

    Args:
        model, adapter: folders, as :func:`recnb.eager_llm.checkpoint.save_model` and peft wrote them.
        items: item_id, title and codes (L integers) of each.
        about: what ``recnb.json`` says, but for the checksums of the files.
    """

    def fill(folder: Path) -> None:
        left_out = shutil.ignore_patterns(_NOT_FOR_INFERENCE)
        shutil.copytree(model, folder, ignore=left_out, copy_function=shutil.copyfile, dirs_exist_ok=True)
        if adapter is not None:
            shutil.copytree(adapter, folder / ADAPTER, copy_function=shutil.copyfile)
        _forget_places(folder)
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        (folder / ITEMS).write_text(lines, encoding="utf-8", newline="\n")
        files = {file.relative_to(folder).as_posix(): fingerprint(file) for file in files_of(folder)}
        whole = {"format": FORMAT, "version": VERSION, **about, "files": files}
        write_json(folder / ABOUT, whole)
        (folder / CARD).write_text(model_card(whole, [item["item_id"] for item in items]), encoding="utf-8")

    try:
        write_folder_atomic(target, fill)
    except OSError as error:
        raise ResourceError(f"{target}: cannot be written ({error.strerror or error}); name another folder") from error
    return target


def inference_settings(recipe: EagerLLM, adapter: bool, chosen: bool) -> dict[str, Any]:
    """:class:`recnb.export.folder.Inference` of a run, as JSON values; whether it has an adapter, and uses it."""
    return {
        "max_history": recipe.data.max_history,
        "separator": recipe.tasks.separator,
        "instruction": list(TEMPLATES["seqrec"][0]),
        "con_before": recipe.train.con_position == "before_response",
        "decode": recipe.decode.model_dump(mode="json"),
        "adapter": {"present": adapter, "chosen_on_validation": chosen},
    }


def public_backbone(model: str, root: Path) -> tuple[str, str]:
    """How to name the pretrained model to a stranger, and its name on the hub; both empty if there is none."""
    if not model or model.startswith("package:"):
        return model, ""
    path = Path(model).expanduser()
    here = path.is_absolute() or path.suffix == ".gguf" or path.exists() or (root / path).exists()
    return (path.name, "") if here else (model, model.partition("@")[0])


def _finished(stages: tuple[str, ...], recipe: EagerLLM, root: Path) -> dict[str, dict[str, Any]]:
    """Manifests of stages: complete, undamaged, of this recipe and made from one another."""
    manifests = {name: needed("export", name, recipe, root) for name in stages}
    verified_inputs(StageSpec("export", (), stages, "", ()), recipe, root)
    return manifests


def _data(dataset: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    told = {name: dataset["provenance"].get(name) for name in ("source", "licence", "sha256")}
    counts = {name: dataset[name] for name in ("name", "users", "items", "interactions")}
    artifacts = {name: sha for name, sha in artifact_hashes(manifest).items() if name.endswith(".parquet")}
    return counts | told | {"artifacts": artifacts}


def _training(recipe: EagerLLM, root: Path, facts: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    backbone, public = public_backbone(recipe.backbone.model, root)
    settings = flatten(recipe.model_dump(mode="json")) | {"backbone.model": backbone}
    return {
        "backbone": backbone,
        "base_model": public,
        **{name: facts[name] for name in ("parameters", "steps")},
        **{name: manifest[name] for name in ("seconds", "device")},
        "tasks": [task for task, passes in recipe.tasks.mixture.items() if passes > 0],
        "epochs": recipe.train.epochs,
        "contrast": {"semantic": recipe.train.lambda_semantic, "behaviour": recipe.train.lambda_behaviour},
        "departures": [str(found) for found in departures(settings, facts.get("processes", 1))],
    }


def _measured(recipe: EagerLLM, root: Path) -> dict[str, Any] | None:
    """What 06 measured of this very model, seen items kept; None if it did not, or measured another."""
    try:
        manifests = _finished((*_NEEDED, recipe.evaluation), recipe, root)
    except ArtifactError:
        return None
    folder = stage_folder(recipe, recipe.evaluation, root)
    metrics, ledger = read_artifact(folder / "metrics.json"), read_artifact(folder / "ledger.json")
    machines = sorted({row["hardware"] for row in ledger["rows"] if row["kind"] == "measured"})
    return {
        "protocol": "full ranking, leave-one-out, seen items kept",
        "users": metrics["users"],
        "ours": metrics["ours"],
        "systems": {system: both["kept"] for system, both in metrics["systems"].items()},
        "verdicts": verdicts(metrics, read_published(recipe.published, recipe.wing)),
        "hardware": ", ".join(machines),
        "commit": manifests[recipe.evaluation]["commit"],
    }


def _forget_places(folder: Path) -> None:
    """No path of this machine goes along; the adapter finds its backbone one folder up."""
    for path in folder.rglob("*.json"):
        content = read_json(path)
        named = {key: value for key, value in content.items() if key.endswith(("path", "file"))}
        places = {key for key, value in named.items() if isinstance(value, str) and Path(value).is_absolute()}
        kept = {key: value for key, value in content.items() if key not in places}
        if path.parent.name == ADAPTER and "base_model_name_or_path" in content:
            kept["base_model_name_or_path"] = ".."
        if kept != content:
            write_json(path, kept)
