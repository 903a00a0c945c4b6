"""Items that share words: TF-IDF of their texts, and nobody's behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize

from recnb.errors import DataError
from recnb.index.health import query_rows
from recnb.recommenders.choice import SAMPLES, Setting, choose, ndcg
from recnb.recommenders.interface import Scorer
from recnb.recommenders.recency import Seen, recency_weights
from recnb.recommenders.settings import WordsConfig


@dataclass(frozen=True)
class Words:
    """An item scores by the words it shares with the items of a history, the newest most.

    With f_i the unit TF-IDF vector of item i and h_0 the newest of a history: score(j) =
    <sum over k of decay^k f_(h_k), f_j>. An item without text scores 0 and adds nothing.

    Attributes:
        vectors: (N, V) float32 of :func:`tfidf`.
        decay: weight of a history's item against the one after it.
    """

    vectors: sparse.csr_matrix
    decay: float

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) float32 for histories (B, T) padded with -1 on the left."""
        profiles = recency_weights(histories, self.vectors.shape[0], self.decay) @ self.vectors  # (B, V)
        return np.ascontiguousarray((self.vectors @ profiles.T.toarray()).T)  # a dense right side: 4 times faster


def tfidf(texts: Sequence[str]) -> sparse.csr_matrix:
    """(N, V) float32 rows of length 1, or 0 where a text is empty: (1 + ln tf) ln(N / df).

    tf: how often a text has a word (letters a-z and digits, lower case); df: how many of the N texts have it, at least
    two. A word that all have tells nothing and weighs 0.
    """
    try:
        counts = CountVectorizer(token_pattern="[a-z0-9]+", dtype=np.float64).fit_transform(texts).tocsr()
    except ValueError:  # not one word
        counts = sparse.csr_matrix((len(texts), 0))
    documents = np.bincount(counts.indices, minlength=counts.shape[1])
    if not (documents >= 2).any():
        raise DataError(
            f"words: no word stands in two of the {len(texts)} items' texts: expected titles, categories or brands"
        )
    counts = counts[:, documents >= 2]
    counts.data = 1.0 + np.log(counts.data)
    weighted = counts @ sparse.diags(np.log(len(texts) / documents[documents >= 2]))
    return normalize(weighted).tocsr().astype(np.float32)


def fit_words(
    texts: Sequence[str], config: WordsConfig, seen: Seen, validation: tuple[np.ndarray, np.ndarray]
) -> tuple[Scorer, str]:
    """Words with the recipe's decay, and what was chosen, in words; of several, the one with the best N@10 on at most
    :data:`SAMPLES` of the validation histories (M, T) and targets (M,). ``seen``: what becomes of a history's items.
    """
    histories, targets = (part[query_rows(len(part), SAMPLES)] for part in validation)
    vectors = tfidf(texts)

    def build(setting: Setting) -> Scorer:
        return seen.apply(Words(vectors, setting["decay"]))

    choice = choose({"decay": config.decay}, lambda tried: [ndcg(build(s), histories, targets) for s in tried])
    return build(choice.setting), f"{choice.told()}; {seen.told}"
