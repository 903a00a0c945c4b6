from . import figures as figures
from .answer_tree import AnswerTree as AnswerTree
from .backbone import (
    build_backbone as build_backbone,
    build_tokenizer as build_tokenizer,
    causal_lm as causal_lm,
    initialise_tokens as initialise_tokens,
)
from .beam import (
    Beams as Beams,
    beam_search as beam_search,
    list_width as list_width,
    recommend as recommend,
)
from .continuations import continuations as continuations
from .lora import add_adapter as add_adapter, save_adapter as save_adapter
from .packed import Told as Told, told_answers as told_answers
from .pretrained import load_causal_lm as load_causal_lm
from .ranker import (
    adapt as adapt,
    load_ranker as load_ranker,
    open_backbone as open_backbone,
    save_ranker as save_ranker,
    trained_parameters as trained_parameters,
)
from .ranking_prompts import RankingPrompts as RankingPrompts, Wording as Wording, prompts_for as prompts_for
from .score import score_items as score_items
from .scoring import (
    beginnings as beginnings,
    ground as ground,
    match_titles as match_titles,
    pooled_states as pooled_states,
    score_answers as score_answers,
    write as write,
)
from .settings import PromptsConfig as PromptsConfig, SlotsConfig as SlotsConfig, TuneStage as TuneStage
from .slots import (
    SlotEmbedding as SlotEmbedding,
    add_slots as add_slots,
    load_slots as load_slots,
    save_slots as save_slots,
    title_norm as title_norm,
)
from .text import (
    PLAIN_SENTENCES as PLAIN_SENTENCES,
    comprehension as comprehension,
    greedy_text as greedy_text,
    without_adapter as without_adapter,
)
from .token_tree import read_shared as read_shared
from .training_cases import ranking_examples as ranking_examples, training_cases as training_cases
from .tuning import kind_at as kind_at, tune as tune
from .vocabulary import Vocabulary as Vocabulary, train_tokenizer as train_tokenizer
