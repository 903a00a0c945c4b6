"""Logits of a head that peft has wrapped: those of its merged table, in float32, whatever the model's dtype."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from recnb.index.trie import Trie
from recnb.llm.backbone import causal_lm, head_logits
from recnb.llm.beam import recommend
from recnb.llm.settings import DecodeConfig

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
V, D, K = 400, 32, 12
ITEMS = np.unique(np.random.default_rng(0).integers(10, 10 + 3 * K, (120, 3)), axis=0)
ROWS = list(range(10, 10 + 3 * K))
SIZES: dict[str, Any] = {"vocab_size": V, "hidden_size": D, "intermediate_size": 48, "num_attention_heads": 4}


def llama(tied: bool) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=2, tie_word_embeddings=tied))


def gemma(tied: bool) -> PreTrainedModel:
    kinds = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(
        **SIZES, num_key_value_heads=1, head_dim=8, num_hidden_layers=2, sliding_window=6, layer_types=kinds,
        tie_word_embeddings=tied,
    )  # fmt: skip
    return Gemma3ForCausalLM(config)


def build(kind: Callable[[bool], PreTrainedModel], tied: bool) -> PreTrainedModel:
    torch.manual_seed(0)
    model = kind(tied)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval().to(DEVICE)  # type: ignore[arg-type]


def tokens_of(tied: bool) -> dict[str, Any]:
    return {"trainable_token_indices": dict.fromkeys(["embed_tokens"] if tied else ["embed_tokens", "lm_head"], ROWS)}


ADAPTERS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "layers": lambda _: {},
    "rows": tokens_of,
    "whole": lambda _: {"modules_to_save": ["embed_tokens", "lm_head"]},
    "lora": lambda _: {"target_modules": ["q_proj", "lm_head"]},
}


def adapted(model: PreTrainedModel, kind: str, tied: bool, trained: bool) -> Any:
    torch.manual_seed(1)
    options = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | ADAPTERS[kind](tied)
    model = get_peft_model(model, LoraConfig(**options)).eval()
    for parameter in model.parameters() if trained else ():
        if parameter.requires_grad and parameter.shape[0] != V:
            torch.nn.init.normal_(parameter, std=0.2)
        elif parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def lists(model: Any, normalisation: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    prompts = [rng.integers(50, V, size) for size in rng.integers(3, 20, 12)]
    decode = DecodeConfig(beam=10, normalisation=normalisation, batch_size=8)
    return recommend(model, prompts, Trie.from_tokens(ITEMS), decode)


@pytest.mark.parametrize("normalisation", ["full", "trie"])
@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", [llama, gemma])
def test_an_adapter_that_says_nothing_changes_no_list(family: Any, tied: bool, kind: str, normalisation: str) -> None:
    """None, a fresh one, and a trained one that is switched off: the same lists in bfloat16."""
    plain = build(family, tied).to(torch.bfloat16)
    items, scores = lists(plain, normalisation)
    fresh = lists(adapted(copy.deepcopy(plain), kind, tied, trained=False), normalisation)
    trained = adapted(copy.deepcopy(plain), kind, tied, trained=True)
    with trained.disable_adapter():
        off = lists(trained, normalisation)
    for found in (fresh, off):
        assert np.array_equal(found[0], items)
        np.testing.assert_allclose(found[1], scores, atol=1e-5)
    assert not np.array_equal(lists(trained, normalisation)[0], items), "the adapter must be one that shows"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", [llama, gemma])
@pytest.mark.parametrize("off", [False, True])
def test_logits_are_those_of_the_merged_table(
    family: Any, tied: bool, kind: str, dtype: torch.dtype, off: bool
) -> None:
    """Against peft's own merge in float32; in bfloat16 the states are rounded, their product with the table is not."""
    model = adapted(build(family, tied).to(dtype), kind, tied, trained=True)
    states = torch.randn(64, D, generator=torch.Generator().manual_seed(2)).to(dtype).to(DEVICE)
    exact = build(family, tied).to(dtype).float() if off else copy.deepcopy(model).float().merge_and_unload()
    wanted = states.float() @ exact.get_output_embeddings().weight.T
    tokens = torch.tensor(ROWS, device=DEVICE)
    with model.disable_adapter() if off else nullcontext():
        for given, truth in ((None, wanted), (tokens, wanted[:, tokens])):
            found = head_logits(causal_lm(model), states, given)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, truth, atol=2e-5, rtol=1e-5)
        if dtype == torch.bfloat16:
            rounded = causal_lm(model).get_output_embeddings()(states).float()
            assert (rounded - wanted).abs().max() > 1e-2, "the case must be one in which rounding shows"


def test_a_head_that_is_no_table_is_asked_itself() -> None:
    """DoRA scales the columns of what LoRA adds to: its own forward pass says what that gives."""
    model = get_peft_model(build(llama, False), LoraConfig(r=2, target_modules=["lm_head"], use_dora=True)).eval()
    states = torch.randn(5, D, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    head = causal_lm(model).get_output_embeddings()
    assert torch.equal(head_logits(causal_lm(model), states), head(states))
    assert not torch.allclose(head(states), head.base_layer(states), atol=1e-2)
