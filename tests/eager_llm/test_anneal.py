"""The adapter: apart from the backbone, exactly removable, and trained on the recipe's choice of data."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from small import BACKBONE, TASKS, K, N, builder, codes, recommender, runtime, sequences, validation, vocabulary

from recnb.eager_llm import figures
from recnb.eager_llm.anneal import annealing_config, select
from recnb.eager_llm.checkpoint import read_model, save_model
from recnb.eager_llm.model import Recommender
from recnb.eager_llm.recipe import AnnealConfig, TrainConfig
from recnb.eager_llm.train import fit
from recnb.llm.lora import add_adapter, save_adapter
from recnb.llm.settings import DecodeConfig
from recnb.llm.text import comprehension

VOCABULARY = vocabulary()
TRAIN = TrainConfig(batch_size=8, evaluate_every=1, epochs=9)
CONFIG = AnnealConfig(rank=2, alpha=4, epochs=2, learning_rate=0.05)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("embeddings", [True, False, "all"])
def test_anneal_save_read_and_switch_off(tmp_path: Path, tie: bool, embeddings: bool | str) -> None:
    base = recommender(VOCABULARY, BACKBONE.model_copy(update={"tie": tie})).eval()
    save_model(tmp_path / "model", base, VOCABULARY, K)
    ids = torch.tensor(VOCABULARY.item_tokens[:5])
    before = base.backbone(input_ids=ids).logits.detach().clone()
    config = CONFIG.model_copy(update={"train_embeddings": embeddings})
    adapted = add_adapter(base.backbone, VOCABULARY, config, 0)
    assert torch.equal(adapted(input_ids=ids).logits, before)  # LoRA starts as no change
    tasks = TASKS.model_copy(update={"mixture": {"seqrec": 1.0}})
    fit(
        Recommender(adapted, {}, {}),
        builder(VOCABULARY, tasks=tasks),
        validation(),
        annealing_config(TRAIN, config),
        DecodeConfig(beam=10),
        runtime(),
        tmp_path / "c",
    )
    adapted.eval()
    after = adapted(input_ids=ids).logits.detach().clone()
    assert float((after - before).abs().max()) > 1e-3
    with adapted.disable_adapter():
        assert torch.equal(adapted(input_ids=ids).logits, before)
    save_adapter(adapted, tmp_path / "adapter")
    restored, _ = read_model(tmp_path / "model", codes(), tmp_path / "adapter")
    assert torch.allclose(restored(input_ids=ids).logits, after, atol=1e-5)
    plain, _ = read_model(tmp_path / "model", codes())
    assert torch.equal(plain(input_ids=ids).logits, before)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize(("embeddings", "moved"), [(False, "none"), (True, "catalogue"), ("all", "all")])
def test_which_rows_of_table_and_head_are_trained(tie: bool, embeddings: bool | str, moved: str) -> None:
    """``all`` is the release: rows of text move too. A tied table stays tied."""
    base = recommender(VOCABULARY, BACKBONE.model_copy(update={"tie": tie})).backbone
    tables = base.get_input_embeddings(), base.get_output_embeddings()
    before = [table.weight.detach().clone() for table in tables]
    adapted = add_adapter(base, VOCABULARY, CONFIG.model_copy(update={"train_embeddings": embeddings}), 0)
    ids = torch.tensor(VOCABULARY.item_tokens)
    adapted(input_ids=ids, labels=ids).loss.backward()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.grad is not None:
                parameter -= parameter.grad
    merged = adapted.merge_and_unload()
    after = merged.get_input_embeddings().weight, merged.get_output_embeddings().weight
    changed = [(new != old).any(1) for new, old in zip(after, before, strict=True)]
    catalogue = torch.isin(torch.arange(len(before[0])), torch.tensor(VOCABULARY.index_tokens.ravel()))
    assert [bool(rows[catalogue].any()) for rows in changed] == [moved != "none"] * 2
    assert bool(changed[1][~catalogue].any()) == (moved == "all"), "the softmax runs over rows of text too"
    assert (after[0] is after[1]) == tie


def test_gradient_checkpointing_changes_no_gradient() -> None:
    ids, gradients, calls = torch.tensor(VOCABULARY.item_tokens[:5]), [], []
    for checkpointing in (False, True):
        adapted = add_adapter(recommender(VOCABULARY).backbone, VOCABULARY, CONFIG, 0, checkpointing).train()
        for module in adapted.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        layer = adapted.get_base_model().model.layers[0].mlp  # type: ignore[union-attr]
        layer.register_forward_pre_hook(lambda *_, mode=checkpointing: calls.append(mode))
        adapted(input_ids=ids, labels=ids).loss.backward()
        gradients.append({name: p.grad for name, p in adapted.named_parameters() if p.requires_grad})
    assert calls.count(False) == 1 and calls.count(True) == 2  # computed again in the backward pass
    assert all(torch.allclose(gradient, gradients[1][name], atol=1e-6) for name, gradient in gradients[0].items())
    assert any(float(gradient.abs().max()) > 0 for gradient in gradients[0].values())


def test_the_settings_of_annealing() -> None:
    made = annealing_config(TRAIN, CONFIG)
    assert (made.epochs, made.learning_rate, made.lambda_semantic, made.lambda_behaviour) == (2, 0.05, 0, 0)
    assert made.batch_size == TRAIN.batch_size


def test_selection_rule() -> None:
    train = sequences()
    assert all(chosen.all() for chosen in select(train, N, AnnealConfig()))
    users, targets = select(train, N, AnnealConfig(select="active", min_interactions=8, min_popularity=7))
    np.testing.assert_array_equal(users, [n >= 8 for n in train.lengths])
    counts = [(train.items == i).sum() >= 7 for i in range(N)]
    np.testing.assert_array_equal(targets, counts)


def test_comprehension_against_one_text_at_a_time() -> None:
    model = recommender(VOCABULARY).eval().backbone
    texts = ["The red story part 3", "A blue one", "x"]
    together = comprehension(model, VOCABULARY, texts, batch_size=3)
    loss, right, count = 0.0, 0, 0
    for text in texts:
        ids = torch.tensor([VOCABULARY.start + VOCABULARY.encode([text])[0]])
        logits = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        loss -= float(logits[torch.arange(ids.shape[1] - 1), ids[0, 1:]].sum().detach())
        right += int((logits.argmax(-1) == ids[0, 1:]).sum())
        count += ids.shape[1] - 1
    assert together["tokens"] == count
    assert together["perplexity"] == pytest.approx(np.exp(loss / count), rel=1e-4)
    assert together["accuracy"] == pytest.approx(right / count)


def test_low_rank_is_drawn_to_scale() -> None:
    """W in grey, A (r, in) and B (out, r) in colour, and numbers that the shapes give."""
    shapes = {"q_proj": (6, 4), "k_proj": (2, 4), "v_proj": (2, 4), "o_proj": (4, 6), "up_proj": (8, 4)}
    axes = figures.low_rank(shapes, 2).axes
    sizes = [[(patch.get_height(), patch.get_width()) for patch in axis.patches] for axis in axes]
    assert sizes[0] == [(6, 4), (2, 4), (6, 2)] and sizes[4] == [(8, 4), (2, 4), (8, 2)]
    assert sizes[5:] == [[]] * 3, "no matrix, no drawing"
    assert "W 6 × 4 = 24" in axes[0].get_title() and "2 × (6 + 4) = 20" in axes[0].get_title()
    plt.close("all")
