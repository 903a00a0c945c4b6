"""Slots: ids that no text has, filled after the model's own scale; the head and the trees know nothing of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from recnb.errors import ArtifactError, RecnbError
from recnb.llm.scoring import score_answers
from recnb.llm.settings import SlotsConfig
from recnb.llm.slots import SlotEmbedding, UserStates, add_slots, load_slots, make_projector, save_slots, title_norm

V, N, D = 40, 7, 6
TABLE = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32) + 3
TITLES = [np.array([1, 2, 3]), np.array([4])]
IDS = torch.tensor([[3, V + 2, 5, V + 6], [1, 2, 3, 4]])


def llama(tie: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=V, **sizes, num_key_value_heads=2, tie_word_embeddings=tie)).eval()


def gemma() -> Gemma3ForCausalLM:
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
    return Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=V, **sizes, num_key_value_heads=2, sliding_window=3)).eval()


def test_slots_are_filled_after_the_scale_and_words_are_left_alone() -> None:
    model = gemma()
    words = model.get_input_embeddings()
    slots = add_slots(model, TABLE, SlotsConfig(), TITLES, seed=0)
    filled = slots(IDS)
    assert torch.equal(filled[1], words(IDS[1])) and torch.equal(filled[0, [0, 2]], words(IDS[0, [0, 2]]))
    seen = (torch.from_numpy(TABLE) - TABLE.mean(0)) / (TABLE - TABLE.mean(0)).std(ddof=1)
    assert torch.allclose(filled[0, [1, 3]], slots.projector(seen[[2, 6]]) * slots.length, atol=1e-5)


@pytest.mark.parametrize("make", [llama, gemma])
def test_slots_are_as_long_as_title_tokens_as_the_layer_returns_them(make) -> None:
    model = make()
    norms = model.get_input_embeddings()(torch.tensor([1, 2, 3, 4])).norm(dim=1)
    slots = add_slots(model, TABLE, SlotsConfig(), TITLES, seed=0)
    found = slots(torch.arange(V, V + N)).norm(dim=1).detach()
    assert float(found.mean()) == pytest.approx(float(norms.detach().mean()), rel=1e-4)
    unscaled = add_slots(model, TABLE, SlotsConfig(scale="none"), TITLES, seed=0)
    assert float(unscaled.length) == 1.0 and isinstance(unscaled.words, type(slots.words)), "not one around the other"


def test_title_norm_counts_every_token() -> None:
    words = llama().get_input_embeddings()
    twice = [np.array([1, 1, 2])]
    assert title_norm(words, twice) == pytest.approx(float(words(torch.tensor([1, 1, 2])).detach().norm(dim=1).mean()))


@pytest.mark.parametrize("tie", [True, False])
def test_the_head_stays_the_words_and_text_stays_what_it_was(tie: bool) -> None:
    model = llama(tie)
    before = model(IDS[1:]).logits
    add_slots(model, TABLE, SlotsConfig(), TITLES, seed=0)
    assert torch.equal(model(IDS[1:]).logits, before)
    assert model(IDS).logits.shape[-1] == V, "no slot is ever written"


@pytest.mark.parametrize("make", [llama, gemma])
def test_a_packed_tree_reads_slots_as_plain_inputs_are_read(make) -> None:
    """Against the slow way: vectors put together by hand, each prompt with its answer read alone."""
    model = make()
    slots = add_slots(model, TABLE, SlotsConfig(), TITLES, seed=0)
    prompts = [np.array([3, V + 2, 5, V + 6, 8, 7]), np.array([V + 1, 9, 6, V + 3])]
    answers = [np.array([2, 4]), np.array([11])]
    found = score_answers(model, prompts, answers, np.array([[0, 1], [1, 0]]))
    for row, prompt in enumerate(prompts):
        for column, answer in enumerate([[0, 1], [1, 0]][row]):
            whole = torch.from_numpy(np.concatenate([prompt, answers[answer]]))
            parts = [slots.words(i[None]) if i < V else slots.vectors(i[None] - V) for i in whole]
            logp = model(inputs_embeds=torch.cat(parts)[None]).logits[0].log_softmax(-1)
            slow = sum(float(logp[len(prompt) + k - 1, token]) for k, token in enumerate(answers[answer]))
            assert found[row, column] == pytest.approx(slow, abs=1e-4)


def test_the_table_is_frozen_and_the_projector_learns() -> None:
    model = llama()
    slots = add_slots(model, TABLE, SlotsConfig(), TITLES, seed=0)
    model(IDS, labels=IDS.masked_fill(IDS >= V, -100)).loss.backward()
    trained = {name for name, part in slots.named_parameters() if part.grad is not None and not name.startswith("words")}
    assert trained == {"projector.0.weight", "projector.0.bias", "projector.2.weight", "projector.2.bias"}


def test_users_stand_behind_the_items() -> None:
    slots = add_slots(llama(), TABLE, SlotsConfig(), TITLES, seed=0)
    with pytest.raises(RecnbError, match="slot 7: the embedding has 7 items and 0 users"):
        slots(torch.tensor([V + N]))
    slots.users = users = UserStates()
    assert [users.row(np.array(items)) for items in ([-1, 2, 4], [1], [2, 4], [-1, -1])] == [0, 1, 0, 2]
    with pytest.raises(RecnbError, match="expected a recommender that gives their states"):
        slots(torch.tensor([V + N]))
    asked: list[list[list[int]]] = []

    def last_items(histories: np.ndarray) -> torch.Tensor:
        asked.append(histories.tolist())
        return torch.from_numpy(TABLE[histories[:, -1]])

    users.states_of = last_items
    assert torch.allclose(slots(torch.tensor([V + N, V + N + 1])), slots(torch.tensor([V + 4, V + 1])))
    assert users.row(np.array([5, 3])) == 3
    assert torch.allclose(slots(torch.tensor([V + N + 3, V + N])), slots(torch.tensor([V + 3, V + 4])))
    slots(torch.tensor([V + N + 2]))
    assert asked == [[[2, 4], [-1, 1], [-1, -1]], [[5, 3]]], "new ones together, each once"


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_saved_and_loaded(tmp_path: Path, kind: str) -> None:
    slots = add_slots(llama(), TABLE, SlotsConfig(projector=kind), TITLES, seed=3)
    slots.users = UserStates()
    slots.users.states_of = lambda histories: torch.from_numpy(TABLE[histories[:, -1]])
    slots(torch.tensor([V + N + slots.users.row(np.array([1]))]))
    assert len(slots.rows) == N + 1
    save_slots(slots, tmp_path / "slots")
    model = llama()
    loaded = load_slots(tmp_path / "slots", model, N)
    assert model.get_input_embeddings() is loaded and torch.equal(loaded(IDS), slots(IDS))
    assert len(loaded.rows) == N, "users are not kept"


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_slots(add_slots(llama(), TABLE, SlotsConfig(), TITLES, seed=0), tmp_path / "slots")
    torch.manual_seed(0)
    wider = LlamaForCausalLM(LlamaConfig(vocab_size=V, hidden_size=32, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2))
    with pytest.raises(ArtifactError, match="width is 16, expected 32"):
        load_slots(tmp_path / "slots", wider)
    with pytest.raises(ArtifactError, match="n_items is 7, expected 8"):
        load_slots(tmp_path / "slots", llama(), 8)
    (tmp_path / "slots" / "slots.safetensors").write_bytes(b"broken")
    with pytest.raises(ArtifactError, match="no slots as save_slots writes them"):
        load_slots(tmp_path / "slots", llama())
    with pytest.raises(RecnbError, match="finite"):
        add_slots(llama(), TABLE * np.nan, SlotsConfig(), TITLES, seed=0)


def test_slots_follow_the_seed_and_not_each_other() -> None:
    first, again, other = (add_slots(llama(), TABLE, SlotsConfig(), TITLES, seed) for seed in (0, 0, 1))
    assert torch.equal(first(IDS), again(IDS)) and not torch.equal(first(IDS), other(IDS))
    assert isinstance(first, SlotEmbedding) and isinstance(make_projector("linear", D, 16), torch.nn.Linear)
