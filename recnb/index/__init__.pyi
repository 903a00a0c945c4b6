from . import figures as figures
from .assignment import squared_distances as squared_distances
from .build import (
    ItemIndex as ItemIndex,
)
from .build import (
    build_index as build_index,
)
from .build import (
    hierarchical_codes as hierarchical_codes,
)
from .build import (
    read_embeddings as read_embeddings,
)
from .build import (
    read_index as read_index,
)
from .build import (
    write_index as write_index,
)
from .health import (
    check_gate as check_gate,
)
from .health import (
    index_health as index_health,
)
from .health import (
    nearest_neighbours as nearest_neighbours,
)
from .health import (
    neighbours_together as neighbours_together,
)
from .health import (
    query_rows as query_rows,
)
from .kmeans import (
    balanced_kmeans as balanced_kmeans,
)
from .kmeans import (
    kmeans_centroids as kmeans_centroids,
)
from .kmeans import (
    principal_components as principal_components,
)
from .published import find_codes as find_codes
from .published import read_codes as read_codes
from .settings import IndexConfig as IndexConfig
from .trie import Trie as Trie
