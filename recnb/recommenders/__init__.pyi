from .bert4rec import BERT4Rec as BERT4Rec
from .counting import ItemKNN as ItemKNN
from .counting import Popularity as Popularity
from .fit import fit_baseline as fit_baseline
from .gru4rec import GRU4Rec as GRU4Rec
from .interface import (
    Lister as Lister,
)
from .interface import (
    Scorer as Scorer,
)
from .interface import (
    ranked_lists as ranked_lists,
)
from .interface import (
    tied_ranks as tied_ranks,
)
from .interface import (
    top_items as top_items,
)
from .losses import NegativeSampler as NegativeSampler
from .losses import info_nce as info_nce
from .losses import sampled_softmax as sampled_softmax
from .next_item import NextItemEncoder as NextItemEncoder
from .next_item import train_sequential as train_sequential
from .sasrec import SASRec as SASRec
from .settings import (
    BaselinesConfig as BaselinesConfig,
)
from .settings import (
    Bert4recConfig as Bert4recConfig,
)
from .settings import (
    Gru4recConfig as Gru4recConfig,
)
from .settings import (
    SasrecConfig as SasrecConfig,
)
from .settings import (
    TigerConfig as TigerConfig,
)
from .tiger import TIGER as TIGER
from .tiger import train_tiger as train_tiger
