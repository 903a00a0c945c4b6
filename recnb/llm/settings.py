"""Settings of language models: the backbone, its adapter, and how lists are decoded."""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from recnb.settings import Positive, Problem, Rate, Section, Share

Noun = Annotated[str, Field(pattern=r"^[^\W\d_]+( [^\W\d_]+)*$")]


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
        return [root / expanduser(self.model)] if self.model else []

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """The pretrained model is not here."""
        from recnb.llm.pretrained import model_problems

        section = next((name for name, part in recipe if part is self), "backbone")  # llm, in some systems
        return model_problems(f"{section}.model", self.model, root) if self.kind == "pretrained" else []

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


class PromptsConfig(Section):
    """04_prompts_and_slots: what a prompt that ranks shows."""

    noun: Noun = Field("things", description="what items are called in prompts, e.g. films")
    history: int = Field(10, ge=1, le=200, description="latest items that a prompt shows")
    title_tokens: int = Field(24, ge=5, le=256, description="a longer title is cut; cut ones are counted and told")
    brackets: bool = Field(True, description="false: a title is shown without brackets at its end, e.g. a year")
    candidates: bool = Field(True, description="print the candidates; false: the open prompt")
    slots: list[Literal["history", "candidates", "user"]] = Field(
        ["history", "candidates"], description="beside which titles a vector stands; user: one for the whole history"
    )
    vectors_first: bool = Field(False, description="true: before its title, whose every token can then attend to it")


class SlotsConfig(Section):
    """05_align: the vectors in a prompt: whose table, and how it becomes as wide as the language model."""

    table: Literal["sasrec", "gru4rec", "caser", "din", "text", "random"] = Field(
        "sasrec", description="item vectors (frozen); text: an SVD of words; random: the control"
    )
    projector: Literal["mlp", "linear"] = Field("mlp", description="mlp: Linear, GELU, Linear (LLaRA)")
    warmup: int = Field(0, ge=0, description="epochs in which the projector alone learns to meet the titles' vectors")
    scale: Literal["title", "none"] = Field("title", description="title: slots start as long as the tokens of titles")


class LossWeights(Section):
    """06_tune: L = nip L_NIP + tt L_TT + ut L_UT."""

    nip: float = Field(0.85, ge=0, le=100, description="next item prediction: cross-entropy of the answer (1 - rest)")
    tt: float = Field(0.125, ge=0, le=100, description="target in context against target alone")
    ut: float = Field(0.025, ge=0, le=100, description="user against target alone")

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if not self.nip + self.tt + self.ut:
            raise ValueError("nip, tt and ut are all 0, so that nothing is learned; expected one above 0")
        return self


class TuneStage(Section):
    """06_tune: one stage of a training."""

    prompt: Literal["text", "hybrid", "slots", "curriculum"] = Field(
        "hybrid", description="titles, titles and vectors, vectors alone, or hybrid with a share that grows from 0 to 1"
    )
    examples: Positive = Field(900, description="training examples, each once")
    candidates: int | None = Field(None, ge=2, description="how many a prompt of it lists; null: candidates.size")
    weights: LossWeights = LossWeights()


class TuneConfig(Section):
    """06_tune: LoRA and projector on ranking prompts."""

    stages: list[TuneStage] = Field(
        [TuneStage(prompt="text", examples=600), TuneStage(prompt="hybrid", examples=900)], min_length=1,
        description="one after the other, the same weights going on",
    )  # fmt: skip
    rank: Positive = Field(8, description="of LoRA (LLaRA: 8)")
    alpha: Positive = Field(32, description="LoRA's scale (LLaRA: 32)")
    dropout: Share = Field(0.1, description="on LoRA's input (LLaRA: 0.1)")
    layers: Share = Field(1.0, description="share of the blocks, the last ones, that get LoRA")
    batch_size: Positive = Field(16, description="examples per step")
    learning_rate: Rate = Field(4e-4, description="Adam's, after a linear warm-up, cosine to a hundredth")
    temperature: Rate = Field(0.07, description="tau of both contrastive losses")
    both_ways: bool = Field(False, description="contrast rows and columns; false: CALRec's one direction")


class DecodeConfig(Section):
    """Trie-constrained beam search, wherever lists are made."""

    beam: Positive = Field(20, description="W: items returned per user")
    normalisation: Literal["full", "index", "trie"] = Field(
        "full", description="softmax over V (paper), index tokens, legal children"
    )
    batch_size: Positive = Field(64, description="users decoded together")
