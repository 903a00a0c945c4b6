"""Loss parts against independent computations, token initialisation, saving and loading."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small import BACKBONE, K, L, N, builder, codes, recommender, vocabulary
from torch.utils._python_dispatch import TorchDispatchMode

from recnb.eager_llm.checkpoint import read_model, save_model
from recnb.eager_llm.model import Recommender
from recnb.eager_llm.tasks import Sample
from recnb.eager_llm.train import Collator
from recnb.llm.backbone import build_backbone, causal_lm, initialise_tokens
from recnb.llm.lora import add_adapter
from recnb.llm.settings import AdapterConfig
from recnb.recommenders.losses import info_nce

VOCABULARY = vocabulary()


def naive_info_nce(
    query: np.ndarray, items: np.ndarray, target: np.ndarray, negatives: np.ndarray, tau: float
) -> float:
    losses = []
    for q, t in zip(query, target, strict=True):

        def score(i: int, q: np.ndarray = q) -> float:
            return np.exp(q @ items[i] / np.linalg.norm(q) / np.linalg.norm(items[i]) / tau)

        rest = sum(score(int(j)) for j in negatives if j != t)
        losses.append(-np.log(score(t) / (score(t) + rest)))
    return float(np.mean(losses))


def test_info_nce_against_loops() -> None:
    rng = np.random.default_rng(0)
    query, items = rng.standard_normal((6, 5)), rng.standard_normal((12, 5))
    target, negatives = np.array([0, 7, 3, 11, 3, 4]), np.array([3, 4, 5, 0, 9])
    unit = torch.nn.functional.normalize(torch.tensor(items), dim=1)
    ours = info_nce(torch.tensor(query), unit, torch.tensor(target), torch.tensor(negatives), 0.1)
    assert float(ours) == pytest.approx(naive_info_nce(query, items, target, negatives, 0.1), rel=1e-9)


def test_info_nce_without_any_target_is_zero_with_a_gradient() -> None:
    query = torch.ones(2, 3, requires_grad=True)
    nothing = torch.empty(0, dtype=torch.long)
    loss = info_nce(query[nothing], torch.eye(3), nothing, torch.arange(3), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0 and float(query.grad.abs().sum()) == 0


def picked(con_before: bool = False, count: int = 7) -> list[Sample]:
    samples = builder(VOCABULARY, dense=not con_before, con_before=con_before).epoch(0)
    return [samples[i] for i in np.linspace(0, len(samples) - 1, count).astype(int)]


def batch(con_before: bool = False) -> dict[str, torch.Tensor]:
    return Collator(VOCABULARY.pad_id, VOCABULARY.con_id, N, 2048, 0)(picked(con_before))


@pytest.mark.parametrize("con_before", [False, True])
def test_loss_parts_against_each_sample_alone(con_before: bool) -> None:
    """One sample at a time, so without padding, and all logits: what the flat positions of a padded batch stand for."""
    model, inputs, items = recommender(VOCABULARY).eval(), batch(con_before), torch.arange(N)
    out, nll = model(**inputs), []
    contrast: dict[str, list[torch.Tensor]] = {"semantic": [], "behaviour": []}
    for sample in picked(con_before):
        ids = torch.from_numpy(sample.ids)[None]
        seen = model.backbone(input_ids=ids, output_hidden_states=True)
        logits = seen.logits[0].log_softmax(-1)
        nll += [-logits[s - 1, ids[0, s]] for s in np.flatnonzero(sample.labels) if s]
        con = int(np.flatnonzero(sample.ids == VOCABULARY.con_id)[0])
        for name in contrast if sample.target >= 0 else ():
            query = model.projectors[name](seen.hidden_states[-1][0, con])[None]
            own = getattr(model, f"items_{name}")
            contrast[name].append(info_nce(query, own, torch.tensor([sample.target]), items, 0.1))
    assert len(inputs["target"]) == len(contrast["semantic"]) > 0
    assert float(out["response"]) == pytest.approx(float(torch.stack(nll).mean()), abs=1e-5)
    for name, alone in contrast.items():
        assert float(out[name]) == pytest.approx(float(torch.stack(alone).mean()), abs=1e-5)
    assert float(out["loss"]) == pytest.approx(
        float(out["response"] + 0.1 * out["semantic"] + 0.1 * out["behaviour"]), abs=1e-5
    )
    assert (inputs["input_ids"].flatten()[inputs["con"]] == VOCABULARY.con_id).all()


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("adapter", [False, True])
def test_losses_are_float32_under_autocast(tie: bool, adapter: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of 262,144 tokens in bfloat16 would round each loss to steps of 1/16 nat and worse."""
    model = recommender(VOCABULARY, BACKBONE.model_copy(update={"tie": tie})).eval()
    model.backbone.get_output_embeddings().weight.data *= 20  # steps that show
    if adapter:
        model.backbone = add_adapter(model.backbone, VOCABULARY, AdapterConfig(rank=2), 0).eval()
    inputs, seen = batch(), []
    body = causal_lm(model.backbone).base_model
    body.register_forward_hook(lambda _, given, out: seen.append(out.last_hidden_state))
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**inputs)
    monkeypatch.setattr(body, "forward", lambda **_: SimpleNamespace(last_hidden_state=seen[0].float()))
    exact = model(**inputs)
    with torch.autocast("cpu", torch.bfloat16):  # what it was
        logits = model.backbone.get_output_embeddings()(seen[0].flatten(0, 1)[inputs["predicted"] - 1]).float()
    rounded = torch.nn.functional.cross_entropy(logits, inputs["input_ids"].flatten()[inputs["predicted"]])
    assert abs(float(rounded - exact["response"])) > 1e-4, "the case must be one in which rounding shows"
    for name, value in exact.items():
        assert found[name].dtype == torch.float32
        assert float(found[name]) == pytest.approx(float(value), rel=1e-6), name


def test_every_label_of_an_epoch_weighs_the_same() -> None:
    """A batch of many labels counts for as much more: over batches the loss adds up to that of all labels."""
    model = recommender(VOCABULARY, weight=0.0).eval()
    usual = float(np.mean([sample.labels.sum() for sample in builder(VOCABULARY).epoch(0)]))
    for count in (3, 7, 20):
        inputs = Collator(VOCABULARY.pad_id, VOCABULARY.con_id, N, 2048, 0)(picked(count=count))
        model.usual_labels = None
        total = float(model(**inputs)["loss"]) * len(inputs["predicted"])
        model.usual_labels = usual
        out = model(**inputs)
        assert float(out["loss"]) * usual * count == pytest.approx(total, rel=1e-5)
        assert float(out["response"]) == pytest.approx(total / len(inputs["predicted"]), rel=1e-5)  # the log's


def test_tokens_that_stand_for_nothing_start_near_the_mean() -> None:
    """A random or published column has no centroids; the others start the same with it or without."""
    rng = np.random.default_rng(0)
    centroids = {column: rng.standard_normal((K, 8)).astype(np.float32) for column in VOCABULARY.columns}
    tables = []
    for given in (centroids, {c: x for c, x in centroids.items() if c != "b2"}, {}, None):
        model = build_backbone(BACKBONE, VOCABULARY, 0)
        initialise_tokens(model, VOCABULARY, given, 0)
        tables.append(model.get_input_embeddings().weight.detach().numpy()[VOCABULARY.index_tokens])  # (L, K, d)
    whole, partly, random, none = tables
    np.testing.assert_array_equal(random, none)
    np.testing.assert_array_equal(partly[:3], whole[:3])
    np.testing.assert_array_equal(partly[3], none[3])
    assert whole[3].std() > 5 * partly[3].std(0).mean()


def test_padding_does_not_change_the_loss() -> None:
    """However wide it is and whatever stands in it: no mask hides it, a causal model never comes to it."""
    model, inputs = recommender(VOCABULARY).eval(), batch()
    width = inputs["input_ids"].shape[1]
    longer = {**inputs, "input_ids": torch.nn.functional.pad(inputs["input_ids"], (0, 9), value=77)}
    for name in ("predicted", "con", "before"):
        longer[name] = inputs[name] // width * (width + 9) + inputs[name] % width
    for name, value in model(**inputs).items():
        assert float(model(**longer)[name]) == pytest.approx(float(value), abs=1e-5)


class Waits(TorchDispatchMode):
    """Operations for which a GPU would have to be waited for: their result's size, or a number of it, is needed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        indices = args[1] if func._overloadpacket is torch.ops.aten.index else ()
        by_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        if by_mask or func.name() in ("aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select"):
            self.found.append(func.name())
        return func(*args, **(kwargs or {}))


def test_a_step_asks_a_gpu_for_nothing() -> None:
    """But for what transformers asks before the first layer: whether several sequences are packed in a row."""
    rng, one = np.random.default_rng(0), recommender(VOCABULARY)
    sources = {"semantic": rng.standard_normal((N, 8)), "next": rng.standard_normal((N, 6))}
    model, inputs = Recommender(one.backbone, sources, dict.fromkeys(sources, 0.1)), batch()
    with Waits() as waits:
        model(**inputs)["loss"].backward()
    assert waits.found in ([], ["aten::_local_scalar_dense"])
    with Waits() as waits:  # what it would see
        torch.arange(3)[torch.arange(3) > 1]
        bool(torch.ones(1).any())
    assert waits.found == ["aten::index.Tensor", "aten::_local_scalar_dense"]


def test_the_collator_pads_and_draws() -> None:
    inputs = batch()
    assert torch.equal(inputs["negatives"], torch.arange(N))  # a small catalogue: every item
    samples = builder(VOCABULARY).epoch(0)[:5]
    few = Collator(VOCABULARY.pad_id, VOCABULARY.con_id, N, 8, 0)
    first, again = few(samples)["negatives"], few(samples)["negatives"]
    assert torch.equal(first, again) and len(set(first.tolist())) == 8
    assert not torch.equal(first, few(samples[1:])["negatives"])


@pytest.mark.parametrize("tie", [True, False])
def test_tokens_start_at_their_centroids(tie: bool) -> None:
    config = BACKBONE.model_copy(update={"tie": tie})
    model = build_backbone(config, VOCABULARY, 0)
    before = model.get_input_embeddings().weight.detach().clone()
    rng = np.random.default_rng(3)
    base = rng.standard_normal((K, 8))
    base[1] = base[0] + 1e-3  # two clusters that are nearly the same
    initialise_tokens(model, VOCABULARY, dict.fromkeys(VOCABULARY.columns, base), 0)
    table = model.get_input_embeddings().weight.detach()
    rows = table[torch.tensor(VOCABULARY.index_tokens[0])]
    distance = torch.cdist(rows, rows) + torch.eye(K) * 1e9
    assert int(distance[0].argmin()) == 1 and float(distance[0, 1]) < 0.01 * float(distance[0, 2])
    text = np.setdiff1d(np.arange(VOCABULARY.size), VOCABULARY.new_ids)
    assert torch.equal(table[text], before[text])  # text tokens are left alone
    spread = float(before[text].std())
    assert 0.5 * spread < float(rows.std()) < 2 * spread


def test_mean_initialisation_is_near_the_mean() -> None:
    model = build_backbone(BACKBONE, VOCABULARY, 0)
    initialise_tokens(model, VOCABULARY, None, 0)
    table = model.get_input_embeddings().weight.detach()
    text = np.setdiff1d(np.arange(VOCABULARY.size), VOCABULARY.new_ids)
    rows = table[torch.tensor(VOCABULARY.new_ids)]
    assert float((rows - table[text].mean(0)).std()) < 0.2 * float(table[text].std())


def test_same_seed_same_weights() -> None:
    one, two = (build_backbone(BACKBONE, VOCABULARY, 5).state_dict() for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    other = build_backbone(BACKBONE, VOCABULARY, 6).state_dict()
    assert any(not torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("tie", [True, False])
def test_save_and_read(tmp_path: Path, tie: bool) -> None:
    model = recommender(VOCABULARY, BACKBONE.model_copy(update={"tie": tie})).eval()
    save_model(tmp_path / "m", model, VOCABULARY, K)
    backbone, vocab = read_model(tmp_path / "m", codes())
    ids = torch.tensor(VOCABULARY.item_tokens[:3])
    assert torch.equal(backbone(input_ids=ids).logits, model.backbone(input_ids=ids).logits)
    np.testing.assert_array_equal(vocab.item_tokens, VOCABULARY.item_tokens)
    assert vocab.encode(["<s1_0> [CON] plain"]) == VOCABULARY.encode(["<s1_0> [CON] plain"])
    assert vocab.con_id == VOCABULARY.con_id and vocab.index_tokens.shape == (L, K)
