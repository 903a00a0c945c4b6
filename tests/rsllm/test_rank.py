"""Readings of one model against slow twins that read each prompt and title alone, on a scratch model with vectors."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from recnb.data.held_out import read_windows
from recnb.errors import DataError
from recnb.evaluation.candidates import draw_candidates
from recnb.llm.backbone import build_backbone
from recnb.llm.ranking_prompts import RankingPrompts, prompts_for
from recnb.llm.settings import BackboneConfig, PromptsConfig, SlotsConfig, TuneConfig, TuneStage
from recnb.llm.slots import add_slots
from recnb.llm.vocabulary import Vocabulary
from recnb.rsllm.elsewhere import rank_elsewhere
from recnb.rsllm.rank import Reader, kind_of, title_trie

LLM = BackboneConfig(kind="scratch", vocabulary=300, width=32, layers=2, heads=2, feedforward=48)
TITLES = [f"{colour} {thing}" for colour in ("Red", "Deep Red") for thing in ("Room", "Rooms", "Sea", "Night at Sea")]
HISTORIES = np.array([[-1, 0, 1], [-1, -1, -1], [5, 6, 7]])
ITEMS = np.array([[[2, 3, 6, 7], [7, 4, 2, 5]], [[0, 1, 2, 3], [4, 5, 6, 7]], [[4, 0, 3, 1], [1, 2, 3, 0]]])  # (U, D, C)


@pytest.fixture(scope="module")
def prompts() -> RankingPrompts:
    return prompts_for(LLM, TITLES, PromptsConfig(noun="rooms", history=3))


@pytest.fixture(scope="module", params=["text", "hybrid", "slots"])
def reader(request: pytest.FixtureRequest, prompts: RankingPrompts) -> Reader:
    none = np.empty((0, 0), np.int64)
    model = build_backbone(LLM, Vocabulary(prompts.tokenizer, (), none, none), seed=3).eval()
    table = np.random.default_rng(0).normal(size=(len(TITLES), 6))
    add_slots(model, table, SlotsConfig(), prompts.title_ids, seed=1)
    with torch.no_grad():
        for weight in model.parameters():  # a new model says the same to everything
            weight.mul_(4.0) if weight.ndim == 2 else None
    return Reader(model, prompts, request.param)


def read_alone(reader: Reader, prompt: np.ndarray, answer: np.ndarray) -> list[float]:
    """Log-probability of each token of an answer, the whole read as one row."""
    with torch.no_grad():
        logits = reader.model(torch.from_numpy(np.concatenate([prompt, answer]))[None]).logits[0]
    told = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return told[torch.arange(len(answer)), torch.from_numpy(answer)].tolist()


def twin(reader: Reader, histories: np.ndarray) -> dict[tuple[int, int, int], list[float]]:
    cases = itertools.product(range(3), range(2), range(4))
    return {
        (u, d, c): read_alone(
            reader, reader.prompts.build(histories[u], ITEMS[u, d], reader.kind).ids, reader.prompts.answers[ITEMS[u, d, c]]
        )
        for u, d, c in cases
    }  # fmt: skip


def test_likelihood_is_that_of_prompt_and_title_read_alone(reader: Reader) -> None:
    told, nobody = twin(reader, HISTORIES), twin(reader, np.full_like(HISTORIES, -1))
    ways = {way: reader.likelihood(HISTORIES, ITEMS, way) for way in ("sum", "mean", "contrast")}
    for place, tokens in told.items():
        assert ways["sum"][place] == pytest.approx(sum(tokens), abs=1e-4)
        assert ways["mean"][place] == pytest.approx(np.mean(tokens), abs=1e-4)
        assert ways["contrast"][place] == pytest.approx(sum(tokens) - sum(nobody[place]), abs=2e-4)
    assert np.abs(ways["contrast"][1]).max() < 2e-4, "after no history there is no contrast"
    assert np.ptp(ways["sum"]) > 0.5
    together = reader.likelihoods(HISTORIES, ITEMS)
    assert all(np.array_equal(together[way], scores) for way, scores in ways.items())


def test_constrained_text_is_greedy_among_the_candidates_titles(reader: Reader) -> None:
    found = reader.constrained(HISTORIES, ITEMS)
    assert found.valid.all() and np.array_equal(found.scores.argmax(2), found.columns)
    for row, (u, d) in enumerate(itertools.product(range(3), range(2))):
        prompt, alive, depth = reader.prompts.build(HISTORIES[u], ITEMS[u, d], reader.kind).ids, list(ITEMS[u, d]), 0
        while len(alive) > 1:
            ways = sorted({int(reader.prompts.answers[item][depth]) for item in alive})
            begun = reader.prompts.answers[alive[0]][:depth]
            gains = [read_alone(reader, prompt, np.append(begun, way))[-1] for way in ways]
            best = ways[int(np.argmax(gains))]
            alive, depth = [item for item in alive if int(reader.prompts.answers[item][depth]) == best], depth + 1
        assert found.texts[row] == TITLES[alive[0]] and ITEMS[u, d, found.columns[u, d]] == alive[0]


def test_free_text_of_an_untrained_model_is_counted_as_it_is(reader: Reader) -> None:
    found = reader.free(HISTORIES, ITEMS)
    assert len(found.texts) == 6 and found.scores.sum() == found.valid.sum()
    assert all((text in TITLES) <= bool(v) or TITLES.index(text) not in row for text, v, row in
               zip(found.texts, found.valid.ravel(), ITEMS.reshape(6, 4), strict=True))  # fmt: skip


def test_the_user_is_the_same_to_the_bit_whatever_is_printed_behind_the_history(reader: Reader) -> None:
    """The open prompt and every list: what stands behind the history cannot reach its states."""
    from recnb.llm.scoring import pooled_states

    users = reader.users(HISTORIES)
    for sets in (ITEMS[:, 0], ITEMS[:, 1], ITEMS[::-1, 0]):
        asked = [reader.prompts.build(h, listed, reader.kind) for h, listed in zip(HISTORIES, sets, strict=True)]
        assert np.array_equal(pooled_states(reader.model, [a.ids for a in asked], [a.spans["history"] for a in asked]), users)
    other = reader.users(np.roll(HISTORIES, 1, axis=0))
    assert np.array_equal(np.roll(users, 1, axis=0), other) and not np.array_equal(users, other)


def test_retrieval_is_the_cosine_of_user_and_title(reader: Reader) -> None:
    found, users, titles = reader.retrieval(HISTORIES), reader.users(HISTORIES), reader.titles
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (users, titles)]
    assert found.shape == (3, len(TITLES)) and np.allclose(found, unit[0] @ unit[1].T, atol=1e-5)


def test_open_lists_hold_every_title_once_in_the_order_of_what_a_beginning_leaves_open(reader: Reader) -> None:
    lists = reader.open_lists(HISTORIES, len(TITLES))
    assert all(sorted(row) == list(range(len(TITLES))) for row in lists.tolist())
    answers = reader.prompts.answers
    for history, row in zip(HISTORIES, lists, strict=True):
        prompt = reader.prompts.build(history, None, reader.kind).ids
        scores = [among_titles(reader, prompt, answers, item) for item in row]
        assert scores == sorted(scores, reverse=True) or np.allclose(scores, sorted(scores, reverse=True), atol=1e-4)


def among_titles(reader: Reader, prompt: np.ndarray, answers: list[np.ndarray], item: int) -> float:
    """Log-probability of a title, each token among those by which a title goes on."""
    total = 0.0
    for depth in range(len(answers[item])):
        begun = answers[item][:depth]
        ways = {int(a[depth]) for a in answers if len(a) > depth and np.array_equal(a[:depth], begun)}
        gains = {way: read_alone(reader, prompt, np.append(begun, way))[-1] for way in ways}
        total += gains[int(answers[item][depth])] - float(np.logaddexp.reduce(list(gains.values())))
    return total


def test_the_trie_of_titles_tells_a_title_from_one_that_goes_on(prompts: RankingPrompts) -> None:
    trie = title_trie(prompts.answers)
    assert trie.n_items == len(TITLES) and trie.depth == max(map(len, prompts.answers))


def test_a_model_is_asked_as_its_last_stage_was() -> None:
    def stages(*kinds: str) -> TuneConfig:
        return TuneConfig(stages=[TuneStage(prompt=kind) for kind in kinds])  # type: ignore[arg-type]

    assert kind_of(stages("text", "hybrid")) == "hybrid" and kind_of(stages("hybrid", "text")) == "text"
    assert kind_of(stages("curriculum")) == "hybrid" and kind_of(stages("slots")) == "slots"


def test_a_model_can_be_asked_about_a_catalogue_it_has_never_met(reader: Reader, tmp_path: Path) -> None:
    """Other titles, another N, no vectors: the ranks are those of likelihoods under prompts written by hand."""
    titles = [f"The {name}" for name in ("Lake", "Pond", "River", "Brook", "Well", "Sound", "Strait", "Bay")]
    lines = [f'{{"item_id": "{i}", "title": "{title}"}}' for i, title in enumerate(titles)]
    (tmp_path / "items.jsonl").write_text("\n".join(lines), encoding="utf-8")
    events = {"train": [[0, 1, 2, 3], [4, 5, 0, 1]], "valid": [[2, 3, 4]], "test": [[0, 1, 2], [5, 6, 7]]}
    users = [(part, window) for part, windows in events.items() for window in windows]
    rows = [f"{user},{item},{order},{part}" for user, (part, window) in enumerate(users) for order, item in enumerate(window)]
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,order,split", *rows]), encoding="utf-8")

    found = rank_elsewhere(reader, tmp_path, "waters", 5, 4, users=9, seed=3)
    assert found.popularity is not None and found.model.shape == found.popularity.shape == (2, 1)
    assert (found.items, found.events) == (8, 8)
    dataset, held = read_windows(tmp_path, 5)
    sets = draw_candidates(held.owned_by("test"), held.targets["test"], 4, 1, "uniform", 3)
    own = reader.prompts
    prompts = RankingPrompts(own.tokenizer, list(dataset.items["title"]), own.rows, PromptsConfig(noun="waters", history=3))
    for row, (history, listed) in enumerate(zip(held.histories["test"], sets.items[:, 0], strict=True)):
        prompt = prompts.build(history, listed, "text").ids
        assert (prompt < own.rows).all(), "no vector of another catalogue"
        told = [sum(read_alone(reader, prompt, prompts.answers[item])) for item in listed]
        assert found.model[row, 0] == 1 + sum(np.array(told) > told[sets.place[row, 0]])
        mean = [one / len(prompts.answers[item]) for one, item in zip(told, listed, strict=True)]
        per_token = rank_elsewhere(reader, tmp_path, "waters", 5, 4, users=9, seed=3, reduce="mean").model[row, 0]
        assert per_token == 1 + sum(np.array(mean) > mean[sets.place[row, 0]])
    only_test = [line for line in rows if not line.endswith("train")]  # as Steam was published
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,order,split", *only_test]), encoding="utf-8")
    assert rank_elsewhere(reader, tmp_path, "waters", 5, 4, users=9, seed=3).popularity is None
    (tmp_path / "items.jsonl").write_text("\n".join([*lines[:-1], '{"item_id": "7", "title": ""}']), encoding="utf-8")
    with pytest.raises(DataError, match="item '7' has no title"):
        rank_elsewhere(reader, tmp_path, "waters", 5, 4, users=9, seed=3)
