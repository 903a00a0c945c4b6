"""Who goes where when places are limited: n items, k clusters with capacities, a cost for each pair (03_index).

This transportation problem is solved in three ways, by size:

- few items: exactly, as one assignment problem;
- a small cost matrix: an auction. Items bid for clusters, a full cluster keeps its best bids and raises its price. All
  items without a place bid at once, so a round is a handful of array operations;
- otherwise prices are tuned first, all at once, until every cluster attracts about its share; only the few items too
  many are then placed one by one. Costs are computed in blocks and each item looks at its nearest clusters alone, so
  that a million items need no (n, k) matrix.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

FINE = 0.005  # bidding step of an auction, as a share of the mean cost
EXACT_UP_TO = 400  # items that are assigned exactly, in some 50 ms
PATIENCE = 2000  # rounds of an auction before its step doubles
WHOLE_ROWS = 2**24  # costs up to which an item looks at all clusters; beyond, at its FAVOURITES
FAVOURITES = 16
BLOCK = 2**22  # costs computed at once: 16 MB in float32
JITTER = 0.005  # noise on the costs while prices are tuned, as a share of their mean: copies of an item part ways
TUNING_ROUNDS = 120  # changes of all prices; the items too many fall to a few in ten thousand
FIRST_STEP = 0.05  # the first of these changes, as a share of the mean cost


def squared_distances(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n, d), (k, d) -> (n, k) squared Euclidean distances, never negative."""
    squares = (x**2).sum(1)[:, None] + (centroids**2).sum(1) - 2 * (x @ centroids.T)
    return np.maximum(squares, 0)


def blocks(n: int, width: int, size: int = BLOCK) -> Iterator[slice]:
    """Consecutive slices of n rows, each of about ``size`` entries when a row has ``width``."""
    rows = max(1, size // max(width, 1))
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def nearest(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Number of each row's nearest centroid: x (n, d), centroids (k, d) -> (n,) int64, computed in blocks."""
    half = (centroids**2).sum(1) / 2
    labels, columns = np.empty(len(x), np.int64), np.ascontiguousarray(centroids.T)
    for rows in blocks(len(x), len(centroids), BLOCK // 4):
        closeness = x[rows] @ columns
        closeness -= half
        labels[rows] = closeness.argmax(1)
    return labels


def balanced_assignment(cost: np.ndarray) -> np.ndarray:
    """Assign n items to k <= n clusters, sizes n // k or n // k + 1, at (nearly) the least total cost.

    Which n % k clusters may be the larger ones is part of the problem. Up to EXACT_UP_TO items: solved exactly, in
    cubic time. More: a first auction, whose extra places are with the clusters that most items would choose, prices
    the places; a second gives the extra places to the dearest clusters; swaps and moves mend what is left. That loses
    well under 2 % against the exact solution when clusters have four items or more (tested).

    With cost (n, k), finite and not negative; returns labels (n,) int64.
    """
    if len(cost) <= EXACT_UP_TO:
        return _exact_assignment(cost)
    first, prices = capacitated_assignment(cost, balanced_capacities(cost))
    second, _ = capacitated_assignment(cost, balanced_capacities(cost, prices))
    better = min((first, second), key=lambda labels: np.take_along_axis(cost, labels[:, None], 1).sum())
    return refine_by_swaps(cost, better)


def _exact_assignment(cost: np.ndarray) -> np.ndarray:
    """One assignment problem: n // k places per cluster that must be filled (a large reward), and one that may be."""
    n, k = cost.shape
    must, may = n // k, int(n % k > 0)
    places = np.repeat(np.arange(k), must + may)
    reward = np.tile(np.r_[np.full(must, n * float(cost.max()) + 1.0), np.zeros(may)], k)
    return places[linear_sum_assignment(cost[:, places] - reward)[1]]


def balanced_capacities(cost: np.ndarray, prices: np.ndarray | None = None) -> np.ndarray:
    """(k,) n // k, and one more where a place is worth most (no prices known: where most items would go)."""
    n, k = cost.shape
    worth = np.bincount(cost.argmin(1), minlength=k) if prices is None else prices
    capacities = np.full(k, n // k)
    capacities[np.argsort(-worth, kind="stable")[: n % k]] += 1
    return capacities


def capacitated_assignment(cost: np.ndarray, capacities: np.ndarray,
                           step: float = FINE) -> tuple[np.ndarray, np.ndarray]:
    """Assign n items to k clusters, at most ``capacities[j]`` to cluster j, at nearly the least total cost.

    An auction (Bertsekas): each item without a place bids for the cluster that is cheapest at the current prices, as
    much as it can before its second choice becomes cheaper, plus one bidding step. In the end every item is within one
    step of its best choice at the final prices, so the mean cost is within one step of the least (in practice far
    closer). Thousands of near-duplicates outbid each other one step at a time: after PATIENCE rounds the step doubles,
    and again, which bounds the time at a price in quality that only such catalogues pay.

    With cost (n, k), finite and not negative, capacities (k,) positive, and a bidding step as a share of the mean cost:
    smaller is better and slower. Returns labels (n,) int64 and the final prices (k,): what one place more in a cluster
    would save.
    """
    n, k = cost.shape
    if capacities.sum() < n:
        raise ValueError(f"{n} items do not fit in a capacity of {capacities.sum()}")
    if k == 1:
        return np.zeros(n, np.int64), np.zeros(1)
    prices, bids = np.zeros(k), np.zeros(n)
    labels, waiting, rounds = np.full(n, -1), np.arange(n), 0
    raise_by = step * float(cost.mean()) or 1.0
    while len(waiting):
        rounds += 1
        raise_by *= 2 if rounds % PATIENCE == 0 else 1
        labels[waiting], bids[waiting] = _bid(cost[waiting] + prices, prices, raise_by)
        waiting = _keep_best_bids(labels, bids, np.unique(labels[waiting]), capacities, prices)
    return labels, prices


def _bid(offers: np.ndarray, prices: np.ndarray, raise_by: float) -> tuple[np.ndarray, np.ndarray]:
    """Each bidder's cheapest cluster at these offers (w, k), and the price it would pay there; (w,), (w,)."""
    rows, best = np.arange(len(offers)), offers.argmin(1)
    lowest = offers[rows, best]
    offers[rows, best] = np.inf
    return best, prices[best] + offers.min(1) - lowest + raise_by


def _keep_best_bids(labels: np.ndarray, bids: np.ndarray, called: np.ndarray, capacities: np.ndarray,
                    prices: np.ndarray) -> np.ndarray:
    """Let each called cluster keep its best bids and raise its price when full; return the items turned away.

    Changes ``labels`` (turned away: -1) and ``prices`` in place.
    """
    asked = np.zeros(len(prices) + 1, bool)  # the last entry stands for label -1
    asked[called] = True
    members = np.flatnonzero(asked[labels])
    members = members[np.lexsort((members, -bids[members], labels[members]))]
    cluster = labels[members]
    place = _place(cluster)
    last = place == capacities[cluster] - 1
    prices[cluster[last]] = bids[members[last]]
    away = members[place >= capacities[cluster]]
    labels[away] = -1
    return away


def _place(sorted_labels: np.ndarray) -> np.ndarray:
    """Place of each entry within its run of equal labels: [3, 3, 5] -> [0, 1, 0]."""
    return np.arange(len(sorted_labels)) - np.searchsorted(sorted_labels, sorted_labels)


def refine_by_swaps(cost: np.ndarray, labels: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Swap pairs of items between clusters, or move one from a larger to a smaller cluster, while the cost falls.

    With cost (n, k) and labels (n,) whose sizes are at most one apart (they stay so); returns new labels (n,). In each
    of at most so many rounds a cluster takes part in one exchange.
    """
    labels, k = labels.copy(), cost.shape[1]
    saving, who = np.empty((k, k)), np.empty((k, k), np.int64)
    changed, threshold = np.arange(k), 0.0
    for _ in range(rounds):
        spent = _best_movers(cost, labels, changed, saving, who)
        threshold = threshold or 1e-7 * spent
        sizes = np.bincount(labels, minlength=k)
        both = saving + saving.T
        move = np.where(sizes[:, None] > sizes[None, :], saving, -np.inf)
        gain = np.maximum(both, move)
        np.fill_diagonal(gain, -np.inf)
        pairs = _disjoint_pairs(gain, threshold)
        if not len(pairs):
            break
        source, target = pairs.T
        forth, back = who[source, target], who[target, source]
        labels[forth] = target
        swap = both[source, target] >= move[source, target]
        labels[back[swap]] = source[swap]
        changed = np.unique(pairs)
    return labels


def _best_movers(cost: np.ndarray, labels: np.ndarray, clusters: np.ndarray, saving: np.ndarray,
                 who: np.ndarray) -> float:
    """For each of these clusters a, and all b: the most that moving one item from a to b saves, and that item.

    Fills row a of ``saving`` and ``who`` (k, k); returns the mean cost of the items it looked at.
    """
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=cost.shape[1]))
    spent = number = 0.0
    for a in clusters:  # clusters, not items
        members = order[ends[a - 1] if a else 0 : ends[a]]
        found = cost[members]
        own = found[:, a].copy()
        np.subtract(own[:, None], found, out=found)
        best = found.argmax(0)
        saving[a], who[a] = found[best, np.arange(len(best))], members[best]
        spent, number = spent + float(own.sum(dtype=np.float64)), number + len(members)
    return spent / number


def _disjoint_pairs(gain: np.ndarray, threshold: float) -> np.ndarray:
    """Pairs (a, b), best gain first, in which no cluster appears twice; (p, 2)."""
    k = len(gain)
    partner = gain.argmax(1)
    value = gain[np.arange(k), partner]
    order = np.argsort(-value, kind="stable")
    free, pairs = np.ones(k, bool), []
    for a in order[value[order] > threshold]:  # at most k steps: clusters, not items
        b = partner[a]
        if free[a] and free[b]:
            free[[a, b]] = False
            pairs.append((a, b))
    return np.array(pairs, np.int64).reshape(-1, 2)


class Distances:
    """Squared distances (n, k) that are computed when rows are asked for: ``Distances(x, centroids)[rows]``."""

    def __init__(self, x: np.ndarray, centroids: np.ndarray) -> None:
        self.x, self.centroids = x, centroids.astype(x.dtype, copy=False)
        self.squares, self.shape = (self.centroids**2).sum(1), (len(x), len(centroids))

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        x = self.x[rows]
        found = x @ (-2 * self.centroids.T)
        found += (x**2).sum(1)[:, None]
        found += self.squares
        return np.maximum(found, 0, out=found)


@dataclass(frozen=True)
class Choices:
    """The clusters that each item considers: costs (n, m) and numbers (n, m); None: all m = k clusters, in order."""

    costs: np.ndarray
    clusters: np.ndarray | None

    def offers(self, prices: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """What the choices of some items cost at these prices (k,), a new array (r, m)."""
        return self.costs[rows] + (prices if self.clusters is None else prices[self.clusters[rows]])

    def cheapest(self, prices: np.ndarray) -> np.ndarray:
        """Each item's cheapest cluster at these prices, (n,) int64."""
        best = np.empty(len(self.costs), np.int64)
        for rows in blocks(len(best), self.costs.shape[1], BLOCK // 16):  # what a core's cache holds
            best[rows] = self.offers(prices, rows).argmin(1)
        return best if self.clusters is None else self.clusters[np.arange(len(best)), best].astype(np.int64)

    def regret(self, prices: np.ndarray, items: np.ndarray) -> np.ndarray:
        """How much dearer the second choice of these items (i,) is than the first, (i,)."""
        found = np.empty(len(items), self.costs.dtype)
        for rows in blocks(len(items), self.costs.shape[1]):
            first, second = np.partition(self.offers(prices, items[rows]), 1, axis=1)[:, :2].T
            found[rows] = second - first
        return found


def choices_of(cost: Distances, prices: np.ndarray) -> Choices:
    """What each item considers: all clusters while the costs are few, else the FAVOURITES at these prices.

    Prices that are nearly right matter here: at zero prices an item whose surroundings are crowded would not consider
    where it must go in the end. Costs are a little noisy (JITTER), so that equal items part ways.
    """
    n, k = cost.shape
    if n * k <= WHOLE_ROWS:
        costs, clusters = cost[:].astype(np.float32), None
    else:
        costs, clusters = _favourites(cost, prices, min(FAVOURITES, k))
    rows = min(n, 4096)
    noise = JITTER * _scale(costs) * np.random.default_rng(0).random((rows, costs.shape[1]), np.float32)
    for start in range(0, n, rows):
        costs[start : start + rows] += noise[: n - start]
    return Choices(costs, clusters)


def _favourites(cost: Distances, prices: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Costs and numbers (n, width) of each item's cheapest clusters at these prices."""
    n, k = cost.shape
    costs, clusters = np.empty((n, width), np.float32), np.empty((n, width), np.int32)
    for rows in blocks(n, k, BLOCK // 16):
        offers = cost[rows] + prices.astype(cost.x.dtype)
        lines = np.arange(len(offers))
        for place in range(width):  # a minimum is found far faster than a partition
            best = offers.argmin(1)
            clusters[rows, place], costs[rows, place] = best, offers[lines, best] - prices[best]
            offers[lines, best] = np.inf
    return costs, clusters


def _scale(costs: np.ndarray) -> np.float32:
    """The mean cost of an item's cheapest cluster, or something positive."""
    return np.float32(costs.min(1).mean(dtype=np.float64) or costs.mean(dtype=np.float64) or 1.0)


def tuned_prices(choices: Choices, prices: np.ndarray, rounds: int = TUNING_ROUNDS) -> np.ndarray:
    """Prices (k,) at which every cluster is the cheapest for about n / k items; the best of at most so many rounds.

    All prices change at once: up where a cluster attracts too many, down where too few. A price's own step grows while
    its direction stays and halves when it turns (as in Rprop). They start at ``prices`` (k,): zeros, or those of
    similar centroids.
    """
    k, scale = len(prices), _scale(choices.costs)
    share = len(choices.costs) / k
    steps, last = np.full(k, FIRST_STEP * scale, np.float32), np.zeros(k)
    prices = best = prices.astype(np.float32)
    fewest = np.inf
    for _ in range(rounds):
        excess = np.bincount(choices.cheapest(prices), minlength=k) - share
        misplaced = np.abs(np.trunc(excess)).sum()
        if misplaced < fewest:
            fewest, best = misplaced, prices
        if not misplaced:
            break
        direction = np.sign(np.trunc(excess))
        steps *= np.where(direction * last > 0, 1.2, np.where(direction * last < 0, 0.5, 1.0)).astype(np.float32)
        steps = np.clip(steps, 1e-5 * scale, 0.5 * scale)
        last, prices = direction, prices + direction.astype(np.float32) * steps
    return best


def assignment_at_prices(cost: Distances, prices: np.ndarray) -> np.ndarray:
    """What :func:`balanced_assignment` does, with tuned prices in place of auctions, in about 200 bytes per item.

    Prices at which clusters attract their share leave a few items too many here and there: those that mind least go
    elsewhere. Swaps mend what that costs, while the matrix is small. Within two percent of the optimum (tested),
    unless items without number are alike: prices part them badly, an auction does it better. Prices (k,) to start from
    may be zeros if nothing is known, which a large matrix pays for with quality.
    """
    n, k = cost.shape
    choices = choices_of(cost, prices)
    prices = tuned_prices(choices, prices)
    labels = choices.cheapest(prices)
    capacities = np.full(k, n // k)
    attracted = np.bincount(labels, minlength=k)
    capacities[np.lexsort((-prices, -attracted))[: n % k]] += 1
    waiting = _too_many(choices, labels, prices, capacities)
    del choices  # the largest array here
    place_the_rest(cost, labels, waiting, prices, capacities)
    return refine_by_swaps(cost[:], labels, rounds=8) if n * k <= WHOLE_ROWS else labels


def _too_many(choices: Choices, labels: np.ndarray, prices: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    """Items beyond the capacity of their cluster, those with the least regret."""
    crowded = np.bincount(labels, minlength=len(capacities)) > capacities
    members = np.flatnonzero(crowded[labels])
    members = members[np.lexsort((-choices.regret(prices, members), labels[members]))]
    return members[_place(labels[members]) >= capacities[labels[members]]]


def place_the_rest(cost: Distances, labels: np.ndarray, waiting: np.ndarray, prices: np.ndarray,
                   capacities: np.ndarray) -> None:
    """Give the waiting items (w,) the cheapest places that are left; changes ``labels`` in place.

    In a round each asks for its cheapest cluster with room, which takes the best offers; each round fills a cluster or
    places everybody.
    """
    k = len(capacities)
    labels[waiting] = -1
    room = capacities - np.bincount(labels[labels >= 0], minlength=k)
    for rows in blocks(len(waiting), k):
        items = waiting[rows]
        offers = cost[items] + prices
        while len(items):
            offers[:, room == 0] = np.inf
            best = offers.argmin(1)
            order = np.lexsort((offers[np.arange(len(items)), best], best))
            taken = order[_place(best[order]) < room[best[order]]]
            labels[items[taken]] = best[taken]
            room -= np.bincount(best[taken], minlength=k)
            left = np.setdiff1d(np.arange(len(items)), taken)
            items, offers = items[left], offers[left]
