from . import figures as figures, fusion as fusion
from .anneal import annealing_config as annealing_config, select as select
from .case_tables import (
    case_header as case_header,
    case_record as case_record,
    recommendation_table as recommendation_table,
    tree_labels as tree_labels,
)
from .checkpoint import load_trained as load_trained, save_model as save_model
from .explain import (
    category_shares as category_shares,
    choose_users as choose_users,
    decisions as decisions,
    example_queries as example_queries,
    explain_search as explain_search,
    numbers_of as numbers_of,
    prefix_meaning as prefix_meaning,
    recovered_ranks as recovered_ranks,
    walked_tree as walked_tree,
    word_match as word_match,
)
from .model import Recommender as Recommender
from .paper import (
    PAPER_PARAMETERS as PAPER_PARAMETERS,
    departures as departures,
    departures_by_design as departures_by_design,
)
from .prompts import (
    index2item_prompts as index2item_prompts,
    itemsearch_prompts as itemsearch_prompts,
    preference_prompts as preference_prompts,
    seqrec_prompts as seqrec_prompts,
)
from .tasks import (
    ItemText as ItemText,
    Sample as Sample,
    TaskBuilder as TaskBuilder,
    full_text as full_text,
    load_preferences as load_preferences,
    preference_text as preference_text,
    tokenizer_texts as tokenizer_texts,
)
from .train import (
    Collator as Collator,
    EpochSamples as EpochSamples,
    fit as fit,
    validate as validate,
    validation_loss as validation_loss,
)
