"""Sequential rules: what follows what in training, counted.

They follow Kamehkhosh, Jannach and Ludewig (2017), "A comparison of frequent pattern techniques and a deep learning
method for session-based recommendation". One table, no training, and on several data sets above what neural models
publish: every table of results has this row, so that a reader sees what a model adds to it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recnb.data.schema import Sequences
from recnb.index.health import query_rows
from recnb.recommenders.choice import SAMPLES, Setting, choose, ndcg
from recnb.recommenders.interface import Scorer
from recnb.recommenders.recency import recency_weights, settle_seen
from recnb.recommenders.settings import RulesConfig


@dataclass(frozen=True)
class Rules:
    """Every item of a history votes for what followed it in training, the newest most.

    With h_0 the newest item of a history: score(j) = sum over k of decay^k table[h_k, j].

    Attributes:
        table: (N, N) float32 of :func:`rule_table`.
        decay: weight of a history's item against the one after it.
    """

    table: sparse.csr_matrix
    decay: float

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(B, N) float32 for histories (B, T) padded with -1 on the left; 0 for what nothing votes for."""
        return (recency_weights(histories, self.table.shape[0], self.decay) @ self.table).toarray()


def count_pairs(train: Sequences, n_items: int, reach: int, power: float = 1.0) -> sparse.csr_matrix:
    """(N, N) float32: every pair of positions of a sequence, i before j by d <= reach places, adds d^-power to (i, j).

    An item that comes again within reach counts on the diagonal.

    >>> from recnb.data.schema import Sequences
    >>> count_pairs(Sequences(np.array([0, 3]), np.array([0, 1, 2], np.int32)), 3, reach=2).toarray().tolist()
    [[0.0, 1.0, 0.5], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    rows = np.repeat(np.arange(len(train)), train.lengths)
    first, second, weights = [], [], []
    for distance in range(1, min(reach, int(train.lengths.max(initial=1)) - 1) + 1):
        inside = rows[distance:] == rows[:-distance]
        first.append(train.items[:-distance][inside])
        second.append(train.items[distance:][inside])
        weights.append(np.full(int(inside.sum()), distance**-power, np.float32))
    if not first:
        return sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    pairs = np.concatenate(weights), (np.concatenate(first), np.concatenate(second))
    return sparse.csr_matrix(pairs, shape=(n_items, n_items))


def near_counts(sessions: Sequences, n_items: int, reach: int) -> sparse.csr_matrix:
    """(N, N) how often two items stand at most ``reach`` clicks apart, counted both ways."""
    pairs = count_pairs(sessions, n_items, reach, power=0.0)
    return (pairs + pairs.T).tocsr()


def rule_table(pairs: sparse.csr_matrix, row_power: float, column_power: float, backward: float) -> sparse.csr_matrix:
    """Counted pairs R (N, N) made comparable: S = R + backward R^T over powers of its row sums and of its column sums.

    Args:
        pairs: of :func:`count_pairs`.
        row_power: 0: an item met often votes louder; 1: all votes of an item add up to one.
        column_power: above 0, an item that follows everything is believed less.
        backward: what an item that came before counts against one that came after.
    """
    pairs = (pairs + backward * pairs.T).tocsr() if backward else pairs
    rows, columns = (np.maximum(np.asarray(pairs.sum(axis=axis)).ravel(), 1e-12) for axis in (1, 0))
    scaled = sparse.diags(rows**-row_power) @ pairs @ sparse.diags(columns**-column_power)
    return scaled.tocsr().astype(np.float32)


def fit_rules(
    train: Sequences, n_items: int, config: RulesConfig, validation: tuple[np.ndarray, np.ndarray]
) -> tuple[Scorer, str]:
    """Rules with the settings of the recipe, and what was chosen, in words; where it names several, those with the best
    N@10 on at most :data:`SAMPLES` of the validation histories (M, T) and targets (M,). They may name nothing twice.
    """
    histories, targets = (part[query_rows(len(part), SAMPLES)] for part in validation)
    counted = {power: count_pairs(train, n_items, config.reach, power) for power in config.distance_power}
    settled = settle_seen(config.seen, train, n_items)

    def build(setting: Setting) -> Scorer:
        powers = (setting[name] for name in ("row_power", "column_power", "backward"))
        return settled.apply(Rules(rule_table(counted[setting["distance_power"]], *powers), setting["decay"]))

    names = ("decay", "backward", "row_power", "column_power", "distance_power")
    grid = {name: getattr(config, name) for name in names}
    choice = choose(grid, lambda tried: [ndcg(build(setting), histories, targets) for setting in tried])
    return build(choice.setting), f"{choice.told()}; {settled.told}"
