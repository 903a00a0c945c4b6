from . import figures as figures
from .answer_tree import AnswerTree as AnswerTree
from .backbone import (
    build_backbone as build_backbone,
    build_tokenizer as build_tokenizer,
    causal_lm as causal_lm,
    head_logits as head_logits,
    inference as inference,
    initialise_tokens as initialise_tokens,
    pad_left as pad_left,
)
from .beam import (
    Beams as Beams,
    beam_search as beam_search,
    list_width as list_width,
    recommend as recommend,
)
from .chat import chat_frame as chat_frame, without_brackets as without_brackets
from .continuations import Continuations as Continuations, Forks as Forks, continuations as continuations
from .lora import add_adapter as add_adapter, save_adapter as save_adapter
from .packed import Told as Told, told_answers as told_answers
from .plain_text import PlainText as PlainText
from .pretrained import (
    load_causal_lm as load_causal_lm,
    load_sentence_encoder as load_sentence_encoder,
    locate as locate,
)
from .prior import Prior as Prior
from .ranker import (
    adapt as adapt,
    load_ranker as load_ranker,
    open_backbone as open_backbone,
    save_ranker as save_ranker,
    trained_parameters as trained_parameters,
)
from .ranking_prompts import (
    Prompt as Prompt,
    RankingPrompts as RankingPrompts,
    Wording as Wording,
    prompts_for as prompts_for,
    unique_titles as unique_titles,
)
from .score import score_items as score_items, score_tokens as score_tokens
from .scoring import (
    beginnings as beginnings,
    exact_titles as exact_titles,
    ground as ground,
    match_titles as match_titles,
    pooled_states as pooled_states,
    score_answers as score_answers,
    score_words as score_words,
    write as write,
)
from .settings import (
    AdapterConfig as AdapterConfig,
    BackboneConfig as BackboneConfig,
    DecodeConfig as DecodeConfig,
    LossWeights as LossWeights,
    PromptsConfig as PromptsConfig,
    SlotsConfig as SlotsConfig,
    TuneConfig as TuneConfig,
    TuneStage as TuneStage,
)
from .slots import (
    SlotEmbedding as SlotEmbedding,
    add_slots as add_slots,
    load_slots as load_slots,
    save_slots as save_slots,
    title_norm as title_norm,
    words_of as words_of,
)
from .text import (
    PLAIN_SENTENCES as PLAIN_SENTENCES,
    comprehension as comprehension,
    greedy_text as greedy_text,
    without_adapter as without_adapter,
)
from .token_tree import read_shared as read_shared
from .training_cases import ranking_examples as ranking_examples, training_cases as training_cases
from .tuning import Example as Example, kind_at as kind_at, tune as tune
from .vocabulary import Vocabulary as Vocabulary, train_tokenizer as train_tokenizer
