"""A second opinion in a beam search, exactly: another recommender's distribution over items, at every node of the trie.

Ours, not part of EAGER-LLM: what is decoded so must be named as a mixture (shown in ``06_evaluate``).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recnb.errors import RecnbError
from recnb.index.trie import Trie

FLOOR = 1e-6  # share of a prior that is spread over all items: no item is ever impossible


@dataclass(frozen=True)
class Prior:
    """Another recommender's scores of all items, to be multiplied with the model's probabilities along the trie.

    With q = softmax(scores), a little of it spread over all items, a prefix is judged by
    ``log p(prefix) + weight * log q(all items below it)``, so that a finished item has
    ``log p(item) + weight * log q(item)``: late fusion over the whole catalogue, without a list of candidates. At the
    root this is a prior over first tokens; further down it is what the other recommender says within the branch.

    Attributes:
        scores: (B, N), larger is better, any scale that a softmax understands (logits).
        weight: 0 leaves the model alone.
    """

    scores: np.ndarray
    weight: float = 1.0

    def log_probabilities(self) -> np.ndarray:
        """(B, N) float64 log q."""
        scores = np.asarray(self.scores, dtype=np.float64)
        if not np.isfinite(scores).all() or not self.weight >= 0:
            raise RecnbError("prior: expected finite scores (B, N) and a weight of at least 0")
        q = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.log((1 - FLOOR) * q / q.sum(axis=1, keepdims=True) + FLOOR / scores.shape[1])


class PriorMass:
    """A prior summed over the items below each node: the items of a node are neighbours, so one running sum serves.

    An excluded item (``remaining``, see :meth:`recnb.index.trie.Trie.remaining`) takes no mass.
    """

    def __init__(self, trie: Trie, prior: Prior, remaining: Tensor | None) -> None:
        logs = torch.from_numpy(prior.log_probabilities()).to(trie.order.device)
        if logs.shape[1] != trie.n_items:
            raise RecnbError(f"prior: expected scores of {trie.n_items} items, found {logs.shape[1]}")
        q = logs[:, trie.order.long()].exp()
        if remaining is not None:
            q = q * remaining.diff(dim=1)
        self.trie, self.weight = trie, prior.weight
        self.running = F.pad(q.cumsum(1), (1, 0))  # (B, N + 1) float64

    def gain(self, depth: int, nodes: Tensor, children: Tensor) -> Tensor:
        """What the prior adds on the way from nodes (B, w) of this depth to their children (B, w, C): float32."""
        step = self._log_mass(depth + 1, children) - self._log_mass(depth, nodes)[..., None]
        return (self.weight * step).float()

    def _log_mass(self, depth: int, nodes: Tensor) -> Tensor:
        return self.trie.items_below(depth, nodes, self.running).clamp(min=torch.finfo(torch.float64).tiny).log()
