from .cases import case as case
from .evaluate import (
    gains_by_group as gains_by_group,
    resampling as resampling,
    system_intervals as system_intervals,
    two_denominators as two_denominators,
)
from .hypergraph import hypergraph as hypergraph, neighbour_counts as neighbour_counts
from .sessions import cuts as cuts, parts_drawn as parts_drawn, session_lengths as session_lengths
