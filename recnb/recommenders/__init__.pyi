from .bert4rec import BERT4Rec as BERT4Rec
from .counting import (
    ItemKNN as ItemKNN,
    Popularity as Popularity,
    interaction_matrix as interaction_matrix,
)
from .dhcn import DHCN as DHCN, line_graph as line_graph, shared_hyperedges as shared_hyperedges
from .fit import fit_baseline as fit_baseline
from .gcegnn import GCEGNN as GCEGNN, global_neighbours as global_neighbours
from .gru4rec import GRU4Rec as GRU4Rec
from .interface import (
    Lister as Lister,
    Scorer as Scorer,
    ranked_lists as ranked_lists,
    tied_ranks as tied_ranks,
    top_items as top_items,
)
from .losses import NegativeSampler as NegativeSampler, info_nce as info_nce, sampled_softmax as sampled_softmax
from .next_item import NextItemEncoder as NextItemEncoder, train_sequential as train_sequential
from .sasrec import SASRec as SASRec
from .session_graph import SessionGraph as SessionGraph, session_graph as session_graph
from .session_model import SessionModel as SessionModel, train_session_model as train_session_model
from .settings import (
    BaselinesConfig as BaselinesConfig,
    Bert4recConfig as Bert4recConfig,
    DhcnConfig as DhcnConfig,
    GcegnnConfig as GcegnnConfig,
    Gru4recConfig as Gru4recConfig,
    SasrecConfig as SasrecConfig,
    SessionModelConfig as SessionModelConfig,
    TigerConfig as TigerConfig,
)
from .srgnn import SRGNN as SRGNN
from .tiger import TIGER as TIGER, train_tiger as train_tiger
