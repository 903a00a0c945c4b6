from . import figures as figures, sources as sources
from .align import (
    Aligned as Aligned,
    alignment as alignment,
    load_arm as load_arm,
    save_arm as save_arm,
    train_arm as train_arm,
    uniformity as uniformity,
)
from .cases import (
    answer_kinds as answer_kinds,
    asked_cases as asked_cases,
    case_record as case_record,
    choose_cases as choose_cases,
    nearest_titles as nearest_titles,
    shared_items as shared_items,
)
from .infer import (
    ByWindow as ByWindow,
    LLMInfer as LLMInfer,
    WithTexts as WithTexts,
    infer_scores as infer_scores,
    questions as questions,
)
from .intent_files import (
    answerer as answerer,
    questions_frame as questions_frame,
    read_answers as read_answers,
    read_cache as read_cache,
    unanswered as unanswered,
    write_cache as write_cache,
)
from .intent_report import agreement as agreement, gate as gate, intent_report as intent_report
from .intents import Questions as Questions, ask as ask, asked_about as asked_about, catalogue_lines as catalogue_lines
from .localise import (
    check_catalogue as check_catalogue,
    localised as localised,
    nearest_cosines as nearest_cosines,
    nearest_items as nearest_items,
)
from .paper import departures as departures, published_costs as published_costs
from .prompts import (
    Prompter as Prompter,
    aligned_left as aligned_left,
    shared_lists as shared_lists,
    shown_titles as shown_titles,
)
from .recipe import LLM4SBR as LLM4SBR, MAIN as MAIN, ArmConfig as ArmConfig, LocaliseConfig as LocaliseConfig
from .settings import VIEWS as VIEWS, IntentsConfig as IntentsConfig
from .sources import Texts as Texts, read_texts as read_texts, sources_of as sources_of
