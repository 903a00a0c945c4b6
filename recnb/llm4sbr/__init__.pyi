from . import figures as figures
from .infer import (
    ByWindow as ByWindow,
    LLMInfer as LLMInfer,
    WithTexts as WithTexts,
    infer_scores as infer_scores,
    questions as questions,
)
from .paper import departures as departures, published_costs as published_costs
from .recipe import (
    LLM4SBR as LLM4SBR,
    MAIN as MAIN,
    AlignConfig as AlignConfig,
    ArmConfig as ArmConfig,
    LocaliseConfig as LocaliseConfig,
)
from .settings import IntentsConfig as IntentsConfig
from .sources import Texts as Texts, sources_of as sources_of, texts_of as texts_of
