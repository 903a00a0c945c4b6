"""Settings of language models: the backbone, its adapter, and how lists are decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recnb.settings import Positive, Problem, Section, Share


class BackboneConfig(Section):
    """04_train: the language model, built from sizes or loaded."""

    kind: Literal["scratch", "pretrained"] = Field("scratch", description="built from the sizes below, or loaded")
    model: str = Field("", description="pretrained: hub name, local path, .gguf file, or package:NAME")
    vocabulary: int = Field(2048, ge=300, le=300_000, description="scratch: size of the byte-level BPE on item text")
    width: int = Field(128, ge=8, description="scratch: d_model")
    layers: Positive = Field(2, description="scratch: decoder blocks")
    heads: Positive = Field(4, description="scratch: attention heads")
    feedforward: int = Field(384, ge=8, description="scratch: SwiGLU inner width")
    dropout: Share = Field(0.1, description="scratch: on embeddings and attention")
    tie: bool = Field(True, description="scratch: the head is the embedding table")
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "pretrained" and not self.model:
            raise ValueError("kind: pretrained needs a model")
        if self.kind == "scratch" and self.width % (2 * self.heads):
            raise ValueError("width must be a multiple of 2 x heads")
        return self

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The pretrained model, if it lies in a folder or file."""
        return [root / Path(self.model).expanduser()] if self.model else []

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """The pretrained model is not here."""
        from recnb.llm.pretrained import model_problems

        return model_problems("backbone.model", self.model, root) if self.kind == "pretrained" else []

    def count_weights(self, root: Path) -> int:
        """Those of the sizes above (tables, and per layer the attention's four and the feed-forward's three matrices),
        or of the pretrained model."""
        if self.kind == "pretrained":
            from recnb.llm.pretrained import count_weights

            return count_weights(self.model, root)
        layer = self.width * (4 * self.width + 3 * self.feedforward)
        return self.vocabulary * self.width * (1 if self.tie else 2) + self.layers * layer


class AdapterConfig(Section):
    """A LoRA adapter."""

    rank: Positive = Field(8, description="of LoRA (release: 8)")
    alpha: Positive = Field(32, description="LoRA's scale (release: 32)")
    dropout: Share = Field(0.05, description="on LoRA's input (release: 0.05)")
    train_embeddings: Literal[True, False, "all"] = Field(
        True, description="token embeddings and head along: true: the catalogue's rows; all: every row (release)"
    )


class DecodeConfig(Section):
    """Trie-constrained beam search, wherever lists are made."""

    beam: Positive = Field(20, description="W: items returned per user")
    normalisation: Literal["full", "index", "trie"] = Field(
        "full", description="softmax over V (paper), index tokens, legal children"
    )
    batch_size: Positive = Field(64, description="users decoded together")
