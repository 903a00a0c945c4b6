"""E4SRec (arXiv 2312.02443): a language model reads item vectors as if they were words, a head over all items answers.

An instruction, then one slot per item of the history. Every slot predicts the next item, so that one pass over a window
of T items trains T targets, where the release trains one. It is trained as SASRec is: only the body differs.
Question: does the pretrained body matter? Controls: the same body with random weights, and none.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

from recnb.data.schema import Sequences
from recnb.gallery.interface import Bench, CatalogueRow, Learned
from recnb.gallery.recipe import Body, E4srecConfig
from recnb.llm.settings import SlotsConfig
from recnb.llm.slots import add_slots
from recnb.recommenders.next_item import NextItemEncoder, train_sequential
from recnb.recommenders.sasrec import SASRec

MLP = ["gate_proj", "up_proj", "down_proj"]  # where the release puts LoRA


class E4SRec(NextItemEncoder):
    """``score(h, i) = <A LLM(words, slots of h)_last, E[i]>``, E (N, d_rec) SASRec's, frozen; slots and A are learned.

    ``causal`` is changed in place. Bodies: ``pretrained``: LoRA on its MLP; ``random``: the same, its weights drawn;
    ``frozen``: no LoRA; ``none``: a slot is its own state. ``beginning`` (P,) and ``titles`` are token ids.
    """

    title = "E4SRec"

    def __init__(self, n_items: int, config: E4srecConfig, length: int, *, causal: Any, beginning: np.ndarray,
                 table: np.ndarray, titles: list[np.ndarray], body: Body) -> None:  # fmt: skip
        super().__init__(n_items, config.model_copy(update={"width": table.shape[1]}), length)
        self.items.weight.requires_grad_(False)[:n_items] = torch.from_numpy(table)
        own = (type(causal)(causal.config) if body == "random" else causal).requires_grad_(False)
        if body in ("pretrained", "random"):
            lora = LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=MLP)
            own = get_peft_model(own, lora).get_base_model()
        self.slots = add_slots(own, table, SlotsConfig(projector="linear"), titles, int(torch.randint(2**31, ())))
        self.body = None if body == "none" else own.base_model
        self.out = nn.Linear(self.slots.weight.shape[1], table.shape[1])
        self.beginning = nn.Buffer(torch.from_numpy(beginning), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """(B, T, d_rec) states of windows (B, T) int64, filled with -1 on the left."""
        ids = torch.where(windows < 0, 0, windows + self.slots.num_embeddings)
        if self.body is None:
            return self.out(self.slots(ids))
        ids = torch.cat([self.beginning.expand(len(ids), -1), ids], dim=1)  # (B, P + T)
        mask = functional.pad((windows >= 0).long(), (len(self.beginning), 0), value=1)
        asked = {"attention_mask": mask, "position_ids": mask.cumsum(1) - 1, "use_cache": False}
        return self.out(self.body(input_ids=ids, **asked).last_hidden_state[:, len(self.beginning) :])

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What is trained, a small part; the rest is as it was given."""
        trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
        return {name: part for name, part in super().state_dict(*args, **kwargs).items() if name in trained}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Take back what :meth:`state_dict` gave."""
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def rankers(bench: Bench) -> list[CatalogueRow]:
    """A row per body; every person's latest windows are trained on."""
    config, length, prompts = bench.gallery.e4srec, bench.histories.shape[1], bench.prompts
    latest = bench.train.pad(config.windows * length + 1 if config.windows else int(bench.train.lengths.max()))
    train = Sequences(np.append(0, (latest >= 0).sum(1).cumsum()), latest[latest >= 0])
    words, sasrec = prompts.said(f"{prompts.before}{prompts.words.head}\n"), cast(SASRec, bench.models["sasrec"])
    rows = []
    for body in config.bodies:
        made: Any = partial(E4SRec, causal=bench.load(), beginning=np.concatenate([prompts.lead, words]),
                            table=sasrec.item_table(), titles=prompts.title_ids, body=body)  # fmt: skip
        model = train_sequential(train, bench.n_items, config, length, seed=bench.seed, encoder=made,
                                 validation=(bench.histories, bench.sets.targets), keep=bench.keep / f"e4srec-{body}.pt")
        name = "e4srec" if body == "pretrained" else f"e4srec/{body} body"
        learned = Learned.of(model, len(model.log) * (len(train.items) - len(train)))
        rows.append(CatalogueRow(name, "item head", learned, model))
    return rows
