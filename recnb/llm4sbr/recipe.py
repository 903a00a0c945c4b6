"""LLM4SBR's recipe and stages: the sections of the wings it uses, and those that are its own.

What each stage reads, writes and shows stands in its notebook.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from recnb.data.settings import DATA, DataConfig, SessionsConfig, TextField
from recnb.embeddings.settings import SemanticConfig
from recnb.errors import nearest
from recnb.llm4sbr.settings import ANSWERS, IntentsConfig, Source
from recnb.recommenders.settings import BASELINES, BaselinesConfig
from recnb.settings import Judged, Positive, Problem, Recipe, Section, Share, StageSpec, arms_of, read_wing

Weight = Annotated[float, Field(ge=0, le=100)]
Backbone = Literal[
    "srgnn", "tagnn", "gcegnn", "dhcn", "gcsan", "stamp", "narm", "gru4rec-views", "sasrec-views"
]  # fmt: skip
OTHERS = ("llm-infer", "llmseqsim", "llmseqsim-new")  # rows of 08 that need no session model
MAIN = "llm4sbr"  # the arm that the recipe's own settings describe


class LocaliseConfig(SemanticConfig):
    """05_localise: text vectors, and answers replaced by a blend of their nearest items (equations 4 and 5)."""

    encoder: Literal["sentence", "causal-lm"] = Field("sentence", description="sentence encoder, or decoder-only LLM")
    fields: list[TextField] = Field(
        ["title"], min_length=1, description="of an item, embedded apart, then averaged; an answer is read as a title"
    )
    k: int = Field(5, ge=0, description="nearest items that are blended; 0: the answer's own vector")
    weights: Literal["cosine", "softmax"] = Field("cosine", description="of the items found (paper: their cosines)")
    temperature: float = Field(0.1, gt=0, le=10, description="softmax: what cosines are divided by")
    scale: Literal["sum", "mean"] = Field("sum", description="sum: the paper's formula; mean: divided by k (release)")
    centre: bool = Field(False, description="take the mean of the catalogue away before cosines")

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """The encoder is not here."""
        return [replace(found, what=found.what.replace("embeddings.semantic", "localise"))
                for found in super().problems(root, recipe)]  # fmt: skip


class ArmConfig(Section):
    """07_align: one model: whose texts, how they join, how much their loss weighs."""

    source: Source | Literal["recipe"] = Field("recipe", description="whose intents; recipe: intents.source")
    only: Source | Literal["all"] = Field("all", description="use texts only where this source has one: equal terms")
    views: list[Literal["long", "short", "merged"]] = Field(
        ["long", "short"], min_length=1, max_length=2, description="with a text; merged: one text, no view (Normal)"
    )
    fusion: Literal["gate", "concat", "none"] = Field(
        "gate", description="gate: two scalars (paper); concat: texts enter the session vector; none: loss alone"
    )
    weight: Weight = Field(0.1, description="lambda, of alignment and uniformity (paper: 0.1); 0: w/o AU")
    align: Weight = Field(1.0, description="of alignment, inside lambda")
    uniform: Weight = Field(1.0, description="of uniformity, inside lambda")
    uniform_pairs: Literal["all", "other-sessions"] = Field(
        "all", description="pairs that are pushed apart; prefixes of one session are near-copies"
    )
    texts: Literal["each", "long", "short", "merged"] = Field(
        "each", description="of which view; each: its own; else this one's in every view, one text drawn twice"
    )
    dose: Share = Field(0.0, description="share of samples whose text is the answer itself: a leak on purpose")
    start: Literal["random", "text"] = Field("random", description="item table at the start; text: LLM2SRGNN")

    @property
    def heard(self) -> list[str]:
        """The views whose texts it reads."""
        return list(self.views) if self.texts == "each" else [self.texts]

    @model_validator(mode="after")
    def _views_go_together(self) -> Self:
        if len(set(self.views)) < len(self.views) or ("merged" in self.views and len(self.views) > 1):
            raise ValueError("views: long, short or both, or merged alone")
        return self


class AlignConfig(ArmConfig):
    """07_align: the backbone, the model of the recipe, and the arms beside it."""

    backbone: Backbone = Field("srgnn", description="session model; trained as `models` says")
    arms: dict[str, dict[str, Any]] = Field(
        {}, description="further models: a name, and what is different from the recipe's own, e.g. {no-long: {views: "
        "[short]}}"
    )  # fmt: skip

    @cached_property
    def every_arm(self) -> dict[str, ArmConfig]:
        """The recipe's own model, then the others."""
        return arms_of(self, ArmConfig, "align", MAIN)

    @model_validator(mode="after")
    def _arms_are_arms(self) -> Self:
        _ = self.every_arm
        return self


class EvaluateConfig(Section):
    """08_evaluate: cutoffs, intervals, mixtures and published rows."""

    cutoffs: list[Positive] = Field([5, 10, 20], min_length=1, description="k of P@k (here R@k), M@k and N@k")
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="paired bootstrap resamples over sessions")
    mixtures: list[str] = Field(
        ["rules+words"], description="rows that add the scores of several others, a plus between their names; weights "
        "are chosen on validation"
    )  # fmt: skip
    mixture_samples: Positive = Field(4000, description="validation samples on which weights are chosen, drawn once")
    published: str = Field("", description="key of the published rows beside ours (recnb/llm4sbr/published.yaml)")

    @model_validator(mode="after")
    def _published_rows_are_compared_at_ten(self) -> Self:
        if self.published and 10 not in self.cutoffs:
            raise ValueError(f"cutoffs = {self.cutoffs}: expected 10 among them, at which published rows are compared")
        return self

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The comparisons that claims are asked of, besides the run itself."""
        named = {claim["comparison"] for claim in read_wing("recnb.llm4sbr", "claims.yaml")} - {"run"}
        return [root / recipe.paths.reports / "ablations" / f"{name}.json" for name in sorted(named)]


class CasesConfig(Section):
    """09_case_studies: which sessions to look at."""

    sessions: list[Annotated[int, Field(ge=0)]] = Field([], description="numbers of test sessions; empty: drawn")
    random_sessions: int = Field(4, ge=0, le=100, description="test sessions drawn besides the chosen ones")
    other_intents: str | None = Field(None, description="intents of another model to stand beside: a file, or none")

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The intents of another model."""
        return [root / self.other_intents] if self.other_intents else []

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """They are not here."""
        way = "put it there, or --set cases.other_intents=null"
        lacking = [path for path in self.files(root, recipe) if not path.is_file()]
        return [Problem(f"cases.other_intents = {self.other_intents}: no such file", way) for _ in lacking]


STAGES: tuple[StageSpec, ...] = (
    DATA,
    StageSpec(
        "03_sessions", ("data", "sessions"), ("01_data",), "llm4sbr/03_sessions",
        ("clicks.parquet", "sessions.parquet", "sessions.json"),
    ),
    StageSpec(
        "04_intents", ("data", "sessions", "intents"), ("01_data", "03_sessions"), "llm4sbr/04_intents",
        ("intents.parquet", "intents.json"), eases=("intents.batch_tokens", "intents.items"),
    ),
    StageSpec(
        "05_localise", ("data", "sessions", "intents", "localise", "align"), ("01_data", "03_sessions", "04_intents"),
        "llm4sbr/05_localise", ("semantic.npy", "localise.json"), ("vectors_*.npy", "rows_*.npy"),
        eases=("localise.batch_size",),
    ),
    StageSpec(
        "06_session_models", ("data", "sessions", "models"), ("01_data", "03_sessions"), "llm4sbr/06_session_models",
        ("models", "session_models.json"), trains=True, eases=("models.srgnn.batch_size", "data.max_history"),
    ),
    StageSpec(
        "07_align", ("data", "sessions", "models", "align"),
        ("01_data", "03_sessions", "04_intents", "05_localise", "06_session_models"), "llm4sbr/07_align",
        ("arms", "align.json"), trains=True, eases=("models.srgnn.batch_size", "data.max_history"),
    ),
    StageSpec(
        "08_evaluate", ("data", "sessions", "intents", "models", "align", "evaluate"),
        ("01_data", "03_sessions", "04_intents", "05_localise", "06_session_models", "07_align"),
        "llm4sbr/08_evaluate", ("metrics.json", "ledger.json", "per_user.parquet"), ("lists_*_*.npy",),
    ),
    StageSpec(
        "09_case_studies", ("data", "sessions", "intents", "models", "align", "cases"),
        ("01_data", "03_sessions", "04_intents", "05_localise", "06_session_models", "07_align", "08_evaluate"),
        "llm4sbr/09_case_studies", ("cases.json",),
    ),
)  # fmt: skip


_RANKS = "recnb.llm4sbr.ranks:"
JUDGED: dict[str, Judged] = {
    "model": Judged("07_align", f"{_RANKS}model_ranks", sessions=f"{_RANKS}whose"),
    "llm-infer": Judged("05_localise", f"{_RANKS}infer_ranks", sessions=f"{_RANKS}whose"),
    **{name: Judged("03_sessions", f"{_RANKS}baseline_ranks", ("models",), f"{_RANKS}whose")
       for name in BASELINES if name != "tiger"},
}  # fmt: skip


class LLM4SBR(Recipe):
    """A recipe of LLM4SBR."""

    system: Literal["llm4sbr"] = Field("llm4sbr", description="whose recipe this is: a wing of recnb")
    data: DataConfig = DataConfig()
    sessions: SessionsConfig = SessionsConfig()
    intents: IntentsConfig = IntentsConfig()
    localise: LocaliseConfig = LocaliseConfig()
    models: BaselinesConfig = BaselinesConfig()
    align: AlignConfig = AlignConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    cases: CasesConfig = CasesConfig()

    stages: ClassVar[tuple[StageSpec, ...]] = STAGES
    evaluation: ClassVar[str] = "08_evaluate"
    judged: ClassVar[dict[str, Judged]] = JUDGED
    rows: ClassVar[str] = "samples"
    over: ClassVar[str] = "sessions"
    protocol: ClassVar[str] = "Next item of test sessions, ranked among all items; intervals over sessions."
    pictures: ClassVar[tuple[str, ...]] = (
        "08_evaluate-metrics", "03_sessions-graph", "04_intents-report", "05_localise-blend", "07_align-losses",
    )  # fmt: skip

    @model_validator(mode="after")
    def _mixtures_are_of_what_there_is(self) -> Self:
        arms = (MAIN if name == MAIN else f"{MAIN}-{name}" for name in self.align.every_arm)
        there = [*self.models.baselines, self.align.backbone, "rules", "words", *arms, *OTHERS]
        for mixture in self.evaluate.mixtures:
            members = mixture.split("+")
            for name in members:
                if name not in there:
                    expected = f"expected one of {', '.join(there)}{nearest(name, there)}"
                    raise ValueError(f"evaluate.mixtures: {name}: {expected}")
            if len(set(members)) < len(members):
                raise ValueError(f"evaluate.mixtures: {mixture}: expected each row at most once")
        return self

    @model_validator(mode="after")
    def _session_models_need_no_codes(self) -> Self:
        if "tiger" in self.models.baselines or not self.models.baselines:
            raise ValueError("models.baselines: expected at least one, and not tiger: it needs semantic codes")
        return self

    @model_validator(mode="after")
    def _arms_have_texts(self) -> Self:
        own, views = self.intents.source, self.intents.views
        for name, arm in self.align.every_arm.items():
            where = "align" if name == MAIN else f"align.arms.{name}"
            source = own if arm.source == "recipe" else arm.source
            for other in (source, arm.only):
                if other in ANSWERS and other != own:
                    raise ValueError(f"{where}: texts of {other} are not made where intents.source is {own}")
            given = own if source == "shuffled" else source
            if given in ANSWERS and (lacking := [view for view in arm.heard if view not in views]):
                raise ValueError(
                    f"{where}.views: nobody is asked for {', '.join(lacking)}: intents.views is {', '.join(views)}"
                )
        return self
