from .cases import (
    bits_per_token as bits_per_token,
    popularity_strip as popularity_strip,
    prefix_tree as prefix_tree,
    shared_cache as shared_cache,
)
from .maps import (
    category_colours as category_colours,
    code_colours as code_colours,
    followed as followed,
    learned_embeddings as learned_embeddings,
    main_category as main_category,
    map_grid as map_grid,
    prefix_trees as prefix_trees,
    project as project,
    trustworthiness as trustworthiness,
)
from .training import (
    choices as choices,
    comprehension_bars as comprehension_bars,
    con_sees as con_sees,
    histories_seen as histories_seen,
    loss_parts as loss_parts,
    low_rank as low_rank,
    sample_strip as sample_strip,
    shown_and_asked as shown_and_asked,
)
