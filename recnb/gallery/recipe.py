"""The gallery's recipe and stages: one harness, many small systems."""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from recnb.data.settings import DATA, DataConfig, SplitConfig
from recnb.errors import nearest
from recnb.evaluation.settings import CANDIDATES, CandidatesConfig
from recnb.llm.settings import BackboneConfig, PromptsConfig, SlotsConfig, TuneConfig
from recnb.recommenders.settings import BaselinesConfig, SequentialConfig, TigerConfig
from recnb.settings import Positive, Problem, Rate, Recipe, Section, Share, StageSpec

Body = Literal["pretrained", "frozen", "random", "none"]
_OWN = {"__init__", "interface", "recipe", "figures", "table", "cost", "exports", "chat"}  # no rows
SYSTEMS: tuple[str, ...] = tuple(
    sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in _OWN)
)


class E4srecConfig(SequentialConfig):
    """one_table: E4SRec; its width is that of SASRec's table."""

    dropout: Share = Field(0.1, description="on slots and LoRA's input")
    epochs: Positive = Field(3, description="at most; early stopping decides (release: 3)")
    batch_size: Positive = Field(16, description="windows of T items per step")
    learning_rate: Rate = Field(1e-3, description="AdamW's (release: 3e-4, for a body of 70B weights)")
    repeat_bias: bool = Field(True, description="learn one number that is added to the scores of items in the window")
    rank: Positive = Field(16, description="of LoRA, on the MLP's projections (release: 16)")
    alpha: Positive = Field(16, description="LoRA's scale (release: 16)")
    windows: int = Field(
        1, ge=0, description="latest windows of T items that each person's training sequence gives; 0: all of it"
    )
    bodies: list[Body] = Field(
        ["pretrained", "random", "none"], min_length=1,
        description="what reads the vectors: the model; without LoRA; its weights drawn anew; nothing at all",
    )  # fmt: skip


class GalleryConfig(Section):
    """one_table: which systems stand in it."""

    systems: list[str] = Field(
        ["llmrank", "llamarec", "llmseqsim"], min_length=1, description="files of recnb/gallery, by name"
    )
    exports: list[str] = Field([], description="folders of exported models (`recnb export`) that enter the same table")
    labels: Literal["chosen", "liked"] = Field(
        "chosen", description="tallrec and collm learn to say yes to what was chosen next, and no to another item; or, "
        "as their papers do, yes to what was rated above 3, and no to what was rated lower"
    )  # fmt: skip
    e4srec: E4srecConfig = E4srecConfig()
    tiger: TigerConfig = TigerConfig()
    sasrec_seeds: Positive = Field(3, description="trainings of SASRec, the bar: a user's outcome is their mean")
    cutoffs: list[Positive] = Field([5, 10, 20], min_length=1, description="k of N@k and, on the whole catalogue, R@k")
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="paired bootstrap resamples over users")

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The exported folders."""
        return [root / expanduser(folder) for folder in self.exports]

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """A system that there is not; an export that is not here, or was trained on what the recipe tests."""
        known, write = f"expected {', '.join(SYSTEMS)}", "write it with `recnb export`, or leave it out"
        found = [
            Problem(f"gallery.systems: unknown system '{name}'{nearest(name, SYSTEMS)}", known)
            for name in self.systems if name not in SYSTEMS
        ]  # fmt: skip
        if "llamarec" in self.systems and recipe.candidates.size > len(ascii_uppercase):
            said = f"candidates.size = {recipe.candidates.size}: llamarec has {len(ascii_uppercase)} letters"
            found.append(Problem(said, "expected no more candidates, or gallery.systems without it"))
        if self.labels == "liked" and not recipe.data.may_have_ratings:
            said = f"gallery.labels: liked learns from ratings, and data.source: {recipe.data.source} has none"
            found.append(Problem(said, "expected gallery.labels: chosen, or another source"))
        lacking = [folder for folder in self.files(root, recipe) if not folder.is_dir()]
        found += [Problem(f"gallery.exports: {folder}: no such folder", write) for folder in lacking]
        wrong = seen_in_training(recipe.split) if self.exports else ""
        return [*found, *([Problem(wrong, "change split, or gallery.exports: []")] if wrong else [])]


def seen_in_training(split: SplitConfig) -> str:
    """What is wrong with asking exports about what a recipe's split holds out; empty: nothing."""
    if split.name == "leave-one-out" and split.holdout == "last" and not split.min_rating:
        return ""
    asked = f"split.name {split.name}, split.holdout {split.holdout}, split.min_rating {split.min_rating:g}"
    expected = "expected leave-one-out, last and 0, or gallery.exports: []"
    return f"gallery.exports were trained on what {asked} tests; {expected}"


_ALL = ("data", "split", "models", "candidates", "llm", "prompts", "slots", "tune", "gallery")
STAGES: tuple[StageSpec, ...] = (
    DATA,
    CANDIDATES,
    StageSpec(
        "one_table", _ALL, ("01_data", "03_candidates"), "gallery/one_table",
        ("metrics.json", "ledger.json", "per_user.parquet"), ("scores_*.npy",), trains=True,
    ),
    StageSpec("chat", _ALL, ("01_data", "03_candidates"), "gallery/chat", ("chat.json",)),
)  # fmt: skip


class Gallery(Recipe):
    """A recipe of the gallery."""

    system: Literal["gallery"] = Field("gallery", description="whose recipe this is: a wing of recnb")
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    models: BaselinesConfig = BaselinesConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    llm: BackboneConfig = BackboneConfig()
    prompts: PromptsConfig = PromptsConfig()
    slots: SlotsConfig = SlotsConfig()
    tune: TuneConfig = TuneConfig()
    gallery: GalleryConfig = GalleryConfig()

    stages: ClassVar[tuple[StageSpec, ...]] = STAGES
    evaluation: ClassVar[str] = "one_table"
    among: ClassVar[str] = "in sets of candidates"
    protocol: ClassVar[str] = "The held-out item among candidates drawn once; intervals over users."
    pictures: ClassVar[tuple[str, ...]] = ("one_table-metrics", "one_table-prices", "03_candidates-interval")

    @model_validator(mode="after")
    def _sasrec_is_there(self) -> Self:
        if "sasrec" not in self.models.baselines or "tiger" in self.models.baselines:
            raise ValueError("models.baselines: expected sasrec, whose vectors and scores systems use, and no tiger")
        if (self.slots.table, self.slots.warmup) != ("sasrec", 0):
            raise ValueError("slots: table and warmup are RSLLM's; expected table sasrec and warmup 0 in the gallery")
        return self

    @model_validator(mode="after")
    def _slots_are_filled(self) -> Self:
        if "user" in self.prompts.slots:
            raise ValueError("prompts.slots: user, which collm alone has, by itself; expected history and candidates")
        return self
