"""E4SRec: a language model reads vectors of items instead of words, and a head over all items says what is next.

Li et al. (arXiv 2312.02443). An instruction in words, then one *slot* per item of the history: its row of SASRec's
table, frozen, through a linear map. Every slot predicts the next item, so that one pass over a window of T items trains
T targets; the release trains one target per prompt. What is a SASRec with another body is trained as one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

from recnb.recommenders.next_item import NextItemEncoder

if TYPE_CHECKING:
    from recnb.gallery.recipe import Body, E4srecConfig

MLP = ["gate_proj", "up_proj", "down_proj"]  # where the release puts LoRA


class E4SRec(NextItemEncoder):
    """``score(h, i) = <A LLM(words, M E[h])_last, E[i]>``, E (N, d_rec) frozen, the maps M and A learned.

    Args:
        n_items, config, length: as of :class:`recnb.recommenders.next_item.NextItemEncoder`.
        causal: the language model; its layers are changed in place where the body is ``pretrained`` or ``frozen``.
        beginning: (P,) token ids of the instruction.
        table: E.
        body: ``pretrained``: LoRA on it; ``frozen``: without; ``random``: LoRA on the same architecture, its weights
            drawn; ``none``: a slot is its own state, so that A and M alone are learned.
    """

    title = "E4SRec"

    def __init__(self, n_items: int, config: E4srecConfig, length: int, *, causal: Any, beginning: np.ndarray,
                 table: np.ndarray, body: Body) -> None:  # fmt: skip
        super().__init__(n_items, config.model_copy(update={"width": table.shape[1]}), length)
        self.items.weight.requires_grad_(False)[:n_items] = torch.from_numpy(table)
        words = causal.get_input_embeddings()(torch.from_numpy(beginning)).detach()  # (P, d), as the layer returns them
        self.register_buffer("words", words, persistent=False)
        self.into, self.out = nn.Linear(self.items.embedding_dim, words.shape[1]), nn.Linear(words.shape[1], table.shape[1])
        nn.init.zeros_(self.into.bias)
        with torch.no_grad():  # slots start as long as words
            self.into.weight *= words.norm(dim=1).mean() / self.into(self.items.weight[:n_items]).norm(dim=1).mean()
        self.dropout = nn.Dropout(config.dropout)
        self.body = None if body == "none" else _body(causal, body, config)

    def forward(self, windows: Tensor) -> Tensor:
        """Hidden states (B, T, d_rec) of windows (B, T) int64, filled with -1 on the left."""
        slots, read = self.dropout(self.into(self.vectors_of(windows))), len(self.words)
        if self.body is None:
            return self.out(slots)
        mask = functional.pad((windows >= 0).long(), (read, 0), value=1)
        vectors = torch.cat([self.words.expand(len(windows), -1, -1), slots], dim=1)  # (B, P + T, d)
        found = self.body(
            inputs_embeds=vectors, attention_mask=mask, position_ids=mask.cumsum(1) - 1, use_cache=False
        )
        return self.out(found.last_hidden_state[:, read:])

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What is trained; the rest, most of it, is as it was given."""
        trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
        return {name: part for name, part in super().state_dict(*args, **kwargs).items() if name in trained}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Take back what :meth:`state_dict` gave."""
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def _body(causal: Any, body: Body, config: E4srecConfig) -> nn.Module:
    """The decoder without its head, everything frozen but LoRA."""
    own = type(causal)(causal.config) if body == "random" else causal
    lora = LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=MLP)
    if body != "frozen":
        own = get_peft_model(own, lora).get_base_model()
    return own.requires_grad_(False).base_model if body == "frozen" else own.base_model
