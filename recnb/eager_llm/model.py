"""The backbone, its new tokens and the decompression projectors (GCT, §4 of our reading; 04_train)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from recnb.llm.backbone import causal_lm, head_logits
from recnb.recommenders.losses import info_nce

NEXT = "next"  # the item head among the projectors


class Recommender(nn.Module):
    """Backbone plus projectors, with the training loss of §4.

    loss = CE(response) + λ1·InfoNCE_sem + λ2·InfoNCE_beh, where the hidden state of ``[CON]`` goes through a linear
    map to each source's space and is matched (cosine, temperature τ) to the target item's original embedding against
    random items. Samples without one target item do not count; an item is never its own negative.

    A source named ``next`` (ours, not the paper's) gets an item head: the same InfoNCE, of the state of the last token
    before each item of a history with that item (:class:`recnb.eager_llm.fusion.ItemHead` uses it).

    Args:
        backbone: a causal LM with all tokens.
        sources: name -> (N, d) original item embeddings; frozen, held as buffers, not saved with the weights.
        weights: name -> λ; temperature: τ; label_smoothing: of the response's cross-entropy.
        dropout: on the input embeddings while training.
    """

    def __init__(
        self, backbone: PreTrainedModel, sources: dict[str, np.ndarray], weights: dict[str, float],
        temperature: float = 0.1, label_smoothing: float = 0.0, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.backbone = backbone
        self.weights, self.temperature, self.label_smoothing = weights, temperature, label_smoothing
        self.usual_labels: float | None = None  # per sample; given: every label of an epoch weighs the same
        width = backbone.config.get_text_config().hidden_size
        self.projectors = nn.ModuleDict({name: nn.Linear(width, x.shape[1]) for name, x in sources.items()})
        for name, x in sources.items():
            unit = F.normalize(torch.as_tensor(x, dtype=torch.float32), dim=1)
            self.register_buffer(f"items_{name}", unit, persistent=False)

    @property
    def config(self) -> Any:
        """The backbone's configuration: what Trainer and accelerate look for."""
        return self.backbone.config

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Each tensor once, under its first name: a tied head is the table, and safetensors stores no twins."""
        state = super().state_dict(*args, **kwargs)
        first = {(part.data_ptr(), part.shape): name for name, part in reversed(state.items())}
        for name in set(state) - set(first.values()):
            del state[name]
        return state

    def forward(
        self, input_ids: Tensor, predicted: Tensor, con: Tensor, aimed: Tensor, target: Tensor,
        before: Tensor, following: Tensor, negatives: Tensor,
    ) -> dict[str, Tensor]:  # fmt: skip
        """One training pass, the losses in float32 also where the backbone runs under autocast.

        Positions are flat, b * S + s: looked up on a GPU, each would have it waited for. No mask is needed: padding
        stands behind everything that a causal model reads, and without a mask its attention has faster kernels.

        Args:
            input_ids: (B, S), right-padded; predicted: (n,) positions of the tokens to be predicted.
            con: (B,) positions of [CON].
            aimed: (m,) rows with one target item; target: (m,) these items.
            before: (p,) positions before the next item of a history; following: (p,) these items.
            negatives: (M,) items shared by the batch.

        Returns:
            ``loss`` and its parts ``response``, ``semantic``, ``behaviour``, ``next`` (scalars; a part that is off is
            absent).
        """
        embedded = self.dropout(self.backbone.get_input_embeddings()(input_ids))
        body = causal_lm(self.backbone).base_model
        hidden = body(inputs_embeds=embedded, use_cache=False).last_hidden_state.flatten(0, 1)  # (B * S, d)
        with torch.autocast(hidden.device.type, enabled=False):
            parts = {"response": self._response(hidden[predicted - 1], input_ids.flatten()[predicted])}
            for name, projector in self.projectors.items():
                query = projector(hidden[before if name == NEXT else con].float())
                query, wanted = (query, following) if name == NEXT else (query[aimed], target)
                parts[name] = info_nce(query, getattr(self, f"items_{name}"), wanted, negatives, self.temperature)
        share = len(predicted) / (len(input_ids) * self.usual_labels) if self.usual_labels else 1.0
        loss = share * parts["response"] + sum(self.weights[name] * parts[name] for name in self.projectors)
        return {"loss": loss, **parts}

    def _response(self, states: Tensor, wanted: Tensor) -> Tensor:
        """Mean cross-entropy of the labelled tokens (n,), from the states (n, d) before them.

        Logits only where a label is: the head is the dearest layer of a model with a large vocabulary.
        """
        logits = head_logits(self.backbone, states)  # (n, V)
        total = F.cross_entropy(logits, wanted, label_smoothing=self.label_smoothing, reduction="sum")
        return total / max(len(wanted), 1)
