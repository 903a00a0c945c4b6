"""A table that begins as text, and vectors that were tuned first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gallery_bench import toy_bench

from recnb.gallery import llm2rec
from recnb.gallery.textstart import StartedSASRec, narrowed
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.settings import SasrecConfig


def test_directions_of_most_variance_keep_who_is_near_whom():
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 20)) + 5  # three directions in twenty
    found = narrowed(flat, 8)
    assert np.abs(found[:, 3:]).max() < 1e-4
    wanted, apart = (np.linalg.norm(part[:, None] - part[None], axis=-1) for part in (flat, found))
    np.testing.assert_allclose(apart / apart.max(), wanted / wanted.max(), atol=1e-5)
    with_sign = narrowed(np.ascontiguousarray(flat[::-1]), 8)[::-1]
    np.testing.assert_allclose(with_sign, found, atol=1e-4)  # whatever the order of items, the same signs


def test_it_is_as_long_as_sasrec_begins():
    found = narrowed(np.random.default_rng(0).standard_normal((400, 90)), 64)
    assert found.std() == pytest.approx(64**-0.5, rel=1e-3)


def test_sasrec_begins_with_the_vectors_and_nothing_else_differs():
    vectors, config = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32), SasrecConfig(width=16)
    torch.manual_seed(0)
    model = StartedSASRec(9, config, 5, vectors=vectors)
    torch.manual_seed(0)
    usual = SASRec(9, config, 5)
    np.testing.assert_array_equal(model.item_table(), vectors)
    differing = {name for name, part in usual.state_dict().items() if not torch.equal(part, model.state_dict()[name])}
    assert differing == {"items.weight"}


def test_tuning_moves_the_title_vectors(tmp_path):
    before, after, start = llm2rec.rankers(toy_bench(tmp_path)[0])
    assert not np.allclose(before.scorer.vectors, after.scorer.vectors, atol=1e-4)
    assert before.learned.examples == 0 < after.learned.examples < start.learned.examples
