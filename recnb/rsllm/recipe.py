"""RSLLM's recipe and stages: the sections of the wings it uses, and those that are its own."""

from __future__ import annotations

from functools import cached_property
from os.path import expanduser
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from recnb.data.settings import DATA, DataConfig, SplitConfig
from recnb.errors import DataError
from recnb.evaluation.settings import CANDIDATES, CandidatesConfig
from recnb.llm.settings import BackboneConfig, Noun, PromptsConfig, SlotsConfig, TuneConfig
from recnb.recommenders.settings import BASELINES, BaselinesConfig
from recnb.settings import Judged, Positive, Problem, Recipe, Section, StageSpec, arms_of

_WITH_STATES = ("sasrec", "gru4rec", "caser")  # a state after a history that is compared with the rows of the table
MAIN = "rsllm"  # the row that the recipe's own settings describe


class ArmsConfig(TuneConfig):
    """06_tune: the model of the recipe, and others beside it."""

    arms: dict[str, dict[str, Any]] = Field(
        {}, description="further models: a name, and what is different, e.g. {text: {stages: [{prompt: text}]}}"
    )

    @cached_property
    def every_arm(self) -> dict[str, TuneConfig]:
        """The recipe's own training, then the others."""
        return arms_of(self, TuneConfig, "tune", MAIN)

    @model_validator(mode="after")
    def _arms_are_arms(self) -> Self:
        _ = self.every_arm
        return self


class EvaluateConfig(Section):
    """07_rank: the readings of one model, and what is believed."""

    readings: list[Literal["likelihood", "constrained", "retrieval", "free"]] = Field(
        ["likelihood", "constrained", "retrieval", "free"], min_length=1,
        description="how an answer is read off the model",
    )  # fmt: skip
    reduce: Literal["sum", "mean", "contrast"] = Field(
        "sum", description="likelihood of a title: sum or mean of its tokens; contrast: less that after no history"
    )
    close_users: Positive = Field(
        100, description="test users looked at closely: written answers, all titles, lists turned round, checks"
    )
    elsewhere: dict[Noun, str] = Field(
        {}, description="other catalogues, asked with titles alone: what their items are called, and a folder of "
        "interactions.csv with a split; e.g. {artists: data/lastfm-llara}"
    )  # fmt: skip
    cutoffs: list[Positive] = Field([5, 10, 20], min_length=1, description="k of N@k and, on the whole catalogue, R@k")
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="paired bootstrap resamples over users")
    published: str = Field("", description="key of the published rows beside ours (recnb/rsllm/published.yaml)")

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The other catalogues."""
        return [root / expanduser(folder) for folder in self.elsewhere.values()]

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """They are not here, or not as they should be."""
        way = "put it right, or --set 'evaluate.elsewhere={}'"
        wrong = {folder: _not_windows(root / expanduser(folder)) for folder in self.elsewhere.values()}
        return [Problem(f"evaluate.elsewhere: {folder}: {said}", way) for folder, said in wrong.items() if said]


def _not_windows(folder: Path) -> str:
    """What keeps a folder from being asked about; empty: nothing. It is read whole, as 07 comes last."""
    from recnb.data.held_out import read_windows
    from recnb.data.schema import check_titles

    if not folder.is_dir():
        return "no such folder"
    try:
        dataset, held = read_windows(folder, 1)
        check_titles(dataset)
    except DataError as error:
        return str(error)
    return "" if len(held.users["test"]) else "no user whose split is test"


class CasesConfig(Section):
    """08_case_studies: whom to look at."""

    users: list[int] = Field([], description="user numbers; empty: drawn")
    random_users: int = Field(4, ge=0, le=100, description="test users drawn besides the chosen ones")


_LLM = ("data", "split", "llm", "prompts")
STAGES: tuple[StageSpec, ...] = (
    DATA,
    CANDIDATES,
    StageSpec(
        "04_prompts_and_slots", (*_LLM, "candidates"), ("01_data", "03_candidates"), "rsllm/04_prompts_and_slots",
        ("prompts.json",),
    ),
    StageSpec(
        "05_align", (*_LLM, "models", "slots"), ("01_data", "03_candidates", "04_prompts_and_slots"),
        "rsllm/05_align", ("slots", "align.json"), trains=True,
    ),
    StageSpec(
        "06_tune", (*_LLM, "candidates", "slots", "tune"),
        ("01_data", "03_candidates", "04_prompts_and_slots", "05_align"), "rsllm/06_tune", ("arms", "tune.json"),
        trains=True, eases=("tune.batch_size",),
    ),
    StageSpec(
        "07_rank", (*_LLM, "models", "candidates", "slots", "tune", "evaluate"),
        ("01_data", "03_candidates", "04_prompts_and_slots", "05_align", "06_tune"), "rsllm/07_rank",
        ("metrics.json", "ledger.json", "per_user.parquet"), ("scores_*.npy",),
    ),
    StageSpec(
        "08_case_studies", (*_LLM, "models", "candidates", "slots", "tune", "evaluate", "cases"),
        ("01_data", "03_candidates", "04_prompts_and_slots", "05_align", "06_tune", "07_rank"),
        "rsllm/08_case_studies", ("cases.json",),
    ),
)  # fmt: skip


_RANKS = "recnb.rsllm.ranks:"
JUDGED: dict[str, Judged] = {
    "model": Judged("06_tune", f"{_RANKS}model_ranks", ("evaluate",)),
    **{name: Judged("03_candidates", f"{_RANKS}baseline_ranks", ("models",)) for name in BASELINES if name != "tiger"},
}  # fmt: skip


class RSLLM(Recipe):
    """A recipe of RSLLM."""

    system: Literal["rsllm"] = Field("rsllm", description="whose recipe this is: a wing of recnb")
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    models: BaselinesConfig = BaselinesConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    llm: BackboneConfig = BackboneConfig()
    prompts: PromptsConfig = PromptsConfig()
    slots: SlotsConfig = SlotsConfig()
    tune: ArmsConfig = ArmsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    cases: CasesConfig = CasesConfig()

    stages: ClassVar[tuple[StageSpec, ...]] = STAGES
    evaluation: ClassVar[str] = "07_rank"
    judged: ClassVar[dict[str, Judged]] = JUDGED
    among: ClassVar[str] = "in sets of candidates"
    protocol: ClassVar[str] = "The held-out item among candidates drawn once; intervals over users."
    pictures: ClassVar[tuple[str, ...]] = (
        "07_rank-metrics", "04_prompts_and_slots-prompt", "07_rank-places", "03_candidates-interval",
    )  # fmt: skip

    @model_validator(mode="after")
    def _rows_are_beside(self) -> Self:
        lacking = [name for name in ("popularity", "sasrec") if name not in self.models.baselines]
        if lacking or "tiger" in self.models.baselines:
            said = f"without {', '.join(lacking)}" if lacking else "with tiger, which has lists and no scores"
            raise ValueError(f"models.baselines {said}: expected popularity and sasrec, the bars of every row")
        return self

    @model_validator(mode="after")
    def _table_is_trained(self) -> Self:
        if self.slots.table not in ("text", "random", *self.models.baselines):
            said = f"slots.table: {self.slots.table}, and nobody trains it"
            raise ValueError(f"{said}: expected text, random or one of models.baselines, {self.models.baselines}")
        return self

    @model_validator(mode="after")
    def _slots_are_filled(self) -> Self:
        if "user" in self.prompts.slots and self.slots.table not in _WITH_STATES:
            known = f"expected slots.table {', '.join(_WITH_STATES)}, found {self.slots.table}"
            raise ValueError(f"prompts.slots: user is a recommender's state, as wide as its item table; {known}")
        return self

    @model_validator(mode="after")
    def _stages_list_what_is_asked_or_less(self) -> Self:
        for name, arm in self.tune.every_arm.items():
            for number, stage in enumerate(arm.stages):
                if (listed := stage.candidates or 0) > self.candidates.size:
                    said = f"tune.stages[{number}].candidates: {listed} in {name}"
                    raise ValueError(f"{said}; expected at most candidates.size, {self.candidates.size}")
        return self

    @model_validator(mode="after")
    def _stages_have_something_to_train(self) -> Self:
        for name, arm in self.tune.every_arm.items():
            if self.llm.kind == "pretrained" and not arm.layers and "text" in [one.prompt for one in arm.stages]:
                raise ValueError(f"tune.layers: 0 in {name}, and a stage of text trains LoRA alone; expected above 0")
        return self
