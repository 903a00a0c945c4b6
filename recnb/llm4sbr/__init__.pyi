from . import figures as figures
from .intent_files import (
    answerer as answerer,
    questions_frame as questions_frame,
    read_answers as read_answers,
    read_cache as read_cache,
    unanswered as unanswered,
    write_cache as write_cache,
)
from .intent_report import (
    agreement as agreement,
    gate as gate,
    intent_report as intent_report,
    title_numbers as title_numbers,
)
from .intents import (
    Questions as Questions,
    ask as ask,
    catalogue_lines as catalogue_lines,
    draw_sessions as draw_sessions,
    input_keys as input_keys,
)
from .prompts import (
    Prompter as Prompter,
    aligned_left as aligned_left,
    clean_answer as clean_answer,
    shared_lists as shared_lists,
    shown_titles as shown_titles,
)
from .recipe import (
    LLM4SBR as LLM4SBR,
    AlignConfig as AlignConfig,
    ArmConfig as ArmConfig,
    LocaliseConfig as LocaliseConfig,
)
from .settings import IntentsConfig as IntentsConfig
