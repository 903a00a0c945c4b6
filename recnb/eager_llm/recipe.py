"""EAGER-LLM's recipe and stages: the sections of the wings it uses, and those that are its own.

What each stage reads, writes and shows stands in its notebook.
"""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from recnb.data.settings import DATA, DataConfig
from recnb.embeddings.settings import EmbeddingsConfig
from recnb.index.settings import IndexConfig
from recnb.llm.settings import AdapterConfig, BackboneConfig, DecodeConfig
from recnb.recommenders.settings import BASELINES, BaselinesConfig
from recnb.settings import Judged, Positive, Problem, Rate, Recipe, Section, Share, StageSpec

Task = Literal["seqrec", "item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain"]
TASKS: tuple[Task, ...] = get_args(Task)
Weight = Annotated[float, Field(ge=0, le=100)]


class TasksConfig(Section):
    """04_train: the six tasks, their mixture and their text."""

    mixture: dict[Task, Weight] = Field(
        dict.fromkeys(TASKS, 1.0), description="passes over the task's samples per epoch (0: off, .5: half)"
    )
    separator: str = Field(", ", max_length=8, description="between the items of a history")
    templates: int = Field(10, ge=1, le=10, description="paraphrases per task")
    heldout_text: Share = Field(
        0.05, description="share of items whose text no task shows: comprehension is read there"
    )
    max_text_tokens: Positive = Field(64, description="an item's text is cut here in prompts and answers")
    preference_file: str | None = Field(None, description="jsonl of {user_id, preference}; none: from the catalogue")

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The preferences, if a file holds them."""
        return [root / expanduser(self.preference_file)] if self.preference_file else []

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """The preferences are not here."""
        way = "put the file there: --set tasks.preference_file=..."
        lacking = [path for path in self.files(root, recipe) if not path.is_file()]
        return [Problem(f"its preferences are not here: {self.preference_file}", way) for _ in lacking]


class TrainConfig(Section):
    """04_train: multi-task fitting with global contrast decompression."""

    expand: Literal["dense", "per_target"] = Field(
        "dense", description="dense: T items of a window are targets in one pass; per_target: one sample each"
    )
    burn_in: int = Field(
        0, ge=0, description="dense: items shown before a window's targets; 0: its first target sees a single item"
    )
    loss_mean: Literal["batch", "epoch"] = Field(
        "batch", description="response loss: mean over a batch's labels, or each label of an epoch alike"
    )
    epochs: float = Field(3, gt=0, le=1000, description="passes over the mixture; parts are allowed")
    max_steps: int = Field(0, ge=0, description="stop after this many optimizer steps; 0: epochs decide")
    batch_size: Positive = Field(32, description="samples per step and device")
    accumulate: Positive = Field(1, description="gradient accumulation steps")
    learning_rate: Rate = Field(3e-3, description="AdamW's peak (5e-5 for a 7B model, far more for a small one)")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="learning rate after the warm-up")
    warmup: Share = Field(0.05, description="share of all steps")
    weight_decay: float = Field(0.01, ge=0, le=10, description="AdamW's")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="probability spread over all tokens")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients longer than this are shortened")
    initialisation: Literal["centroid", "mean"] = Field("centroid", description="where new tokens start")
    con_position: Literal["after_response", "before_response"] = Field("after_response", description="after: the paper")
    lambda_semantic: Weight = Field(0.1, description="weight of InfoNCE against text embeddings (release: 0.1)")
    lambda_behaviour: Weight = Field(0.1, description="weight of InfoNCE against behavioural embeddings (release: 0.1)")
    lambda_next: Weight = Field(
        0.0, description="weight of an item head (ours): InfoNCE of the next item's behavioural embedding"
    )
    temperature: float = Field(0.1, gt=0, le=10, description="of InfoNCE (release: 0.1)")
    negatives: Positive = Field(2048, description="random items shared by the batch; all if the catalogue is smaller")
    early_stopping: Literal["none", "R@10", "loss"] = Field("R@10", description="on validation; the best state is kept")
    patience: Positive = Field(3, description="evaluations without a better one before stopping")
    evaluate_every: float = Field(0.0, ge=0, description="epochs between validations; 0: only at the end")
    validation_users: int = Field(0, ge=0, description="validate on this many users, drawn once; 0: all")
    checkpoint_every: int = Field(
        0, ge=0, description="steps between checkpoints; 0: at each validation, else four times an epoch"
    )

    @model_validator(mode="after")
    def _con_fits(self) -> TrainConfig:
        if self.con_position == "before_response" and self.expand == "dense":
            raise ValueError("con_position: before_response needs expand: per_target (a dense window has one [CON])")
        return self


class AnnealConfig(AdapterConfig):
    """05_anneal: LoRA on `seqrec` over selected data."""

    enabled: bool = Field(True, description="off: the trained model goes on alone")
    epochs: float = Field(1, gt=0, le=100, description="passes over the selected data")
    max_steps: int = Field(0, ge=0, description="stop after this many optimizer steps; 0: epochs decide")
    learning_rate: Rate = Field(5e-5, description="AdamW's peak (release: 5e-5)")
    select: Literal["all", "active"] = Field("all", description="all: the release; active: the two floors below")
    min_interactions: int = Field(0, ge=0, description="active: users with at least this many training interactions")
    min_popularity: int = Field(0, ge=0, description="active: targets seen at least this often in training")


PARTNERS = ("sasrec", "sasrec-sampled", "gru4rec", "bert4rec")  # baselines whose scores a softmax understands
HEAD, REPEATS = "head", "repeats"  # partners that are no baselines


class FusionConfig(Section):
    """06_evaluate: other scores as a prior in the trie. Ours, not the paper's; each mixture is a row of its own."""

    partners: list[str] = Field(
        [],
        description="who joins the model, a mixture each: sasrec, sasrec-sampled, gru4rec or bert4rec (of "
        "evaluate.baselines), head (the model's own item head, train.lambda_next > 0), repeats (how often people take "
        "again what they had), or several with a plus, e.g. head+sasrec-sampled",
    )
    controls: list[str] = Field(
        [],
        description="two of evaluate.baselines with a plus, mixed without the model: what a second opinion is worth "
        "where no token is in it, e.g. sasrec-sampled+gru4rec",
    )
    weights: list[Weight] = Field(
        [0.5, 1.0, 2.0, 4.0, 8.0], min_length=1, description="weights of the partner; validation chooses (0: alone)"
    )
    users: Positive = Field(2000, description="validation users on which the weight is chosen, drawn once")

    def members(self) -> list[str]:
        """Everyone who joins in some mixture, once."""
        return list(dict.fromkeys(name for partner in self.partners for name in partner.split("+")))


class EvaluateConfig(BaselinesConfig):
    """06_evaluate: cutoffs, intervals, baselines and published rows."""

    cutoffs: list[Positive] = Field([5, 10], min_length=1, description="k of R@k and N@k")
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="paired bootstrap resamples over users")
    fusion: FusionConfig = FusionConfig()
    published: str = Field(
        "", description="key of the published rows to stand beside ours (see recnb/eager_llm/published.yaml)"
    )

    @model_validator(mode="after")
    def _mixtures_are_of_what_is_fitted(self) -> EvaluateConfig:
        scoring = [name for name in self.baselines if name in PARTNERS]
        for name in self.fusion.members():
            if name not in (HEAD, REPEATS, *scoring):
                raise ValueError(
                    f"evaluate.fusion.partners: {name} is not among the evaluate.baselines whose scores are logits "
                    f"({', '.join(scoring)}): add it there, or choose one of them"
                )
        for names in self.fusion.controls:
            pair = names.split("+")
            if len(set(pair)) != 2 or len(pair) != 2 or not set(pair) <= set(scoring):
                raise ValueError(
                    f"evaluate.fusion.controls: {names}: expected two different ones of the evaluate.baselines whose "
                    f"scores are logits ({', '.join(scoring)}), with a plus between them"
                )
        return self


class CasesConfig(Section):
    """07_case_studies: which users, queries and items to look at."""

    users: list[str] = Field([], description="user ids as they stand in the source")
    random_users: int = Field(4, ge=0, le=100, description="users drawn besides the chosen ones")
    queries: list[str] = Field([], description="free-text queries for itemsearch")
    items: list[str] = Field([], description="item ids whose text is recovered from their tokens; empty: random")
    random_items: int = Field(6, ge=0, le=100, description="items drawn if none are chosen")


class MapConfig(Section):
    """08_prefix_map: UMAP and its neighbourhood number."""

    neighbours: int = Field(15, ge=2, le=500, description="UMAP n_neighbors")
    min_dist: Share = Field(0.1, description="UMAP: how close points may lie")
    purity_neighbours: int = Field(10, ge=1, le=500, description="k of the neighbourhood number")
    max_items: int = Field(20_000, ge=10, description="a larger catalogue is sampled")


class AblationsConfig(Section):
    """09_ablations: measured comparisons and tables, turned into pages."""

    enabled: bool = Field(False, description="whether `recnb run` includes 09_ablations (`--from 09` always does)")
    metric: Literal["R@5", "R@10", "N@5", "N@10"] = Field("R@10", description="in which differences are shown")
    comparisons: list[str] = Field([], description="files of reports/ablations, without .json; empty: all")

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """What has been measured."""
        reports = root / recipe.paths.reports
        return [*reports.glob("ablations/*"), *reports.glob("*/results.json")]


Sizes = Annotated[list[Positive], Field(min_length=2)]


class SpeedConfig(Section):
    """10_speed: contests against what a user would use instead, and how cost grows; small unless a recipe says more."""

    enabled: bool = Field(False, description="whether `recnb run` includes 10_speed (`--from 10` always does)")
    rounds: int = Field(5, ge=1, le=100, description="counted rounds of a contest; each takes all contestants in turn")
    items: Positive = Field(2000, description="N of the decoding contest")
    beam: Positive = Field(10, description="W of the decoding contest")
    prompts: Positive = Field(8, description="prompts of the decoding contest, one batch")
    beginning: Positive = Field(40, description="tokens that all prompts begin with (the instruction)")
    history: Positive = Field(20, description="items of a prompt and targets of a training window; 4 tokens each")
    vocabulary: int = Field(4000, ge=2000, description="V of the contests' random model")
    width: int = Field(64, ge=32, description="d_model of the contests' random model")
    layers: Positive = Field(2, description="layers of the contests' random model")
    trie_items: Sizes = Field([1024, 10_240, 102_400], description="N of the trie's curves, multiples of 1,024")
    dict_items: Positive = Field(102_400, description="largest N for which the trie of dicts is built too")
    index_items: Positive = Field(2000, description="N of the index contest")
    index_width: Positive = Field(128, description="d of the index contest")
    index_codes: int = Field(64, ge=2, description="K of the index contest")
    balanced_items: Positive = Field(1000, description="N of the contest of balanced k-means")
    balanced_codes: int = Field(32, ge=2, description="K of the contest of balanced k-means")
    index_large: int = Field(0, ge=0, description="N of one large index build, 64 wide; 0: none")
    texts: Positive = Field(200, description="items whose text is embedded in the contest")
    catalogue: str = Field("", description="items.jsonl[.gz] whose text is embedded; empty: the run's own catalogue")
    windows: Positive = Field(4, description="windows of the training contest, one batch of ours")
    pairs: Positive = Field(16, description="(prompt, response) pairs per batch of the opponent")
    head_vocabulary: Positive = Field(32_000, description="V of the contest of heads (Gemma 3: 262,144)")
    head_pairs: Positive = Field(4, description="pairs per batch of the contest of heads (V x 4 bytes a token)")
    curve_seconds: float = Field(5.0, gt=0, description="training seconds of each learning curve")
    users: Positive = Field(64, description="users of the evaluation contest")
    growth_items: Sizes = Field([500, 2000, 8000], description="N of the curves")
    growth_users: Sizes = Field([1000, 10_000, 100_000], description="U of the curves")
    growth_history: Sizes = Field([5, 20, 80], description="T of the curves")
    growth_beams: Sizes = Field([1, 5, 20], description="W of the curves")
    retrieval_items: Sizes = Field([1000, 10_000], description="N of generation against retrieval")
    sessions: Positive = Field(1000, description="samples of the contests of session graphs")
    session_length: Positive = Field(100, description="clicks of the longest session of these contests")
    intent_lists: Positive = Field(2, description="lists of ten items that the contest of intents asks about")
    compile: bool = Field(False, description="try torch.compile too (a minute of compiling; needs a C++ compiler)")


_BATCHES = ("train.batch_size", "decode.batch_size")
STAGES: tuple[StageSpec, ...] = (
    DATA,
    StageSpec(
        "02_embeddings", ("data", "embeddings"), ("01_data",), "02_embeddings",
        ("behaviour.npy", "embeddings.json"), ("semantic.npy",),
        eases=("embeddings.semantic.batch_size", "embeddings.behaviour.batch_size", "embeddings.behaviour.negatives"),
    ),
    StageSpec(
        "03_index", ("data", "index"), ("01_data", "02_embeddings"), "eager_llm/03_index",
        ("codes.npy", "centroids.safetensors", "index.json"), eases=("index.pca",),
    ),
    StageSpec(
        "04_train", ("data", "backbone", "tasks", "train", "decode"), ("01_data", "02_embeddings", "03_index"),
        "eager_llm/04_train", ("model", "training_log.parquet", "train.json"), trains=True,
        eases=(*_BATCHES, "backbone.gradient_checkpointing", "data.max_history", "backbone.layers", "backbone.width"),
    ),
    StageSpec(
        "05_anneal", ("data", "backbone", "tasks", "train", "anneal", "decode"),
        ("01_data", "02_embeddings", "03_index", "04_train"), "eager_llm/05_anneal", ("anneal.json",), ("adapter",),
        eases=(*_BATCHES, "data.max_history", "backbone.layers", "backbone.width"),
    ),
    StageSpec(
        "06_evaluate", ("data", "tasks", "decode", "evaluate"),
        ("01_data", "02_embeddings", "03_index", "04_train", "05_anneal"), "eager_llm/06_evaluate",
        ("metrics.json", "ledger.json", "per_user.parquet"), ("lists_*_*.npy",),
        eases=("decode.batch_size", "evaluate.sasrec.batch_size", "decode.beam", "data.max_history"),
    ),
    StageSpec(
        "07_case_studies", ("data", "tasks", "train", "decode", "cases"),
        ("01_data", "03_index", "04_train", "05_anneal", "06_evaluate"), "eager_llm/07_case_studies",
        ("cases.json",), eases=("decode.batch_size", "decode.beam", "data.max_history"),
    ),
    StageSpec(
        "08_prefix_map", ("map",), ("01_data", "02_embeddings", "03_index", "04_train", "05_anneal"),
        "eager_llm/08_prefix_map", ("map.parquet", "neighbourhoods.json"), deterministic=False,
        eases=("map.max_items",), home="umap-learn draws its map",
    ),
    StageSpec(
        "09_ablations", ("ablations",), ("05_anneal",), "studies/ablations", ("effects.parquet", "claims.json"),
        switch="ablations.enabled", home="it reads what was measured here",
    ),
    StageSpec(
        "10_speed", ("data", "embeddings", "backbone", "tasks", "train", "decode", "evaluate", "speed"),
        ("01_data", "02_embeddings", "03_index", "04_train", "05_anneal", "06_evaluate"), "studies/speed",
        ("speed.json", "ledger.json", "contests.parquet", "curves.parquet"), deterministic=False,
        switch="speed.enabled", home="it times this machine",
    ),
)  # fmt: skip
_MODEL, _BASELINE = "recnb.eager_llm.ranks:model_ranks", "recnb.eager_llm.ranks:baseline_ranks"


class EagerLLM(Recipe):
    """A recipe of EAGER-LLM."""

    system: Literal["eager_llm"] = Field("eager_llm", description="whose recipe this is: a wing of recnb")
    data: DataConfig = DataConfig()
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    index: IndexConfig = IndexConfig()
    backbone: BackboneConfig = BackboneConfig()
    tasks: TasksConfig = TasksConfig()
    train: TrainConfig = TrainConfig()
    anneal: AnnealConfig = AnnealConfig()
    decode: DecodeConfig = DecodeConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    cases: CasesConfig = CasesConfig()
    map: MapConfig = MapConfig()
    ablations: AblationsConfig = AblationsConfig()
    speed: SpeedConfig = SpeedConfig()

    stages: ClassVar[tuple[StageSpec, ...]] = STAGES
    evaluation: ClassVar[str] = "06_evaluate"
    protocol: ClassVar[str] = "Leave-one-out: the last item of every user, ranked among all items."
    pictures: ClassVar[tuple[str, ...]] = (
        "06_evaluate-metrics", "07_case_studies-tree", "08_prefix_map", "04_train-losses", "03_index-meaning",
    )  # fmt: skip
    judged: ClassVar[dict[str, Judged]] = {
        "model": Judged("04_train", _MODEL, ("decode",)),
        "annealed": Judged("05_anneal", _MODEL, ("decode",)),
        **{name: Judged("01_data", _BASELINE, ("evaluate",)) for name in BASELINES},
        "tiger": Judged("03_index", _BASELINE, ("evaluate",)),  # it reads the run's semantic codes
    }

    def shown(self) -> dict[str, Any]:
        """The index: where it comes from, and its levels."""
        return {"index": self.index.model_dump(mode="json", include={"source", "levels"})}

    @model_validator(mode="after")
    def _lists_are_long_enough(self) -> Self:
        if self.decode.beam < max(self.evaluate.cutoffs):
            raise ValueError(
                f"decode.beam = {self.decode.beam} gives lists of {self.decode.beam} items, but evaluate.cutoffs asks "
                f"for R@{max(self.evaluate.cutoffs)}: expected decode.beam >= {max(self.evaluate.cutoffs)}"
            )
        return self

    @model_validator(mode="after")
    def _head_is_trained(self) -> Self:
        if HEAD in self.evaluate.fusion.members() and not self.train.lambda_next:
            raise ValueError(
                "evaluate.fusion.partners: head, but train.lambda_next is 0 and there is no item head: expected "
                "train.lambda_next > 0, or another partner"
            )
        return self

    @model_validator(mode="after")
    def _tiger_has_codes(self) -> Self:
        if "tiger" in self.evaluate.baselines and self.index.source not in ("both", "semantic"):
            raise ValueError(
                f"evaluate.baselines: tiger reads semantic codes, which index.source = {self.index.source} does not "
                "make: expected index.source both or semantic, or baselines without tiger"
            )
        return self

    @model_validator(mode="after")
    def _text_is_embedded(self) -> Self:
        if self.embeddings.semantic.encoder != "none":
            return self
        none = "there are no text embeddings: embeddings.semantic.encoder is none"
        if self.train.lambda_semantic > 0:
            weight = self.train.lambda_semantic
            raise ValueError(f"train.lambda_semantic = {weight:g}, but {none}; expected train.lambda_semantic = 0")
        if self.index.source in ("both", "semantic") and not self.index.semantic_file:
            raise ValueError(
                f"index.source = {self.index.source}, but {none}; expected index.source = behaviour or random, or a "
                "published index in index.semantic_file"
            )
        if self.speed.enabled:  # 10_speed times the encoder
            raise ValueError(f"speed.enabled = true, but {none}; expected speed.enabled = false")
        return self
