"""The toy catalogue as a ranker meets it: cases, prompts, and a scratch model of a few thousand weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from recnb.data.held_out import hold_out
from recnb.data.settings import DataConfig, SplitConfig, ToyConfig
from recnb.data.sources import load_dataset
from recnb.llm.backbone import build_tokenizer
from recnb.llm.ranker import open_backbone
from recnb.llm.ranking_prompts import RankingPrompts
from recnb.llm.settings import BackboneConfig, PromptsConfig, SlotsConfig
from recnb.llm.slots import add_slots

SEED, T, C = 3, 6, 6
LLM = BackboneConfig(vocabulary=600, width=32, layers=2, heads=2, feedforward=64)


@cache
def toy() -> SimpleNamespace:
    """Dataset, what is held out, prompts; read, never changed."""
    dataset = load_dataset(DataConfig(source="toy", toy=ToyConfig(users=60, items=30)), Path(), SEED)
    titles = dataset.items.title.tolist()
    tokenizer = build_tokenizer(LLM, titles)
    prompts = RankingPrompts(tokenizer, titles, len(tokenizer), PromptsConfig(history=T))
    return SimpleNamespace(
        dataset=dataset, held=hold_out(dataset, SplitConfig(), T, SEED), prompts=prompts, tokenizer=tokenizer
    )


def small_model(dropout: float = 0.0) -> torch.nn.Module:
    """A scratch model with slots that hold a random item table."""
    model = open_backbone(LLM.model_copy(update={"dropout": dropout}), toy().tokenizer, SEED)
    table = np.random.default_rng(0).normal(size=(toy().dataset.n_items, 8))
    add_slots(model, table, SlotsConfig(), toy().prompts.title_ids, SEED)
    return model
