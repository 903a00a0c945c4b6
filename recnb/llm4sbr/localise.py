"""Intent localisation: an answer of a language model becomes a blend of the catalogue's nearest items.

LLM4SBR section 3.3, equations 4 and 5. What an LLM names may be no item at all; the blend is always one of items. The
public implementation weighs the items it finds with the cosines of the catalogue's first rows, and sends long texts
through a matrix drawn anew for each; here it is the formula, and long texts are cut. Shown in ``05_localise``.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from recnb.data.schema import item_text
from recnb.errors import DataError, RecipeError
from recnb.llm4sbr.recipe import LocaliseConfig
from recnb.recommenders.settings import WordsConfig
from recnb.recommenders.words import tfidf

CELLS = 2**24  # cosines held at once: 64 MB of float32
ROWS = 256  # answers of a block at most
FEWEST = 10  # items: an epoch is chosen by R@10
Encode = Callable[[Sequence[str]], np.ndarray]


def localised(answers: np.ndarray, items: np.ndarray, config: LocaliseConfig) -> np.ndarray:
    """t' = sum over the k items j nearest to an answer t of c_j e_j, c_j = cos(t, e_j); k = 0: t' = t.

    Args:
        answers: (A, d) vectors, each distinct answer once; items: (N, d) vectors e of the catalogue.
        config: k, how items are weighed and summed up, and whether the catalogue's mean is taken away before cosines
            (mean-pooled vectors all point one way, and then a cosine says little).

    Returns:
        (A, d) float32.

    Raises:
        RecipeError: k is larger than the catalogue.
    """
    table = torch.from_numpy(np.asarray(items, np.float32))
    if config.k == 0:
        return np.array(answers, np.float32)
    middle = table.mean(0) if config.centre else torch.zeros(table.shape[1])
    directions = functional.normalize(table - middle, dim=1)
    blended = np.empty((len(answers), table.shape[1]), np.float32)
    step = max(1, min(ROWS, CELLS // len(table)))
    for start in range(0, len(answers), step):
        own = torch.from_numpy(np.asarray(answers[start : start + step], np.float32))
        block = functional.pad(own - middle, (0, 0, 0, step - len(own)))  # all blocks alike: what else is asked ...
        cosines, found = nearest_items(block, directions, config.k)  # ... does not change how a product is rounded
        weights = weights_of(cosines, config)
        sums = functional.embedding_bag(found, table, per_sample_weights=weights, mode="sum")
        blended[start : start + step] = sums[: len(own)]
    return blended


def nearest_items(answers: Tensor, directions: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines and numbers of the k items nearest to each answer, nearest first: both (B, k).

    Args:
        answers: (B, d); directions: (N, d) item vectors of length 1.

    Raises:
        RecipeError: k is larger than the catalogue.
    """
    _refuse_beyond(k, len(directions))
    return (functional.normalize(answers, dim=1) @ directions.T).topk(k)


def _refuse_beyond(k: int, n_items: int) -> None:
    if k > n_items:
        raise RecipeError(f"localise.k = {k}: the catalogue has {n_items} items; expected at most so many")


def check_catalogue(items: pd.DataFrame, config: LocaliseConfig, words: WordsConfig) -> None:
    """Refuse a catalogue with which a later stage could do nothing.

    Raises:
        DataError: it has fewer than ten items, none has a text to embed, or no word stands in two texts.
        RecipeError: ``config.k`` is larger.
    """
    if len(items) < FEWEST:
        raise DataError(f"the catalogue has {len(items)} items: expected at least {FEWEST}, for lists of so many")
    _refuse_beyond(config.k, len(items))
    if not any(item_text(items, config.fields)):
        raise DataError(f"localise.fields: no item has text in {', '.join(config.fields)}; expected fields with text")
    tfidf(item_text(items, words.fields))


def nearest_cosines(vectors: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n,) float32 cosine of each vector (n, d) to the item (N, d) nearest to it."""
    directions = functional.normalize(torch.from_numpy(np.asarray(items, np.float32)), dim=1)
    step = max(1, CELLS // len(items))
    blocks = torch.from_numpy(np.asarray(vectors, np.float32)).split(step) if len(vectors) else ()
    return torch.cat([torch.empty(0, 1), *(nearest_items(block, directions, 1)[0] for block in blocks)])[:, 0].numpy()


def weights_of(cosines: Tensor, config: LocaliseConfig) -> Tensor:
    """(B, k) weights of the items found, by their cosines (B, k)."""
    weights = (cosines / config.temperature).softmax(1) if config.weights == "softmax" else cosines
    return weights / config.k if config.scale == "mean" else weights


def embed_answers(texts: Sequence[str], encode: Encode) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of answers; each distinct one is read once, an empty one has none.

    Args:
        texts: n answers, text that nobody checked; encode: n texts -> (n, d), the catalogue's own encoder.

    Returns:
        (A, d) float32 vectors of the distinct answers in alphabetical order, and (n,) int64 which of them, -1: none.
    """
    stripped = np.array([" ".join(str(text).split()) for text in texts], dtype=object)
    distinct = sorted({text for text in stripped if text})
    number = {text: place for place, text in enumerate(distinct)}
    vectors = encode(distinct) if distinct else np.empty((0, 0))
    return np.asarray(vectors, np.float32), np.array([number.get(text, -1) for text in stripped], np.int64)
