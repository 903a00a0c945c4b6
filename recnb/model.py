"""The backbone, its new tokens and the decompression projectors (GCT, §4 of our reading; 04_train)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from recnb.pretrained import converted, load_causal_lm, locate
from recnb.recipe import BackboneConfig
from recnb.vocabulary import Vocabulary, train_tokenizer

if TYPE_CHECKING:
    from recnb.store import Stage


NEXT = "next"  # the item head among the projectors
SMALL = 200_000_000  # bytes of weights below which a model is evaluated in float32


def build_tokenizer(config: BackboneConfig, texts: list[str]) -> PreTrainedTokenizerFast:
    """The base tokenizer: learned on the catalogue's text (scratch) or the pretrained model's own."""
    if config.kind == "scratch":
        return train_tokenizer(texts, config.vocabulary)
    tokenizer = AutoTokenizer.from_pretrained(converted(locate(config.model)), local_files_only=True)
    tokenizer.padding_side = "left"
    return tokenizer


def build_backbone(
    config: BackboneConfig, vocabulary: Vocabulary, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """A decoder-only LLM whose embedding table has a row for every token of ``vocabulary``.

    Args:
        config: sizes of a small Llama (scratch), or the name of a pretrained model.
        vocabulary: decides V.
        seed: initial weights.
        device: where the weights go.
        dtype: dtype of pretrained weights; training keeps float32 master weights either way.

    Raises:
        ModelNotFoundError: the pretrained model is not at hand.
    """
    torch.manual_seed(seed)
    if config.kind == "scratch":
        model: PreTrainedModel = LlamaForCausalLM(_llama_config(config, vocabulary))
        model.generation_config.do_sample = False
    else:
        model = load_causal_lm(config.model, dtype=dtype, device="cpu")[0]
        model.resize_token_embeddings(
            max(vocabulary.size, model.get_input_embeddings().num_embeddings), mean_resizing=False
        )
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model.to(device)  # type: ignore[arg-type]


def _llama_config(config: BackboneConfig, vocabulary: Vocabulary) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary.size,
        hidden_size=config.width,
        intermediate_size=config.feedforward,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=2048,
        attention_dropout=config.dropout,
        tie_word_embeddings=config.tie,
        bos_token_id=vocabulary.start[0] if vocabulary.start else None,
        eos_token_id=vocabulary.eos_id,
        pad_token_id=vocabulary.pad_id,
    )


@torch.no_grad()
def initialise_tokens(
    model: PreTrainedModel, vocabulary: Vocabulary, centroids: dict[str, np.ndarray] | None, seed: int
) -> None:
    """Give the added tokens a start: what they stand for, or the mean of the text tokens.

    With centroids, each column's (K, d_source) vectors are centred, projected to d_model by a seeded random
    orthogonal map (so that two sources do not share directions by accident), and scaled to the spread of the text
    embeddings around their mean. A column without centroids (random codes, or published ones without text), and
    ``[CON]``, start at the mean plus small noise; a code that no item has starts at the mean.
    """
    tables = {id(t): t for t in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)}
    rng = np.random.default_rng([seed, 4])
    for table in tables.values():
        text = np.setdiff1d(np.arange(min(vocabulary.size, len(table))), vocabulary.new_ids)
        rows = table[torch.as_tensor(text, device=table.device)].float()
        mean, spread = rows.mean(0).cpu().numpy(), float(rows.std())
        new = mean + 0.1 * spread * rng.standard_normal((len(vocabulary.new_ids), table.shape[1]))
        own = new[:-1].reshape(*vocabulary.index_tokens.shape, -1)  # (L, K, d), a view
        for place, column in enumerate(vocabulary.columns):
            if centroids is not None and column in centroids:
                own[place] = mean + spread * _projected(centroids[column], table.shape[1], rng)
        table[torch.as_tensor(vocabulary.new_ids, device=table.device)] = torch.as_tensor(
            new, dtype=table.dtype, device=table.device
        )


def _projected(vectors: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """(K, d) -> (K, width): centred, mapped by a random orthogonal matrix, unit variance over all entries."""
    used = np.abs(vectors).sum(1) > 0
    centred = np.where(used[:, None], vectors - vectors[used].mean(0), 0.0)
    if centred.shape[1] > width:  # keep the directions that carry the variance
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        centred = centred @ axes[:width].T
    basis, _ = np.linalg.qr(rng.standard_normal((width, width)))
    mapped = centred @ basis[: centred.shape[1]]
    return mapped / max(mapped.std(), 1e-8)


class Recommender(nn.Module):
    """Backbone plus projectors, with the training loss of §4.

    loss = CE(response) + λ1·InfoNCE_sem + λ2·InfoNCE_beh, where the hidden state of ``[CON]`` goes through a linear
    map to each source's space and is matched (cosine, temperature τ) to the target item's original embedding against
    random items. Samples without one target item do not count; an item is never its own negative.

    Args:
        backbone: a causal LM with all tokens.
        sources: name -> (N, d) original item embeddings; frozen, held as buffers, not saved with the weights.
        weights: name -> λ.
        temperature: τ.
        label_smoothing: of the response's cross-entropy.
        dropout: on the input embeddings while training.
        following: (N, d) behavioural embeddings that an item head is to predict from the last token before each item
            of a history; None: no head. Ours, not the paper's: :class:`recnb.fusion.ItemHead` scores items with it.
        following_weight: of the head's loss, the same InfoNCE.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        sources: dict[str, np.ndarray],
        weights: dict[str, float],
        temperature: float = 0.1,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        following: np.ndarray | None = None,
        following_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.backbone = backbone
        self.weights, self.temperature, self.label_smoothing = weights, temperature, label_smoothing
        width = backbone.config.get_text_config().hidden_size
        if following is not None:
            sources, weights = sources | {NEXT: following}, weights | {NEXT: following_weight}
            self.weights = weights
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
        seen: set[tuple[int, torch.Size]] = set()
        for name in list(state):
            identity = (state[name].data_ptr(), state[name].shape)
            if identity in seen:
                del state[name]
            seen.add(identity)
        return state

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        con: torch.Tensor,
        target: torch.Tensor,
        negatives: torch.Tensor,
        following: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """One training pass.

        Args:
            input_ids: (B, S), right-padded.
            attention_mask: (B, S).
            labels: (B, S) bool; True where the token is to be predicted.
            con: (B,) position of [CON].
            target: (B,) item, or -1.
            negatives: (M,) items shared by the batch.
            following: (B, S) item that follows a position as the next of its history, or -1; None: nowhere.

        Returns:
            ``loss`` and its parts ``response``, ``semantic``, ``behaviour``, ``next`` (scalars; a part that is off is
            absent).
        """
        embedded = self.dropout(self.backbone.get_input_embeddings()(input_ids))
        hidden = (
            causal_lm(self.backbone)
            .base_model(inputs_embeds=embedded, attention_mask=attention_mask, use_cache=False)
            .last_hidden_state
        )  # (B, S, d)
        # logits only where a label is: the head is the dearest layer of a model with a large vocabulary
        rows, columns = torch.nonzero(labels[:, 1:], as_tuple=True)
        logits = head_logits(self.backbone, hidden[rows, columns])  # (labels, V)
        response = F.cross_entropy(
            logits, input_ids[rows, columns + 1], label_smoothing=self.label_smoothing, reduction="sum"
        ) / max(len(rows), 1)
        parts = {"response": response}
        summary = hidden[torch.arange(len(con), device=con.device), con].float()  # (B, d)
        for name, projector in self.projectors.items():
            items, states, wanted = getattr(self, f"items_{name}"), summary, target
            if name == NEXT:
                places = torch.zeros_like(input_ids, dtype=torch.bool) if following is None else following >= 0
                states, wanted = hidden[places].float(), input_ids[:0, 0] if following is None else following[places]
            parts[name] = info_nce(projector(states), items, wanted, negatives, self.temperature)
        loss = response + sum(self.weights[name] * parts[name] for name in self.projectors)
        return {"loss": loss, **parts}


def head_logits(causal: Any, states: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
    """What the model's head makes of hidden states: float32 logits, with the final scaling its family applies.

    Args:
        causal: a transformers causal LM.
        states: (n, d) last hidden states.
        tokens: only these ids; a plain linear head then multiplies only their rows.

    Returns:
        (n, V) or (n, len(tokens)) float32.
    """
    head = causal.get_output_embeddings()
    if tokens is not None and type(head) is nn.Linear:
        bias = None if head.bias is None else head.bias[tokens].float()
        # a bfloat16 product would round its result: near ties between items would be decided by that
        logits = nn.functional.linear(states.float(), head.weight[tokens].float(), bias)
    else:
        logits = head(states) if tokens is None else head(states)[:, tokens]
    config = causal.config.get_text_config(decoder=True)
    if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits = logits / scaling
    if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits = logits * scale
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return logits.float()


def info_nce(
    query: torch.Tensor, items: torch.Tensor, target: torch.Tensor, negatives: torch.Tensor, temperature: float
) -> torch.Tensor:
    """InfoNCE of projected summaries against unit item embeddings (§4).

    -log exp(q·e⁺/τ) / (exp(q·e⁺/τ) + Σ_j exp(q·e_j/τ)), cosine similarity, mean over samples with a target.

    Args:
        query: (B, d).
        items: (N, d), rows of unit length.
        target: (B,) positive item, -1 for none.
        negatives: (M,) items; a sample's own positive among them is left out.
        temperature: τ.
    """
    keep = target >= 0
    if not bool(keep.any()):
        return query.sum() * 0.0
    query, target = F.normalize(query[keep], dim=1), target[keep]
    positive = (query * items[target]).sum(1, keepdim=True)  # (B, 1)
    against = query @ items[negatives].T  # (B, M)
    against = against.masked_fill(negatives[None, :] == target[:, None], float("-inf"))
    logits = torch.cat([positive, against], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def causal_lm(backbone: PreTrainedModel) -> PreTrainedModel:
    """The causal LM itself, also when a peft adapter is wrapped around it."""
    return backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone  # type: ignore[operator]


def save_model(folder: Path, recommender: Recommender, vocabulary: Vocabulary, k: int) -> None:
    """Write a Hugging Face folder (weights, tokenizer) plus ``index.json`` and the projectors."""
    from safetensors.torch import save_file

    recommender.backbone.save_pretrained(folder, safe_serialization=True)
    vocabulary.tokenizer.save_pretrained(folder)
    if len(recommender.projectors):
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in recommender.projectors.state_dict().items()},
            folder / "projectors.safetensors",
        )
    (folder / "index.json").write_text(json.dumps({"columns": list(vocabulary.columns), "codes": k}), encoding="utf-8")


def read_model(
    folder: Path,
    codes: np.ndarray,
    adapter: Path | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, Vocabulary]:
    """Load what :func:`save_model` wrote, with a LoRA adapter on top if one is given.

    Args:
        folder: the Hugging Face folder.
        codes: (N, L) item codes.
        adapter: folder of a peft adapter.
    """
    meta = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    vocabulary = Vocabulary.build(tokenizer, meta["columns"], codes, meta["codes"])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    return model.to(device).eval(), vocabulary


def load_trained(stage: Stage, adapter: bool = True) -> tuple[PreTrainedModel, Vocabulary]:
    """The trained model of a run, from its verified artifacts; without the adapter if annealing was off.

    A small model is kept in float32 whatever the run's dtype: it costs nothing, and rounding would decide near ties.
    """
    codes = stage.read("03_index", "codes.npy")
    facts = stage.read("05_anneal", "anneal.json") if adapter else {"adapter": False}
    folder = stage.path("05_anneal", "adapter") if facts["adapter"] else None
    runtime, trained = stage.runtime, stage.path("04_train", "model")
    small = sum(path.stat().st_size for path in trained.glob("*.safetensors")) < SMALL
    return read_model(trained, codes, folder, runtime.device, torch.float32 if small else runtime.dtype)
