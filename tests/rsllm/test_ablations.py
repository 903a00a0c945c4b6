"""Every ablation that a file of ours names can be said in a recipe and trains: a step of each stage on the toy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sandbox import ROOT
from transformers import LlamaConfig, LlamaForCausalLM

from recnb.data.held_out import hold_out
from recnb.data.schema import item_text
from recnb.data.sources import load_dataset
from recnb.errors import RecnbError
from recnb.evaluation.candidates import draw_candidates
from recnb.evaluation.intervals import summary
from recnb.llm.backbone import build_tokenizer, causal_lm
from recnb.llm.ranker import adapt, open_backbone, save_ranker, trained_parameters
from recnb.llm.ranking_prompts import prompts_for
from recnb.llm.settings import BackboneConfig, TuneConfig
from recnb.llm.slots import add_slots
from recnb.llm.training_cases import ranking_examples
from recnb.llm.tuning import tune
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.item_tables import item_table
from recnb.recommenders.session_models import load_session_model, save_session_model
from recnb.recommenders.settings import BaselinesConfig
from recnb.rsllm.align import title_means, warm_up
from recnb.rsllm.losses import rsllm_losses
from recnb.rsllm.rank import Reader, kind_of, meet_users, open_reader
from recnb.rsllm.recipe import MAIN, RSLLM
from recnb.studies.claims import read_claims
from recnb.studies.comparisons import Comparison
from recnb.workflow.recipe import load_recipe

TOY = ROOT / "params" / "rsllm" / "toy.yaml"
TABLES = Comparison.read(ROOT / "params" / "ablations" / "ranking-tables.yaml").variants
ARMS = load_recipe(ROOT / "params" / "rsllm" / "ablations-gpu.yaml")
CHANGES = {name: variant.changes for name, variant in TABLES.items()} | {
    "first the contrasts, then the answer": [
        "tune.stages=[{prompt: hybrid, weights: {nip: 0, tt: 0.5, ut: 0.5}}, {weights: {nip: 1, tt: 0, ut: 0}}]"
    ],
    **{f"{size} candidates": [f"candidates.size={size}"] for size in (5, 10, 20)},
}
BATCH = 6


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The toy's data, a language model as a hub has them, and recommenders that a table can come from."""
    folder, recipe = tmp_path_factory.mktemp("shop"), load_recipe(TOY, ["data.toy.users=40"])
    dataset = load_dataset(recipe.data, folder, recipe.seed)
    held = hold_out(dataset, recipe.split, recipe.data.max_history, recipe.seed)
    tokenizer = build_tokenizer(BackboneConfig(vocabulary=400), dataset.items["title"].tolist())
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "hub")
    tokenizer.save_pretrained(folder / "hub")
    asked = held.histories["choose"], held.targets["choose"]
    for name in ("sasrec", "gru4rec", "caser", "din"):
        config = BaselinesConfig.model_validate({name: {"epochs": 1, "width": 8}})
        model, _ = fit_baseline(name, held.train, dataset.n_items, config, 20, seed=0, validation=asked)
        save_session_model(model, folder / name)
    texts = item_text(dataset.items, ("title", "categories"))
    return SimpleNamespace(folder=folder, dataset=dataset, held=held, texts=texts)


def toy(shop: SimpleNamespace, changes: list[str]) -> RSLLM:
    """The toy's recipe with an ablation, for the model of the hub."""
    hub = f"llm={{kind: pretrained, model: {shop.folder / 'hub'}}}"
    recipe = load_recipe(TOY, ["data.toy.users=40", hub, "prompts.history=4", *changes])
    assert isinstance(recipe, RSLLM)
    return recipe


def aligned(shop: SimpleNamespace, recipe: RSLLM) -> tuple[object, object]:
    """Prompts, and the model with the slots of 05."""
    prompts = prompts_for(recipe.llm, shop.dataset.items["title"].tolist(), recipe.prompts)
    model = open_backbone(recipe.llm, prompts.tokenizer, recipe.seed)
    table = item_table(recipe.slots.table, shop.folder, shop.texts, recipe.seed)
    slots = add_slots(model, table, recipe.slots, prompts.title_ids, recipe.seed)
    warm_up(slots, title_means(slots.words, prompts.title_ids), np.arange(len(table)), min(1, recipe.slots.warmup), 0)
    return prompts, model


def trains_and_answers(shop: SimpleNamespace, recipe: RSLLM, arm: TuneConfig) -> None:
    """A step of each stage shows, weighs and moves what the recipe says; then the model ranks."""
    few = {"stages": [stage.model_copy(update={"examples": BATCH}) for stage in arm.stages], "batch_size": BATCH}
    arm, size, T = arm.model_copy(update=few), recipe.candidates.size, recipe.data.max_history
    prompts, model = aligned(shop, recipe)
    meet_users(prompts, shop.folder, recipe.slots.table)
    causal_lm(model).get_input_embeddings().users = prompts.users
    model = adapt(model, recipe.llm, arm, recipe.seed)
    assert (trained_parameters(model) > 0) and any("lora" in n for n, _ in model.named_parameters()) == (arm.layers > 0)
    examples = ranking_examples(prompts, shop.held, arm, T, size, recipe.seed)
    log = tune(model, examples, arm, rsllm_losses(arm), seed=recipe.seed)
    for row, stage in zip(log, arm.stages, strict=True):
        told = {"nip"} | {name for name in ("tt", "ut") if getattr(stage.weights, name)}
        assert set(row) & {"nip", "tt", "ut"} == told and np.isfinite(row["loss"])
        assert row["hybrid"] == (stage.prompt in ("hybrid", "slots")), "a curriculum begins with titles alone"
    held, kind = shop.held, kind_of(arm)
    sets = draw_candidates(held.owned_by("test"), held.targets["test"], size, 1, "uniform", 0).items[:3]
    asked = prompts.build(held.histories["test"][0], sets[0, 0], kind)
    shown = asked.slots[asked.spans["candidates"]]
    assert (shown >= 0).sum() == (size if kind != "text" and "candidates" in recipe.prompts.slots else 0)
    assert (asked.slots[asked.spans["history"]] >= len(prompts.titles)).sum() == (
        kind != "text" and "user" in recipe.prompts.slots
    )
    scores = Reader(model.eval(), prompts, kind).likelihood(held.histories["test"][:3], sets)
    assert scores.shape == (3, 1, size) and np.isfinite(scores).all() and np.ptp(scores) > 0


@pytest.mark.parametrize("choice", CHANGES)
def test_a_choice_before_training_can_be_said_and_trains(choice: str, shop: SimpleNamespace) -> None:
    recipe = toy(shop, CHANGES[choice])
    trains_and_answers(shop, recipe, recipe.tune.every_arm[MAIN])


@pytest.mark.parametrize("arm", ARMS.tune.every_arm)
def test_an_arm_can_be_said_and_trains(arm: str, shop: SimpleNamespace) -> None:
    trains_and_answers(shop, toy(shop, []), ARMS.tune.every_arm[arm])


def test_tables_are_different_ones(shop: SimpleNamespace) -> None:
    named = {toy(shop, variant.changes).slots.table for variant in TABLES.values()}
    assert named == {"sasrec", "random", "text", "gru4rec", "caser", "din"}
    firsts = [causal_lm(aligned(shop, toy(shop, variant.changes))[1]).get_input_embeddings().table[0, :4].tolist()
              for variant in list(TABLES.values())[:6]]  # fmt: skip
    assert len(set(map(tuple, firsts))) == 6


@pytest.mark.parametrize("table", ["sasrec", "gru4rec", "caser"])
def test_a_saved_model_reads_the_state_after_the_whole_history(table: str, shop: SimpleNamespace, tmp_path: Path) -> None:
    baselines = f"models.baselines=[popularity, sasrec, {table}]"
    recipe = toy(shop, ["prompts.slots=[user]", f"slots.table={table}", baselines])
    prompts, model = aligned(shop, recipe)
    save_ranker(model, tmp_path / "arm", recipe.llm)
    reader = open_reader(recipe.llm, tmp_path / "arm", recipe.tune.every_arm[MAIN], prompts, "cpu")
    histories = shop.held.histories["test"][:2].copy()
    histories[1] = histories[0]
    histories[1, -5] = (histories[1, -5] + 1) % len(prompts.titles)  # which no prompt shows
    sets = draw_candidates(shop.held.owned_by("test"), shop.held.targets["test"], 5, 1, "uniform", 0).items[:2]
    with pytest.raises(RecnbError, match="expected a recommender that gives their states"):
        reader.likelihood(histories, sets)
    meet_users(prompts, shop.folder, table)
    slots = causal_lm(reader.model).get_input_embeddings()
    read = slots(torch.tensor([prompt.ids[prompt.slots >= 0].item() for prompt in reader.asked(histories, sets)]))
    states = (load_session_model(shop.folder / table).states(histories) - slots.centre) / slots.spread
    assert torch.allclose(read, slots.projector(states) * slots.length, atol=1e-4) and not torch.equal(*read)
    assert np.isfinite(reader.likelihood(np.full_like(histories, -1), sets)).all(), "nor does an empty one spoil it"


def test_every_claim_is_asked_of_something_that_a_file_of_ours_trains() -> None:
    controls = {f"{MAIN} {name}" for name in ("other vectors", "other history", "shuffled history")}
    trained = {MAIN, *(f"{MAIN}-{name}" for name in ARMS.tune.arms), *ARMS.models.baselines}
    for claim in read_claims("recnb.rsllm"):
        known = trained | controls if claim.comparison == "run" else set(TABLES)
        assert {claim.better, claim.worse} <= known, claim.claim
        kept = summary({0: np.array([0.0])}) if claim.comparison != "run" else {"": 0}
        assert claim.metric in kept, f"{claim.claim}: a comparison keeps no HR@1"
    seen = {arm: sum(stage.examples for stage in config.stages) for arm, config in ARMS.tune.every_arm.items()}
    assert len(set(seen.values())) == 1, "all arms see as many examples"
