"""Candidates as one packed tree against each text read alone."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from small_models import MODELS, V, gemma, llama

from recnb.errors import RecnbError
from recnb.llm.answer_tree import AnswerTree, Asked
from recnb.llm.continuations import Forks
from recnb.llm.packed import told_answers
from recnb.llm.scoring import (
    beginnings,
    exact_titles,
    ground,
    match_titles,
    pooled_states,
    score_answers,
    score_words,
    write,
)

END = 2
# one token; a common beginning; one inside the other, with and without an end; the same title twice
ANSWERS = [np.array(ids) for ids in (
    [7], [7, END], [7, 8, END], [7, 8, 9, END], [7, 8, 9, 10, 11, END], [12, 13], [12, 13, 14, END], [7, 8, END], [30, 31, 32, 33, END],
)]  # fmt: skip


def some_prompts(seed: int, count: int = 9) -> list[np.ndarray]:
    """Of 2 to 24 tokens: longer than gemma's window, shorter than it, so that batches are padded."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, V, length) for length in rng.integers(2, 25, count)]


def some_candidates(seed: int, count: int = 9, columns: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(len(ANSWERS))[:columns] for _ in range(count)])


def steps_alone(model, prompt: np.ndarray, answer: np.ndarray) -> torch.Tensor:
    """(len(answer), V) log-probabilities before each token of an answer: the whole text read by itself, no cache."""
    whole = torch.from_numpy(np.concatenate([prompt, answer]))[None]
    with torch.no_grad():
        return model(input_ids=whole, use_cache=False).logits[0].float().log_softmax(-1)[len(prompt) - 1 : -1]


def alone(model, prompt: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Log-probability of each token of an answer."""
    return steps_alone(model, prompt, answer).gather(1, torch.from_numpy(answer)[:, None])[:, 0].numpy()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch_tokens", [1, 120, 10_000])
def test_every_token_is_worth_what_it_is_alone(name: str, batch_tokens: int) -> None:
    model, prompts, candidates = MODELS[name](), some_prompts(1), some_candidates(1)
    told = told_answers(model, beginnings(prompts), ANSWERS, candidates, batch_tokens)
    for prompt, asked, tokens in zip(prompts, candidates, told.tokens, strict=True):
        for answer, gains in zip([ANSWERS[number] for number in asked], tokens, strict=True):
            assert gains[: len(answer)] == pytest.approx(alone(model, prompt, answer), abs=1e-4)
            assert not gains[len(answer) :].any()


@pytest.mark.parametrize("name", MODELS)
def test_orders_of_candidates_are_those_of_the_slow_twin(name: str) -> None:
    model, prompts, candidates = MODELS[name](), some_prompts(2, 30), some_candidates(2, 30)
    summed, mean = (score_answers(model, prompts, ANSWERS, candidates, kind, 500) for kind in ("sum", "mean"))
    slow = [[alone(model, prompt, ANSWERS[a]) for a in asked] for prompt, asked in zip(prompts, candidates, strict=True)]
    slow_sum, slow_mean = (np.array([[kind(one) for one in row] for row in slow]) for kind in (np.sum, np.mean))
    for ours, theirs in ((summed, slow_sum), (mean, slow_mean)):
        assert ours == pytest.approx(theirs, abs=2e-4)
        assert np.array_equal(np.argsort(-ours.round(3), kind="stable"), np.argsort(-theirs.round(3), kind="stable"))
    assert (summed.argmax(1) != mean.argmax(1)).any(), "otherwise this shows nothing about the mean"


@pytest.mark.parametrize("name", MODELS)
def test_forks_of_one_beginning_are_prompts_alone(name: str) -> None:
    model, rng = MODELS[name](), np.random.default_rng(3)
    groups = np.array([4, 1, 4, 4, 9, 1])
    begin = {group: rng.integers(1, V, length) for group, length in ((1, 9), (4, 17), (9, 3))}
    prompts = [np.concatenate([begin[group], rng.integers(1, V, rng.integers(1, 7))]) for group in groups]
    candidates, words = some_candidates(3, len(groups)), np.array([5, 40, 17])
    forks = beginnings(prompts, groups)
    assert [ids.tolist() for ids in forks.prompts] == [prompt.tolist() for prompt in prompts]
    assert sum(map(len, forks.lists)) + sum(map(len, forks.endings)) < sum(map(len, prompts))
    apart, together = (score_answers(model, prompts, ANSWERS, candidates, groups=each) for each in (None, groups))
    assert together == pytest.approx(apart, abs=1e-4)
    for each in (None, groups):
        found = score_words(model, prompts, words, 60, each)
        wanted = np.stack([steps_alone(model, prompt, words[:1])[0, words].numpy() for prompt in prompts])
        assert found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_scores_do_not_depend_on_company(name: str) -> None:
    model, prompts, candidates = MODELS[name](), some_prompts(4), some_candidates(4)
    found, rng = score_answers(model, prompts, ANSWERS, candidates), np.random.default_rng(4)
    order, columns = rng.permutation(len(prompts)), rng.permutation(candidates.shape[1])
    again = score_answers(model, [prompts[row] for row in order], ANSWERS, candidates[order][:, columns], batch_tokens=90)
    assert again == pytest.approx(found[order][:, columns], abs=1e-4)
    few = score_answers(model, prompts, ANSWERS, candidates[:, :1])
    assert few == pytest.approx(found[:, :1], abs=1e-4)


def test_an_equal_answer_is_read_once_and_scored_alike() -> None:
    candidates = np.array([[2, 7, 4]])
    found = score_answers(llama(), some_prompts(6, 1), ANSWERS, candidates)
    assert found[0, 0] == found[0, 1]
    tree = AnswerTree.of(ANSWERS)
    assert Asked.of(tree, candidates).reads.tolist() == [5], "7, 8, 9, 10, 11: no end, and 7, 8 once"


def test_a_node_is_a_beginning_and_parents_stand_first() -> None:
    rng = np.random.default_rng(15)
    answers = [rng.integers(0, 4, length) for length in rng.integers(1, 6, 200)]
    tree = AnswerTree.of(answers)
    places = [(row, size) for row, answer in enumerate(answers) for size in range(1, len(answer) + 1)]
    begun = {tuple(answers[row][:size].tolist()): int(tree.prefixes[row, size - 1]) for row, size in places}
    assert sorted(begun.values()) == list(range(len(tree.tokens))), "one node for each beginning"
    for way, node in begun.items():
        assert tree.tokens[node] == way[-1] and tree.depths[node] == len(way) - 1
        assert tree.parents[node] == begun.get(way[:-1], -1) < node
        assert [begun[way[:size]] for size in range(1, len(way) + 1)] == tree.ancestors[node][: len(way)].tolist()
    ends = np.array([len(answer) for answer in answers])
    assert ((tree.prefixes >= 0).sum(1) == ends).all() and (np.diff(tree.parents) >= 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_constrained_text_is_the_greedy_walk(name: str) -> None:
    model, prompts, rng = MODELS[name](), some_prompts(7, 20), np.random.default_rng(7)
    ended = [number for number, answer in enumerate(ANSWERS) if answer[-1] == END]
    allowed = [[ANSWERS[n] for n in rng.permutation(ended)[: rng.integers(2, 6)]] for _ in prompts]
    found = write(model, prompts, 9, [END], allowed, 200)
    for prompt, own, text in zip(prompts, allowed, found, strict=True):
        ids: list[int] = []
        while not ids or ids[-1] != END:
            legal = sorted({int(a[len(ids)]) for a in own if a[: len(ids)].tolist() == ids and len(a) > len(ids)})
            steps = steps_alone(model, np.concatenate([prompt, ids]).astype(int), np.array([END]))[0]
            ids.append(legal[int(steps[legal].argmax())])
        assert text.tolist() == ids


def test_free_text_ends_with_its_stop() -> None:
    model, prompts = llama(), some_prompts(8)
    stops = [3, 11, 17, 30]
    for prompt, text in zip(prompts, write(model, prompts, 6, stops), strict=True):
        ids: list[int] = []
        while len(ids) < 6 and (not ids or ids[-1] not in stops):
            steps = steps_alone(model, np.concatenate([prompt, ids]).astype(int), np.array([END]))[0]
            ids.append(int(steps.argmax()))
        assert text.tolist() == ids


@pytest.mark.parametrize("name", MODELS)
def test_pooled_states_are_those_of_the_whole_prompt(name: str) -> None:
    model, rng = MODELS[name](), np.random.default_rng(9)
    prompts = [prompt for prompt in some_prompts(9, 12) if len(prompt) > 3]
    spans = [slice(int(start := rng.integers(0, len(p) - 2)), int(rng.integers(start + 1, len(p)))) for p in prompts]
    found = pooled_states(model, prompts, spans, 60)
    for prompt, span, mean in zip(prompts, spans, found, strict=True):
        with torch.no_grad():
            whole = model.base_model(input_ids=torch.from_numpy(prompt)[None]).last_hidden_state[0]
        assert mean == pytest.approx(whole[span].mean(0).numpy(), abs=1e-5)


def test_what_stands_behind_a_span_changes_no_bit() -> None:
    model, prompts, rng = gemma(), some_prompts(10), np.random.default_rng(10)
    spans = [slice(0, len(prompt)) for prompt in prompts]
    longer = [np.concatenate([prompt, rng.integers(1, V, rng.integers(1, 30))]) for prompt in prompts]
    assert np.array_equal(pooled_states(model, prompts, spans, 70), pooled_states(model, longer, spans, 70))


def test_bad_input_is_named() -> None:
    model, prompts = llama(), some_prompts(11, 2)
    with pytest.raises(RecnbError, match=r"candidate 1 of prompt 0: 9, expected an answer's place, 0 to 8"):
        score_answers(model, prompts, ANSWERS, np.array([[0, 9], [0, 1]]))
    with pytest.raises(RecnbError, match="answer 1: expected at least one token"):
        score_answers(model, prompts, [ANSWERS[0], np.zeros(0, int)], np.array([[0], [0]]))
    with pytest.raises(RecnbError, match="at least two tokens"):
        beginnings([np.array([5])])
    with pytest.raises(RecnbError, match="group 3: expected the same first token"):
        beginnings([np.array([5, 6]), np.array([7, 6])], np.array([3, 3]))
    with pytest.raises(RecnbError, match="prompt 1: span 4 to 4"):
        pooled_states(model, [np.arange(6), np.arange(6)], [slice(0, 2), slice(4, 4)])


def test_a_fork_with_an_ending_of_its_own_is_asked_behind_it() -> None:
    """Lists cut at several places, as LLM4SBR asks."""
    model, rng = gemma(), np.random.default_rng(12)
    lists = [rng.integers(1, V, 14), rng.integers(1, V, 8)]
    rows, cuts = np.array([1, 0, 0, 1, 0]), np.array([8, 3, 14, 2, 9])
    forks = Forks(lists, rows, cuts, [rng.integers(1, V, length) for length in (1, 4, 2, 3, 1)])
    candidates = some_candidates(12, 5)
    found = told_answers(model, forks, ANSWERS, candidates, 10_000).sum()
    slow = [[alone(model, p, ANSWERS[a]).sum() for a in row] for p, row in zip(forks.prompts, candidates, strict=True)]
    assert found == pytest.approx(np.array(slow), abs=2e-4)


def test_ground_is_distance_and_prior() -> None:
    rng = np.random.default_rng(13)
    vectors, table, prior = rng.normal(size=(3, 5)), rng.normal(size=(7, 5)), rng.normal(size=(3, 7))
    found = ground(vectors, table, prior, 2.0)
    for row, vector in enumerate(vectors):
        weight = (prior[row] - prior[row].min()) / (prior[row].max() - prior[row].min())
        wanted = [-np.linalg.norm(vector - item) / (1 + w) ** 2 for item, w in zip(table, weight, strict=True)]
        assert found[row] == pytest.approx(np.array(wanted), abs=1e-5)
    unit, items = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (vectors, table))
    assert np.array_equal(np.argsort(-ground(unit, items)), np.argsort(-(unit @ items.T)))
    assert np.array_equal(ground(vectors, table, np.ones((1, 7)), 3.0), ground(vectors, table)), "all alike: no opinion"
    with pytest.raises(RecnbError, match="vectors of width 5, a table of 4"):
        ground(vectors, table[:, :4])


def test_matching_says_which_title_a_text_names() -> None:
    titles = ["Alien (1979)", "Aliens", "Alien", "Seven", "Se7en!", "Heat", "!!!", "Alien"]
    cases = [  # text, candidates, column if exact, column
        ("aliens", [2, 1], 1, 1),
        (" Alien  (1979).", [2, 0], 1, 1),
        ("I would watch Alien (1979) next", [2, 0], -1, 1),
        ("seventeen films", [3, 5], -1, -1),
        ("Seven, then Heat", [3, 5], -1, -1),
        ("The answer is: SEVEN", [5, 3], -1, 1),
        ("!!!", [6, 5], 0, 0),
        ("", [6, 5], -1, -1),
        ("Alien", [2, 7], -1, -1),
    ]
    texts, candidates = [text for text, *_ in cases], np.array([own for _, own, *_ in cases])
    assert exact_titles(texts, titles, candidates).tolist() == [exact for *_, exact, _ in cases]
    assert match_titles(texts, titles, candidates).tolist() == [column for *_, column in cases]


def test_titles_that_differ_in_a_stop_are_told_apart_by_it() -> None:
    titles, both = ["Mr. X", "Mr X", "Heat"], np.array([[0, 1, 2]] * 3)
    assert exact_titles(["Mr. X", "Mr X", "mr x"], titles, both).tolist() == [0, 1, -1]
    assert match_titles(["Mr. X", "Mr X", "mr x"], titles, both).tolist() == [0, 1, -1]


@pytest.mark.parametrize("name", MODELS)
def test_what_all_prompts_begin_with_is_read_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = MODELS[name](), np.random.default_rng(14)
    prompts = [np.concatenate([np.arange(10, 20), rng.integers(1, V, rng.integers(2, 15))]) for _ in range(40)]
    candidates, read = some_candidates(14, 40), []
    module = importlib.import_module("recnb.llm.continuations")  # the face has a function of that name
    real_read = module.read_shared
    monkeypatch.setattr(module, "read_shared", lambda *given: read.append(real_read(*given)) or read[-1])
    found = score_answers(model, prompts, ANSWERS, candidates, batch_tokens=300)
    assert len(read) == 1 and read[0].ids.tolist() == list(range(10, 20))
    slow = [[alone(model, p, ANSWERS[a]).sum() for a in own] for p, own in zip(prompts, candidates, strict=True)]
    assert found == pytest.approx(np.array(slow), abs=2e-4)
