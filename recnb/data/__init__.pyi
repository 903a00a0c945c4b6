from . import figures as figures
from .files import read_items as read_items
from .locate import source_files as source_files
from .prepare import k_core_mask as k_core_mask
from .schema import (
    Dataset as Dataset,
)
from .schema import (
    Sequences as Sequences,
)
from .schema import (
    has_text as has_text,
)
from .schema import (
    item_text as item_text,
)
from .schema import (
    read_dataset as read_dataset,
)
from .schema import (
    titles_of as titles_of,
)
from .schema import (
    write_dataset as write_dataset,
)
from .settings import DataConfig as DataConfig
from .sources import load_dataset as load_dataset
from .split import (
    Validation as Validation,
)
from .split import (
    histories as histories,
)
from .split import (
    replace_heldout as replace_heldout,
)
from .split import (
    seen_items as seen_items,
)
from .split import (
    training_sequences as training_sequences,
)
