"""Intervals: a bootstrap over users, and differences between runs that know of seeds too. Shown in ``06_evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from recnb.evaluation.metrics import metrics, per_user_metrics
from recnb.evaluation.verdicts import SEEDS, SESSIONS, USERS

RESAMPLES = 2000
LEVEL = 0.95  # of every interval
_CELLS = 4_000_000  # numbers held at once by a bootstrap chunk: 32 MB of float64
SeedRanks = Mapping[int, np.ndarray]  # seed -> (U,) ranks of the same users


# --- users alone -----------------------------------------------------------------------------------------------------


def bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(resamples,) float64 means of samples of U users, ``values`` (U,), drawn with replacement.

    Drawing U users and counting how often each distinct value comes up is a multinomial draw over the distinct values,
    so that is what is drawn: the same distribution, without U x resamples indices. Metrics take few distinct values
    (R@k two, N@k k + 1), and memory stays below a fixed bound for any U. ``seed`` is of this bootstrap alone.

    Raises:
        ValueError: there is no user.
    """
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    users, rng = int(counts.sum()), np.random.default_rng(seed)
    if users == 0:
        raise ValueError("no users to resample")
    chunk = max(1, _CELLS // len(distinct))
    parts = [
        rng.multinomial(users, counts / users, size=min(chunk, resamples - start)) @ distinct
        for start in range(0, resamples, chunk)
    ]
    return np.concatenate(parts) / users


def mean_interval(values: np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    """``mean`` over users with its 95 % percentile interval, ``low`` and ``high``; arguments as of
    :func:`bootstrap_means`. All users equal: an interval of no width, not an error.

    >>> mean_interval(np.ones(8), resamples=100, seed=0)
    {'mean': 1.0, 'low': 1.0, 'high': 1.0}
    """
    return {"mean": float(np.mean(values)), **_percentiles(bootstrap_means(values, resamples, seed))}


def paired_bootstrap(a: np.ndarray, b: np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    """Difference of means a - b over the same users, (U,) each, with 95 % interval and two-sided p: diff, low, high, p.

    The users are resampled, and with a user both systems' values: what makes a user easy for both cancels out. p is
    twice the smaller share of resampled differences on the other side of zero, counting one more resample so that it
    is never 0. It says nothing about another training seed; that needs several runs.

    >>> paired_bootstrap(np.ones(4), np.ones(4), resamples=100, seed=0)
    {'diff': 0.0, 'low': 0.0, 'high': 0.0, 'p': 1.0}
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"expected two (U,) arrays of the same users, found {a.shape} and {b.shape}")
    means = bootstrap_means(a - b, resamples, seed)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (int(tail) + 1) / (resamples + 1))
    return {"diff": float((a - b).mean()), **_percentiles(means), "p": p}


def _percentiles(means: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high)}


def paired_differences(
    ours: Mapping[str, np.ndarray], others: Mapping[str, Mapping[str, np.ndarray]], resamples: int, seed: int
) -> pd.DataFrame:
    """Paired bootstrap of our system against each other one, metric by metric.

    Args:
        ours: per-user metrics as of :func:`recnb.evaluation.metrics.per_user_metrics`.
        others: the same for each system, by its name.

    Returns:
        one row per (against, metric): diff, low, high, p.
    """
    rows = [
        {"against": name, "metric": metric, **paired_bootstrap(ours[metric], values[metric], resamples, seed)}
        for name, values in others.items()
        for metric in ours
    ]
    return pd.DataFrame(rows, columns=["against", "metric", "diff", "low", "high", "p"])


def resampled_means(values: np.ndarray, sessions: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(resamples, K) float64 means over the samples of S sessions drawn with replacement, all columns under the same
    draws.

    Drawing S sessions and counting how often each comes up gives weights w (resamples, S), a multinomial draw; then the
    mean is (w @ sums) / (w @ counts), with each session's sum of values and number of samples. Held in bounded chunks.

    Args:
        values: (M, K) or (M,), one number per sample; sessions: (M,) the session of each: any numbers.
        seed: of this bootstrap alone.

    Raises:
        ValueError: there is no sample, or shapes do not fit.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if len(values) == 0 or len(values) != len(sessions):
        raise ValueError(f"expected a value and a session of M > 0 samples, found {len(values)} and {len(sessions)}")
    _, own, counts = np.unique(sessions, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(own, column) for column in values.T] + [counts], axis=1)  # (S, K + 1)
    rng, chunk = np.random.default_rng(seed), max(1, _CELLS // len(counts))
    parts = [_weights(rng, len(counts), min(chunk, resamples - start)) @ sums for start in range(0, resamples, chunk)]
    totals = np.concatenate(parts)
    return totals[:, :-1] / totals[:, -1:]


def _weights(rng: np.random.Generator, sessions: int, resamples: int) -> np.ndarray:
    """(resamples, S) how often each of S sessions comes up in S draws."""
    drawn = rng.integers(sessions, size=(resamples, sessions)) + sessions * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * sessions).reshape(resamples, sessions).astype(np.float64)


# --- users and seeds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """How far runs lie apart that differ in their seed alone.

    Attributes:
        sd: metric -> standard deviation over seeds; empty: not known.
        degrees: of freedom that it was estimated with; infinite: taken as exact.
    """

    sd: Mapping[str, float]
    degrees: float


UNKNOWN = Spread({}, 0)


def summary(ranks: SeedRanks) -> dict[str, Any]:
    """Metrics of one choice over its seeds.

    Returns:
        the means of R@5, R@10, N@5, N@10 over users and seeds, ``margin`` (half the 95 % interval of R@10 over users,
        of a proportion), ``users``, ``seeds`` and ``per_seed``.

    >>> summary({42: np.array([0, 30])})["R@10"]
    0.5
    """
    per_seed = _per_seed(ranks)
    means = {metric: float(np.mean(values)) for metric, values in per_seed.items()}
    users = len(next(iter(ranks.values())))
    margin = 1.96 * (means["R@10"] * (1 - means["R@10"]) / users) ** 0.5
    return means | {"margin": margin, "users": users, "seeds": list(ranks), "per_seed": per_seed.to_dict("index")}


def seed_spread(*choices: SeedRanks) -> Spread:
    """Standard deviation of each metric over seeds, pooled over choices that are taken to vary alike; a choice with a
    single seed tells nothing and counts for nothing.

    >>> seed_spread({1: np.array([0, 0]), 2: np.array([0, 20])}, {1: np.array([0, 0]), 2: np.array([0, 0])}).degrees
    2
    """
    several = [_per_seed(ranks) for ranks in choices if len(ranks) > 1]
    if not several:
        return UNKNOWN
    degrees = sum(len(scores) - 1 for scores in several)
    squares = sum(scores.var(ddof=0) * len(scores) for scores in several)
    return Spread(((squares / degrees) ** 0.5).to_dict(), degrees)


def paired_spread(ranks: SeedRanks, first: SeedRanks) -> Spread:
    """The spread of a difference whose two sides come from the same runs, seed by seed, as :func:`difference` wants it.

    A mixture and its partner share that partner, so their luck does not add up: what varies is asked of the difference
    itself, and half of its variance given to each side. :data:`UNKNOWN` for fewer than two shared seeds.
    """
    shared = sorted(ranks.keys() & first.keys())
    if len(shared) < 2:
        return UNKNOWN
    changes = (_per_seed(ranks) - _per_seed(first)).loc[shared]
    return Spread((changes.std() / 2**0.5).to_dict(), len(shared) - 1)


def difference(
    ranks: SeedRanks, first: SeedRanks, spread: Spread = UNKNOWN, sessions: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """How far a choice is from the first one, with an interval over users *and* seeds.

    Users are paired: each user's values are averaged over the seeds of each side (the shared ones, if there are any),
    and users are resampled. What another seed would have changed is added as a variance: sd^2 (1/n + 1/m) for n and m
    seeds. A spread estimated from few seeds is a poor estimate, so the quantile is Student's, with the degrees of
    freedom of Welch and Satterthwaite (the part of the users counts as known). Single users' luck with a seed is in
    both variances, so the interval is rather too wide than too narrow; with two seeds it is rough all the same. Where
    the spread is not known the interval speaks of users alone, and says so.

    Args:
        ranks, first: seed -> (U,) ranks of the same users.
        spread: of :func:`seed_spread` or :func:`paired_spread`.
        sessions: (U,) where rows are samples and not users: those of one session are drawn together.

    Returns:
        metric -> ``diff``, ``low``, ``high`` (95 %) and ``over`` ("users and seeds" or "users"; or sessions).
    """
    shared = ranks.keys() & first.keys()
    ranks, first = ({s: r for s, r in side.items() if s in shared or not shared} for side in (ranks, first))
    own, base = _user_means(ranks), _user_means(first)
    over = (USERS if sessions is None else SESSIONS) + (SEEDS if spread.sd else "")
    found: dict[str, Any] = {}
    for metric, values in own.items():
        change = values - base[metric]
        of_users = float(_drawn(change, sessions).var())
        of_seeds = spread.sd.get(metric, 0.0) ** 2 * (1 / len(ranks) + 1 / len(first))
        half, mean = _half_width(of_users, of_seeds, spread.degrees), float(change.mean())
        found[metric] = {"diff": mean, "low": mean - half, "high": mean + half, "over": over}
    return found


def _drawn(change: np.ndarray, sessions: np.ndarray | None) -> np.ndarray:
    if sessions is None:
        return bootstrap_means(change, RESAMPLES, seed=0)
    return resampled_means(change, sessions, RESAMPLES, seed=0)


def _half_width(of_users: float, of_seeds: float, degrees: float) -> float:
    """Of an interval, from the variance of the users' part and of the seeds', the latter not known exactly."""
    free = degrees * (1 + of_users / of_seeds) ** 2 if of_seeds else np.inf
    return float(stdtrit(free, (1 + LEVEL) / 2) * (of_users + of_seeds) ** 0.5)


def _per_seed(ranks: SeedRanks) -> pd.DataFrame:
    """A row per seed, a column per metric."""
    return pd.DataFrame.from_dict({seed: metrics(each) for seed, each in ranks.items()}, orient="index")


def _user_means(ranks: SeedRanks) -> dict[str, np.ndarray]:
    """(U,) means over seeds of each metric."""
    every = [per_user_metrics(each) for each in ranks.values()]
    return {metric: np.mean([values[metric] for values in every], axis=0) for metric in every[0]}
