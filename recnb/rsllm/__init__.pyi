from . import figures as figures
from .align import title_means as title_means, title_ranks as title_ranks, warm_up as warm_up
from .checks import (
    averaged as averaged,
    believed as believed,
    checked as checked,
    diversity as diversity,
    first_items as first_items,
    moved as moved,
    other_histories as other_histories,
    other_vectors as other_vectors,
    places_of as places_of,
    shuffled_histories as shuffled_histories,
    tested_rows as tested_rows,
    without_each as without_each,
)
from .elsewhere import rank_elsewhere as rank_elsewhere
from .losses import contrast as contrast, pooled as pooled, rsllm_losses as rsllm_losses
from .paper import departures as departures
from .rank import (
    Reader as Reader,
    Written as Written,
    kind_of as kind_of,
    meet_users as meet_users,
    open_reader as open_reader,
)
from .recipe import MAIN as MAIN, RSLLM as RSLLM
