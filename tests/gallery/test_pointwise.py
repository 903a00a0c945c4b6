"""TALLRec and CoLLM: each answer is that of its question read alone; half of the training asks about what was chosen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from gallery_bench import sets_of, toy_bench

from recnb.errors import DataError, RecipeError
from recnb.gallery import collm, tallrec
from recnb.gallery.llara import vectors_of_others
from recnb.gallery.recipe import Gallery, GalleryConfig
from recnb.gallery.table import lay_bench
from recnb.llm.backbone import causal_lm
from recnb.llm.settings import TuneStage


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    bench, held = toy_bench(tmp_path_factory.mktemp("kept"))
    return bench, held.histories["test"], sets_of(held, "test").items


@pytest.fixture(scope="module")
def rows(laid):
    return collm.rankers(laid[0])


def slots_of(row):
    return causal_lm(row.model).get_input_embeddings()


@torch.no_grad()
def alone(row, ids):
    """Log-odds of yes against no behind one prompt, no cache, nothing beside it."""
    states = row.model.base_model(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0, -1]
    yes, no = (row.model.get_output_embeddings().weight @ states)[torch.from_numpy(row.prompts.yes_no)]
    return float(yes - no)


def test_answers_are_those_of_questions_read_alone(laid):
    bench, histories, items = laid
    *_, row, contrast = tallrec.rankers(bench)
    found = row.scores(histories, items)
    nobody = row.scores(np.full_like(histories, -1), items)
    assert (row.name, contrast.name) == ("tallrec", "tallrec/contrast") and np.ptp(nobody) > 0
    np.testing.assert_allclose(contrast.scores(histories, items), found - nobody, atol=1e-5)
    for user, draw, place in ((0, 0, 0), (1, 1, 3), (4, 0, 5)):
        ids = row.prompt(histories[user], items[user, draw, place:]).ids
        assert found[user, draw, place] == pytest.approx(alone(row, ids), abs=1e-4)


def test_the_vectors_are_the_user_s_and_the_item_s(laid, rows):
    bench, histories, items = laid
    row = rows[0]
    found = row.scores(histories, items)
    prompt = row.prompt(histories[2], items[2, 1, 4:])
    assert found[2, 1, 4] == pytest.approx(alone(row, prompt.ids), abs=1e-4)
    user, item = prompt.slots[prompt.slots >= 0].tolist()
    own = slots_of(row).rows[user] * slots_of(row).spread + slots_of(row).centre
    np.testing.assert_allclose(own, bench.models["sasrec"].states(histories[2:3])[0], atol=1e-4)
    assert user >= bench.n_items and item == items[2, 1, 4]


def test_user_states_are_what_sasrec_scores_with(laid):
    bench, histories, _ = laid
    sasrec = bench.models["sasrec"]
    scores = sasrec.states(histories) @ sasrec.item_vectors().detach().T
    np.testing.assert_allclose(scores, sasrec.scores(histories), atol=1e-4)  # without a bias for repetitions


def test_the_control_has_other_vectors_and_gives_them_back(laid, rows):
    bench, histories, items = laid
    own, other = rows
    slots = slots_of(own)
    before = slots.rows[: bench.n_items].clone()
    assert not np.allclose(own.scores(histories, items), other.scores(histories, items), atol=1e-5)
    assert torch.equal(slots.rows[: bench.n_items], before)
    with vectors_of_others(own.model, np.roll(np.arange(bench.n_items), 1)):
        assert torch.equal(slots.rows[5], before[4])


def test_only_the_projector_learns_in_collm_s_second_step(laid, rows):
    bench, *_ = laid
    text = tallrec.rankers(bench)[-1].model.state_dict()
    ours = {name.replace("embed_tokens.words.", "embed_tokens."): part for name, part in rows[0].model.state_dict().items()}
    assert all(torch.equal(part, ours[name]) for name, part in text.items())


def test_shots_are_few_examples_seen_often(laid, tmp_path):
    bench, *_ = laid
    stages = [TuneStage(prompt="text", examples=40)]
    more = replace(bench, tune=bench.tune.model_copy(update={"stages": stages}), keep=tmp_path)
    found = tallrec.rankers(more)
    assert [row.name for row in found] == ["tallrec/untuned", "tallrec/16 shots", "tallrec", "tallrec/contrast"]
    assert [row.learned.examples for row in found] == [0, 40, 40, 40]
    made = tallrec.questions(found[1].prompts, tallrec.asked(more, 0, 16), 40, "text")
    counts = Counter(one.prompt.ids.tobytes() for one in made)
    assert len(counts) == 16 and set(counts.values()) == {2, 3}
    cases = more.cases(0, 16)
    for place, one in enumerate(made[:16]):
        chosen = one.answer[0] == found[1].prompts.yes_no[0]
        assert chosen == (place % 2 == 0) == (one.item == cases.targets[place])


def liking(bench):
    """The bench with a rating of 1 to 5 for each training event, some unknown."""
    stars = np.random.default_rng(0).integers(0, 6, len(bench.held.train.items)).astype(np.float32)
    stars[stars == 0] = np.nan
    return replace(bench, ratings=stars, gallery=GalleryConfig(labels="liked"))


def test_likes_are_learned_from_ratings(laid, tmp_path):
    bench = liking(laid[0])
    train, stars = bench.held.train, bench.ratings
    rows = [slice(a, b) for a, b in zip(train.offsets, train.offsets[1:], strict=False)]
    histories, items, yes = tallrec.asked(bench, 0, 31)
    assert yes.tolist() == [place % 2 == 0 for place in range(31)]
    events = set()
    for history, item, said in zip(histories, items, yes, strict=True):
        before = history[history >= 0].tolist()
        found = [(user, place) for user, row in enumerate(rows) for place in range(1, row.stop - row.start)
                 if train.items[row][place] == item and train.items[row][max(0, place - len(history)) : place].tolist() == before
                 and (stars[row][place] > 3) == said and not np.isnan(stars[row][place])]  # fmt: skip
        assert found, "an event of one user, after what came before it, with a rating that says so"
        events.update(found)
    assert len(events) >= 31, "each event once"
    other = tallrec.asked(bench, 1, 31)
    assert not np.array_equal(items, other[1])
    found = tallrec.rankers(replace(bench, keep=tmp_path))
    asked = found[-1].prompts.tokenizer.decode(found[-1].prompt(laid[1][0], laid[2][0, 0]).ids)
    assert "visitor like" in asked and "next?" not in asked
    assert collm.rankers(replace(bench, keep=tmp_path / "vectors"))[0].prompts.wording.open == found[-1].prompts.wording.open


def test_nobody_liked_anything_is_said(laid):
    bench = liking(laid[0])
    with pytest.raises(DataError, match=r"ratings above 3 and not above it, found 0 and \d+"):
        tallrec.asked(replace(bench, ratings=np.minimum(bench.ratings, 3)), 0, 8)


def test_likes_without_ratings_are_refused_before_anything_is_trained(laid, tmp_path):
    bench, *_ = laid
    recipe = Gallery(name="toy", llm=bench.llm, tune=bench.tune, seed=1, gallery={"labels": "liked"})
    with pytest.raises(RecipeError, match=r"gallery\.labels: liked learns from ratings, and the data have none"):
        lay_bench(recipe, bench.titles, bench.held, bench.sets.items, bench.models, tmp_path)
