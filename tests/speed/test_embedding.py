"""The contest's opponents give the vectors that ours give: equality on a few items; nothing is timed here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small import catalogue

from recnb.embeddings.settings import SemanticConfig
from recnb.embeddings.text import TextEncoder, embed_items, load_encoder, pooled_states
from recnb.errors import RecipeError
from recnb.speed.embedding import as_they_come, embedding_contest

TEXTS = ["robots in space", "", "a dark crime story of love and war", "robots in space " * 20, "funny film", "war"]


def config_for(folder: Path, **changes: object) -> SemanticConfig:
    fields = ["title", "categories"]
    return SemanticConfig(**{"encoder": "causal-lm", "model": str(folder), "fields": fields, **changes})


def test_contestants_return_the_same_table(tiny_folder: Path) -> None:
    config = config_for(tiny_folder, max_tokens=8)
    items = catalogue()
    contestants = embedding_contest(items, config)
    assert list(contestants) == ["ours", "ours, int8", "unsorted batches", "one by one"]
    tables = {name: run() for name, run in contestants.items()}
    expected = embed_items(items, config)
    np.testing.assert_array_equal(tables["ours"], expected)
    for name in ("unsorted batches", "one by one"):
        np.testing.assert_allclose(tables[name], expected, atol=1e-5)
    cosine = torch.cosine_similarity(torch.from_numpy(tables["ours, int8"]), torch.from_numpy(expected))
    assert 0.9 < cosine.min() < 0.99999


@pytest.mark.parametrize(("pooling", "normalise"), [("mean", True), ("cls", False)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_opponents_pool_as_the_encoder_does(tiny_folder: Path, pooling: str, normalise: bool, side: str) -> None:
    plain = load_encoder(config_for(tiny_folder))
    plain.tokenizer.padding_side = side
    encoder = TextEncoder(plain.backbone, plain.tokenizer, pooling, normalise)  # type: ignore[arg-type]
    texts = [text for text in TEXTS if text]
    alone = as_they_come(texts, encoder, 8, batch_size=1)
    np.testing.assert_allclose(as_they_come(texts, encoder, 8, batch_size=2), alone, atol=1e-5)
    np.testing.assert_allclose(pooled_states(texts, encoder, max_tokens=8), alone, atol=1e-5)


def test_an_encoder_that_does_more_is_no_contest(tiny_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    modules = [Transformer(str(tiny_folder)), Pooling(32, "max")]
    SentenceTransformer(modules=modules).save(str(tmp_path / "encoder"))
    with pytest.raises(RecipeError, match="expected a transformer with mean or cls pooling"):
        embedding_contest(catalogue(), config_for(tmp_path / "encoder", encoder="sentence"))
