from .align import circles as circles, gate_bands as gate_bands, loss_curves as loss_curves
from .cases import KINDS as KINDS, case as case, kinds_drawn as kinds_drawn
from .evaluate import (
    dose_response as dose_response,
    gains_by_group as gains_by_group,
    resampling as resampling,
    system_intervals as system_intervals,
    two_denominators as two_denominators,
)
from .hypergraph import hypergraph as hypergraph, neighbour_counts as neighbour_counts
from .intents import forks_drawn as forks_drawn, report_bars as report_bars
from .localise import blends_drawn as blends_drawn, hits_by_k as hits_by_k, nearest_cosines as nearest_cosines
from .models import graph_and_matrices as graph_and_matrices, learning_curves as learning_curves
from .sessions import cuts as cuts, parts_drawn as parts_drawn, session_lengths as session_lengths
