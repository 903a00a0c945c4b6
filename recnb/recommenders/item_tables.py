"""Item vectors that a language model may be shown: a trained recommender's, those of words, or noise as the control."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

from recnb.errors import ArtifactError, nearest
from recnb.recommenders.session_models import load_session_model
from recnb.recommenders.words import tfidf

WIDTH = 64  # of the tables that no recommender made; LLaRA's recommenders have as many


def item_table(source: str, models: Path, texts: Sequence[str], seed: int) -> NDArray[np.float32]:
    """(N, d_rec) vectors of all items, which have these ``texts``.

    Args:
        source: ``text``: the leading directions of the items' TF-IDF vectors; ``random``: standard normal noise; else a
            recommender that lies in a folder of this name.
        models: where the folders lie (:func:`recnb.recommenders.session_models.save_session_model`).
        seed: of the noise, and of the SVD.

    Raises:
        ArtifactError: there is no such recommender, or it knows another number of items.
        DataError: ``text``, and no word stands in two texts.
    """
    if source == "random":
        return np.random.default_rng([seed, 61]).standard_normal((len(texts), WIDTH)).astype(np.float32)
    if source == "text":
        vectors = tfidf(texts)
        svd = TruncatedSVD(min(WIDTH, min(vectors.shape) - 1), random_state=seed)
        return np.asarray(svd.fit_transform(vectors), np.float32)
    known = sorted(path.name for path in models.glob("*") if path.is_dir())
    if source not in known:
        said = f"{models}: no item table of '{source}', expected one of {', '.join(known) or 'none'}, text, random"
        raise ArtifactError(f"{said}{nearest(source, known)}; name it in models.baselines")
    table: NDArray[np.float32] = load_session_model(models / source).item_table()
    if len(table) != len(texts):
        raise ArtifactError(f"{models / source}: a table of {len(table):,} items, expected {len(texts):,}")
    return table
