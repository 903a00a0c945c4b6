from .backbone import (
    build_backbone as build_backbone,
)
from .backbone import (
    build_tokenizer as build_tokenizer,
)
from .backbone import (
    causal_lm as causal_lm,
)
from .backbone import (
    head_logits as head_logits,
)
from .backbone import (
    inference as inference,
)
from .backbone import (
    initialise_tokens as initialise_tokens,
)
from .backbone import (
    pad_left as pad_left,
)
from .beam import (
    Beams as Beams,
)
from .beam import (
    beam_search as beam_search,
)
from .beam import (
    list_width as list_width,
)
from .beam import (
    recommend as recommend,
)
from .lora import add_adapter as add_adapter
from .lora import save_adapter as save_adapter
from .pretrained import (
    load_causal_lm as load_causal_lm,
)
from .pretrained import (
    load_sentence_encoder as load_sentence_encoder,
)
from .pretrained import (
    locate as locate,
)
from .prior import Prior as Prior
from .score import score_items as score_items
from .score import score_tokens as score_tokens
from .settings import AdapterConfig as AdapterConfig
from .settings import BackboneConfig as BackboneConfig
from .settings import DecodeConfig as DecodeConfig
from .text import (
    PLAIN_SENTENCES as PLAIN_SENTENCES,
)
from .text import (
    comprehension as comprehension,
)
from .text import (
    greedy_text as greedy_text,
)
from .text import (
    without_adapter as without_adapter,
)
from .token_tree import read_shared as read_shared
from .vocabulary import Vocabulary as Vocabulary
from .vocabulary import train_tokenizer as train_tokenizer
