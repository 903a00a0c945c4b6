"""Alignment, uniformity, gates: against loops, the plain session model bit for bit, and samples that have no text."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recnb.data.schema import Sequences
from recnb.data.sessions import Samples, every_prefix
from recnb.errors import ArtifactError
from recnb.evaluation.metrics import target_ranks
from recnb.llm4sbr.align import (
    Aligned,
    Lesson,
    Text,
    alignment,
    load_arm,
    save_arm,
    start_from_text,
    train_arm,
    uniformity,
)
from recnb.llm4sbr.localise import localised
from recnb.llm4sbr.recipe import LLM4SBR, AlignConfig, ArmConfig, CasesConfig, LocaliseConfig
from recnb.llm4sbr.sources import Texts, retrieval, shuffled
from recnb.recommenders.interface import top_items
from recnb.recommenders.session_model import train_session_model
from recnb.recommenders.session_models import SESSION_MODELS, config_of
from recnb.recommenders.settings import SrgnnConfig
from recnb.recommenders.srgnn import SRGNN

N, T, WIDTH, D_TEXT = 40, 6, 8, 5
CONFIG = SrgnnConfig(width=WIDTH, batch_size=32, epochs=3, learning_rate=1e-2)
every_arm = pytest.mark.parametrize(
    "changes",
    [{}, {"fusion": "concat"}, {"fusion": "none"}, {"weight": 0}, {"views": ["merged"]}, {"views": ["short"]},
     {"views": ["merged"], "fusion": "concat"}, {"uniform_pairs": "other-sessions"}],
)  # fmt: skip


def samples(sessions: int = 70, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, sessions)
    steps = np.where(rng.random(lengths.sum()) < 0.1, rng.integers(0, N, lengths.sum()), 1)
    return every_prefix(Sequences(np.append(0, np.cumsum(lengths)), (np.cumsum(steps) % N).astype(np.int32)))


def parts(found: Samples) -> tuple[Samples, Samples]:
    return found.take(found.session < 55), found.take(found.session >= 55)


def texts(found: Samples, seed: int = 0, share: float = 1.0) -> Texts:
    """Vectors of 20 texts; the rows of some samples."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 20, (len(found), 3)).astype(np.int32)
    return Texts(rng.normal(size=(20, D_TEXT)).astype(np.float16), rows).only(rng.random(len(found)) < share)


def trained(arm: ArmConfig, told: Texts | None = None, backbone: str = "srgnn", **more) -> Aligned:
    found = samples()
    train, valid = parts(found)
    config = more.pop("config", CONFIG)
    return train_arm(arm, backbone, config, train, N, T, told or texts(found), valid, seed=3, **more)


def model(arm: ArmConfig) -> Aligned:
    torch.manual_seed(0)
    return Aligned(SRGNN(N, CONFIG, T), arm, D_TEXT, 0).eval()


# --- the two terms ---------------------------------------------------------------------------------------------------


def vectors(seed: int, n: int = 9) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, WIDTH)))


def test_alignment_is_the_mean_squared_distance() -> None:
    x, y = vectors(0), vectors(1)
    slow = np.mean([float(((a / a.norm() - b / b.norm()) ** 2).sum()) for a, b in zip(x, y, strict=True)])
    assert math.isclose(float(alignment(x, y)), slow, rel_tol=1e-9)
    assert float(alignment(x, 5 * x)) < 1e-12 and math.isclose(float(alignment(x, -x)), 4, rel_tol=1e-9)


def slow_uniformity(x: torch.Tensor, sessions: list[int]) -> float:
    terms = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            if sessions[i] != sessions[j]:
                terms.append(math.exp(-2 * float(((x[i] / x[i].norm() - x[j] / x[j].norm()) ** 2).sum())))
    return math.log(sum(terms) / len(terms))


def test_uniformity_is_a_double_loop() -> None:
    x, sessions = vectors(0), [0, 0, 0, 1, 1, 2, 3, 3, 0]
    assert math.isclose(float(uniformity(x)), slow_uniformity(x, list(range(9))), rel_tol=1e-9)
    apart = float(uniformity(x, torch.tensor(sessions)))
    assert math.isclose(apart, slow_uniformity(x, sessions), rel_tol=1e-9) and apart != float(uniformity(x))
    assert math.isclose(float(uniformity(torch.ones(4, WIDTH))), 0, abs_tol=1e-5)


def test_uniformity_of_no_pair_is_nothing_and_has_a_gradient() -> None:
    for rows, sessions in ((vectors(0, 1), None), (vectors(0, 3), torch.zeros(3)), (vectors(0, 0), None)):
        assert float(uniformity(rows, sessions)) == 0
    same = torch.ones(3, WIDTH, requires_grad=True)
    uniformity(same).backward()
    assert torch.isfinite(same.grad).all()


# --- the plain model inside ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_without_weight_and_fusion_it_is_the_plain_model_bit_for_bit(schedule: str) -> None:
    config = CONFIG.model_copy(update={"schedule": schedule, "weight_decay": 0.1})
    found = samples()
    train, valid = parts(found)
    plain = train_session_model(
        train, N, config, T, seed=3, model=SRGNN, validation=(valid.inputs(T), valid.targets)
    )
    arm = trained(ArmConfig(weight=0, fusion="none"), config=config)
    for name, weight in plain.state_dict().items():
        assert torch.equal(arm.backbone.state_dict()[name], weight), name
    scores = torch.cat(list(arm.score_rows(valid, texts(found)))).numpy()
    assert np.array_equal(scores, plain.scores(valid.inputs(T)))
    assert [row["R@10"] for row in arm.log] == [row["R@10"] for row in plain.log]
    changed = trained(ArmConfig(weight=0.1, fusion="none"), config=config)
    assert not torch.equal(changed.backbone.items.weight, plain.items.weight), "the loss does something"


def test_gates_at_one_are_the_plain_model() -> None:
    """q = 2/d and a session vector of zero would give 1 exactly; here the text is absent, which gives it too."""
    found = samples()
    nobody = texts(found, share=0)
    one, valid = model(ArmConfig()), parts(found)[1]
    scores = torch.cat(list(one.score_rows(valid, nobody))).numpy()
    assert np.array_equal(scores, one.backbone.scores(valid.inputs(T)))
    assert not np.array_equal(torch.cat(list(one.score_rows(valid, texts(found)))).numpy(), scores)


# --- texts in it -----------------------------------------------------------------------------------------------------


def test_gates_and_fusion_are_the_formulas() -> None:
    windows = torch.tensor([[-1, 2, 5, 2], [1, 3, 4, 9]])
    told = {view: Text(torch.randn(2, D_TEXT), torch.tensor([True, False])) for view in ("long", "short")}
    gated, beside = model(ArmConfig()), model(ArmConfig(fusion="concat"))
    with torch.no_grad():
        for one in (gated, beside):
            one.bias.normal_()
        gated.gates["long"].normal_()
        read = gated.read(windows, told, gated.backbone.table())
        t_long = gated.matrix @ told["long"].vectors[0] + gated.bias
        g_long = sum(q * torch.sigmoid(s + t) for q, s, t in zip(gated.gates["long"], read.own["long"][0], t_long))
        t_short = gated.matrix @ told["short"].vectors[0] + gated.bias
        g_short = 2 / WIDTH * torch.sigmoid(read.own["short"][0] + t_short).sum()
        joined = gated.backbone.join(g_long * read.own["long"][:1], g_short * read.own["short"][:1])
        torch.testing.assert_close(read.session[:1], joined)
        plain = gated.backbone.join(read.own["long"], read.own["short"])
        torch.testing.assert_close(read.session[1], plain[1])  # who has no text
        assert not torch.allclose(read.session[0], plain[0])

        read = beside.read(windows, told, beside.backbone.table())
        both = torch.cat([beside.matrix @ told[view].vectors[0] + beside.bias for view in ("long", "short")])
        plain = beside.backbone.join(read.own["long"], read.own["short"])
        torch.testing.assert_close(read.session[0], plain[0] + beside.beside @ both)
        torch.testing.assert_close(read.session[1], plain[1])


def test_the_loss_counts_those_that_have_a_text() -> None:
    one, found = model(ArmConfig()), samples()
    some = texts(found, share=0.5)
    batch = found.take(np.arange(20))
    with torch.no_grad():
        (_, read), *_ = one.read_batches(batch, some, 20)
        told = one.distances(read, None)
        have = some.rows[:20, 0] >= 0
        (_, alone), *_ = one.read_batches(batch.take(have), some, 20)
    assert 0 < have.sum() < 20 and set(told) == {"long", "short"}
    for view, (near, even) in one.distances(alone, None).items():
        torch.testing.assert_close(told[view], (near, even), rtol=1e-4, atol=1e-5)
    (_, nothing), *_ = one.read_batches(batch, texts(found, share=0), 20)
    assert one.distances(nothing, None) == {}


@pytest.mark.parametrize("pairs", ["all", "other-sessions"])
def test_the_whole_loss_is_the_formula(pairs: str) -> None:
    one = model(ArmConfig(weight=0.3, align=2.0, uniform=0.5, uniform_pairs=pairs))
    found = samples()
    some, batch = texts(found, share=0.7), found.take(np.arange(20))
    windows, targets = (torch.from_numpy(part.astype(np.int64)) for part in (batch.inputs(T), batch.targets))
    with torch.no_grad():
        lesson = Lesson(one, some, found)
        value, told = float(lesson.loss(windows, targets, batch.number)), lesson.told()
        read = one.read(windows, one.texts(some, batch.number), one.backbone.table())
        wanted = float(torch.nn.functional.cross_entropy(one.score(windows, read), targets))
        assert math.isclose(told["entropy"], wanted, rel_tol=1e-5)
        for view in ("long", "short"):
            have = read.present[view]
            whose = batch.session[have.numpy()].tolist() if pairs == "other-sessions" else list(range(int(have.sum())))
            near = float(alignment(read.own[view][have], read.text[view][have]))
            even = sum(slow_uniformity(side[view][have], whose) for side in (read.own, read.text)) / 2
            wanted += 0.3 * (2.0 * near + 0.5 * even)
    assert math.isclose(value, wanted, rel_tol=1e-4)


@every_arm
def test_trains_and_is_the_same_twice_and_after_saving(changes: dict, tmp_path: Path) -> None:
    arm = ArmConfig(**changes)
    some = texts(samples(), share=0.7)
    one, again = trained(arm, some), trained(arm, some)
    valid = parts(samples())[1]
    scores = torch.cat(list(one.score_rows(valid, some)))
    assert torch.isfinite(scores).all() and not one.training
    assert torch.equal(torch.cat(list(again.score_rows(valid, some))), scores)
    assert one.log[-1]["entropy"] < one.log[0]["entropy"]
    assert ("align short" in one.log[0] or "align merged" in one.log[0]) == (arm.weight > 0)
    save_arm(tmp_path / "arm", one, "name")
    loaded = load_arm(tmp_path / "arm")
    assert torch.equal(torch.cat(list(loaded.score_rows(valid, some))), scores)
    assert loaded.arm == arm and loaded.log == one.log


@pytest.mark.parametrize("name", ["arm.json", "texts.safetensors", "backbone/model.json"])
def test_a_damaged_arm_is_an_error(name: str, tmp_path: Path) -> None:
    save_arm(tmp_path, model(ArmConfig()), "name")
    (tmp_path / name).write_text("{}")
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        load_arm(tmp_path)


@pytest.mark.parametrize("source", ["retrieval", "shuffled"])
def test_noise_in_the_test_sessions_changes_nothing_that_is_fitted(source: str) -> None:
    first = samples()
    part = np.repeat(np.arange(3, dtype=np.int8), [45, 10, 15])
    held, fitted = int(first.start[part[first.session] == 2].min()), []
    noise = np.random.default_rng(9).integers(0, N, len(first.items) - held)
    for end in (first.items[held:], noise):
        found = replace(first, items=np.append(first.items[:held], end).astype(np.int32))
        vectors = np.random.default_rng(4).normal(size=(N, D_TEXT)).astype(np.float32)
        blend = partial(localised, items=vectors, config=LocaliseConfig(k=3))
        told = retrieval(found, vectors, np.ones(N, bool), T, blend)
        told = shuffled(told, found, part, 0) if source == "shuffled" else told
        train, valid = (found.take(part[found.session] == one) for one in (0, 1))
        fitted.append(train_arm(ArmConfig(), "srgnn", CONFIG, train, N, T, told, valid, seed=3))
    one, other = (model.state_dict() for model in fitted)
    assert all(torch.equal(one[name], other[name]) for name in one) and fitted[0].log == fitted[1].log


@every_arm
def test_gradient_reaches_every_number_that_counts(changes: dict) -> None:
    one, found = model(ArmConfig(**changes)).train(), samples()
    batch = found.take(np.arange(30))
    windows = torch.from_numpy(batch.inputs(T).astype(np.int64))
    read = one.read(windows, one.texts(texts(found), batch.number), one.backbone.table())
    loss = one.score(windows, read).logsumexp(1).sum()
    for near, even in one.distances(read, None).values():
        loss = loss + near + even
    loss.backward()
    assert [name for name, weight in one.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_texts_that_tell_the_answer_are_used() -> None:
    """A text that is the answer's own vector: what helps is seen to help, by alignment and fusion together."""
    found = samples()
    table = np.random.default_rng(5).normal(size=(N, D_TEXT)).astype(np.float16)
    shuffled = np.random.default_rng(1).permutation(N)
    leak = Texts(table, np.repeat(shuffled[found.targets][:, None], 3, axis=1).astype(np.int32))
    valid = parts(found)[1]
    config = CONFIG.model_copy(update={"epochs": 6})
    told = trained(ArmConfig(fusion="concat"), leak, config=config).ranks(valid, leak)
    nobody = leak.only(np.zeros(len(found), bool))
    alone = trained(ArmConfig(fusion="concat"), nobody, config=config).ranks(valid, nobody)
    assert (told < 3).mean() > (alone < 3).mean() + 0.1


def test_ranks_are_those_of_lists() -> None:
    one, found = model(ArmConfig()), samples()
    valid, told = parts(found)[1], texts(found)
    with torch.no_grad():  # ties
        one.backbone.items.weight[[2, 3, 4]] = one.backbone.items.weight[[9, 9, 9]]
    scores = torch.cat(list(one.score_rows(valid, told, batch_size=7))).numpy()
    ranks = one.ranks(valid, told)
    assert np.array_equal(ranks, target_ranks(top_items(scores, N), valid.targets))
    own = np.take_along_axis(scores, valid.targets[:, None].astype(int), 1)
    assert one.recall(valid, told, 3) == ((scores >= own).sum(1) <= 3).mean() < (ranks < 3).mean()


def test_gates_of_samples() -> None:
    one, found = model(ArmConfig(views=["short"])), samples()
    some = texts(found, share=0.5)
    gates = one.gates_of(found, some)
    assert list(gates) == ["short"] and (np.isnan(gates["short"]) == (some.rows[:, 1] < 0)).all()
    assert 0.5 < np.nanmean(gates["short"]) < 1.5, "near 1 at the start"


def test_the_table_begins_as_the_text() -> None:
    one = model(ArmConfig()).backbone
    last = one.items.weight[N].clone()
    text = np.random.default_rng(0).normal(size=(N, D_TEXT)) + 3
    before = one.items.weight[:N, D_TEXT:].clone()
    start_from_text(one, text)
    table = one.items.weight[:N].detach().numpy()
    own, given = table[:, :D_TEXT], text - text.mean(0)
    distances = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (own, given)]
    assert np.corrcoef(distances[0].ravel(), distances[1].ravel())[0, 1] > 0.9999, "turned, nothing else"
    assert math.isclose(own.std(), (3 * WIDTH) ** -0.5, rel_tol=1e-5)
    assert torch.equal(one.items.weight[:N, D_TEXT:], before) and torch.equal(one.items.weight[N], last)
    started = trained(ArmConfig(start="text"), items=text.astype(np.float32))
    assert not torch.equal(started.backbone.items.weight, trained(ArmConfig()).backbone.items.weight)


@pytest.mark.parametrize("views", [["merged", "long"], ["short", "short"], []])
def test_views_that_do_not_go_together_are_refused(views: list[str]) -> None:
    with pytest.raises(ValidationError, match=r"views"):
        ArmConfig(views=views)
    with pytest.raises(ValidationError, match=r"align\.arms\.other: .*"):
        AlignConfig(arms={"other": {"views": views}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"align": {"arms": {"llm4sbr": {"weight": 0.0}}}}, "not llm4sbr"), ({"align": {"arms": {"../x": {}}}}, "a name of"),
        ({"align": {"arms": {"a+b": {}}}}, "a name of"), ({"align": {"arms": {"": {}}}}, "a name of"),
        ({"align": {"arms": {"said": {"source": "llm"}}}}, r"align\.arms\.said: texts of llm are not made"),
        ({"align": {"only": "llm"}}, "align: texts of llm are not made where intents.source is retrieval"),
        ({"intents": {"source": "llm", "views": ["merged"]}}, r"align\.views: nobody is asked for long, short"),
        ({"intents": {"source": "llm"}, "align": {"arms": {"m": {"source": "shuffled", "views": ["merged"]}}}}, "asked for merged"),
        ({"models": {"baselines": ["rules", "tiger"]}}, "not tiger"), ({"models": {"baselines": []}}, "at least one"),
    ],
)  # fmt: skip
def test_what_a_run_would_stumble_over_later_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LLM4SBR(name="x", **changes)


def test_intents_to_stand_beside_are_looked_for_before_a_run(tmp_path: Path) -> None:
    recipe = LLM4SBR(name="x", cases={"other_intents": "said.csv.gz"})
    assert [found.what for found in recipe.cases.problems(tmp_path, recipe)] == ["cases.other_intents = said.csv.gz: no such file"]
    (tmp_path / "said.csv.gz").touch()
    assert recipe.cases.problems(tmp_path, recipe) == [] and recipe.cases.files(tmp_path, recipe) == [tmp_path / "said.csv.gz"]
    assert CasesConfig().files(tmp_path, recipe) == []


@pytest.mark.parametrize("backbone", SESSION_MODELS)
def test_every_session_model_can_be_aligned(backbone: str) -> None:
    config = config_of(backbone)(width=WIDTH, batch_size=64, epochs=1)
    for changes in ({}, {"views": ["merged"]}):
        one = trained(ArmConfig(**changes), backbone=backbone, config=config)
        assert np.isfinite(list(one.log[-1].values())).all()
