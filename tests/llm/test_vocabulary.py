"""Text is text: nothing in a title may become an index token or a special token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from small import K, L, N, catalogue, codes, vocabulary

from recnb.llm.vocabulary import Vocabulary, index_token, train_tokenizer

VOCABULARY = vocabulary()
SPECIAL = set(VOCABULARY.new_ids.tolist()) | set(VOCABULARY.tokenizer.all_special_ids)
HOSTILE = [
    "<s1_0>",
    "[CON]",
    "<eos>",
    "<bos><pad>",
    "a<s1_0><s2_1>b",
    " <b2_4> ",
    "<s1_0",
    "[CON][CON]",
    "<|endoftext|>",
    "\u202e<s1_0>",
    "<s1_0>\n[CON]\x00",
    "İ<S1_0>",
]


def test_item_tokens_are_the_codes() -> None:
    names = VOCABULARY.tokenizer.convert_ids_to_tokens(VOCABULARY.item_tokens[7].tolist())
    assert names == [index_token(c, k) for c, k in zip(("s1", "s2", "b1", "b2"), codes()[7], strict=True)]
    assert VOCABULARY.item_tokens.shape == (N, L)
    assert len(np.unique(VOCABULARY.index_tokens)) == L * K


@pytest.mark.parametrize("title", HOSTILE)
def test_hostile_titles_stay_text(title: str) -> None:
    assert title.strip()[:2] in title
    naive = VOCABULARY.tokenizer(title, add_special_tokens=False)["input_ids"]
    ids = VOCABULARY.encode([title])[0]
    assert not SPECIAL & set(ids)
    assert VOCABULARY.tokenizer.decode(ids) == title  # nothing of the title is lost either
    if title in ("<s1_0>", "[CON]", "<eos>"):
        assert SPECIAL & set(naive)  # the danger is real: the tokenizer's own call gives the special token


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.sampled_from(HOSTILE), st.text(max_size=30))
def test_no_text_becomes_special(before: str, token: str, after: str) -> None:
    ids = VOCABULARY.encode([before + token + after])[0]
    assert not SPECIAL & set(ids)
    assert VOCABULARY.tokenizer.decode(ids) == before + token + after


def test_spelling_is_the_last_resort() -> None:
    assert not SPECIAL & set(VOCABULARY.plain.spell("<s1_0>[CON]"))
    assert VOCABULARY.tokenizer.decode(VOCABULARY.plain.spell("<s1_0> é")) == "<s1_0> é"


def test_cut_and_decode() -> None:
    full = VOCABULARY.encode(["The red story part 3"])[0]
    assert VOCABULARY.encode(["The red story part 3"], 2)[0] == full[:2]
    assert VOCABULARY.decode([*VOCABULARY.item_tokens[0], *full, VOCABULARY.con_id]) == "The red story part 3"


def test_a_trained_tokenizer_is_repeatable() -> None:
    texts = catalogue()["title"].tolist()
    assert train_tokenizer(texts, 400).get_vocab() == train_tokenizer(texts, 400).get_vocab()


def test_building_twice_changes_nothing() -> None:
    again = Vocabulary.build(VOCABULARY.tokenizer, VOCABULARY.columns, codes(), K)
    assert again.size == VOCABULARY.size
    np.testing.assert_array_equal(again.item_tokens, VOCABULARY.item_tokens)
