"""Fusion: a partner that knows is used, one that misleads is not, and weight 0 is the model alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sandbox import ROOT
from small import TASKS, N, recommender, vocabulary

from recnb.data.schema import Sequences
from recnb.eager_llm import fusion
from recnb.eager_llm.prompts import seqrec_prompts
from recnb.errors import RecipeError
from recnb.evaluation.metrics import metrics, target_ranks
from recnb.index.trie import Trie
from recnb.llm.beam import recommend
from recnb.llm.settings import DecodeConfig
from recnb.recommenders.interface import top_items
from recnb.workflow.recipe import load_recipe

VOCABULARY = vocabulary()
DECODE = DecodeConfig(beam=12, batch_size=4)
USERS = 10


@dataclass
class Oracle:
    """Knows each user's target by the first item of the history, or points away from it."""

    sign: float

    def scores(self, histories: np.ndarray) -> np.ndarray:
        return self.sign * 8.0 * np.eye(N)[(histories[:, 0] + 1) % N]


@pytest.fixture(scope="module")
def setting():  # type: ignore[no-untyped-def]
    histories = np.random.default_rng(0).integers(0, N, (USERS, 4))
    targets = (histories[:, 0] + 1) % N
    model = recommender(VOCABULARY).backbone.eval()
    trie = Trie.from_tokens(VOCABULARY.item_tokens)
    return model, seqrec_prompts(VOCABULARY, histories, TASKS), histories, targets, trie


def test_a_partner_that_knows_is_given_weight(setting) -> None:  # type: ignore[no-untyped-def]
    model, prompts, histories, targets, trie = setting
    tried = fusion.choose_weight(model, prompts, histories, targets, trie, DECODE, Oracle(1.0), [1.0, 4.0])
    assert sorted(tried.weight) == [0.0, 1.0, 4.0] and tried.weight[0] == 1.0  # both suffice: the smaller
    assert tried["N@10"][0] == 1.0 > tried.set_index("weight")["N@10"][0.0]


def test_how_often_people_come_back_is_counted_and_spread() -> None:
    train = Sequences(np.array([0, 3, 5, 5]), np.array([1, 2, 1, 3, 4], np.int32))  # one of three chances is taken
    partner = fusion.Repeats(train, 6)
    assert partner.share == pytest.approx(2 / 5)
    q = np.exp(partner.scores(np.array([[-1, 2, 3, 3], [-1, -1, -1, 0]])))
    np.testing.assert_allclose(q[0], [0.15, 0.15, 0.2, 0.2, 0.15, 0.15], rtol=1e-6)
    np.testing.assert_allclose(q[1], [0.4, *[0.12] * 5], rtol=1e-6)
    np.testing.assert_allclose(np.exp(partner.scores(np.array([[0, 1, 2, 3, 4, 5]])))[0], [0.4 / 6] * 6, rtol=1e-6)


def test_a_partner_that_misleads_is_not(setting) -> None:  # type: ignore[no-untyped-def]
    model, prompts, histories, targets, trie = setting
    tried = fusion.choose_weight(model, prompts, histories, targets, trie, DECODE, Oracle(-1.0), [1.0, 4.0])
    assert tried.weight[0] == 0.0


def test_each_user_is_given_the_partners_word_on_that_user(setting) -> None:  # type: ignore[no-untyped-def]
    """Also where users are served in groups: those with fewer items left than the beam come last."""
    from scipy import sparse

    model, prompts, histories, targets, trie = setting
    exclude = np.zeros((USERS, N), bool)
    exclude[::3, :] = True
    exclude[np.arange(USERS), targets] = False
    lists = fusion.fused_lists(
        model, prompts, histories, trie, DECODE, Oracle(1.0), 20.0, exclude=sparse.csr_matrix(exclude)
    )
    assert (target_ranks(lists, targets) == 0).all()
    assert (lists[::3, 1:] == -1).all() and (lists[1::3] >= 0).all()


def test_weight_zero_is_the_model_alone(setting) -> None:  # type: ignore[no-untyped-def]
    model, prompts, histories, _, trie = setting
    alone, _ = recommend(model, prompts, trie, DECODE)
    assert np.array_equal(fusion.fused_lists(model, prompts, histories, trie, DECODE, Oracle(1.0), 0.0), alone)


def test_a_partner_must_be_fitted(tmp_path: Path) -> None:
    fitted = ["evaluate.baselines=[popularity, itemknn, sasrec, tiger]", "evaluate.fusion.controls=[]"]
    for names in ("gru4rec", "sasrec+gru4rec", "tiger", "popularity", "head+itemknn", ""):
        unknown = names.rpartition("+")[2]
        with pytest.raises(RecipeError, match=rf"partners: {unknown} is not among the evaluate.baselines .*\(sasrec\)"):
            load_recipe(ROOT / "params/toy.yaml", [f"evaluate.fusion.partners=['{names}']", *fitted])
    recipe = load_recipe(ROOT / "params/toy.yaml", ["evaluate.fusion.partners=[sasrec]", *fitted])
    assert recipe.evaluate.fusion.members() == ["sasrec"]


def test_several_partners_multiply_their_probabilities() -> None:
    histories, one, other = np.zeros((2, 3), int), Oracle(1.0), Oracle(3.0)
    both = fusion.partner_of("one+other", {"one": one, "other": other}).scores(histories)
    probability = np.exp(one.scores(histories)) / np.exp(one.scores(histories)).sum(1, keepdims=True)
    probability *= np.exp(other.scores(histories)) / np.exp(other.scores(histories)).sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(both), probability, rtol=1e-5)
    assert fusion.partner_of("one", {"one": one}) is one


def test_two_scorers_mix_without_a_model_as_validation_says() -> None:
    """One knows the even users, the other the odd ones; each alone finds half."""

    @dataclass
    class Half:
        rest: int

        def scores(self, histories: np.ndarray) -> np.ndarray:
            known = (histories[:, 0] % 2 == self.rest)[:, None]
            return np.where(known, Oracle(1.0).scores(histories), -0.1 * np.arange(N))

    histories = np.random.default_rng(1).integers(0, N, (64, 4))
    targets = (histories[:, 0] + 1) % N
    tried = fusion.choose_share([Half(0), Half(1)], histories, targets, [1.0, 4.0], users=10).set_index("weight")
    assert sorted(tried.index) == [0.0, 0.25, 1.0, 4.0]
    assert tried["N@10"][1.0] == 1.0 == tried["N@10"].iloc[0] > tried["N@10"][0.0]
    mixed = fusion.Joint([Half(0), Half(1)], [1.0, 4.0])
    ranks = target_ranks(top_items(mixed.scores(histories), 10), targets)
    assert metrics(ranks, [10])["N@10"] == tried["N@10"][4.0]
    useless = fusion.choose_share([Oracle(1.0), Oracle(-1.0)], histories, targets, [1.0, 4.0])
    assert useless.weight[0] == 0.0 and useless["N@10"][0] == 1.0


@pytest.mark.parametrize("names", ["sasrec", "sasrec+sasrec", "sasrec+itemknn", "sasrec+gru4rec+bert4rec", "head+sasrec", ""])
def test_a_control_is_two_fitted_baselines(names: str) -> None:
    baselines = "evaluate.baselines=[itemknn, sasrec, gru4rec, bert4rec]"
    with pytest.raises(RecipeError, match=r"controls: .*expected two different ones .*\(sasrec, gru4rec, bert4rec\)"):
        load_recipe(ROOT / "params/toy.yaml", [f"evaluate.fusion.controls=['{names}']", baselines])
    load_recipe(ROOT / "params/toy.yaml", ["evaluate.fusion.controls=[sasrec+gru4rec]", baselines])
