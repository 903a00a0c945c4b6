"""Noise in place of every held-out item reaches nothing that is trained on, and no history that is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recnb.data.held_out import hold_out
from recnb.data.settings import DataConfig, SplitConfig, ToyConfig
from recnb.data.sources import load_dataset
from recnb.data.split import replace_heldout
from recnb.llm.training_cases import training_cases
from recnb.recommenders.fit import fit_baseline
from recnb.recommenders.settings import BaselinesConfig, SasrecConfig


def test_nothing_trained_hangs_on_what_is_held_out():
    dataset = load_dataset(DataConfig(source="toy", toy=ToyConfig(users=60, items=60)), Path(), 0)
    poisoned = replace_heldout(dataset, np.random.default_rng(0))
    config = BaselinesConfig(sasrec=SasrecConfig(epochs=1, width=8))
    made = []
    for each in (dataset, poisoned):
        held = hold_out(each, SplitConfig(), 10, 0)
        cases = training_cases(held, 100, 10, 20, 0)
        judges = held.histories["valid"], dataset.sequence[dataset.offsets[1:] - 2]  # what chooses is not what is asked
        model, _ = fit_baseline("sasrec", held.train, each.n_items, config, 10, seed=0, validation=judges)
        popular = np.bincount(held.train.items, minlength=each.n_items)
        shown = held.histories["valid"]
        made.append([cases.histories, cases.targets, cases.candidates, popular, shown, model.scores(shown)])
    assert all(np.array_equal(one, other) for one, other in zip(*made, strict=True))
