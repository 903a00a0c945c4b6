from . import figures as figures
from . import fusion as fusion
from .anneal import annealing_config as annealing_config
from .anneal import select as select
from .case_tables import (
    case_header as case_header,
)
from .case_tables import (
    case_record as case_record,
)
from .case_tables import (
    recommendation_table as recommendation_table,
)
from .case_tables import (
    tree_labels as tree_labels,
)
from .checkpoint import load_trained as load_trained
from .checkpoint import read_model as read_model
from .checkpoint import save_model as save_model
from .explain import (
    category_shares as category_shares,
)
from .explain import (
    choose_users as choose_users,
)
from .explain import (
    decisions as decisions,
)
from .explain import (
    example_queries as example_queries,
)
from .explain import (
    explain_search as explain_search,
)
from .explain import (
    numbers_of as numbers_of,
)
from .explain import (
    prefix_meaning as prefix_meaning,
)
from .explain import (
    recovered_ranks as recovered_ranks,
)
from .explain import (
    walked_tree as walked_tree,
)
from .explain import (
    word_match as word_match,
)
from .model import Recommender as Recommender
from .prompts import (
    index2item_prompts as index2item_prompts,
)
from .prompts import (
    itemsearch_prompts as itemsearch_prompts,
)
from .prompts import (
    preference_prompts as preference_prompts,
)
from .prompts import (
    seqrec_prompts as seqrec_prompts,
)
from .published import PAPER_PARAMETERS as PAPER_PARAMETERS
from .published import departures as departures
from .recipe import EagerLLM as EagerLLM
from .recipe import TasksConfig as TasksConfig
from .recipe import TrainConfig as TrainConfig
from .tasks import (
    ItemText as ItemText,
)
from .tasks import (
    TaskBuilder as TaskBuilder,
)
from .tasks import (
    full_text as full_text,
)
from .tasks import (
    load_preferences as load_preferences,
)
from .tasks import (
    preference_text as preference_text,
)
from .tasks import (
    tokenizer_texts as tokenizer_texts,
)
from .train import fit as fit
from .train import validate as validate
