"""The item head: trained where the next item begins, and at inference exactly what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sandbox import ROOT
from small import TASKS, N, builder, codes, recommender, sequences, vocabulary

from recnb.eager_llm.checkpoint import save_model
from recnb.eager_llm.fusion import ItemHead
from recnb.eager_llm.model import Recommender
from recnb.eager_llm.prompts import seqrec_prompts
from recnb.eager_llm.train import Collator
from recnb.errors import ArtifactError, RecipeError
from recnb.workflow.recipe import load_recipe

VOCABULARY = vocabulary()
ONE = TASKS.model_copy(update={"templates": 1, "mixture": {"seqrec": 1.0}})
BEHAVIOUR = np.random.default_rng(3).standard_normal((N, 6))


def with_head() -> Recommender:
    backbone = recommender(VOCABULARY).backbone
    return Recommender(backbone, {"next": BEHAVIOUR}, {"next": 0.5}, temperature=0.2).eval()


def prompts(histories: np.ndarray) -> list[np.ndarray]:
    return seqrec_prompts(VOCABULARY, histories, ONE)


def batch(samples: list) -> dict[str, torch.Tensor]:  # type: ignore[type-arg]
    return Collator(VOCABULARY.pad_id, VOCABULARY.con_id, N, N, 0)(samples)


@pytest.mark.parametrize("separator", ["", ", "])
def test_dense_positions_end_the_prompts_of_their_items(separator: str) -> None:
    config = ONE.model_copy(update={"separator": separator})
    samples = builder(VOCABULARY, tasks=config).epoch(0)
    assert samples
    for sample in samples:
        places = np.flatnonzero(sample.following >= 0)
        targets = sample.following[places]
        begins = np.flatnonzero(sample.labels)[:: codes().shape[1]]
        assert targets[-1] == sample.target and np.array_equal(places + 1, begins)
        first = VOCABULARY.item_tokens[:, 0]
        assert np.array_equal(sample.ids[places + 1], first[targets])
        history = np.flatnonzero((VOCABULARY.item_tokens == sample.ids[places[0] + 1 - codes().shape[1] - len(
            VOCABULARY.encode([separator])[0] if separator else []) :][: codes().shape[1]]).all(1))
        (prompt,) = seqrec_prompts(VOCABULARY, history[None, :], config)
        assert np.array_equal(sample.ids[: places[0] + 1], prompt)


@pytest.mark.parametrize("con_before", [False, True])
def test_the_head_scores_what_it_was_trained_on(con_before: bool, tmp_path: Path) -> None:
    """With all items as negatives, InfoNCE is the cross-entropy of the scores."""
    model = with_head()
    samples = builder(VOCABULARY, dense=False, tasks=ONE, con_before=con_before).epoch(0)[:7]
    with torch.no_grad():
        trained = float(model(**batch(samples))["next"])
    save_model(tmp_path, model, VOCABULARY, 5)
    ask = {id(s): s.ids[: int(np.flatnonzero(s.following >= 0)[0]) + 1] for s in samples}
    head = ItemHead(model.backbone, tmp_path, BEHAVIOUR, 0.2, lambda rows: list(ask.values()))
    scores = torch.from_numpy(head.scores(np.zeros((len(samples), 1), int)))
    targets = torch.tensor([s.target for s in samples])
    assert trained == pytest.approx(float(torch.nn.functional.cross_entropy(scores, targets)), abs=1e-5)


def test_a_users_scores_do_not_depend_on_who_else_is_asked(tmp_path: Path) -> None:
    model = with_head()
    save_model(tmp_path, model, VOCABULARY, 5)
    head = ItemHead(model.backbone, tmp_path, BEHAVIOUR, 0.2, prompts)
    histories = np.array([[-1, -1, 3], [5, 6, 7], [-1, 2, 9]])
    together = head.scores(histories)
    assert together.shape == (3, N)
    for row in range(3):
        np.testing.assert_allclose(head.scores(histories[[row]])[0], together[row], atol=1e-5)


def test_its_weight_is_in_the_loss() -> None:
    model = with_head()
    samples = builder(VOCABULARY, tasks=ONE, train=sequences(4)).epoch(0)
    with torch.no_grad():
        found = model(**batch(samples))
    assert float(found["loss"]) == pytest.approx(float(found["response"] + 0.5 * found["next"]), abs=1e-5)


def test_other_tasks_do_not_concern_it() -> None:
    samples = builder(VOCABULARY, tasks=TASKS.model_copy(update={"mixture": {"item2index": 1.0}})).epoch(0)
    with torch.no_grad():
        assert float(with_head()(**batch(samples))["next"]) == 0.0


def test_a_model_without_it_is_refused(tmp_path: Path) -> None:
    model = recommender(VOCABULARY)
    save_model(tmp_path, model, VOCABULARY, 5)
    with pytest.raises(ArtifactError, match=r"no item head; train with train\.lambda_next > 0"):
        ItemHead(model.backbone, tmp_path, BEHAVIOUR, 0.1, prompts)
    with pytest.raises(RecipeError, match=r"partners: head, but train\.lambda_next is 0"):
        load_recipe(ROOT / "params/toy.yaml", ["evaluate.fusion.partners=[head]"])
