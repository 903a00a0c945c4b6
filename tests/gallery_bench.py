"""A bench of the gallery on the toy catalogue, and what the test asks: the whole chain in seconds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from recnb.data.held_out import HeldOut, hold_out
from recnb.data.schema import titles_of
from recnb.data.settings import DataConfig, SplitConfig
from recnb.data.sources import load_dataset
from recnb.evaluation.candidates import CandidateSets, draw_candidates
from recnb.gallery.interface import Bench, without_test
from recnb.gallery.recipe import GalleryConfig
from recnb.llm.backbone import build_tokenizer
from recnb.llm.ranker import open_backbone
from recnb.llm.ranking_prompts import RankingPrompts
from recnb.llm.settings import BackboneConfig, PromptsConfig, SlotsConfig, TuneConfig, TuneStage
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.settings import BaselinesConfig

C, D, T, SEED = 6, 2, 8, 7
LLM = BackboneConfig(vocabulary=400, width=32, layers=1, heads=2, feedforward=64, dropout=0.0)
GALLERY = GalleryConfig.model_validate({"tiger": {"width": 16, "head_width": 8, "heads": 2, "encoder_layers": 1,
                                                  "decoder_layers": 1, "feedforward": 32, "epochs": 2}})  # fmt: skip
TUNE = TuneConfig(stages=[TuneStage(prompt="text", examples=8)], batch_size=4, learning_rate=2e-3)


def toy_bench(keep: Path) -> tuple[Bench, HeldOut]:
    """The bench, and the cases that it does not show."""
    data = DataConfig(source="toy", toy={"users": 40, "items": 40})
    dataset = load_dataset(data, Path(), SEED)
    held = hold_out(dataset, SplitConfig(validation_users=6, test_users=5), T, SEED)
    titles = titles_of(dataset.items)
    tokenizer = build_tokenizer(LLM, titles)
    load = partial(open_backbone, LLM, tokenizer, SEED)
    prompts = RankingPrompts(tokenizer, titles, load().get_input_embeddings().num_embeddings, PromptsConfig(history=4))
    models = {name: fitted(name, held, len(titles)) for name in ("popularity", "itemknn", "sasrec")}
    bench = Bench(titles, prompts, without_test(held), sets_of(held, "valid"), models, load, LLM, SlotsConfig(), TUNE, keep, SEED, GALLERY)
    return bench, held


def fitted(name: str, held: HeldOut, n_items: int):
    valid = held.histories["valid"], held.targets["valid"]
    config = BaselinesConfig(sasrec={"epochs": 2})
    return fit_baseline(name, held.train, n_items, config, T, seed=SEED, validation=valid)[0]


def sets_of(held: HeldOut, part: str) -> CandidateSets:
    return draw_candidates(held.owned_by(part), held.targets[part], C, D, "uniform", SEED)
