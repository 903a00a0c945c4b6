"""A trained model to take away: one Hugging Face folder that needs no run, no recipe and no project around it.

``recnb export`` writes the folder from the artifacts of a run, ``recnb recommend`` asks it::

    model = load_export("exports/toy")                        # checks the folder; weights are read when first needed
    model.recommend([["i0003", "i0017"]], top=5)              # one list of items per history

The folder is also an ordinary transformers model: ``AutoModelForCausalLM.from_pretrained`` reads it alone.
"""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from recnb import __version__, store
from recnb.card import CARD, model_card
from recnb.errors import ArtifactError, RecnbError, ResourceError
from recnb.recipe import DecodeConfig, Recipe, TasksConfig, recipe_hash
from recnb.stages import StageSpec
from recnb.templates_text import TEMPLATES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from recnb.trie import Trie
    from recnb.vocabulary import Vocabulary

ABOUT, ITEMS, INDEX, ADAPTER = "recnb.json", "items.jsonl", "index.json", "adapter"
FORMAT, VERSION = "recnb-export", 1
NEEDED = StageSpec("export", (), ("01_data", "03_index", "04_train", "05_anneal"), ())
WIDEST = 60  # characters of an item's title in a table
_EVALUATION = "06_evaluate"
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
    manifests = _finished(recipe, root)
    folders = {name: store.stage_folder(recipe, name, root) for name in (*NEEDED.inputs, _EVALUATION)}
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
        model: what :func:`recnb.model.save_model` wrote.
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
        store.write_folder_atomic(target, fill)
    except OSError as error:
        raise ResourceError(f"{target}: cannot be written ({error.strerror or error}); name another folder") from error
    return target


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


def _finished(recipe: Recipe, root: Path) -> dict[str, dict[str, Any]]:
    """Manifests of the stages an export needs: complete, undamaged, of this recipe and made from one another."""
    store.stage_parts(NEEDED, recipe, root)  # names the notebook of the first stage that is not complete
    manifests = {name: store.read_manifest(recipe, name, root) or {} for name in NEEDED.inputs}
    for name, manifest in manifests.items():
        if problem := _problem(name, manifest, manifests, recipe, root):
            raise ArtifactError(
                f"export needs {name} of '{recipe.name}', which {problem}: run notebooks/{name}.ipynb again, "
                "or `recnb run <recipe>`"
            )
    return manifests


def _problem(name: str, manifest: dict[str, Any], others: dict[str, dict[str, Any]], recipe: Recipe, root: Path) -> str:
    """What is wrong with a stage's artifacts; empty if nothing is."""
    if changed := store.recipe_changes(name, recipe, manifest):
        return f"was made with another recipe ({'; '.join(changed[:3])})"
    hashes = {other: store.artifact_hashes(made) for other, made in others.items()}
    stale = [other for other, used in manifest["inputs"].items() if used != hashes.get(other, used)]
    if stale:
        return f"was made from another {stale[0]}"
    damaged = store.damaged_artifacts(recipe, name, root, manifest)
    return f"is damaged ({', '.join(damaged)})" if damaged else ""


def _catalogue(folder: Path) -> tuple[list[str], list[str]]:
    """Ids and titles of all items, as the prompts of the run knew them."""
    import pandas as pd

    from recnb.tasks import titles_of

    items = pd.read_parquet(folder / "items.parquet").reset_index(drop=True)
    return items["item_id"].astype(str).tolist(), titles_of(items)


def _about(
    recipe: Recipe, root: Path, folders: dict[str, Path], manifests: dict[str, dict[str, Any]]
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
        "measured": _measured(recipe, root, folders[_EVALUATION], manifests),
    }


def inference_settings(recipe: Recipe, adapter: bool, chosen: bool) -> dict[str, Any]:
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
    artifacts = {name: sha for name, sha in store.artifact_hashes(manifest).items() if name.endswith(".parquet")}
    return counts | told | {"artifacts": artifacts}


def _about_training(recipe: Recipe, root: Path, facts: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    from recnb.ledger import departures

    settings = store.flatten(recipe.model_dump(mode="json"))
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


def _measured(recipe: Recipe, root: Path, folder: Path, manifests: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """What 06 measured of this very model, seen items kept; None if it did not, or measured another."""
    manifest = store.read_manifest(recipe, _EVALUATION, root)
    if manifest is None or _problem(_EVALUATION, manifest, manifests, recipe, root):
        return None
    from recnb.report import verdicts

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


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": store.hash_artifact(path), "bytes": path.stat().st_size}
        for path in files
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recommendation:
    """One place of a list.

    Attributes:
        place: 1 for the best.
        item_id: as in the source.
        title: the item's short text.
        log_probability: of the item's tokens after the prompt, in nats.
    """

    place: int
    item_id: str
    title: str
    log_probability: float


@dataclass(frozen=True)
class Exported:
    """A folder written by :func:`export_model`. Weights are read, and checked, when they are first needed.

    Attributes:
        folder: where it is.
        about: what ``recnb.json`` says.
        item_ids, titles: N texts each.
        codes: (N, L) integers.
        device: ``cpu``, ``cuda`` or ``mps``.
        decode: the run's beam width, normalisation and batch size.
    """

    folder: Path
    about: dict[str, Any]
    item_ids: list[str]
    titles: list[str]
    codes: np.ndarray
    device: str
    decode: DecodeConfig

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        top: int = 10,
        beam: int | None = None,
        exclude_history: bool = False,
    ) -> list[list[Recommendation]]:
        """The items most probable after each history.

        Args:
            histories: U histories of item ids, oldest first; the model sees the latest T of each.
            top: length of the lists.
            beam: W, beams of the search; None: the run's, which gives the lists that the run evaluated. A search with
                another width may find other items.
            exclude_history: leave out what stands in the user's history, seen by the model or not.

        Returns:
            U lists of ``top`` :class:`Recommendation`, best first.

        Raises:
            RecnbError: an empty history, an unknown item (names the nearest), or more places asked for than beams or
                items; said before any weights are read.
            ArtifactError: a file of the folder is damaged.
            ResourceError: there is no such device.
        """
        rows = [self.numbers(history) for history in histories]
        seen = [np.unique(row) if exclude_history else row[:0] for row in rows]
        widths = np.array([self._width(top, beam, len(self.item_ids) - len(out)) for out in seen], dtype=np.int64)
        found: list[list[Recommendation]] = [[] for _ in rows]
        for width in np.unique(widths).tolist():  # one value, but for tiny catalogues
            users = np.flatnonzero(widths == width).tolist()
            items, scores = self._search([rows[u] for u in users], width, [seen[u] for u in users])
            for user, line, values in zip(users, items[:, :top].tolist(), scores.tolist(), strict=True):
                found[user] = self._listed(line, values)
        return found

    def numbers(self, history: Sequence[str]) -> np.ndarray:
        """Item ids -> (T',) item numbers.

        Raises:
            RecnbError: no id at all, or one that is not in the catalogue.
        """
        if isinstance(history, str) or not len(history):
            raise RecnbError("the history is empty: expected at least one item id, oldest first")
        for item in history:
            if item not in self._number:
                close = difflib.get_close_matches(item, self.item_ids, n=3, cutoff=0.0)
                raise RecnbError(
                    f"no item {item!r} among the {len(self.item_ids)} of {self.folder}; nearest: "
                    + ", ".join(map(repr, close))
                )
        return np.array([self._number[item] for item in history], dtype=np.int64)

    def split(self, values: Sequence[str]) -> list[str]:
        """Ids from a command line: a value that is an id is taken whole, any other is cut at its commas."""
        parts = [[value] if value in self._number else value.split(",") for value in values]
        return [item.strip() for part in parts for item in part if item.strip()]

    @cached_property
    def _number(self) -> dict[str, int]:
        return {item: number for number, item in enumerate(self.item_ids)}

    def _width(self, top: int, beam: int | None, room: int) -> int:
        """Beams for one search; never more than there are items to list."""
        asked = self.decode.beam if beam is None else beam
        if min(top, asked) < 1:
            raise RecnbError(f"top {top}, beam {asked}: expected at least 1 of each")
        if top > room:
            raise RecnbError(f"top {top} is more than the {room} items that can be listed; nearest valid: {room}")
        if top > asked:
            raise RecnbError(f"top {top} is more than the beam of {asked}; expected top {asked}, or a beam of {top}")
        return min(asked, room)

    def _search(self, rows: list[np.ndarray], width: int, seen: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Histories as item numbers -> items (U, W) and scores (U, W)."""
        from scipy.sparse import csr_matrix

        from recnb.decode import recommend
        from recnb.tasks import seqrec_prompts

        model, vocabulary, trie = self._loaded
        settings = self.about["inference"]
        shown = np.full((len(rows), settings["max_history"]), -1)  # (U, T), filled on the left
        for place, row in enumerate(rows):
            latest = row[-shown.shape[1] :]
            shown[place, shown.shape[1] - len(latest) :] = latest
        tasks = TasksConfig(separator=settings["separator"])
        prompts = seqrec_prompts(vocabulary, shown, tasks, settings["con_before"])
        ends = np.cumsum([0, *map(len, seen)])
        columns = np.concatenate(seen)
        exclude = csr_matrix((np.ones(len(columns), bool), columns, ends), (len(rows), len(self.item_ids)))
        config = self.decode.model_copy(update={"beam": width})
        return recommend(model, prompts, trie, config, exclude if exclude.nnz else None, pad_id=vocabulary.pad_id)

    def _listed(self, items: list[int], scores: list[float]) -> list[Recommendation]:
        return [
            Recommendation(place, self.item_ids[item], self.titles[item], score)
            for place, (item, score) in enumerate(zip(items, scores, strict=False), 1)
        ]

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, Vocabulary, Trie]:
        """The model that validation chose, its vocabulary and the prefix tree; float32 on a CPU, else as in the run."""
        import torch

        from recnb.model import read_model
        from recnb.trie import Trie

        _check_device(self.device)
        _check_files(self.folder, self.about, set(self.about["files"]))
        adapter = self.folder / ADAPTER if self.about["inference"]["adapter"]["chosen_on_validation"] else None
        dtype = torch.float32 if self.device == "cpu" else getattr(torch, self.about["dtype"])
        model, vocabulary = read_model(self.folder, self.codes, adapter, self.device, dtype)
        return model, vocabulary, Trie.from_tokens(vocabulary.item_tokens)


def load_export(folder: str | Path, device: str = "cpu") -> Exported:
    """Open a folder written by :func:`export_model`; takes no time, weights wait until they are needed.

    Args:
        folder: the exported folder.
        device: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ArtifactError: no such folder, not an export, one of a format this version does not read, or a file of the
            catalogue does not match its checksum.
    """
    folder = Path(folder).expanduser()
    about = _read_about(folder)
    _check_files(folder, about, {ITEMS, INDEX})
    with (folder / ITEMS).open(encoding="utf-8", newline="\n") as lines:
        rows = [json.loads(line) for line in lines]
    try:
        decode = DecodeConfig.model_validate(about["inference"]["decode"])
    except (KeyError, ValidationError):
        raise ArtifactError(f"{folder / ABOUT}: no usable settings under inference.decode; export again") from None
    if about["inference"]["instruction"] != list(TEMPLATES["seqrec"][0]):
        raise ArtifactError(
            f"{folder} was trained on the instruction {about['inference']['instruction'][0]!r}, which this recnb no "
            f"longer writes; use recnb at commit {about['commit']}, or train and export again"
        )
    codes = np.array([row["codes"] for row in rows], dtype=np.int64)
    ids, titles = ([row[name] for row in rows] for name in ("item_id", "title"))
    return Exported(folder, about, ids, titles, codes, device, decode)


def as_table(found: Sequence[Recommendation]) -> str:
    """A list for a terminal: place, item id, title, log-probability; control characters in texts are not printed."""
    rows = [("place", "item_id", "title", "log-probability")]
    rows += [(str(r.place), _printable(r.item_id), _printable(r.title), f"{r.log_probability:.4f}") for r in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[3]]) for row in rows)


def as_json(history: Sequence[str], found: Sequence[Recommendation]) -> str:
    """A list for another program."""
    return json.dumps({"history": list(history), "recommendations": [asdict(r) for r in found]}, indent=1)


def _printable(text: str) -> str:
    """One line of at most ``WIDEST`` characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"


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


def _nearest_folder(folder: Path) -> str:
    """``"; nearest: X"`` among the exports beside the folder that is not there."""
    beside = [path.parent for path in folder.absolute().parent.glob(f"*/{ABOUT}")]
    close = difflib.get_close_matches(folder.name, [path.name for path in beside], n=1, cutoff=0.3)
    return f"; nearest: {folder.parent / close[0]}" if close else ""


def _check_files(folder: Path, about: dict[str, Any], names: set[str]) -> None:
    for name in sorted(names):
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{path} is gone; export again, or fetch the whole folder again")
        if store.hash_artifact(path) != about["files"].get(name, {}).get("sha256"):
            raise ArtifactError(f"{path} does not match its checksum in {ABOUT}: damaged or changed, so it is not used")


def _check_device(device: str) -> None:
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device):
        usable = ", ".join(name for name, found in there.items() if found)
        raise ResourceError(f"device '{device}': not usable here; expected {usable}")
