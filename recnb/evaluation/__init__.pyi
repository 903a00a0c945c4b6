from . import figures as figures
from .figures import forest as forest
from .intervals import (
    UNKNOWN as UNKNOWN,
)
from .intervals import (
    Spread as Spread,
)
from .intervals import (
    bootstrap_means as bootstrap_means,
)
from .intervals import (
    difference as difference,
)
from .intervals import (
    mean_interval as mean_interval,
)
from .intervals import (
    paired_bootstrap as paired_bootstrap,
)
from .intervals import (
    paired_differences as paired_differences,
)
from .intervals import (
    paired_spread as paired_spread,
)
from .intervals import (
    seed_spread as seed_spread,
)
from .intervals import (
    summary as summary,
)
from .lists import (
    by_group as by_group,
)
from .lists import (
    head_items as head_items,
)
from .lists import (
    list_statistics as list_statistics,
)
from .lists import (
    quantile_groups as quantile_groups,
)
from .metrics import (
    NO_ITEM as NO_ITEM,
)
from .metrics import (
    expected_per_user as expected_per_user,
)
from .metrics import (
    per_user as per_user,
)
from .metrics import (
    per_user_metrics as per_user_metrics,
)
from .metrics import (
    rank_bounds as rank_bounds,
)
from .metrics import (
    target_ranks as target_ranks,
)
