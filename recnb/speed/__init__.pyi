from . import figures as figures, retrieval as retrieval
from .decoding import (
    SEARCH_PARTS as SEARCH_PARTS,
    decoding_contest as decoding_contest,
    evaluation_contest as evaluation_contest,
    same_lists as same_lists,
    small_llama as small_llama,
    synthetic_codes as synthetic_codes,
    synthetic_prompts as synthetic_prompts,
)
from .embedding import embedding_contest as embedding_contest
from .indexing import (
    balanced_contest as balanced_contest,
    free_kmeans_contest as free_kmeans_contest,
    index_contest as index_contest,
    quality as quality,
    synthetic_embeddings as synthetic_embeddings,
)
from .intents import (
    intent_contest as intent_contest,
    same_answers as same_answers,
    synthetic_forks as synthetic_forks,
)
from .item_vectors import (
    item_vector_contest as item_vector_contest,
    synthetic_e4srec as synthetic_e4srec,
)
from .measure import (
    contest as contest,
    curve as curve,
    growth as growth,
    parts_of as parts_of,
    peak_memory as peak_memory,
    timed as timed,
)
from .retrieval import overlap as overlap
from .scoring import scoring_contest as scoring_contest, synthetic_sets as synthetic_sets
from .sessions import (
    epoch_contest as epoch_contest,
    graph_contest as graph_contest,
    like_batches as like_batches,
    same_graphs as same_graphs,
    target_contest as target_contest,
)
from .training import (
    Window as Window,
    dense_loss as dense_loss,
    endless as endless,
    head_contest as head_contest,
    learning_curve as learning_curve,
    pair_loss as pair_loss,
    switch_contest as switch_contest,
    training_contest as training_contest,
    windows_of_users as windows_of_users,
)
from .tries import trie_costs as trie_costs
