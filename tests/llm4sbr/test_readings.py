"""State and score of a model, against the same prompts read one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recnb.llm.pretrained import load_causal_lm
from recnb.llm4sbr.prompts import Prompter
from recnb.llm4sbr.readings import Reader
from recnb.llm4sbr.settings import IntentsConfig

TITLES = [f"A {kind} of {thing}" for kind in ("story", "film") for thing in ("robots", "crime", "space")]
INPUTS = np.array([[-1, 0, 1], [2, 3, 4], [-1, -1, 5], [2, 3, 1]], np.int32)
VIEWS = ("long", "short")


@pytest.fixture(scope="module")
def reader(tiny_folder) -> Reader:
    model, tokenizer = load_causal_lm(str(tiny_folder))
    for parameter in model.parameters():  # larger than the default start, so that scores differ clearly
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    return Reader(model, Prompter.build(tokenizer, TITLES, IntentsConfig(items=3)), VIEWS, 2000)


def spoken_after(reader: Reader, prompt: np.ndarray, item: int) -> float:
    answer = reader.prompter.spoken()[item]
    with torch.no_grad():
        steps = reader.model(input_ids=torch.from_numpy(np.concatenate([prompt, answer]))[None]).logits[0].log_softmax(-1)
    return sum(float(steps[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))


def test_one_item_alone_is_nearest_to_itself(reader: Reader) -> None:
    alone = np.arange(len(TITLES))[:, None]
    found, cosines = reader.by_state(alone)
    assert found.tolist() == [[item, item] for item in range(len(TITLES))]
    assert cosines == pytest.approx(1, abs=1e-5)


def test_candidates_are_the_session_and_the_nearest(reader: Reader) -> None:
    found, near = reader.candidates(INPUTS, 2), reader.nearness(INPUTS)
    assert found.shape == (4, 2, 5)
    for row, view in np.ndindex(4, 2):
        assert set(found[row, view, :3]) == {item for item in INPUTS[row] if item >= 0}
        assert found[row, view, 3:].tolist() == np.argsort(-near[row, view])[:2].tolist()


def test_the_title_that_gains_most_by_the_list(reader: Reader) -> None:
    items, gains = reader.by_score(INPUTS, nearest=2)
    prompts, candidates = reader.prompter.forks(INPUTS, VIEWS).prompts, reader.candidates(INPUTS, 2)
    for row, view in np.ndindex(4, 2):
        nothing = np.concatenate([reader.prompter.start, reader.prompter.ending(VIEWS[view], 0)])
        slow = {item: spoken_after(reader, prompts[2 * row + view], item) - spoken_after(reader, nothing, item)
                for item in candidates[row, view].tolist()}  # fmt: skip
        assert items[row, view] == max(slow, key=slow.__getitem__)
        assert gains[row, view] == pytest.approx(max(slow.values()), abs=1e-3)
