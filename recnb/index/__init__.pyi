from . import figures as figures
from .assignment import squared_distances as squared_distances
from .build import (
    aligned_codes as aligned_codes,
    build_index as build_index,
    codes_per_level as codes_per_level,
    hierarchical_codes as hierarchical_codes,
    read_embeddings as read_embeddings,
    read_index as read_index,
    write_index as write_index,
)
from .health import (
    check_gate as check_gate,
    index_health as index_health,
    nearest_neighbours as nearest_neighbours,
    neighbours_together as neighbours_together,
    query_rows as query_rows,
)
from .kmeans import (
    balanced_kmeans as balanced_kmeans,
    kmeans_centroids as kmeans_centroids,
    principal_components as principal_components,
)
from .published import find_codes as find_codes, read_codes as read_codes
from .settings import IndexConfig as IndexConfig
from .trie import Trie as Trie
