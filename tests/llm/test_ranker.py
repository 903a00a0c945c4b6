"""A tuned ranker: what of it is trained, that it comes back whole, and whose it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from ranker_small import LLM, SEED, C, T, small_model, toy
from scipy.stats import binomtest
from transformers import LlamaConfig, LlamaForCausalLM

from recnb.artifacts import read_json, write_json
from recnb.errors import ArtifactError
from recnb.evaluation.candidates import draw_candidates
from recnb.llm.backbone import causal_lm
from recnb.llm.ranker import adapt, load_ranker, open_backbone, save_ranker, trained_parameters
from recnb.llm.settings import BackboneConfig, LossWeights, SlotsConfig, TuneConfig, TuneStage
from recnb.llm.slots import add_slots
from recnb.llm.training_cases import ranking_examples
from recnb.llm.tuning import tune
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.settings import BaselinesConfig, SasrecConfig


def stages(*prompts: str, examples: int = 32) -> list[TuneStage]:
    return [TuneStage(prompt=p, examples=examples, weights=LossWeights(nip=1, tt=0, ut=0)) for p in prompts]


def tuned(model, config: TuneConfig):
    tune(model, ranking_examples(toy().prompts, toy().held, config, T, C, SEED), config, seed=SEED)
    return model.eval()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    """A folder with a model of three blocks and a tokenizer, as the hub has them."""
    folder = tmp_path_factory.mktemp("hub") / "small"
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=toy().prompts.rows, **sizes)).save_pretrained(folder)
    toy().tokenizer.save_pretrained(folder)
    return BackboneConfig(kind="pretrained", model=str(folder))


def opened(llm: BackboneConfig, table: np.ndarray | None = None):
    model = open_backbone(llm, toy().tokenizer, SEED)
    table = np.random.default_rng(0).normal(size=(30, 8)) if table is None else table
    add_slots(model, table, SlotsConfig(), toy().prompts.title_ids, SEED)
    return model


def scores(model) -> torch.Tensor:
    """Of everything after one prompt with slots."""
    prompt = toy().prompts.build(np.array([1, 2]), np.array([3, 4]), "hybrid")
    with torch.no_grad():
        return causal_lm(model)(input_ids=torch.from_numpy(prompt.ids)[None]).logits[0, -1]


def trained(model) -> list[str]:
    return [name for name, one in model.named_parameters() if one.requires_grad]


def test_blocks_in_bfloat16_leave_weights_states_and_head_as_they_are(pretrained: BackboneConfig) -> None:
    exact, rough = (open_backbone(pretrained, toy().prompts.tokenizer, SEED, dtype=one) for one in (torch.float32, torch.bfloat16))
    rough = adapt(rough, pretrained, TuneConfig(stages=stages("text")), SEED)  # trained or not
    ids = torch.arange(3, 23)[None]
    states, own = (causal_lm(one).base_model(input_ids=ids, use_cache=False).last_hidden_state for one in (exact, rough))
    assert {one.dtype for one in rough.parameters()} == {own.dtype} == {torch.float32}
    apart = (own - states).norm() / states.norm()
    assert 1e-4 < apart < 0.03, "it was computed in bfloat16, which has eight bits"
    own.sum().backward()
    assert any(one.grad.abs().sum() > 0 for one in rough.parameters() if one.requires_grad)


@pytest.mark.parametrize(("share", "blocks"), [(1.0, {0, 1, 2}), (0.34, {1, 2}), (0.3, {2})])
def test_lora_stands_in_the_last_blocks(pretrained: BackboneConfig, share: float, blocks: set[int]) -> None:
    model = adapt(opened(pretrained), pretrained, TuneConfig(layers=share, stages=stages("text")), SEED)
    names = trained(model)
    assert {int(name.split("layers.")[1].split(".")[0]) for name in names} == blocks
    assert all("lora" in name for name in names)
    assert trained_parameters(model) == sum(model.get_parameter(name).numel() for name in names)


@pytest.mark.parametrize(("prompts", "counted"), [(["text"], False), (["text", "hybrid"], True)])
def test_the_projector_counts_where_a_stage_shows_vectors(
    pretrained: BackboneConfig, prompts: list[str], counted: bool
) -> None:
    for llm, model in ((pretrained, opened(pretrained)), (LLM, small_model())):
        names = trained(adapt(model, llm, TuneConfig(stages=stages(*prompts)), SEED))
        assert any("projector" in name for name in names) == counted


def test_no_layers_no_adapter(pretrained: BackboneConfig) -> None:
    model = adapt(opened(pretrained), pretrained, TuneConfig(layers=0.0, stages=stages("text")), SEED)
    assert not isinstance(model, PeftModel) and trained_parameters(model) == 0


@pytest.mark.parametrize("kind", ["text", "hybrid"])
def test_checkpointing_changes_memory_and_no_number(kind: str, pretrained: BackboneConfig) -> None:
    config, found = TuneConfig(stages=stages(kind), layers=0.5), []
    for saving in (False, True):
        llm = pretrained.model_copy(update={"gradient_checkpointing": saving})
        model = tuned(adapt(opened(llm), llm, config, SEED), config)
        assert causal_lm(model).is_gradient_checkpointing == saving
        found.append({name: one for name, one in model.state_dict().items() if "lora" in name or "projector" in name})
    assert found[0] and all(torch.allclose(one, found[1][name], atol=1e-6) for name, one in found[0].items())


def test_tuning_moves_adapter_and_projector_alone(pretrained: BackboneConfig) -> None:
    config = TuneConfig(stages=stages("hybrid"), layers=0.5)
    model = adapt(opened(pretrained), pretrained, config, SEED)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    tuned(model, config)
    moved = {name for name, one in model.state_dict().items() if not torch.equal(one, before[name])}
    assert moved and all("lora" in name or "projector" in name for name in moved)
    assert any("projector" in name for name in moved) and any("lora_B" in name for name in moved)


@pytest.mark.parametrize("kind", ["scratch", "lora", "frozen"])
def test_saved_and_loaded_it_says_the_same(kind: str, pretrained: BackboneConfig, tmp_path: Path) -> None:
    llm = LLM if kind == "scratch" else pretrained
    config = TuneConfig(stages=stages("hybrid"), layers=0.0 if kind == "frozen" else 0.5, learning_rate=0.01)
    model = small_model() if kind == "scratch" else opened(pretrained)
    untouched = scores(model)
    model = tuned(adapt(model, llm, config, SEED), config)
    save_ranker(model, tmp_path / "arm", llm)
    assert torch.equal(scores(load_ranker(llm, tmp_path / "arm")), scores(model))
    assert not torch.allclose(scores(model), untouched, atol=1e-3)
    assert hasattr(causal_lm(model).get_input_embeddings(), "projector"), "the slots are still in place"
    if kind == "lora":
        page = read_json(tmp_path / "arm" / "adapter" / "adapter_config.json")
        assert page["base_model_name_or_path"] == llm.model


def test_an_adapter_of_another_backbone_is_refused(pretrained: BackboneConfig, tmp_path: Path) -> None:
    config = TuneConfig(stages=stages("hybrid"))
    save_ranker(adapt(opened(pretrained), pretrained, config, SEED), tmp_path / "arm", pretrained)
    with pytest.raises(ArtifactError, match=r"arm was tuned on .*small, and the recipe's llm is a scratch model of 2"):
        load_ranker(LLM, tmp_path / "arm")
    other = Path(pretrained.model).parent / "other"
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=toy().prompts.rows, **sizes)).save_pretrained(other)
    toy().tokenizer.save_pretrained(other)
    page = tmp_path / "arm" / "ranker.json"  # the same name, another model behind it
    write_json(page, read_json(page) | {"llm": read_json(page)["llm"] | {"model": str(other)}})
    with pytest.raises(ArtifactError, match=r"was tuned on 3 blocks x 32, V \d+.*other is 2 blocks x 32"):
        load_ranker(BackboneConfig(kind="pretrained", model=str(other)), tmp_path / "arm")


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="ranker.json is missing or damaged"):
        load_ranker(LLM, tmp_path)


def test_a_backbone_without_such_projections_is_said(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    llm = BackboneConfig(kind="pretrained", model="org/other")
    with pytest.raises(ArtifactError, match="org/other: no layers named q_proj"):
        adapt(model, llm, TuneConfig(), SEED)


def hits(model, kind: str, users: int = 60) -> int:
    """Cases of validation whose target is the likeliest title: each title read behind the prompt, one by one."""
    held, prompts, found = toy().held, toy().prompts, 0
    sets = draw_candidates(held.owned_by("valid"), held.targets["valid"], C, 1, "uniform", 9)
    for history, listed, target in zip(held.histories["valid"][:users], sets.items[:, 0], sets.targets, strict=False):
        prompt = prompts.build(history, listed, kind).ids
        said = []
        for item in listed:
            answer = prompts.answers[item]
            with torch.no_grad():
                ids = torch.from_numpy(np.concatenate([prompt, answer]))[None]
                logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            said.append(float(logits.log_softmax(-1).gather(1, torch.from_numpy(answer)[:, None]).sum()))
        found += int(listed[int(np.argmax(said))] == target)
    return found


def test_a_tuned_scratch_model_is_above_chance_on_the_toy() -> None:
    """By its likelihoods of titles after prompts of vectors alone, those of a SASRec trained on the same sequences."""
    held, small = toy().held, BaselinesConfig(sasrec=SasrecConfig(width=16, epochs=60, patience=15))
    asked = held.histories["valid"], held.targets["valid"]
    sasrec = fit_baseline("sasrec", held.train, 30, small, T, seed=0, validation=asked)[0]
    config = TuneConfig(stages=stages("slots", examples=3000), batch_size=8, learning_rate=3e-3)
    llm = LLM.model_copy(update={"width": 64, "feedforward": 128, "dropout": 0.0})
    model = opened(llm, sasrec.item_table())
    before = hits(model, "slots")
    assert before < 20, "untrained it is not"
    found = hits(tuned(adapt(model, llm, config, SEED), config), "slots")
    assert binomtest(found, 60, 1 / C, alternative="greater").pvalue < 1e-2
