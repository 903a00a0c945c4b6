"""What behaviour says: training interactions to item embeddings (N, d_beh). EAGER-LLM section 3.1.

Three encoders behind one function, because how much the result hangs on this choice is an open question of the paper:

``din``     the item table of a Deep Interest Network (Zhou et al., KDD 2018): the paper's choice, without its last MLP
``svd``     truncated SVD of the positive pointwise mutual information of items met close together: no training at all
``sasrec``  the item table of :mod:`recnb.recommenders.next_item`

Only training sequences come in, so no validation or test item can leak. Shown in ``notebooks/02_embeddings.ipynb``.
"""

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from recnb.data.schema import Sequences, left_padded
from recnb.embeddings.settings import BehaviourConfig
from recnb.errors import DataError
from recnb.recommenders.epochs import seeded
from recnb.recommenders.losses import NegativeSampler, sampled_softmax
from recnb.recommenders.next_item import NextItemEncoder, train_sequential
from recnb.recommenders.rules import near_counts
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.settings import SasrecConfig

Log = list[dict[str, float]]
ACTIVATION_WIDTH = 32  # hidden units of the activation unit, as in the DIN paper's 36 (a power of two is faster)


def embed_behaviour(
    train: Sequences, n_items: int, config: BehaviourConfig, seed: int, device: str = "cpu", progress: bool = False
) -> tuple[np.ndarray, Log]:
    """Behavioural embedding of every item, (N, d_beh) float32, and one row per epoch with its loss (none for ``svd``).

    An item without any training interaction gets the mean of the others: nothing is known of it, and its random start
    would look like knowledge. Nothing but the training sequences of N items is looked at, and no global generator
    touched.
    """
    if len(train.items) == 0 or int(train.lengths.max()) < 2:
        raise DataError("no user has two training interactions: there is no behaviour to learn from")
    log: Log = []
    if config.encoder == "svd":
        table = svd_embedding(train, n_items, config.width, config.window, seed)
    else:
        fit = train_din if config.encoder == "din" else _train_sasrec
        model = fit(train, n_items, config, seed, device, progress)
        table, log = model.item_table(), model.log
    seen = np.bincount(train.items, minlength=n_items) > 0
    table[~seen] = table[seen].mean(axis=0)
    return table, log


class ActivationUnit(nn.Module):
    """DIN's local activation unit: how much a behaviour b matters when target t is judged.

    ``a(b, t) = w . f(W [b; t; b * t] + c) + e``, f a leaky ReLU. The matrix is kept in three parts, since
    ``W [b; t; b * t] = W_b b + W_t t + W_x (b * t) = (W_b + W_x diag(t)) b + W_t t``: for a target everything but b is
    computed once, and all pairs are one matrix product. The weights are not normalised over the window, as in the
    paper.
    """

    def __init__(self, width: int, hidden: int = ACTIVATION_WIDTH) -> None:
        super().__init__()
        self.behaviour = nn.Linear(width, hidden, bias=False)
        self.target = nn.Linear(width, hidden)
        self.product = nn.Linear(width, hidden, bias=False)
        self.activation = nn.LeakyReLU(0.1, inplace=True)
        self.output = nn.Linear(hidden, 1)
        nn.init.ones_(self.output.bias)  # at the start every behaviour counts the same

    def forward(self, behaviours: Tensor, targets: Tensor) -> Tensor:
        """Pair by pair: (..., d), (..., d), shapes that broadcast -> (...)."""
        mixed = self.behaviour(behaviours) + self.target(targets) + self.product(behaviours * targets)
        return self.output(self.activation(mixed)).squeeze(-1)

    def grid(self, behaviours: Tensor, targets: Tensor) -> Tensor:
        """Each with each: (P, d), (M, d) -> (P, M), without ever holding the P x M x d products."""
        weight = self.behaviour.weight + targets[:, None, :] * self.product.weight  # (M, h, d): W_b + W_x diag(t)
        mixed = functional.linear(behaviours, weight.flatten(0, 1), self.target(targets).flatten())  # (P, M h)
        return self.output(self.activation(mixed).view(len(behaviours), len(targets), -1)).squeeze(-1)


class DeepInterestNetwork(nn.Module):
    """DIN over a window of behaviours and one target.

    ``score(b_1..b_m, t) = <sum_j r_j a(b_j, t) b_j, t> + bias_t``. Departures from the paper: the user's interest meets
    the target in an inner product and not in an MLP, so that what is learnt stays in the item table, which is all we
    keep; the bias keeps popularity out of it; and r_j, one weight per place in the window, lets recent behaviours
    count for more.

    Because the score is a sum over behaviours of something that depends on two items only, a batch needs it once per
    distinct (behaviour, shared negative) pair and not once per example: several times less work.

    Attributes:
        log: one row per epoch after :func:`train_din`: ``epoch``, ``loss``.
    """

    def __init__(self, n_items: int, width: int, behaviours: int) -> None:
        super().__init__()
        self.log: Log = []
        self.items = nn.Embedding(n_items, width)
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.recency = nn.Parameter(torch.full((behaviours,), behaviours**-0.5))
        self.unit = ActivationUnit(width)
        nn.init.normal_(self.items.weight, std=width**-0.5)

    def forward(self, windows: Tensor, targets: Tensor) -> Tensor:
        """Scores (B,) of one target each: windows (B, m) filled with -1 on the left, targets (B,)."""
        behaviours = self.items(windows.clamp(min=0))  # (B, m, d)
        target = self.items(targets)[:, None, :]  # (B, 1, d)
        pairs = self.unit(behaviours, target) * (behaviours * target).sum(-1)  # (B, m)
        return (pairs * self._weights(windows)).sum(1) + self.bias[targets]

    def shared(self, windows: Tensor, candidates: Tensor) -> Tensor:
        """Scores (B, M) of the same candidates (M,) for every window (B, m)."""
        distinct, place = torch.unique(windows.clamp(min=0), return_inverse=True)
        behaviours, targets = self.items(distinct), self.items(candidates)
        pairs = self.unit.grid(behaviours, targets) * (behaviours @ targets.T)  # (P, M)
        weights = self._weights(windows)
        return functional.embedding_bag(place, pairs, per_sample_weights=weights, mode="sum") + self.bias[candidates]

    def _weights(self, windows: Tensor) -> Tensor:
        return self.recency[-windows.shape[1] :] * (windows >= 0)

    @torch.no_grad()
    def item_table(self) -> np.ndarray:
        """(N, d) float32."""
        return self.items.weight.float().cpu().numpy().copy()


def train_din(
    train: Sequences, n_items: int, config: BehaviourConfig, seed: int, device: str = "cpu", progress: bool = False
) -> DeepInterestNetwork:
    """Fit DIN: every training item that has one before it is a target once per epoch.

    Loss: sampled softmax over the target and negatives shared by the batch, with log-q correction
    (:func:`recnb.recommenders.losses.sampled_softmax`). Arguments as in :func:`embed_behaviour`.
    """
    rng = np.random.default_rng(seed)
    sampler = NegativeSampler(train.items, n_items, rng)
    targets = np.delete(np.arange(len(train.items)), train.offsets[:-1][train.lengths > 0])  # all but the first ones
    with seeded(seed, device):
        model = DeepInterestNetwork(n_items, config.width, config.window - 1).to(device)
    options = {"weight_decay": config.weight_decay, "fused": device != "mps"}
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, **options)
    steps = config.epochs * -(-len(targets) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in tqdm(range(1, config.epochs + 1), desc="DIN", disable=not progress):
        order = rng.permutation(targets)
        total = 0.0
        for start in range(0, len(order), config.batch_size):
            chosen = order[start : start + config.batch_size]
            losses = _losses(model, train, chosen, config.negatives, sampler)
            optimizer.zero_grad(set_to_none=True)
            losses.mean().backward()
            optimizer.step()
            schedule.step()
            total += float(losses.detach().sum())
        model.log.append({"epoch": float(epoch), "loss": total / len(order)})
    return model.eval()


def _losses(
    model: DeepInterestNetwork, train: Sequences, chosen: np.ndarray, negatives: int, sampler: NegativeSampler
) -> Tensor:
    """Loss (B,) of the events numbered ``chosen``, each predicted from the ones before it."""
    device = model.bias.device
    windows = torch.from_numpy(behaviours_before(train, chosen, len(model.recency))).to(device)
    targets = torch.from_numpy(train.items[chosen].astype(np.int64)).to(device)
    drawn, log_expected = sampler.draw(negatives, device)
    hits = targets[:, None] == drawn
    return sampled_softmax(model(windows, targets), model.shared(windows, drawn), log_expected, hits)


def behaviours_before(train: Sequences, events: np.ndarray, count: int) -> np.ndarray:
    """The latest ``count`` items before each event in its own sequence: (B, count) int64, -1 on the left.

    >>> from recnb.data import Sequences
    >>> behaviours_before(Sequences(np.array([0, 2, 5]), np.array([8, 9, 1, 2, 3], np.int32)), np.array([1, 4]), 3)
    array([[-1, -1,  8],
           [-1,  1,  2]])
    """
    starts = train.offsets[np.searchsorted(train.offsets, events, side="right") - 1]
    return left_padded(train.items, starts, events, count).astype(np.int64)


def cooccurrence(train: Sequences, n_items: int, window: int) -> sparse.csr_matrix:
    """How often two items stand less than ``window`` apart in a training sequence: symmetric (N, N), zero diagonal."""
    counts = near_counts(train, n_items, window - 1).astype(np.float64)
    counts.setdiag(0)
    counts.eliminate_zeros()
    return counts


def positive_pmi(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Positive pointwise mutual information of symmetric counts: max(0, log(c_ij n / (c_i c_j)))."""
    entries, total = counts.tocoo(), np.asarray(counts.sum(axis=1)).ravel()
    values = np.log(entries.data * total.sum() / (total[entries.row] * total[entries.col]))
    positive = sparse.csr_matrix((np.maximum(values, 0), (entries.row, entries.col)), shape=counts.shape)
    positive.eliminate_zeros()
    return positive


def svd_embedding(train: Sequences, n_items: int, width: int, window: int, seed: int) -> np.ndarray:
    """Truncated SVD of the positive PMI: U sqrt(S), largest first, (N, width) float32.

    This is what skip-gram with negative sampling factorises implicitly (Levy and Goldberg, NIPS 2014). Columns beyond
    the rank of the matrix are zero. The sign of a column, which the SVD leaves open, makes its largest entry positive.
    """
    matrix = positive_pmi(cooccurrence(train, n_items, window))
    rank = min(width, n_items - 1)
    start = np.random.default_rng(seed).standard_normal(n_items)  # ARPACK's own start would be drawn at random
    left, strength, _ = svds(matrix, k=rank, v0=start)
    order = np.argsort(-strength)
    columns = left[:, order] * np.sqrt(strength[order])
    columns *= np.sign(columns[np.abs(columns).argmax(axis=0), np.arange(rank)] + 1e-30)
    return np.pad(columns, ((0, 0), (0, width - rank))).astype(np.float32)


def _train_sasrec(
    train: Sequences, n_items: int, config: BehaviourConfig, seed: int, device: str, progress: bool
) -> NextItemEncoder:
    """SASRec of one block, sampled softmax; ``batch_size`` counts targets, as for DIN, and a window holds T of them."""
    length = config.window - 1
    settings = SasrecConfig(
        width=config.width, blocks=1, dropout=config.dropout, epochs=config.epochs, learning_rate=config.learning_rate,
        batch_size=max(1, config.batch_size // length), negatives=config.negatives, temperature=config.temperature,
    )  # fmt: skip
    return train_sequential(
        train, n_items, settings, length, seed=seed, encoder=SASRec, device=device, weight_decay=config.weight_decay,
        progress=progress,
    )  # fmt: skip
