from . import agreement as agreement
from . import behaviour as behaviour
from . import figures as figures
from .settings import (
    BehaviourConfig as BehaviourConfig,
)
from .settings import (
    EmbeddingsConfig as EmbeddingsConfig,
)
from .settings import (
    SemanticConfig as SemanticConfig,
)
from .text import (
    embed_items as embed_items,
)
from .text import (
    field_texts as field_texts,
)
from .text import (
    mean_by_row as mean_by_row,
)
from .text import (
    text_coverage as text_coverage,
)
