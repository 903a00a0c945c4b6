from . import figures as figures
from . import retrieval as retrieval
from .decoding import (
    SEARCH_PARTS as SEARCH_PARTS,
)
from .decoding import (
    decoding_contest as decoding_contest,
)
from .decoding import (
    evaluation_contest as evaluation_contest,
)
from .decoding import (
    same_lists as same_lists,
)
from .decoding import (
    small_llama as small_llama,
)
from .decoding import (
    synthetic_codes as synthetic_codes,
)
from .decoding import (
    synthetic_prompts as synthetic_prompts,
)
from .embedding import embedding_contest as embedding_contest
from .embedding import least_cosine as least_cosine
from .indexing import (
    balanced_contest as balanced_contest,
)
from .indexing import (
    free_kmeans_contest as free_kmeans_contest,
)
from .indexing import (
    index_contest as index_contest,
)
from .indexing import (
    quality as quality,
)
from .indexing import (
    synthetic_embeddings as synthetic_embeddings,
)
from .measure import (
    contest as contest,
)
from .measure import (
    curve as curve,
)
from .measure import (
    growth as growth,
)
from .measure import (
    parts_of as parts_of,
)
from .measure import (
    peak_memory as peak_memory,
)
from .measure import (
    timed as timed,
)
from .retrieval import overlap as overlap
from .scaling import Constants as Constants
from .scaling import projection as projection
from .training import (
    Window as Window,
)
from .training import (
    dense_loss as dense_loss,
)
from .training import (
    endless as endless,
)
from .training import (
    head_contest as head_contest,
)
from .training import (
    learning_curve as learning_curve,
)
from .training import (
    pair_loss as pair_loss,
)
from .training import (
    switch_contest as switch_contest,
)
from .training import (
    training_contest as training_contest,
)
from .training import (
    windows_of_users as windows_of_users,
)
from .tries import trie_costs as trie_costs
