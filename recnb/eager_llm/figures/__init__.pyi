from .cases import (
    bits_per_token as bits_per_token,
)
from .cases import (
    popularity_strip as popularity_strip,
)
from .cases import (
    prefix_tree as prefix_tree,
)
from .maps import (
    category_colours as category_colours,
)
from .maps import (
    code_colours as code_colours,
)
from .maps import (
    learned_embeddings as learned_embeddings,
)
from .maps import (
    main_category as main_category,
)
from .maps import (
    map_grid as map_grid,
)
from .maps import (
    prefix_trees as prefix_trees,
)
from .maps import (
    project as project,
)
from .maps import (
    trustworthiness as trustworthiness,
)
from .training import (
    choices as choices,
)
from .training import (
    comprehension_bars as comprehension_bars,
)
from .training import (
    loss_parts as loss_parts,
)
from .training import (
    sample_strip as sample_strip,
)
