"""E4SRec (arXiv 2312.02443): a language model reads item vectors as if they were words, a head over all items answers.

An instruction, then one slot per item of the history. Every slot predicts the next item, so that one pass over a window
of T items trains T targets, where the release trains one. It is trained as SASRec is: only the body differs.
Question: does the pretrained body matter? Controls: the same body with random weights, and none.
"""

from __future__ import annotations

from functools import partial, partialmethod
from typing import Any, cast

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from recnb.data.schema import Sequences
from recnb.gallery.interface import Bench, Learned
from recnb.gallery.llmseqsim import Similar
from recnb.gallery.recipe import Body, E4srecConfig
from recnb.llm.ranker import trained_parameters
from recnb.llm.ranking_prompts import Prompt
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

    cuts_move = False  # a body reads empty places, too

    def __init__(self, n_items: int, config: E4srecConfig, length: int, *, causal: Any, beginning: np.ndarray,
                 table: np.ndarray, titles: list[np.ndarray], body: Body) -> None:  # fmt: skip
        super().__init__(n_items, config.model_copy(update={"width": table.shape[1]}), length)
        self.items.weight.requires_grad_(False)[:n_items] = torch.from_numpy(table)
        causal.load_state_dict((type(causal)(causal.config) if body == "random" else causal).state_dict())
        own = causal.requires_grad_(False)
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
        mask = nn.functional.pad((windows >= 0).long(), (len(self.beginning), 0), value=1)
        asked = {"attention_mask": mask, "position_ids": mask.cumsum(1) - 1, "use_cache": False}
        return self.out(self.body(input_ids=ids, **asked).last_hidden_state[:, len(self.beginning) :])

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What is trained, a small part; the rest is as it was given."""
        trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
        return {name: part for name, part in super().state_dict(*args, **kwargs).items() if name in trained}

    load_state_dict = partialmethod(NextItemEncoder.load_state_dict, strict=False)  # takes that back


class Slotted(Similar):
    """A row whose prompt is the beginning and a vector for each item."""

    def prompt(self, history: np.ndarray, candidates: np.ndarray) -> Prompt:
        """No candidate stands in it."""
        slots, words = cast(E4SRec, self.scorer).slots, cast(E4SRec, self.scorer).beginning.cpu().numpy()
        ids = np.concatenate([words, slots.num_embeddings + history[history >= 0].astype(np.int64)])
        return Prompt(ids, {"history": slice(len(words), len(ids))}, slots.num_embeddings)


def rankers(bench: Bench) -> list[Similar]:
    """A row per body; of every person the latest windows are trained on."""
    config, held, prompts = bench.gallery.e4srec, bench.held, bench.prompts
    asked, sasrec = (held.histories["valid"], held.targets["valid"]), cast(SASRec, bench.models["sasrec"])
    length = asked[0].shape[1]
    latest = held.train.pad(config.windows * length + 1 if config.windows else int(held.train.lengths.max()))
    train = Sequences(np.append(0, (latest >= 0).sum(1).cumsum()), latest[latest >= 0])
    words = np.concatenate([prompts.lead, prompts.said(f"{prompts.wording.head}\n")])  # no chat: nothing is written
    rows, given = list[Similar](), {"beginning": words, "table": sasrec.item_table(), "titles": prompts.title_ids}
    for body in config.bodies:
        causal = bench.load()
        made: Any = partial(E4SRec, causal=causal, body=body, **given)
        same: Any = {"seed": bench.seed, "validation": asked, "keep": bench.keep / f"e4srec-{body}.pt"}
        model = train_sequential(train, bench.n_items, config, length, encoder=made, device=str(causal.device), **same)
        learned = Learned(trained_parameters(model), len(model.log) * (len(train.items) - len(train)))
        rows.append(Slotted("e4srec" + f"/{body}" * (body != "pretrained"), model, "item head", learned))
    return rows
