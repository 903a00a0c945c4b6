from .recipe import (
    LLM4SBR as LLM4SBR,
    AlignConfig as AlignConfig,
    ArmConfig as ArmConfig,
    LocaliseConfig as LocaliseConfig,
)
from .settings import IntentsConfig as IntentsConfig
