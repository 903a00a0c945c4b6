"""Settings of the recommenders without a language model; ``evaluate`` of a recipe holds them."""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from recnb.data.settings import TextField
from recnb.settings import Positive, Rate, Section, Share

Baseline = Literal[
    "popularity", "itemknn", "rules", "words", "rules+words", "spop", "fpmc", "sasrec", "sasrec-sampled", "gru4rec",
    "bert4rec", "caser", "din", "tiger", "srgnn", "tagnn", "gcegnn", "dhcn", "gcsan", "stamp", "narm", "gru4rec-views",
    "sasrec-views",
]  # fmt: skip
BASELINES: tuple[Baseline, ...] = get_args(Baseline)


Several = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]  # more than one: chosen on validation
Seen = Literal["kept", "masked", "learned"]
_SEEN = "items of the history: kept, masked, or learned: masked where training sequences repeat less than chance would"


class RulesConfig(Section):
    """06_evaluate: sequential rules; of settings with several values, validation (N@10) chooses."""

    reach: Positive = Field(10, description="pairs of items at most this many positions apart count")
    distance_power: Several = Field([1.0], description="a pair at distance d counts d to the minus this")
    decay: Several = Field([0.7, 0.8, 0.6, 0.9], description="weight of a history's item against the one after it")
    backward: Several = Field(
        [0.0, 0.25, 0.5, 0.75, 1.0], description="what an item that came before counts against one that came after"
    )
    row_power: Several = Field([0.5, 0.0, 0.25], description="an item's votes are divided by their sum to this power")
    column_power: Several = Field([0.0], description="the votes for an item are divided by their sum to this power")
    seen: Seen = Field("learned", description=_SEEN)


class WordsConfig(Section):
    """06_evaluate: TF-IDF of the items' texts; of several values, validation (N@10) chooses."""

    fields: list[TextField] = Field(
        ["title", "categories", "brand"], min_length=1, description="whose words count, of those that an item has"
    )
    decay: Several = Field([0.8, 0.6, 0.4, 0.2], description="weight of a history's item against the one after it")
    seen: Seen = Field("learned", description=_SEEN)


class FpmcConfig(Section):
    """06_evaluate: cornac's FPMC without users: a factorised table of what follows what."""

    width: Positive = Field(100, description="of the item factors")
    epochs: Positive = Field(20, description="all are run")
    batch_size: Positive = Field(512, description="pairs of neighbouring items per step")
    learning_rate: Rate = Field(0.05, description="Adagrad's")
    negatives: Positive = Field(2048, description="drawn items shared by a batch, by the root of their popularity")
    loss: Literal["bpr", "bpr-max", "ce", "top1"] = Field("bpr", description="cornac's names")


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


def heads_fit(config: Any) -> Any:
    """The section, if its width can be dealt out to its heads."""
    if config.width % config.heads:
        raise ValueError(f"width must be a multiple of heads ({config.heads})")
    return config


class AttentionConfig(SequentialConfig):
    """06_evaluate: what SASRec and BERT4Rec have in common."""

    blocks: Positive = Field(2, description="attention blocks")
    heads: Positive = Field(1, description="attention heads; must divide width")

    _heads_fit = model_validator(mode="after")(heads_fit)


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


class CaserConfig(SequentialConfig):
    """03_candidates: Caser."""

    reach: Positive = Field(5, description="latest items that it looks at (paper: 3 to 9)")
    filters: Positive = Field(16, description="horizontal filters of each height from 1 to reach (paper: 4 to 64)")
    vertical: Positive = Field(4, description="vertical filters (paper: 1 to 8)")


class DinConfig(SequentialConfig):
    """03_candidates: DIN, its activation unit factorised."""

    interests: Positive = Field(8, description="rank of the weight that an item of the history has for a candidate")


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


class SessionModelConfig(Section):
    """06_session_models: what the models of sessions have in common; the defaults train one well on a CPU."""

    width: int = Field(100, ge=2, description="d, of item vectors and views (paper: 100)")
    dropout: Share = Field(0.2, description="on item vectors (paper: none)")
    epochs: Positive = Field(30, description="at most; early stopping decides")
    batch_size: Positive = Field(256, description="samples per step (paper: 100)")
    learning_rate: Rate = Field(2e-3, description="of Adam (paper: 1e-3)")
    patience: Positive = Field(3, description="validations without a better one before stopping (paper: 5)")
    schedule: Literal["constant", "step"] = Field(
        "constant", description="constant: AdamW after a short warm-up; step: the paper's Adam, a tenth every 3 epochs"
    )
    weight_decay: float = Field(0.0, ge=0, le=10, description="constant: AdamW's")
    l2: float = Field(1e-5, ge=0, le=1, description="step: L2 inside Adam (paper: 1e-5)")
    repeat_bias: bool = Field(
        False, description="learn one number that is added to the scores of items already in the session"
    )


class SoftAttentionConfig(SessionModelConfig):
    """06_session_models: a model whose long view is SR-GNN's soft attention."""

    attention: Literal["sum", "softmax"] = Field("sum", description="weights of the long view, as they are or softmax")


class SrgnnConfig(SoftAttentionConfig):
    """06_session_models: SR-GNN."""

    graph: bool = Field(True, description="off: no graph network, items as they are")


class TagnnConfig(SrgnnConfig):
    """06_session_models: TAGNN."""

    attention: Literal["sum", "softmax"] = Field(
        "softmax", description="weights of the long view, as they are or softmax"
    )


class GcsanConfig(SessionModelConfig):
    """06_session_models: GC-SAN."""

    blocks: Positive = Field(1, description="blocks of self-attention (paper: 1 to 6, by data set)")
    mix: Share = Field(0.6, description="weight of the attended state; the rest is the last node's (paper: 0.4 to 0.8)")


class NarmConfig(SoftAttentionConfig):
    """06_session_models: NARM."""

    dropout: Share = Field(0.25, description="on item vectors")
    view_dropout: Share = Field(0.5, description="on both views together, before they are joined")


class Gru4recViewsConfig(SoftAttentionConfig):
    """06_session_models: GRU4Rec with two views, trained on samples."""

    hidden: Positive = Field(128, description="width of the recurrent state; projected to that of the item vectors")
    layers: Positive = Field(1, description="recurrent layers")


class SasrecViewsConfig(SoftAttentionConfig):
    """06_session_models: SASRec with two views, trained on samples."""

    blocks: Positive = Field(2, description="attention blocks")
    heads: Positive = Field(1, description="attention heads; must divide width")
    temperature: ClassVar[float] = 0.0  # scores are inner products

    _heads_fit = model_validator(mode="after")(heads_fit)


class ReadoutConfig(SrgnnConfig):
    """06_session_models: what GCE-GNN and S2-DHCN have in common."""

    views: Literal["both", "long"] = Field(
        "both", description="session vector: long: the readout alone (their papers); both: W3 [readout; newest state]"
    )


class GcegnnConfig(ReadoutConfig):
    """06_session_models: GCE-GNN, a graph of the session and one of all training sessions."""

    neighbours: Positive = Field(12, description="most frequent neighbours of each item that are kept")
    reach: Positive = Field(3, description="items at most so many clicks apart are neighbours")
    hops: int = Field(1, ge=1, le=3, description="layers over the global graph; each costs `neighbours` times the last")
    global_dropout: Share = Field(0.5, description="on what the global graph says")


class DhcnConfig(ReadoutConfig):
    """06_session_models: S2-DHCN, sessions as hyperedges."""

    batch_size: Positive = Field(512, description="samples per step; a step's fixed cost is its products of all items")
    layers: Positive = Field(3, description="of both networks (paper: 3)")
    contrast: float = Field(
        1.0, ge=0, le=100, description="beta, of the mean contrastive loss (paper: 0.01 of the sum over a batch of 100)"
    )
    least_weight: float = Field(
        0.0, ge=0, lt=1, description="pairs that weigh less for both items are dropped, for speed (release: 0 or 0.05)"
    )


class BaselinesConfig(Section):
    """06_evaluate: which recommenders stand beside ours, and how each is fitted."""

    baselines: list[Baseline] = Field(
        ["popularity", "itemknn", "sasrec"],
        description="sasrec: full cross-entropy; tiger: needs index.source both or semantic; words: needs texts",
    )
    itemknn_neighbours: Positive = Field(50, description="most similar items that vote")
    rules: RulesConfig = RulesConfig()
    words: WordsConfig = WordsConfig()
    fpmc: FpmcConfig = FpmcConfig()
    sasrec: SasrecConfig = SasrecConfig()
    sasrec_sampled: SasrecSampledConfig = SasrecSampledConfig()
    gru4rec: Gru4recConfig = Gru4recConfig()
    caser: CaserConfig = CaserConfig()
    din: DinConfig = DinConfig()
    bert4rec: Bert4recConfig = Bert4recConfig()
    tiger: TigerConfig = TigerConfig()
    srgnn: SrgnnConfig = SrgnnConfig()
    tagnn: TagnnConfig = TagnnConfig()
    gcegnn: GcegnnConfig = GcegnnConfig()
    dhcn: DhcnConfig = DhcnConfig()
    gcsan: GcsanConfig = GcsanConfig()
    stamp: SessionModelConfig = SessionModelConfig()
    narm: NarmConfig = NarmConfig()
    gru4rec_views: Gru4recViewsConfig = Gru4recViewsConfig()
    sasrec_views: SasrecViewsConfig = SasrecViewsConfig()
