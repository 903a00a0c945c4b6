"""E4SRec: what a slot may see, what is trained, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from gallery_bench import toy_bench

from recnb.data.schema import Sequences
from recnb.gallery.e4srec import E4SRec, rankers
from recnb.gallery.recipe import E4srecConfig, GalleryConfig
from recnb.llm.figures import VECTOR, prompt_parts
from recnb.recommenders.next_item import train_sequential
from recnb.speed.decoding import small_llama
from recnb.speed.item_vectors import synthetic_e4srec

N, T = 12, 6
WORDS = np.array([3, 4, 5])
TRAIN = Sequences(np.array([0, 100, 200]), (np.arange(200) % N).astype(np.int32))  # item after item, round and round
CONFIG = E4srecConfig(epochs=4, batch_size=2, learning_rate=1e-2, repeat_bias=False)


def encoder(body, kind=E4SRec):
    table = np.random.default_rng(0).standard_normal((N, 8)).astype(np.float32)
    causal = small_llama(64, 32, 2, 0)
    return partial(kind, causal=causal, beginning=WORDS, titles=[WORDS], table=table, body=body)


def test_every_state_is_that_of_its_own_history_read_alone():
    model = synthetic_e4srec(small_llama(64, 32, 2, 0), N, T, 5, 0).eval()
    torch.nn.init.normal_(model.body.layers[0].mlp.up_proj.lora_B["default"].weight)  # LoRA in force
    window = torch.tensor([[-1, -1, 4, 7, 7, 2]])
    with torch.no_grad():
        together = model(window)[0]
        for place in range(2, T):
            alone = model.read(window[:, 2 : place + 1])[0]
            np.testing.assert_allclose(together[place], alone, atol=1e-5)


def test_what_later_slots_hold_changes_no_earlier_state():
    model = synthetic_e4srec(small_llama(64, 32, 2, 0), N, T, 5, 0).eval()
    with torch.no_grad():
        one, other = model(torch.tensor([[-1, 1, 2, 3, 4, 5], [-1, 1, 2, 3, 9, 9]]))
    assert torch.equal(one[1:4], other[1:4])
    assert not torch.allclose(one[4], other[4])


@pytest.mark.parametrize(("body", "lora"), [("pretrained", True), ("random", True), ("frozen", False), ("none", False)])
def test_only_maps_repeats_and_lora_are_trained(body, lora):
    model = encoder(body)(N, E4srecConfig(), T)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name for name in trained if "lora" not in name} == {
        "repeat", "slots.projector.weight", "slots.projector.bias", "out.weight", "out.bias",
    }  # fmt: skip
    assert any("lora" in name for name in trained) == lora
    assert set(model.state_dict()) == trained


def test_a_random_body_has_other_weights_of_the_same_shapes():
    bodies = [encoder(body)(N, E4srecConfig(), T).body for body in ("pretrained", "random")]
    one, other = (dict(body.named_parameters()) for body in bodies)
    assert {name: weight.shape for name, weight in one.items()} == {name: weight.shape for name, weight in other.items()}
    name = "layers.0.self_attn.q_proj.weight"
    assert not torch.equal(one[name], other[name])


@pytest.mark.parametrize("body", ["pretrained", "frozen", "none"])
def test_it_learns_a_chain_of_items(body):
    config = CONFIG.model_copy(update={"epochs": 8})
    model = train_sequential(TRAIN, N, config, T, seed=3, encoder=encoder(body))
    assert model.log[-1]["loss"] < 0.4 * model.log[0]["loss"]
    histories = np.array([[0, 1, 2, 3, 4, 5], [-1, -1, 7, 8, 9, 10]])
    assert model.scores(histories).argmax(1).tolist() == [6, 11]


def test_killed_it_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    class Killed(E4SRec):
        def recall(self, *args):
            if len(self.log) == 3:
                raise KeyboardInterrupt
            return super().recall(*args)

    monkeypatch.setattr("recnb.recommenders.epochs.SAVE_EVERY", 0.0)
    case = {"seed": 3, "validation": (TRAIN.pad(T), np.array([1, 2])), "keep": tmp_path / "state.pt"}
    with pytest.raises(KeyboardInterrupt):
        train_sequential(TRAIN, N, CONFIG, T, encoder=encoder("pretrained", Killed), **case)
    resumed = train_sequential(TRAIN, N, CONFIG, T, encoder=encoder("pretrained"), **case)
    whole = train_sequential(TRAIN, N, CONFIG, T, encoder=encoder("pretrained"), **case | {"keep": None})
    assert resumed.log == whole.log
    np.testing.assert_array_equal(resumed.scores(TRAIN.pad(T)), whole.scores(TRAIN.pad(T)))


def test_a_sequence_of_one_window_is_read_once():
    """T + 1 items: a cut in the middle would make two windows of it, half of both padding."""
    read = []

    class Counted(E4SRec):
        def forward(self, windows):
            read.append(windows)
            return super().forward(windows)

    train = Sequences(np.array([0, T + 1, 2 * T + 2]), np.tile(np.arange(T + 1, dtype=np.int32), 2))
    train_sequential(train, N, CONFIG, T, seed=3, encoder=encoder("none", Counted))
    assert len(read) == CONFIG.epochs and all(len(windows) == 2 and (windows >= 0).all() for windows in read)


def test_its_prompt_is_words_and_a_vector_for_each_item(tmp_path):
    bench, _ = toy_bench(tmp_path)
    own = GalleryConfig(e4srec=E4srecConfig(epochs=1, bodies=["none"]))
    (row,) = rankers(replace(bench, gallery=own))
    prompt = row.prompt(np.array([-1, -1, 7, 2, 7]), np.arange(4))
    assert prompt.slots[prompt.spans["history"]].tolist() == [7, 2, 7] and (prompt.slots >= 0).sum() == 3
    pieces = prompt_parts(prompt, bench.prompts.tokenizer)
    assert [text for name, text in pieces if name == "history"] == [VECTOR] * 3, "each is drawn by itself"
    assert "oldest first" in pieces[0][1]


def test_as_many_latest_windows_are_trained_on_as_the_recipe_says(tmp_path):
    bench, _ = toy_bench(tmp_path)
    lengths = bench.held.train.lengths
    assert lengths.max() > 9
    for windows, most in ((1, 9), (0, lengths.max())):  # T = 8
        own = GalleryConfig(e4srec=E4srecConfig(windows=windows, epochs=1, bodies=["none"]))
        (row,) = rankers(replace(bench, gallery=own, keep=tmp_path / str(windows)))
        assert row.learned.examples == (np.minimum(lengths, most) - 1).sum()
        assert row.name == "e4srec/none"
