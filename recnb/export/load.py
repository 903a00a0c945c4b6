"""An exported folder, opened: recommend from it without the run, the recipe or the project that made it.

    model = load_export("exports/toy")                        # checks the folder; weights are read when first needed
    model.recommend([["i0003", "i0017"]], top=5)              # one list of items per history
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recnb.eager_llm.recipe import TasksConfig
from recnb.eager_llm.templates import TEMPLATES
from recnb.errors import ArtifactError, RecnbError, ResourceError, nearest
from recnb.export.folder import ADAPTER, INDEX, ITEMS, About, check_files, read_about
from recnb.style import aligned, plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from recnb.index.trie import Trie
    from recnb.llm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Recommendation:
    """One place of a list."""

    place: int  # 1 for the best
    item_id: str  # as in the source
    title: str  # the item's short text
    log_probability: float  # of the item's tokens after the prompt, in nats


@dataclass(frozen=True)
class Exported:
    """A folder written by :func:`export_model`. Weights are read, and checked, when they are first needed."""

    folder: Path
    about: About  # what recnb.json says
    item_ids: list[str]  # N
    titles: list[str]  # N
    codes: np.ndarray  # (N, L) integers
    device: str  # cpu, cuda or mps

    def recommend(
        self, histories: Sequence[Sequence[str]], top: int = 10, beam: int | None = None, exclude_history: bool = False
    ) -> list[list[Recommendation]]:
        """The ``top`` items most probable after each of U histories, best first.

        Args:
            histories: of item ids, oldest first; the model sees the latest T of each.
            beam: W, beams of the search; None: the run's, which gives the lists that the run evaluated. A search with
                another width may find other items.
            exclude_history: leave out what stands in the user's history, seen by the model or not.

        Raises:
            RecnbError: an empty history, an unknown item (names the nearest), or more places asked for than beams or
                items; said before any weights are read.
            ArtifactError: a file of the folder is damaged.
            ResourceError: there is no such device.
        """
        rows = [self._numbers(history) for history in histories]
        seen = [np.unique(row) if exclude_history else row[:0] for row in rows]
        beam = self.about.inference.decode.beam if beam is None else beam
        _check_places(top, beam, room=len(self.item_ids) - max(map(len, seen), default=0))
        items, scores = (found[:, :top].tolist() for found in self._search(rows, beam, seen))
        lists = (enumerate(zip(*user, strict=True), 1) for user in zip(items, scores, strict=True))
        return [[Recommendation(n, self.item_ids[i], self.titles[i], score) for n, (i, score) in own] for own in lists]

    def scores(self, histories: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]]) -> np.ndarray:
        """Log-probability of given items after each of U histories: what :func:`recnb.llm.score.score_items` returns,
        the candidates read as one tree behind each prompt.

        Args:
            histories: of item ids, oldest first; the model sees the latest T of each.
            candidates: of item ids, as many (M) for each history.

        Returns:
            (U, M) float32, in nats, normalised over the whole vocabulary.

        Raises:
            RecnbError, ArtifactError, ResourceError: as of :meth:`recommend`.
        """
        from recnb.llm.scoring import score_answers

        rows, asked = [self._numbers(history) for history in histories], np.stack([*map(self._numbers, candidates)])
        model, vocabulary, _ = self._loaded
        return score_answers(model, self._prompts(rows), list(vocabulary.item_tokens), asked)

    def _numbers(self, history: Sequence[str]) -> np.ndarray:
        """Item ids -> (T',) item numbers."""
        if isinstance(history, str) or not len(history):
            raise RecnbError("the history is empty: expected at least one item id, oldest first")
        if unknown := [item for item in history if item not in self._number]:
            among = f"among the {len(self.item_ids)} of {self.folder}"
            raise RecnbError(f"no item {unknown[0]!r} {among}{nearest(unknown[0], self.item_ids)}")
        return np.array([self._number[item] for item in history], dtype=np.int64)

    def split(self, values: Sequence[str]) -> list[str]:
        """Ids from a command line: a value that is an id is taken whole, any other is cut at its commas."""
        parts = [[value] if value in self._number else value.split(",") for value in values]
        return [item.strip() for part in parts for item in part if item.strip()]

    @cached_property
    def _number(self) -> dict[str, int]:
        return {item: number for number, item in enumerate(self.item_ids)}

    def _search(self, rows: list[np.ndarray], beam: int, seen: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Histories as item numbers, and items to leave out -> items (U, W) and scores (U, W)."""
        from scipy.sparse import csr_matrix

        from recnb.llm.beam import recommend

        model, _, trie = self._loaded
        prompts = self._prompts(rows)
        columns, ends = np.concatenate([*seen, np.empty(0, np.int64)]), np.cumsum([0, *map(len, seen)])
        exclude = csr_matrix((np.ones(len(columns), bool), columns, ends), (len(rows), len(self.item_ids)))
        config = self.about.inference.decode.model_copy(update={"beam": beam})
        return recommend(model, prompts, trie, config, exclude if exclude.nnz else None)

    def _prompts(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        """Token ids of a prompt for each history of item numbers."""
        from recnb.eager_llm.prompts import seqrec_prompts

        settings = self.about.inference
        latest = [row[-settings.max_history :] for row in rows]
        tasks = TasksConfig(separator=settings.separator)
        return seqrec_prompts(self._loaded[1], latest, tasks, settings.con_before)

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, Vocabulary, Trie]:
        """The model that validation chose, its vocabulary and the prefix tree; float32 on a CPU, else as 06 had it."""
        import torch

        from recnb.eager_llm.checkpoint import inference_dtype, read_model
        from recnb.index.trie import Trie

        _check_device(self.device)
        check_files(self.folder, self.about, self.about.files)
        adapter = self.folder / ADAPTER if self.about.inference.adapter.chosen_on_validation else None
        run = torch.float32 if self.device == "cpu" else getattr(torch, self.about.dtype)
        dtype = inference_dtype(self.folder, run)
        model, vocabulary = read_model(self.folder, self.codes, adapter, self.device, dtype)
        return model, vocabulary, Trie.from_tokens(vocabulary.item_tokens)


def load_export(folder: str | Path, device: str = "cpu") -> Exported:
    """Open a folder written by :func:`export_model`; takes no time, weights wait until they are needed.

    Raises:
        ArtifactError: no such folder, not an export, one of a format this version does not read, or a file of the
            catalogue does not match its checksum.
    """
    folder = Path(folder).expanduser()
    about = read_about(folder)
    check_files(folder, about, (ITEMS, INDEX))
    if about.inference.instruction != TEMPLATES["seqrec"][0]:
        raise ArtifactError(
            f"{folder} was trained on the instruction {about.inference.instruction[0]!r}, which this recnb no longer "
            f"writes; use recnb at commit {about.commit}, or train and export again"
        )
    with (folder / ITEMS).open(encoding="utf-8", newline="\n") as lines:
        rows = [json.loads(line) for line in lines]
    ids, titles, codes = ([row[name] for row in rows] for name in ("item_id", "title", "codes"))
    return Exported(folder, about, ids, titles, np.array(codes, dtype=np.int64), device)


def as_table(found: Sequence[Recommendation]) -> str:
    """A list for a terminal: place, item id, title, log-probability; control characters in texts are not printed."""
    rows = [(str(r.place), plain(r.item_id), plain(r.title), f"{r.log_probability:.4f}") for r in found]
    return aligned([("place", "item_id", "title", "log-probability"), *rows])


def as_json(history: Sequence[str], found: Sequence[Recommendation]) -> str:
    """A list for another program."""
    return json.dumps({"history": list(history), "recommendations": [asdict(r) for r in found]}, indent=1)


def _check_places(top: int, beam: int, room: int) -> None:
    if min(top, beam) < 1:
        raise RecnbError(f"top {top}, beam {beam}: expected at least 1 of each")
    if top > room:
        raise RecnbError(f"top {top} is more than the {room} items that can be listed; nearest valid: {room}")
    if top > beam:
        raise RecnbError(f"top {top} is more than the beam of {beam}; expected top {beam}, or a beam of {top}")


def _check_device(device: str) -> None:
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device):
        usable = ", ".join(name for name, found in there.items() if found)
        raise ResourceError(f"device '{device}': not usable here; expected {usable}")
