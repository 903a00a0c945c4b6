"""Vectors in a prompt: item i stands in it as the token id V + i, and the embedding layer fills that place.

V are the rows of a model's own embedding table, so a slot is an id that no text has. What is filled in is
``projector(table[i])``, with the frozen item table of a recommender (LLaRA, arXiv 2312.02445, section 4.2), after
whatever scale the model's own layer has: Gemma multiplies by the root of its width inside that layer. As slots are ids,
caches, trees, trainers and adapters need not know of them. Shown in ``notebooks/rsllm/04_prompts_and_slots.ipynb``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recnb.artifacts import read_json, write_folder_atomic, write_json
from recnb.errors import ArtifactError, RecnbError
from recnb.llm.backbone import causal_lm
from recnb.llm.settings import SlotsConfig

logger = logging.getLogger(__name__)
_WEIGHTS, _PAGE = "slots.safetensors", "slots.json"


class SlotEmbedding(nn.Module):
    """The embedding layer of a model that also reads slots; put in the place of the model's own.

    Ids below V are words, V + i is item i, V + N + r the state of user r (:meth:`users_are`). The head, tied or not,
    stays the table of the words: a slot is read, and never written.

    Args:
        words: the model's own layer, V rows, its scale inside.
        table: (N, d_rec) item vectors, kept frozen. The projector sees them centred and of unit variance.
        projector: (..., d_rec) -> (..., d).

    Attributes:
        length: what projected vectors are multiplied by; scalar, not trained.
        rows: (N + R, d_rec) what the projector is given: items, then users, of whom there are none at first; not saved.
    """

    table: Tensor
    length: Tensor
    centre: Tensor
    spread: Tensor
    rows: Tensor

    def __init__(self, words: nn.Module, table: Tensor, projector: nn.Module) -> None:
        super().__init__()
        self.words, self.projector = words, projector
        table, where = table.detach().float(), next(words.parameters()).device
        self.register_buffer("table", table)
        self.register_buffer("length", torch.ones(()))
        self.register_buffer("centre", table.mean(0), persistent=False)
        self.register_buffer("spread", (table - table.mean(0)).std().clamp(min=1e-8), persistent=False)
        self.register_buffer("rows", (table - self.centre) / self.spread, persistent=False)
        self.to(where)

    @property
    def weight(self) -> Tensor:
        """(V, d) the words' table."""
        return self.words.weight

    @property
    def num_embeddings(self) -> int:
        """V."""
        return len(self.words.weight)

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.table)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids -> (..., d) vectors.

        Raises:
            RecnbError: a slot without a row: an item that is not of the table, or a user before users are given.
        """
        slots = ids >= self.num_embeddings
        vectors = self.words(ids.masked_fill(slots, 0))
        if not bool(slots.any()):
            return vectors
        filled = self.vectors(ids[slots] - self.num_embeddings)
        return vectors.masked_scatter(slots[..., None], filled.to(vectors.dtype))

    def vectors(self, rows: Tensor) -> Tensor:
        """(n,) items, or N + rows of the users -> (n, d) what stands in their slots."""
        if len(rows) and int(rows.max()) >= len(self.rows):
            known = f"{self.n_items:,} items and {len(self.rows) - self.n_items:,} users"
            raise RecnbError(f"slot {int(rows.max())}: the embedding has {known}; give users by `users_are`")
        return self.projector(self.rows[rows]) * self.length

    def users_are(self, states: Tensor | np.ndarray) -> None:
        """Fill the slots V + N + r with states (R, d_rec), as the table's recommender gives them, from now on."""
        given = torch.as_tensor(states, dtype=self.table.dtype, device=self.table.device)
        self.rows = torch.cat([self.rows[: self.n_items], (given - self.centre) / self.spread])

    @torch.no_grad()
    def scale_to(self, norm: float) -> None:
        """Choose :attr:`length` so that the slots of all items are ``norm`` long in the mean."""
        self.length.fill_(1.0)
        self.length.fill_(norm / max(self.norm(), 1e-8))

    @torch.no_grad()
    def norm(self) -> float:
        """Mean length of the slots of all items."""
        return float(self.vectors(torch.arange(self.n_items, device=self.table.device)).norm(dim=1).mean())


def make_projector(kind: str, inner: int, width: int) -> nn.Module:
    """``mlp``: Linear(d_rec -> d), GELU, Linear(d -> d), with biases (LLaRA's); ``linear``: one Linear."""
    first = nn.Linear(inner, width)
    return nn.Sequential(first, nn.GELU(), nn.Linear(width, width)) if kind == "mlp" else first


def add_slots(
    model: Any, table: Tensor | np.ndarray, config: SlotsConfig, title_ids: Sequence[np.ndarray], seed: int
) -> SlotEmbedding:
    """Let a model read slots: its embedding layer is replaced in place, and a new projector drawn by ``seed``.

    Args:
        model: a causal LM, also wrapped by peft; one that has slots already gets new ones.
        table: (N, d_rec) item vectors; title_ids: (N,) token ids of each title.
        config: projector and scale; with ``scale: title`` slots begin as long as title tokens are in the mean. Both
            lengths are logged.

    Raises:
        RecnbError: a table with values that are no numbers.
    """
    vectors = torch.as_tensor(np.asarray(table), dtype=torch.float32)
    if vectors.ndim != 2 or not bool(vectors.isfinite().all()):
        raise RecnbError(f"item table of shape {tuple(vectors.shape)}: expected (N, d_rec) of finite numbers")
    words = words_of(model)
    torch.manual_seed(seed)
    projector = make_projector(config.projector, vectors.shape[1], words.weight.shape[1])
    slots = SlotEmbedding(words, vectors, projector)
    wanted = title_norm(words, title_ids)
    if config.scale == "title":
        slots.scale_to(wanted)
    logger.info("mean length: tokens of titles %.3f, slots %.3f", wanted, slots.norm())
    causal_lm(model).set_input_embeddings(slots)
    return slots


def words_of(model: Any) -> Any:
    """A model's own embedding layer, with or without slots around it."""
    layer = causal_lm(model).get_input_embeddings()
    return layer.words if isinstance(layer, SlotEmbedding) else layer


@torch.no_grad()
def title_norm(words: nn.Module, title_ids: Sequence[np.ndarray]) -> float:
    """Mean length of the vectors that a layer returns for all tokens of all titles."""
    ids, counts = np.unique(np.concatenate(list(title_ids)), return_counts=True)
    where = next(words.parameters()).device
    norms = words(torch.from_numpy(ids.astype(np.int64)).to(where)).float().norm(dim=1).cpu().numpy()
    return float((norms * counts).sum() / counts.sum())


def save_slots(slots: SlotEmbedding, folder: Path) -> None:
    """Write table, projector and length (safetensors) and what they are (JSON), whole or not at all; not the words."""
    state = {name: part.contiguous() for name, part in slots.state_dict().items() if not name.startswith("words.")}
    kind = "linear" if isinstance(slots.projector, nn.Linear) else "mlp"
    width = slots.weight.shape[1]
    page = {"projector": kind, "n_items": slots.n_items, "inner": slots.table.shape[1], "width": width}

    def fill(path: Path) -> None:
        save_file(state, path / _WEIGHTS)
        write_json(path / _PAGE, page)

    write_folder_atomic(folder, fill)


def load_slots(folder: Path, model: Any, n_items: int | None = None) -> SlotEmbedding:
    """What :func:`save_slots` wrote, put into a model in place of its embedding layer.

    Args:
        folder: where it lies; model: a causal LM of the width that the projector was made for.
        n_items: N of the catalogue; none: not checked.

    Raises:
        ArtifactError: a file is missing or damaged, the projector is of another width, the table of another N.
    """
    words, page = words_of(model), read_json(folder / _PAGE)
    width = words.weight.shape[1]
    for name, found in (("width", width), ("n_items", n_items)):
        if found is not None and page.get(name) != found:
            said = f"{name} is {page.get(name)}, expected {found}: slots of another model or catalogue"
            raise ArtifactError(f"{folder / _PAGE}: {said}")
    try:
        state = load_file(folder / _WEIGHTS)
        slots = SlotEmbedding(words, state["table"], make_projector(page["projector"], page["inner"], width))
        slots.load_state_dict(state | {f"words.{name}": part for name, part in words.state_dict().items()})
    except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder}: no slots as save_slots writes them: {error}") from None
    causal_lm(model).set_input_embeddings(slots)
    return slots
