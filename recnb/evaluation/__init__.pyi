from . import figures as figures
from .areas import areas as areas, liked_area as liked_area
from .candidate_file import read_candidates as read_candidates
from .candidates import (
    CandidateSets as CandidateSets,
    candidate_metrics as candidate_metrics,
    draw_candidates as draw_candidates,
    ranks_of as ranks_of,
)
from .intervals import (
    UNKNOWN as UNKNOWN,
    Spread as Spread,
    bootstrap_means as bootstrap_means,
    difference as difference,
    mean_interval as mean_interval,
    paired_bootstrap as paired_bootstrap,
    paired_differences as paired_differences,
    resampled_means as resampled_means,
    seed_spread as seed_spread,
    summary as summary,
)
from .lists import (
    by_group as by_group,
    head_items as head_items,
    list_statistics as list_statistics,
    quantile_groups as quantile_groups,
)
from .metrics import (
    expected_per_user as expected_per_user,
    per_user as per_user,
    per_user_metrics as per_user_metrics,
    target_ranks as target_ranks,
)
from .sessions import (
    per_sample_metrics as per_sample_metrics,
    release_means as release_means,
    release_metrics as release_metrics,
    sample_ranks as sample_ranks,
    seen_pairs as seen_pairs,
    session_differences as session_differences,
    session_groups as session_groups,
    session_intervals as session_intervals,
    session_metrics as session_metrics,
    yes_or_no as yes_or_no,
)
from .verdicts import side as side, told as told
