"""Case studies: the walk told is the walk taken, words are greedy whatever a model ships with, and text is harmless."""

from __future__ import annotations

import copy
import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from recnb.eager_llm import explain
from recnb.eager_llm.case_tables import case_header, case_record, recommendation_table, tree_labels
from recnb.eager_llm.figures import cases as figures
from recnb.errors import RecnbError
from recnb.index.trie import Trie
from recnb.llm.beam import beam_search
from recnb.llm.score import score_items
from recnb.llm.text import greedy_text, without_adapter
from recnb.style import escape, percent, plain, table

V = 48
COLUMNS = ("s1", "s2", "b1", "b2")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    built = LlamaForCausalLM(config).eval()
    for parameter in built.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return built


@pytest.fixture(scope="module")
def trie() -> Trie:
    number = np.arange(40)
    return Trie.from_tokens(np.stack([10 + number // 7, 17 + number % 7, 25 + number % 8, 33 + number // 8], axis=1))


PROMPT = np.array([5, 9, 2, 40, 7, 3])


def by_rank(model, trie) -> np.ndarray:
    return np.argsort(-score_items(model, [PROMPT], trie)[0])


@pytest.mark.parametrize("normalisation", ["full", "index", "trie"])
@pytest.mark.parametrize("at_once", [7, 512])
def test_catalogue_scores_equal_the_slow_twin(model, trie, normalisation, at_once, monkeypatch) -> None:
    monkeypatch.setattr(explain, "AT_ONCE", at_once)
    found = explain.catalogue_scores(model, PROMPT, trie, normalisation)
    np.testing.assert_allclose(found, score_items(model, [PROMPT], trie, normalisation)[0], atol=1e-4)


def test_walk_knows_rank_outcome_and_where_the_target_went(model, trie) -> None:
    order = by_rank(model, trie)
    outcomes = {}
    for rank, target in enumerate(order.tolist()):
        walk = explain.explain_search(model, PROMPT, trie, 5, target)
        assert walk.target_rank == rank
        names = {
            (1, 1): "hit",
            (1, 0): "hit thanks to the beam",
            (0, 1): "lost by the beam",
            (0, 0): "missed by the model",
        }
        assert walk.outcome == names[target in walk.items, rank < 5]
        assert walk.agreement == len(set(walk.items) & set(order[:5])) / 5
        path = trie.path(np.array([target]))[0].tolist()
        kept = [path[level.depth] in level.nodes[0] for level in walk.trace]
        assert walk.lost_at == (0 if all(kept) else kept.index(False) + 1)
        outcomes[walk.outcome] = outcomes.get(walk.outcome, 0) + 1
    assert outcomes["hit"] + outcomes.get("hit thanks to the beam", 0) == 5 and sum(outcomes.values()) == 40
    assert outcomes.get("lost by the beam", 0) == outcomes.get("hit thanks to the beam", 0)


def test_a_beam_can_lose_what_the_model_likes_best(model, trie) -> None:
    """On some prompt the best item starts with an unlikely token; the outcome says whose fault it is."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        prompt = rng.integers(2, V, 6)
        best = int(np.argmax(score_items(model, [prompt], trie)[0]))
        walk = explain.explain_search(model, prompt, trie, 1, best)
        if walk.lost_at:
            assert walk.outcome == "lost by the beam" and walk.target_rank == 0
            return
    pytest.fail("no prompt loses its best item to a beam of one: the model of this test is too tame")


def test_bits_add_up_to_the_score(model, trie) -> None:
    walk = explain.explain_search(model, PROMPT, trie, 4, 11)
    table = explain.decisions(walk, COLUMNS)
    assert table["bits, first item"].sum() == pytest.approx(-walk.scores[0] / np.log(2), abs=1e-3)
    assert table["bits, true item"].sum() == pytest.approx(
        -score_items(model, [PROMPT], trie)[0, 11] / np.log(2), abs=1e-3
    )


@pytest.mark.parametrize("rank", [0, 39])
def test_tree_is_the_trace_and_the_lost_prefix(model, trie, rank) -> None:
    walk = explain.explain_search(model, PROMPT, trie, 5, int(by_rank(model, trie)[rank]))
    tree = explain.walked_tree(walk, trie)
    for level in walk.trace:
        here = [p for p in tree if p.depth == level.depth and p.kept]
        assert sorted(p.node for p in here) == sorted(level.nodes[0].tolist())
        assert all(p.forced == level.forced for p in here)
    assert [p.first_item for p in tree if p.depth == 4 and p.kept and p.survives] == sorted(walk.items.tolist())
    lost = [p for p in tree if not p.kept]
    assert [p.depth for p in lost] == ([walk.lost_at] if walk.lost_at else [])
    assert all(p.on_target and not p.survives for p in lost)
    for prefix in tree:
        path = trie.item_tokens()[prefix.first_item, : prefix.depth].tolist()
        with torch.no_grad():
            logprobs = model(torch.tensor([[*PROMPT, *path]])).logits.log_softmax(-1)[0]
        total = sum(float(logprobs[len(PROMPT) - 1 + i, token]) for i, token in enumerate(path))
        assert prefix.probability == pytest.approx(np.exp(total), rel=1e-3)
        parents = [p for p in tree if p.depth == prefix.depth - 1 and p.node == prefix.parent]
        assert prefix.depth == 1 or len(parents) == 1


@pytest.mark.parametrize("rank", [0, 39])
def test_tree_is_drawn_with_every_prefix_that_had_a_choice(model, trie, rank) -> None:
    walk = explain.explain_search(model, PROMPT, trie, 5, int(by_rank(model, trie)[rank]))
    tree = explain.walked_tree(walk, trie)
    titles = [f"item {i} for $5" for i in range(40)]
    labels = tree_labels(tree, trie, titles, [["all", "even" if i % 2 == 0 else "odd"] for i in range(40)], str)
    figure = figures.prefix_tree(tree, labels, COLUMNS)
    shown = [p for p in tree if not p.forced]
    assert figures.drawn_depths(tree) == [1, 2]
    legend = {text.get_text(): line for text, line in zip(*(getattr(figure.axes[0].get_legend(), part)() for part in
              ("get_texts", "get_lines")), strict=True)}  # fmt: skip
    assert legend["the way to the true item"].get_color() == figures.TARGET
    assert legend["where the beam lost it"].get_linestyle() == ":"
    assert len(figure.axes[0].texts) == len(shown)
    figure.canvas.draw()  # a title with $ must not be read as a formula
    assert len([t for t in figure.axes[0].texts if "(true item lost here)" in t.get_text()]) == (walk.lost_at > 0)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["prompt", "token s1", "token s2"]
    plt.close(figure)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=20))
def test_no_two_leaves_share_a_line_and_parents_stand_amid_children(paths) -> None:
    trie = Trie.from_tokens(np.array(sorted(paths)))
    tree = [
        explain.Prefix(depth, node, trie.parent(depth, node), 0.5, True, True, False, 1, 0, False)
        for depth in (1, 2, 3) for node in range(trie.nodes_per_level()[depth - 1])
    ]  # fmt: skip
    lines = figures._lines(tree, [1, 2, 3])
    assert [lines[3, node][0] for node in range(trie.n_items)] == list(range(trie.n_items))
    for prefix in tree:
        below = [lines[p.depth, p.node] for p in tree if p.depth == prefix.depth + 1 and p.parent == prefix.node]
        own = lines[prefix.depth, prefix.node][0]
        assert all(above == own for _, above in below)
        assert not below or min(line for line, _ in below) <= own <= max(line for line, _ in below)


@pytest.mark.parametrize("width", [1, 5])
def test_shared_cache_draws_the_search_that_was_walked(model, trie, width) -> None:
    found = beam_search(model, [PROMPT], trie, width)
    axes = figures.shared_cache(len(PROMPT), found.trace, lambda token: f"<t{token}>").axes[0]
    kept = [level.nodes.shape[1] for level in found.trace]
    assert len(axes.patches) == 1 + sum(kept) and len(axes.lines) == sum(kept)
    drawn = [text.get_text() for text in axes.texts]
    assert f"prompt\n{len(PROMPT)} tokens" in drawn[0]
    assert [text.split(":")[0].split("\n")[1] for text in drawn if text.startswith("token ")] == [
        "forced" if level.forced else "choice" for level in found.trace
    ]
    assert [f"t{token}" for token in found.trace[-1].tokens[0]] == [t for t in drawn if t.startswith("t") and " " not in t][-kept[-1]:]
    plt.close("all")


def test_other_figures_draw(model, trie) -> None:
    walk = explain.explain_search(model, PROMPT, trie, 5, 3)
    table = explain.decisions(walk, COLUMNS)
    bars = figures.bits_per_token({"user a": table, "user b": table}).axes[0]
    assert len(bars.patches) == 2 * 2 * 4
    assert [t.get_text() for t in bars.get_yticklabels()][:2] == ["user a · first item", "user a · true item"]
    strip = figures.popularity_strip({"user a": (np.array([1, 5, 30]), 7)}, 40, 5).axes[0]
    assert strip.lines[0].get_xdata().tolist() == [1, 5, 30]
    assert np.ravel(strip.lines[1].get_xdata()).tolist() == [7]
    plt.close("all")


# -- whom to look at ---------------------------------------------------------------------------------------------------


def test_half_of_the_random_cases_are_misses() -> None:
    ids = np.array([f"u{i}" for i in range(60)])
    hits = np.where(np.arange(60) < 50, np.arange(60) % 5 == 0, -1)
    users, named = explain.choose_users(ids, ["u7", "u59", "u7"], hits, 5, seed=3)
    assert users[:2].tolist() == [7, 59] and named.tolist() == [True] * 2 + [False] * 5
    assert sorted(hits[users[2:]].tolist()) == [0, 0, 0, 1, 1] and len(set(users.tolist())) == 7
    again, _ = explain.choose_users(ids, ["u7", "u59"], hits, 5, seed=3)
    assert users.tolist() == again.tolist()


@pytest.mark.parametrize(
    ("hits", "expected"), [([0] * 6, [0] * 4), ([1] * 6, [1] * 4), ([0, 1, 1, 1, 1, 1], [0, 1, 1, 1])]
)
def test_what_is_lacking_is_filled_from_the_rest(hits, expected) -> None:
    users, _ = explain.choose_users(np.arange(6).astype(str), [], np.array(hits), 4, 0)
    assert sorted(np.array(hits)[users].tolist()) == expected


def test_unknown_user_is_named() -> None:
    with pytest.raises(RecnbError, match=r"cases.users: no id 'user9' among the 2 of the data; nearest: 'user1'"):
        explain.choose_users(np.array(["user1", "b"]), ["user9"], np.array([0, 1]), 1, 0)
    assert explain.numbers_of(["x", "y"], ["y", "x", "y"], "cases.items") == [1, 0]


def test_header_tells_outcome_history_and_rank(model, trie) -> None:
    walk = explain.explain_search(model, PROMPT, trie, 5, int(by_rank(model, trie)[20]))
    titles = [f"<b>title</b> {i}" for i in range(40)]
    header = case_header("user *1*", walk, np.array([-1, 3, 4, 5]), titles, np.arange(1, 41), shown=2)
    assert "missed by the model" in header and "the model ranks it 21 of 40" in header
    assert "latest of 3" in header and "title" in header and "<b>" not in header and "*1*" not in header
    assert header.count(" 4") >= 1 and " 3 ·" not in header


def test_without_adapter_is_the_backbone(model, trie) -> None:
    peft = pytest.importorskip("peft")
    plain = score_items(model, [PROMPT], trie)
    with without_adapter(model):
        np.testing.assert_array_equal(score_items(model, [PROMPT], trie), plain)
    adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    assert not np.allclose(score_items(adapted, [PROMPT], trie), plain, atol=1e-3)
    with without_adapter(adapted):
        np.testing.assert_allclose(score_items(adapted, [PROMPT], trie), plain, atol=1e-5)


def test_prefix_meaning_is_what_sets_its_items_apart(trie) -> None:
    categories = [["everything", "first" if i < 7 else "other"] for i in range(40)]
    shares = explain.category_shares(categories)
    assert shares == {"everything": 1.0, "first": 7 / 40, "other": 33 / 40}
    assert explain.prefix_meaning(trie, 1, 0, categories, shares) == ("first", 1.0)
    assert explain.prefix_meaning(trie, 1, 0, [[]] * 40, {}) == ("", 0.0)


def test_recommendation_table_and_record(model, trie) -> None:
    walk = explain.explain_search(model, PROMPT, trie, 5, int(by_rank(model, trie)[0]))
    titles, ranks = [f"title {i}" for i in range(40)], np.arange(1, 41)
    shown = recommendation_table(walk, titles, ranks, np.arange(5), rows=3)
    assert len(shown) == 3 and shown["recommended"][0].endswith(titles[walk.items[0]])
    assert sum(text.startswith("✓ ") for text in shown["recommended"]) == (walk.target in walk.items[:3])
    assert shown["popularity would say"].str.removeprefix("✓ ").tolist() == titles[:3]
    record = case_record("user 1", walk, np.array([-1, 4, 2]), titles, titles, ranks, "likes tests")
    assert record["history"] == ["title 4", "title 2"]
    assert [r["title"] for r in record["recommended"]] == [titles[i] for i in walk.items]
    assert record["target"]["rank"] == 1 and record["outcome"] == walk.outcome


# -- words -------------------------------------------------------------------------------------------------------------


def argmax_loop(model, prompt: np.ndarray, stop: set[int], limit: int) -> list[int]:
    ids = prompt.tolist()
    for _ in range(limit):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in stop:
            break
    return ids[len(prompt) :]


def test_greedy_text_is_the_argmax_whatever_the_model_was_shipped_with(model) -> None:
    shipped = GenerationConfig(
        do_sample=True, temperature=9.0, top_k=3, num_beams=1, repetition_penalty=5.0, no_repeat_ngram_size=1,
        suppress_tokens=list(range(2, 30)), forced_eos_token_id=1, min_p=0.5, max_length=3,
    )  # fmt: skip
    before, model.generation_config = model.generation_config, shipped
    vocabulary = SimpleNamespace(pad_id=0, eos_id=1, con_id=2, decode=lambda ids: " ".join(map(str, ids)))
    rng = np.random.default_rng(4)
    prompts = [rng.integers(3, V, length) for length in (7, 3, 11, 5, 5, 9)]
    try:
        texts = greedy_text(model, prompts, vocabulary, 12)
        assert model.generation_config is shipped
    finally:
        model.generation_config = before
    for prompt, text in zip(prompts, texts, strict=True):
        expected = argmax_loop(model, prompt, {1, 2}, 12)
        assert [int(i) for i in text.split()] == expected


def test_word_match_is_f1_of_word_sets() -> None:
    def f1(a: str, b: str) -> float:
        x, y = set(re.findall(r"\w+", a.lower())), set(re.findall(r"\w+", b.lower()))
        return 2 * len(x & y) / max(len(x) + len(y), 1)

    written = ["The Lion King (1994)", "", "heat heat HEAT", "été à l'ouest"]
    catalogue = ["lion king, the", "Heat (1995)", "", "L'été", "the the"]
    expected = [[f1(a, b) for b in catalogue] for a in written]
    np.testing.assert_allclose(explain.word_match(written, catalogue), expected)
    assert explain.word_match(["!"], ["?", ""]).tolist() == [[0.0, 0.0]]
    assert explain.word_match(["opera with robots"], ["With Honors", "Robots"], "english").round(2).tolist() == [
        [0, 0.67]
    ]


def test_nothing_recovered_is_not_first_place() -> None:
    match = np.array([[0.0, 0.0, 0.0, 0.0], [0.5, 0.9, 0.1, 0.5], [0.2, 0.1, 0.8, 0.3]])
    assert explain.recovered_ranks(match, np.array([0, 0, 2])).tolist() == [2, 1, 0]


def test_example_queries_come_from_the_catalogue() -> None:
    categories = [["Drama"], ["Drama", "War"], ["War"], ["Drama"]]
    titles = ["Heat of it", "Das Boot", "Platoon", "Fargo"]
    queries = explain.example_queries(categories, titles, 2, 0)
    assert queries[0] == "Drama" and queries[1].startswith("War, ")
    assert queries == explain.example_queries(categories, titles, 2, 0)
    assert explain.example_queries([[], []], ["a title", "b"], 2, 0) == ["a title"]


# -- untrusted text ----------------------------------------------------------------------------------------------------

HOSTILE = "<script>alert('x')</script> **bold** [a](javascript:b) $\\frac{1}$ `c` | \u202eevil\u0007\nline &amp; \"q\""


def test_plain_is_one_visible_line() -> None:
    assert plain("a\u202eb\x07c\n d\t\u200be", 60) == "ab c d e"
    assert plain("x" * 100, 10) == "x" * 9 + "…"


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_escape_leaves_nothing_for_html_or_markdown_to_read(text: str) -> None:
    import html

    shown = escape(text)
    assert not re.search(r"[<>\"'\\`*_\[\]()|~$^{}]", shown)
    assert "&" not in re.sub(r"&#\d+;", "", shown)
    assert html.unescape(shown) == plain(text)


def test_table_shows_hostile_text_as_text() -> None:
    frame = pd.DataFrame({HOSTILE: [HOSTILE], "share": [0.123456]})
    markup = table(frame, HOSTILE).data
    assert "<script" not in markup and "$" not in markup and "mathjax_ignore" in markup
    assert "0.123" in markup and "\u202e" not in markup


@pytest.mark.parametrize(
    ("share", "text"), [(0.5, "50 %"), (0.1234, "12 %"), (0.00123, "0.12 %"), (1e-9, "<0.001 %"), (1.0, "100 %")]
)
def test_percent_is_never_a_false_zero(share: float, text: str) -> None:
    assert percent(share) == text


def test_search_scores_are_those_of_the_beam(model, trie) -> None:
    walk = explain.explain_search(model, PROMPT, trie, 6, 0)
    assert walk.items.tolist() == beam_search(model, [PROMPT], trie, 6).items[0].tolist()
