from .bert4rec import BERT4Rec as BERT4Rec
from .caser import Caser as Caser
from .choice import Choice as Choice, choose as choose
from .content import VectorSimilarity as VectorSimilarity
from .cornac_models import (
    FPMC as FPMC,
    SessionPopularity as SessionPopularity,
    fit_fpmc as fit_fpmc,
    fit_spop as fit_spop,
)
from .counting import (
    ItemKNN as ItemKNN,
    Popularity as Popularity,
    interaction_matrix as interaction_matrix,
)
from .dhcn import DHCN as DHCN, line_graph as line_graph, shared_hyperedges as shared_hyperedges
from .din import DIN as DIN
from .fit import fit_baseline as fit_baseline
from .gcegnn import GCEGNN as GCEGNN, global_neighbours as global_neighbours
from .gcsan import GCSAN as GCSAN
from .gru4rec import GRU4Rec as GRU4Rec
from .interface import (
    Lister as Lister,
    Scorer as Scorer,
    ranked_lists as ranked_lists,
    scores_among as scores_among,
    tied_ranks as tied_ranks,
    top_items as top_items,
)
from .item_tables import item_table as item_table
from .losses import NegativeSampler as NegativeSampler, info_nce as info_nce, sampled_softmax as sampled_softmax
from .mixture import Mixture as Mixture, fit_mixture as fit_mixture
from .narm import NARM as NARM
from .next_item import NextItemEncoder as NextItemEncoder, train_sequential as train_sequential
from .readout import GRU4RecViews as GRU4RecViews, SASRecViews as SASRecViews
from .recency import (
    NeverTwice as NeverTwice,
    count_repeats as count_repeats,
    recency_weights as recency_weights,
    settle_seen as settle_seen,
)
from .rules import Rules as Rules, count_pairs as count_pairs, fit_rules as fit_rules, rule_table as rule_table
from .sasrec import SASRec as SASRec
from .session_graph import SessionGraph as SessionGraph, session_graphs as session_graphs
from .session_model import (
    SessionModel as SessionModel,
    SoftAttention as SoftAttention,
    like_lengths as like_lengths,
    train_session_model as train_session_model,
)
from .session_models import (
    SESSION_MODELS as SESSION_MODELS,
    load_session_model as load_session_model,
    save_session_model as save_session_model,
)
from .settings import (
    BaselinesConfig as BaselinesConfig,
    Bert4recConfig as Bert4recConfig,
    CaserConfig as CaserConfig,
    DhcnConfig as DhcnConfig,
    DinConfig as DinConfig,
    FpmcConfig as FpmcConfig,
    GcegnnConfig as GcegnnConfig,
    GcsanConfig as GcsanConfig,
    Gru4recConfig as Gru4recConfig,
    Gru4recViewsConfig as Gru4recViewsConfig,
    NarmConfig as NarmConfig,
    RulesConfig as RulesConfig,
    SasrecConfig as SasrecConfig,
    SasrecViewsConfig as SasrecViewsConfig,
    SessionModelConfig as SessionModelConfig,
    SrgnnConfig as SrgnnConfig,
    TagnnConfig as TagnnConfig,
    TigerConfig as TigerConfig,
    WordsConfig as WordsConfig,
)
from .srgnn import SRGNN as SRGNN, GraphLayer as GraphLayer
from .stamp import STAMP as STAMP
from .tagnn import TAGNN as TAGNN
from .tiger import TIGER as TIGER, train_tiger as train_tiger
from .words import Words as Words, fit_words as fit_words, tfidf as tfidf
