"""Beam search against brute force, against its slow twin, and against transformers' own constrained beam search."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy import sparse
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from recnb.errors import RecnbError
from recnb.index.trie import Trie
from recnb.llm import beam
from recnb.llm.backbone import causal_lm, inference, pad_left
from recnb.llm.beam import TokenScorer, beam_search, recommend
from recnb.llm.prior import Prior
from recnb.llm.score import score_items
from recnb.llm.settings import DecodeConfig
from recnb.llm.token_tree import read_shared

V = 48
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def llama(attention: str = "sdpa") -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, attn_implementation=attention,
    )  # fmt: skip
    return build(LlamaForCausalLM, config)


def gemma(attention: str = "sdpa", cap: float | None = 3.0) -> Gemma3ForCausalLM:
    config = Gemma3TextConfig(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=128, sliding_window=6, final_logit_softcapping=cap,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], attn_implementation=attention,
    )  # fmt: skip
    return build(Gemma3ForCausalLM, config)


def gpt2() -> GPT2LMHeadModel:
    return build(GPT2LMHeadModel, GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=64))


def mistral() -> MistralForCausalLM:
    config = MistralConfig(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=5,
    )  # fmt: skip
    return build(MistralForCausalLM, config)


def build(kind, config):
    torch.manual_seed(0)
    model = kind(config)
    for parameter in model.parameters():  # larger than the default start, so that scores differ clearly
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return model.eval()


MODELS = {"llama": llama, "llama-eager": lambda: llama("eager"), "gemma": gemma, "gemma-eager": lambda: gemma("eager"),
          "gpt2": gpt2, "mistral": mistral}  # fmt: skip


def catalogue(seed: int, items: int, depth: int, tokens: int) -> np.ndarray:
    """Random distinct rows over ids 10.., the same tokens on all levels."""
    rng = np.random.default_rng(seed)
    rows = np.unique(rng.integers(10, 10 + tokens, (items * 3, depth)), axis=0)
    return rng.permutation(rows)[:items]


def release_like(items: int = 40) -> np.ndarray:
    """As the paper's index: two tokens identify the item, the other two are forced."""
    number = np.arange(items)
    rows = np.stack([10 + number // 7, 17 + number % 7, 25 + number % 8, 33 + number // 8], axis=1)
    return np.random.default_rng(0).permutation(rows)


def prompts(seed: int, lengths: tuple[int, ...] = (9, 4, 12)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, V, length) for length in lengths]


CATALOGUES = {
    "release": release_like(),
    "ragged": catalogue(1, 40, 4, 4),
    "flat": catalogue(2, 25, 1, 30),
    "two": catalogue(3, 30, 2, 12),
    "forced-first": np.insert(catalogue(4, 30, 2, 9), 0, 45, axis=1),
    "forced-middle": np.insert(catalogue(5, 30, 2, 9), 1, 46, axis=1),
    "one": np.array([[11, 12, 13]]),
}


def brute_force_beam(model, prompt, rows, width, excluded=frozenset()):
    """Textbook beam search: dictionaries, one sequence at a time, no cache."""
    beams = {(): 0.0}
    items = [tuple(row) for number, row in enumerate(rows.tolist()) if number not in excluded]
    for depth in range(rows.shape[1]):
        grown = {}
        for prefix, score in beams.items():
            ids = torch.tensor([[*prompt, *prefix]])
            with torch.no_grad():
                logprobs = model(input_ids=ids).logits[0, -1].float().log_softmax(-1)
            for token in {item[depth] for item in items if item[:depth] == prefix}:
                grown[*prefix, token] = score + float(logprobs[token])
        beams = dict(sorted(grown.items(), key=lambda pair: -pair[1])[:width])
    numbers = {tuple(row): number for number, row in enumerate(rows.tolist())}
    best = sorted(beams.items(), key=lambda pair: -pair[1])
    return [numbers[path] for path, _ in best], [score for _, score in best]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", CATALOGUES)
def test_equals_textbook_beam_search(name: str, kind: str) -> None:
    model, rows, asked = MODELS[name](), CATALOGUES[kind], prompts(7)
    for width in sorted({1, min(4, len(rows)), min(11, len(rows))}):
        found = beam_search(model, asked, Trie.from_tokens(rows), width)
        for b, prompt in enumerate(asked):
            items, scores = brute_force_beam(model, prompt, rows, width)
            assert found.items[b].tolist() == items
            np.testing.assert_allclose(found.scores[b], scores, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma"])
@pytest.mark.parametrize("normalisation", ["full", "index", "trie"])
@pytest.mark.parametrize("kind", CATALOGUES)
def test_full_width_equals_scoring_every_item(name: str, normalisation: str, kind: str) -> None:
    model, trie, asked = MODELS[name](), Trie.from_tokens(CATALOGUES[kind]), prompts(8)
    found = beam_search(model, asked, trie, trie.n_items, normalisation)
    outright = score_items(model, asked, trie, normalisation)
    assert [sorted(row) for row in found.items.tolist()] == [list(range(trie.n_items))] * len(asked)
    np.testing.assert_allclose(found.scores, np.take_along_axis(outright, found.items, 1), atol=1e-4)
    assert (np.diff(found.scores, axis=1) <= 0).all()


SMALL = {"vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
FAMILIES = {
    "qwen2": {
        **SMALL,
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen3": {**SMALL, "num_key_value_heads": 2, "head_dim": 8},
    "gemma2": {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5},
    "phi3": {**SMALL, "num_key_value_heads": 2, "sliding_window": 5, "pad_token_id": 0},
    "granite": {**SMALL, "num_key_value_heads": 2, "logits_scaling": 3.0, "embedding_multiplier": 2.0},
    "cohere": {**SMALL, "num_key_value_heads": 2, "logit_scale": 0.5, "pad_token_id": 0},
    "gpt_neox": SMALL,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_equal_scoring_every_item(family: str) -> None:
    """Each has its own idea of windows, logit scaling or positions."""
    config = AutoConfig.for_model(family, **FAMILIES[family])
    model = build(lambda config: AutoModelForCausalLM.from_config(config), config)
    trie, asked = Trie.from_tokens(release_like()), prompts(13, (9, 4, 14))
    found = beam_search(model, asked, trie, trie.n_items)
    outright = score_items(model, asked, trie)
    np.testing.assert_allclose(found.scores, np.take_along_axis(outright, found.items, 1), atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma"])
@pytest.mark.parametrize("kind", ["release", "ragged", "two", "forced-middle"])
def test_equals_transformers_constrained_beam_search(name: str, kind: str) -> None:
    model, rows, width = MODELS[name](), CATALOGUES[kind], 10
    trie, asked = Trie.from_tokens(rows), prompts(9, (9, 3, 12, 6))
    ids, mask = pad_left(asked)
    options = GenerationConfig(
        num_beams=width, num_return_sequences=width, max_new_tokens=trie.depth, min_new_tokens=trie.depth,
        do_sample=False, length_penalty=0.0, early_stopping=True, renormalize_logits=False, temperature=1.0, top_k=0,
        top_p=1.0, repetition_penalty=1.0, pad_token_id=0, eos_token_id=None, bos_token_id=None,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    start = ids.shape[1]
    theirs = model.generate(
        input_ids=ids, attention_mask=mask, generation_config=options,
        prefix_allowed_tokens_fn=lambda _, row: trie.allowed(row[start:].tolist()),
    )  # fmt: skip
    numbers = {tuple(row): number for number, row in enumerate(rows.tolist())}
    items = [numbers[tuple(row)] for row in theirs.sequences[:, start:].tolist()]
    ours = beam_search(model, asked, trie, width)
    assert ours.items.tolist() == np.reshape(items, (len(asked), width)).tolist()
    np.testing.assert_allclose(ours.scores.reshape(-1), theirs.sequences_scores, atol=1e-4)


@pytest.mark.parametrize("normalisation", ["full", "index", "trie"])
@pytest.mark.parametrize("kind", ["release", "ragged", "flat", "forced-first"])
def test_exclusion_is_exact(kind: str, normalisation: str) -> None:
    model, rows, asked = llama(), CATALOGUES[kind], prompts(10)
    trie, rng = Trie.from_tokens(rows), np.random.default_rng(0)
    exclude = rng.random((len(asked), len(rows))) < 0.6
    left = int((~exclude).sum(1).min())
    found = beam_search(model, asked, trie, left, normalisation, exclude=sparse.csr_matrix(exclude))
    assert not np.take_along_axis(exclude, found.items, 1).any()
    assert all(len(set(row)) == left for row in found.items.tolist())
    outright = score_items(model, asked, trie, normalisation, exclude=exclude)
    np.testing.assert_allclose(found.scores, np.take_along_axis(outright, found.items, 1), atol=1e-4)
    if normalisation == "full":
        narrow = beam_search(model, asked, trie, 3, exclude=exclude)
        for b, prompt in enumerate(asked):
            items, _ = brute_force_beam(model, prompt, rows, 3, set(np.flatnonzero(exclude[b])))
            assert narrow.items[b].tolist() == items


def test_too_few_items_is_an_error_with_the_nearest_width() -> None:
    model, trie = llama(), Trie.from_tokens(CATALOGUES["two"])
    with pytest.raises(RecnbError, match="beam width 31 is more than the 30 items"):
        beam_search(model, prompts(1), trie, 31)
    exclude = np.zeros((3, 30), bool)
    exclude[1, :25] = True
    with pytest.raises(RecnbError, match="prompt 1: 5 items are left.*nearest valid width: 5"):
        beam_search(model, prompts(1), trie, 6, exclude=exclude)
    with pytest.raises(RecnbError, match="at least 1"):
        beam_search(model, prompts(1), trie, 0)
    with pytest.raises(RecnbError, match="one per prompt"):
        beam_search(model, prompts(1), trie, 2, exclude=exclude[:2])


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_a_prompt_gets_the_same_answer_in_any_batch(name: str) -> None:
    model, trie = MODELS[name](), Trie.from_tokens(CATALOGUES["release"])
    asked = prompts(11, (5, 14, 9, 9, 2, 7, 11))
    config = DecodeConfig(beam=6, batch_size=3)
    items, scores = recommend(model, asked, trie, config)
    for b, prompt in enumerate(asked):
        alone = beam_search(model, [prompt], trie, 6)
        assert items[b].tolist() == alone.items[0].tolist()
        np.testing.assert_allclose(scores[b], alone.scores[0], atol=1e-4)


@pytest.mark.parametrize("beginning", [4, 9])
@pytest.mark.parametrize("name", MODELS)
def test_a_shared_beginning_changes_nothing(name: str, beginning: int) -> None:
    """Its keys and values, read once for all, give what reading every prompt whole gives (also past a window)."""
    model, trie = MODELS[name](), Trie.from_tokens(CATALOGUES["ragged"])
    start = np.arange(1, beginning + 1)
    whole = [np.concatenate([start, rest]) for rest in prompts(7, (5, 1, 9))]
    whole[1][-1] = 40  # else a random rest could lengthen what they share
    shared = read_shared(model, whole)
    assert shared is not None and shared.ids.tolist() == start.tolist()
    plain, quick = beam_search(model, whole, trie, 8), beam_search(model, whole, trie, 8, shared=shared)
    assert (plain.items == quick.items).all()
    np.testing.assert_allclose(plain.scores, quick.scores, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("adapter", ["none", "off", "on"])
@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_masks_leave_no_row_empty_and_change_no_score(name: str, adapter: str, dtype: torch.dtype) -> None:
    """Prompts with and without padding (odd lengths), and with a shared beginning: each as scored outright.

    A row of attention that sees nothing is NaN in some kernels, and 0 times NaN is NaN for those that do not see it.
    """
    model: Any = MODELS[name]().to(dtype).to(DEVICE)
    if adapter != "none":
        model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"])).eval()
        for part, parameter in model.named_parameters():
            if "lora_" in part:
                torch.nn.init.normal_(parameter, std=0.3)
    masks: list[torch.Tensor] = []

    def look(_: Any, args: Any, named: dict[str, Any]) -> None:
        found = named.get("attention_mask")
        masks.extend(found.values() if isinstance(found, dict) else [] if found is None else [found])

    causal_lm(model).base_model.register_forward_pre_hook(look, with_kwargs=True)
    trie, beginning = Trie.from_tokens(CATALOGUES["ragged"]), np.arange(1, 8)
    with model.disable_adapter() if adapter == "off" else nullcontext():
        for lengths in ((9, 9), (9, 2, 12)):
            whole = [np.concatenate([beginning, rest]) for rest in prompts(7, lengths)]
            masks.clear()
            outright = score_items(model, whole, trie)
            assert masks == [], "the slow twin reads without a mask"
            for shared in (None, read_shared(model, whole)):
                masks.clear()
                found = beam_search(model, whole, trie, trie.n_items, shared=shared)
                close = 1e-4 if dtype == torch.float32 else 0.3
                np.testing.assert_allclose(found.scores, np.take_along_axis(outright, found.items, 1), atol=close)
                masked = shared is not None or len(set(lengths)) > 1  # else the prompts need no mask
                assert (masks[0].shape[-2] == masks[0].shape[-1]) == (masked and shared is None)
                assert all(bool((mask == 0).any(-1).all()) for mask in masks)


def test_what_is_not_shared_is_not_assumed() -> None:
    model, trie = llama(), Trie.from_tokens(CATALOGUES["ragged"])
    same = [np.arange(1, 9), np.arange(1, 12)]
    assert read_shared(model, same).ids.tolist() == list(range(1, 8)), "a token must be left to predict from"
    assert read_shared(model, [np.array([1, 2, 3, 4, 5]), np.array([1, 2, 3, 9, 5])]) is None
    assert read_shared(model, [np.array([1, 2]), np.array([1, 2])]) is None
    shared = read_shared(model, same)
    with pytest.raises(RecnbError, match="begin with its 7 tokens"):
        beam_search(model, [np.array([1, 2, 3, 4, 5, 6, 8, 9])], trie, 3, shared=shared)


def test_recommend_reads_a_shared_beginning_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, trie = llama(), Trie.from_tokens(CATALOGUES["ragged"])
    whole = [np.concatenate([np.arange(1, 9), rest]) for rest in prompts(8, (6,) * 7)]
    read: list[int] = []
    forward = model.model.forward
    monkeypatch.setattr(
        model.model, "forward", lambda *a, input_ids, **k: read.append(input_ids.numel()) or forward(input_ids, *a, **k)
    )
    config = DecodeConfig(beam=5, batch_size=3)
    items, scores = recommend(model, whole, trie, config)
    assert sum(count == 8 for count in read) == 1 and max(read) <= 3 * max(6, 5 * 3)
    alone = [beam_search(model, [prompt], trie, 5) for prompt in whole]
    assert (items == np.concatenate([found.items for found in alone])).all()
    np.testing.assert_allclose(scores, np.concatenate([found.scores for found in alone]), atol=1e-4)


def test_recommend_moves_the_tree_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, moved = llama(), []
    there = Trie.to
    monkeypatch.setattr(Trie, "to", lambda trie, device: moved.append(trie) or there(replace(trie), device))
    seen: list[Trie] = []
    search = beam.beam_search
    monkeypatch.setattr(beam, "beam_search", lambda *given: seen.append(given[2]) or search(*given))
    trie = Trie.from_tokens(CATALOGUES["release"])
    recommend(model, prompts(12, (5, 14, 9, 9, 2)), trie, DecodeConfig(beam=6, batch_size=2))
    assert moved[0] is trie and len(seen) == 3
    assert all(given is seen[0] and given is not trie for given in seen), "batches get the tree that was moved"


def test_recommend_excludes_per_user_across_batches() -> None:
    model, trie, asked = llama(), Trie.from_tokens(CATALOGUES["release"]), prompts(12, (5, 14, 9, 9, 2))
    exclude = sparse.csr_matrix(np.random.default_rng(1).random((5, 40)) < 0.5)
    items, _ = recommend(model, asked, trie, DecodeConfig(beam=6, batch_size=2), exclude)
    for b, prompt in enumerate(asked):
        assert items[b].tolist() == beam_search(model, [prompt], trie, 6, exclude=exclude[[b]]).items[0].tolist()


def test_users_with_few_items_left_get_short_lists() -> None:
    """One user has seen all but two items, one all of them; a beam wider than the catalogue is cut to it."""
    model, trie, asked = llama(), Trie.from_tokens(CATALOGUES["release"]), prompts(12, (5, 14, 9, 9))
    seen = np.zeros((4, 40), dtype=bool)
    seen[1, :38], seen[2] = True, True
    exclude = sparse.csr_matrix(seen)
    items, scores = recommend(model, asked, trie, DecodeConfig(beam=3, batch_size=2), exclude)
    for user in (0, 3):
        assert items[user].tolist() == beam_search(model, [asked[user]], trie, 3).items[0].tolist()
    alone = beam_search(model, [asked[1]], trie, 2, exclude=exclude[[1]])
    assert items[1].tolist() == [*alone.items[0], -1] and sorted(alone.items[0]) == [38, 39]
    np.testing.assert_allclose(scores[1], [*alone.scores[0], -np.inf], atol=1e-4)
    assert items[2].tolist() == [-1, -1, -1]
    assert recommend(model, asked, trie, DecodeConfig(beam=99, batch_size=2))[0].shape == (4, 40)


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("kind", CATALOGUES)
def test_a_prior_is_multiplied_with_the_models_probability(kind: str, weight: float) -> None:
    """With a beam as wide as the catalogue the search must say what scoring all items and adding the prior says."""
    model, trie, asked = llama(), Trie.from_tokens(CATALOGUES[kind]), prompts(21)
    prior = Prior(np.random.default_rng(2).normal(size=(len(asked), trie.n_items)) * 4, weight)
    found = beam_search(model, asked, trie, trie.n_items, prior=prior)
    outright = score_items(model, asked, trie) + weight * prior.log_probabilities()
    np.testing.assert_allclose(found.scores, np.take_along_axis(outright, found.items, 1), atol=2e-4)
    assert weight or found.items.tolist() == beam_search(model, asked, trie, trie.n_items).items.tolist()


def test_an_excluded_item_takes_none_of_the_prior() -> None:
    model, rows, asked = llama(), CATALOGUES["release"], prompts(22)
    trie, rng = Trie.from_tokens(rows), np.random.default_rng(3)
    prior, exclude = Prior(rng.normal(size=(len(asked), len(rows)))), rng.random((len(asked), len(rows))) < 0.5
    left = int((~exclude).sum(1).min())
    found = beam_search(model, asked, trie, left, exclude=exclude, prior=prior)
    q = np.where(exclude, 0, np.exp(prior.log_probabilities()))
    with np.errstate(divide="ignore"):
        outright = score_items(model, asked, trie, exclude=exclude) + np.log(q / q.sum(1, keepdims=True))
    np.testing.assert_allclose(found.scores, np.take_along_axis(outright, found.items, 1), atol=2e-4)


def test_an_item_the_prior_rules_out_can_still_be_found() -> None:
    scores = np.full((3, 40), -1e6)
    scores[:, 7] = 0.0
    found = beam_search(llama(), prompts(23), Trie.from_tokens(CATALOGUES["release"]), 40, prior=Prior(scores))
    assert (found.items[:, 0] == 7).all() and np.isfinite(found.scores).all()


def test_recommend_asks_the_prior_for_the_rows_of_each_batch() -> None:
    model, trie, asked = llama(), Trie.from_tokens(CATALOGUES["release"]), prompts(12, (5, 14, 9, 9, 2))
    scores = np.random.default_rng(4).normal(size=(5, 40)) * 3
    config = DecodeConfig(beam=6, batch_size=2)
    items, _ = recommend(model, asked, trie, config, prior=lambda rows: Prior(scores[rows], 2.0))
    for b, prompt in enumerate(asked):
        alone = beam_search(model, [prompt], trie, 6, prior=Prior(scores[[b]], 2.0))
        assert items[b].tolist() == alone.items[0].tolist()


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        (Prior(np.full((3, 40), np.nan)), "finite"),
        (Prior(np.zeros((3, 40)), -1.0), "at least 0"),
        (Prior(np.zeros((3, 39))), "scores of 40 items, found 39"),
    ],
)
def test_an_unusable_prior_is_refused(prior: Prior, said: str) -> None:
    with pytest.raises(RecnbError, match=said):
        beam_search(llama(), prompts(24), Trie.from_tokens(CATALOGUES["release"]), 5, prior=prior)


def test_equal_scores_stand_in_item_order() -> None:
    model, rows = llama(), CATALOGUES["two"]
    torch.nn.init.zeros_(model.lm_head.weight)  # every token equally probable: all items tie
    found = beam_search(model, prompts(3), Trie.from_tokens(rows), len(rows))
    assert found.items.tolist() == [list(range(len(rows)))] * 3
    narrow = beam_search(model, prompts(3), Trie.from_tokens(rows), 4)
    first = sorted(np.lexsort(rows.T[::-1])[:4].tolist())  # dropped ties: lexicographic order of tokens
    assert narrow.items.tolist() == [first] * 3


def test_diverged_model_is_an_error() -> None:
    model = llama()
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    with pytest.raises(RecnbError, match="diverged"):
        beam_search(model, prompts(1), Trie.from_tokens(CATALOGUES["two"]), 3)


@pytest.mark.parametrize("normalisation", ["full", "index"])
def test_adapter_is_in_force(normalisation: str) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head", "embed_tokens"])
    model = peft.get_peft_model(llama(), config)
    trie, asked = Trie.from_tokens(CATALOGUES["release"]), prompts(2)
    before = beam_search(model, asked, trie, 8, normalisation)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    after = beam_search(model, asked, trie, 8, normalisation)
    outright = score_items(model, asked, trie, normalisation)
    assert not np.allclose(before.scores, after.scores)
    np.testing.assert_allclose(after.scores, np.take_along_axis(outright, after.items, 1), atol=1e-4)


def test_training_mode_is_put_back_and_dropout_is_off() -> None:
    model = build(GPT2LMHeadModel, GPT2Config(vocab_size=V, n_embd=32, n_layer=1, n_head=2, resid_pdrop=0.5))
    trie = Trie.from_tokens(CATALOGUES["two"])
    model.train()
    model.transformer.drop.eval()
    first, second = (beam_search(model, prompts(1), trie, 5) for _ in range(2))
    assert first.scores.tolist() == second.scores.tolist()
    assert model.training and not model.transformer.drop.training
    with inference(model):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_bfloat16_scores_are_summed_in_float32() -> None:
    model = llama().to(torch.bfloat16)
    trie = Trie.from_tokens(CATALOGUES["release"])
    found = beam_search(model, prompts(4), trie, trie.n_items)
    outright = score_items(model, prompts(4), trie)
    assert found.scores.dtype == np.float32
    np.testing.assert_allclose(found.scores, np.take_along_axis(outright, found.items, 1), atol=0.3)


@pytest.mark.parametrize("normalisation", ["full", "index", "trie"])
def test_a_low_precision_head_does_not_round_the_scores_of_items(normalisation: str) -> None:
    """Its steps (1/16 of a nat for logits of ten) would decide between near ties; states keep their rounding."""
    model, rows = llama().to(torch.bfloat16), catalogue(1, 40, 3, 8)
    model.lm_head.weight.data *= 40
    trie = Trie.from_tokens(rows)
    scorer = TokenScorer(model, trie, normalisation)
    states = torch.randn(5, 2, model.config.hidden_size, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    tokens = trie.vocabulary.expand(5, 2, -1)
    found = scorer(states, tokens)
    exact = states.float() @ model.lm_head.weight.float().T
    wanted = exact[..., trie.vocabulary]
    assert torch.allclose(found - found[..., :1], wanted - wanted[..., :1], atol=1e-4)
    rounded = (states @ model.lm_head.weight.T).float()[..., trie.vocabulary]
    assert (rounded - wanted).abs().max() > 0.02, "the case must be one in which rounding shows"


def test_rows_of_logits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, trie = llama(), Trie.from_tokens(CATALOGUES["release"])
    whole = beam_search(model, prompts(5), trie, 9)
    monkeypatch.setattr("recnb.llm.backbone.LOGITS_AT_ONCE", V * 2)
    parts = beam_search(model, prompts(5), trie, 9)
    assert whole.items.tolist() == parts.items.tolist()
    np.testing.assert_allclose(whole.scores, parts.scores, atol=1e-5)


def test_the_prompt_is_read_once_and_forced_tokens_in_one_pass() -> None:
    model, trie = llama(), Trie.from_tokens(release_like())
    shapes = []
    spy = lambda _, args, named: shapes.append(tuple(named["input_ids"].shape))  # noqa: E731
    model.model.register_forward_pre_hook(spy, with_kwargs=True)
    beam_search(model, prompts(6), trie, 5)
    # prompt, first tokens of the beams, second tokens with the first forced one behind each; the last is never read
    assert shapes == [(3, 12), (3, 5), (3, 10)]
    shapes.clear()
    beam_search(model, prompts(6), trie, 5, "trie")
    assert shapes == [(3, 12), (3, 5)]


def test_trace_tells_the_walk() -> None:
    model, rows = llama(), release_like()
    trie = Trie.from_tokens(rows)
    found = beam_search(model, prompts(6), trie, 5)
    assert [level.depth for level in found.trace] == [1, 2, 3, 4]
    assert [level.forced for level in found.trace] == [False, False, True, True]
    assert found.trace[0].legal.tolist() == [6, 6, 6]
    paths = trie.path(found.items.reshape(-1)).view(3, 5, -1).numpy()
    for level in found.trace:
        for b in range(3):
            assert set(paths[b, :, level.depth]) <= set(level.nodes[b])
    last = found.trace[-1]
    assert sorted(last.scores[0].tolist(), reverse=True) == found.scores[0].tolist()
    for above, level in zip(found.trace, found.trace[1:], strict=False):
        parents = np.take_along_axis(above.nodes, level.parents, 1)
        below = trie.branches(above.depth, torch.from_numpy(parents)).nodes.numpy()  # (B, w, C)
        assert (below == level.nodes[..., None]).any(-1).all()


def test_prompts_must_be_usable() -> None:
    with pytest.raises(RecnbError, match="at least one token"):
        pad_left([np.array([1, 2]), np.array([], int)])
    with pytest.raises(RecnbError, match="at least one prompt"):
        pad_left([])
    ids, mask = pad_left([np.array([7]), np.array([8, 9])], 5)
    assert ids.tolist() == [[5, 7], [8, 9]] and mask.tolist() == [[0, 1], [1, 1]]


def test_other_attention_is_refused() -> None:
    model = llama()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(RecnbError, match="set_attn_implementation"):
        beam_search(model, prompts(1), Trie.from_tokens(CATALOGUES["two"]), 3)
