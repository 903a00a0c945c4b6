from . import (
    data as data,
    eager_llm as eager_llm,
    embeddings as embeddings,
    evaluation as evaluation,
    index as index,
    llm as llm,
    llm4sbr as llm4sbr,
    recommenders as recommenders,
    speed as speed,
    studies as studies,
)
from .data.schema import (
    Sequences as Sequences,
    item_text as item_text,
    read_dataset as read_dataset,
    titles_of as titles_of,
)
from .data.sources import load_dataset as load_dataset
from .data.split import (
    Validation as Validation,
    histories as histories,
    seen_items as seen_items,
    training_sequences as training_sequences,
)
from .evaluation.intervals import mean_interval as mean_interval, paired_bootstrap as paired_bootstrap
from .evaluation.metrics import metrics as metrics, target_ranks as target_ranks
from .export.load import load_export as load_export
from .index.build import build_index as build_index, read_index as read_index
from .index.health import index_health as index_health
from .index.kmeans import balanced_kmeans as balanced_kmeans
from .index.settings import IndexConfig as IndexConfig
from .index.trie import Trie as Trie
from .llm.backbone import build_backbone as build_backbone
from .llm.beam import beam_search as beam_search, recommend as recommend
from .llm.pretrained import load_causal_lm as load_causal_lm
from .llm.score import score_items as score_items
from .llm.vocabulary import Vocabulary as Vocabulary
from .recommenders.bert4rec import BERT4Rec as BERT4Rec
from .recommenders.counting import ItemKNN as ItemKNN
from .recommenders.fit import fit_baseline as fit_baseline
from .recommenders.gru4rec import GRU4Rec as GRU4Rec
from .recommenders.interface import ranked_lists as ranked_lists, top_items as top_items
from .recommenders.sasrec import SASRec as SASRec
from .recommenders.tiger import TIGER as TIGER
from .style import show as show, table as table, use_style as use_style
from .workflow.recipe import load_recipe as load_recipe
from .workflow.stage import Stage as Stage

__version__: str
