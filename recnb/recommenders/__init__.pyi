from .bert4rec import BERT4Rec as BERT4Rec
from .choice import choose as choose
from .content import VectorSimilarity as VectorSimilarity
from .counting import (
    ItemKNN as ItemKNN,
    Popularity as Popularity,
    interaction_matrix as interaction_matrix,
)
from .dhcn import DHCN as DHCN
from .din import DIN as DIN
from .fit import fit_baseline as fit_baseline
from .gcegnn import global_neighbours as global_neighbours
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
from .losses import NegativeSampler as NegativeSampler, info_nce as info_nce
from .mixture import fit_mixture as fit_mixture
from .narm import NARM as NARM
from .next_item import NextItemEncoder as NextItemEncoder
from .recency import NeverTwice as NeverTwice
from .rules import Rules as Rules
from .sasrec import SASRec as SASRec
from .session_graph import SessionGraph as SessionGraph, session_graphs as session_graphs
from .session_model import (
    SessionModel as SessionModel,
    SoftAttention as SoftAttention,
    like_lengths as like_lengths,
    train_session_model as train_session_model,
)
from .session_models import load_session_model as load_session_model, save_session_model as save_session_model
from .settings import BaselinesConfig as BaselinesConfig, SrgnnConfig as SrgnnConfig, TagnnConfig as TagnnConfig
from .srgnn import SRGNN as SRGNN, GraphLayer as GraphLayer
from .stamp import STAMP as STAMP
from .tagnn import TAGNN as TAGNN
from .tiger import TIGER as TIGER
from .words import Words as Words
