"""Session graphs as a user would have them without recnb: session after session in Python, batches as long as can be.

The public code of SR-GNN, and of what was built on it, makes each graph in loops over clicks, pads every input to the
longest of the whole split and every graph to the largest of its batch, turns lists of arrays into tensors, and takes
each session's clicks from its nodes in one more loop. Written anew here; the weights, the formulas and the losses are
those of :class:`recnb.recommenders.srgnn.SRGNN`.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recnb.data.sessions import Samples
from recnb.recommenders.session_graph import SessionGraph, session_graphs
from recnb.recommenders.session_model import like_lengths, trimmed
from recnb.recommenders.srgnn import SRGNN
from recnb.recommenders.tagnn import TAGNN
from recnb.speed.training import step_at_rate_0

FILL = np.iinfo(np.int32).max  # behind every item
PUBLISHED_BATCH = 100  # samples per step of the public code


def like_batches(samples: Samples, batch_size: int, longest: int, seed: int) -> list[np.ndarray]:
    """Inputs of samples as recnb trains them: batches (B, T) of like length, T that of their longest input."""
    lengths = np.minimum(samples.lengths, longest)
    drawn = like_lengths(lengths, batch_size, np.random.default_rng(seed))
    return [samples.take(rows).inputs(int(lengths[rows].max())) for rows in drawn]


def graph_contest(batches: list[np.ndarray]) -> dict[str, Callable[[], list[SessionGraph]]]:
    """Graphs of batches of windows (B, T), -1 on the left: contestants that return those of each batch."""
    tensors = [torch.from_numpy(batch.astype(np.int64)) for batch in batches]
    return {
        "recnb": lambda: [session_graphs(batch) for batch in tensors],
        "session by session": lambda: [looped_graphs([row[row >= 0] for row in batch]) for batch in batches],
    }


def same_graphs(ours: list[SessionGraph], looped: list[SessionGraph], batches: list[np.ndarray]) -> bool:
    """Whether all clicks of the batches have the same nodes, and all nodes the same edges, whatever is filled up."""
    return all(
        _same_graph(SessionGraph(*(part[row] for part in one)), SessionGraph(*(part[row] for part in other)), clicks)
        for one, other, batch in zip(ours, looped, batches, strict=True)
        for row, clicks in enumerate((batch >= 0).sum(1).tolist())
    )


def _same_graph(one: SessionGraph, other: SessionGraph, clicks: int) -> bool:
    n = int((other.nodes >= 0).sum())
    places = one.alias[len(one.alias) - clicks :], other.alias[:clicks]
    edges = ((a[:n, :n], b[:n, :n]) for a, b in ((one.inward, other.inward), (one.outward, other.outward)))
    alike = torch.equal(*places) and torch.equal(one.nodes[:n], other.nodes[:n])
    return alike and all(torch.allclose(a, b) for a, b in edges)


def looped_graphs(sessions: list[np.ndarray], longest: int = 0) -> SessionGraph:
    """Graphs of sessions, oldest click first, one by one; alias (B, T) with the fill on the right, which has a node.

    Args:
        longest: T; 0: the clicks of the longest of these.
    """
    length = longest or max(map(len, sessions))
    padded = [np.append(clicks, np.full(length - len(clicks), FILL)) for clicks in sessions]
    most = max(len(np.unique(row)) for row in padded)
    nodes, aliases, inward, outward = [], [], [], []
    for clicks, row in zip(sessions, padded, strict=True):
        own = np.unique(row)
        edges = np.zeros((most, most))
        for one, following in zip(clicks[:-1], clicks[1:], strict=True):
            edges[np.where(own == one)[0][0], np.where(own == following)[0][0]] = 1
        inward.append((edges / np.maximum(edges.sum(0), 1)).T)
        outward.append((edges.T / np.maximum(edges.sum(1), 1)).T)
        aliases.append([np.where(own == item)[0][0] for item in row])
        nodes.append([item if item < FILL else -1 for item in own.tolist()] + [-1] * (most - len(own)))
    with warnings.catch_warnings(action="ignore"):  # of torch, that a list of arrays is slow: it is what is timed
        return SessionGraph(torch.tensor(nodes), torch.tensor(aliases), torch.Tensor(inward), torch.Tensor(outward))


def looped_loss(model: SRGNN, sessions: list[np.ndarray], targets: Tensor, longest: int) -> Tensor:
    """Mean cross-entropy of sessions, each padded to the longest there is; by the public way."""
    assert model.layer is not None and model.joined is not None
    graph = looped_graphs(sessions, longest)
    nodes = model.layer(model.vectors(graph.nodes, model.table()), graph)
    states = torch.stack([nodes[row][graph.alias[row]] for row in range(len(sessions))])  # (B, T, d)
    lengths = torch.tensor([len(clicks) for clicks in sessions])
    short, attention = states[torch.arange(len(states)), lengths - 1], model.attention
    weights = attention.weight(torch.sigmoid(attention.newest(short)[:, None] + attention.each(states)))
    real = torch.arange(longest) < lengths[:, None]
    long = (weights * states * real[..., None]).sum(1)
    return functional.cross_entropy(model.joined(torch.cat([long, short], 1)) @ model.table().T, targets)


def session_loss(model: SRGNN, windows: Tensor, targets: Tensor) -> Tensor:
    """The same of windows (B, T), -1 on the left, as recnb trains them."""
    return functional.cross_entropy(model(trimmed(windows)), targets)


def epoch_contest(model: SRGNN, samples: Samples, batch_size: int, longest: int,
                  seed: int) -> dict[str, Callable[[], float]]:  # fmt: skip
    """An epoch of SR-GNN over samples, with AdamW at rate 0: the weights stay. Contestants return the mean loss.

    Args:
        batch_size: ours; the other has that of the public code.
        longest: T, to which the other pads; latest clicks that both read.
    """
    step, windows = step_at_rate_0(model), samples.inputs(longest).astype(np.int64)
    targets, lengths = torch.from_numpy(samples.targets.astype(np.int64)), np.minimum(samples.lengths, longest)

    def ours(rows: np.ndarray) -> Tensor:
        return session_loss(model, torch.from_numpy(windows[rows]), targets[rows])

    def looped(rows: np.ndarray) -> Tensor:
        return looped_loss(model, [window[window >= 0] for window in windows[rows]], targets[rows], longest)

    def epoch(batches: list[np.ndarray], loss: Callable[[np.ndarray], Tensor]) -> float:
        return sum(len(rows) * step(loss(rows)) for rows in batches) / len(samples)

    drawn = np.random.default_rng(seed).permutation(len(samples))
    plain = [drawn[start : start + PUBLISHED_BATCH] for start in range(0, len(drawn), PUBLISHED_BATCH)]
    return {
        "recnb": lambda: epoch(list(like_lengths(lengths, batch_size, np.random.default_rng(seed))), ours),
        "session by session": lambda: epoch(plain, looped),
    }


def written_out_scores(model: TAGNN, windows: Tensor) -> Tensor:
    """(B, N) scores of TAGNN as published: a session vector for every item, (B, N, d)."""
    found = model.encode(windows, model.table())
    alike = (found.table @ model.target(found.states).mT).masked_fill(~found.real[:, None], -torch.inf)
    target = alike.softmax(-1) @ found.states  # (B, N, d)
    return ((model.join(found.long, found.short)[:, None] + target) * found.table).sum(-1)


def target_contest(model: TAGNN, windows: Tensor) -> dict[str, Callable[[], Tensor]]:
    """TAGNN's scores of windows (B, T): contestants that return (B, N)."""
    return {
        "recnb": torch.no_grad()(lambda: model(windows)),
        "a vector per session and item": torch.no_grad()(lambda: written_out_scores(model, windows)),
    }
