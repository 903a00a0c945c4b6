"""Judging runs against each other: per-user ranks on validation, and differences with intervals that know of seeds.

A comparison (:mod:`recnb.compare`) asks here; ``notebooks/09_ablations.ipynb`` shows what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from recnb.evaluate import bootstrap_means, metrics, per_user_metrics, recommend_lists, target_ranks
from recnb.recipe import DecodeConfig, Recipe
from recnb.store import Stage

CUTOFFS = (5, 10)
RESAMPLES = 2000


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


def model_ranks(
    recipe: Recipe, root: Path, users: int = 0, adapter: bool = False, decode: DecodeConfig | None = None
) -> np.ndarray:
    """Rank of each user's validation item in the lists of a trained model (seen items kept, as in the papers).

    Args:
        recipe: of the run.
        root: project root.
        users: this many users, drawn once per seed of the data, the same for every run; 0: all.
        adapter: with the adapter of 05_anneal; else the model as 04_train left it.
        decode: how lists are made; none: as the run validated.

    Returns:
        (U,) int64 from 0; the beam's width where the item is not in the list.

    Raises:
        ArtifactError: the run is not complete up to there; names the notebook.
    """
    from recnb.data import histories, read_dataset
    from recnb.model import load_trained
    from recnb.tasks import seqrec_prompts
    from recnb.train import Validation
    from recnb.trie import Trie

    stage = Stage.open("06_evaluate" if adapter else "05_anneal", recipe, root=root, look=True)
    chosen = Validation(*histories(read_dataset(stage), "valid", recipe.data.max_history)).sample(users, 0)
    model, vocabulary = load_trained(stage, adapter)
    before = recipe.train.con_position == "before_response"
    prompts = seqrec_prompts(vocabulary, chosen.histories, recipe.tasks, before)
    trie = Trie.from_tokens(vocabulary.item_tokens)
    lists = recommend_lists(model, prompts, trie, decode or recipe.decode, progress=stage.runtime.progress)
    return target_ranks(lists, chosen.targets)


def baseline_ranks(name: str, recipe: Recipe, root: Path, users: int = 0) -> np.ndarray:
    """The same for a baseline of 06_evaluate, fitted on training interactions with the recipe's settings.

    Whatever it chooses (its epoch) it chooses on all validation users, so that this is what tuning has to look at and
    not an estimate of quality.

    Returns:
        (U,) int64 from 0; 20 (or N) where the list of so many items does not hold the target.
    """
    from recnb.baselines import fit_baseline, ranked_lists
    from recnb.data import histories, read_dataset, training_sequences
    from recnb.index import read_index
    from recnb.train import Validation

    stage = Stage.open("04_train" if name == "tiger" else "02_embeddings", recipe, root=root, look=True)
    dataset, codes = read_dataset(stage), read_index(stage).source_codes("semantic") if name == "tiger" else None
    everyone = Validation(*histories(dataset, "valid", recipe.data.max_history))
    fitted, _ = fit_baseline(
        name, training_sequences(dataset), dataset.n_items, recipe.evaluate, recipe.data.max_history,
        seed=recipe.seed, validation=(everyone.histories, everyone.targets), device=stage.runtime.device,
        progress=stage.runtime.progress, codes=codes,
    )  # fmt: skip
    chosen = everyone.sample(users, 0)
    return target_ranks(ranked_lists(fitted, chosen.histories, min(20, dataset.n_items)), chosen.targets)


def summary(ranks: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """Metrics of one choice over its seeds.

    Args:
        ranks: seed -> (U,) ranks of the same users.

    Returns:
        the means of R@5, R@10, N@5, N@10 over users and seeds, ``margin`` (half the 95 % interval of R@10 over users,
        of a proportion), ``users``, ``seeds`` and ``per_seed``.

    >>> summary({42: np.array([0, 30])})["R@10"]
    0.5
    """
    per_seed = {seed: metrics(each, CUTOFFS) for seed, each in ranks.items()}
    means = {m: float(np.mean([scores[m] for scores in per_seed.values()])) for m in next(iter(per_seed.values()))}
    users = len(next(iter(ranks.values())))
    margin = 1.96 * (means["R@10"] * (1 - means["R@10"]) / users) ** 0.5
    return means | {"margin": margin, "users": users, "seeds": list(ranks), "per_seed": per_seed}


def seed_spread(*choices: Mapping[int, np.ndarray]) -> Spread:
    """Standard deviation of each metric over seeds, pooled over choices that are taken to vary alike.

    Args:
        choices: each seed -> (U,) ranks; one with a single seed tells nothing and counts for nothing.

    >>> seed_spread({1: np.array([0, 0]), 2: np.array([0, 20])}, {1: np.array([0, 0]), 2: np.array([0, 0])}).degrees
    2
    """
    several = [[metrics(each, CUTOFFS) for each in ranks.values()] for ranks in choices if len(ranks) > 1]
    if not several:
        return UNKNOWN
    degrees = sum(len(scores) - 1 for scores in several)
    squares = {m: sum(np.var([s[m] for s in scores]) * len(scores) for scores in several) for m in several[0][0]}
    return Spread({m: float((total / degrees) ** 0.5) for m, total in squares.items()}, degrees)


def paired_spread(ranks: Mapping[int, np.ndarray], first: Mapping[int, np.ndarray]) -> Spread:
    """The spread of a difference whose two sides come from the same runs, seed by seed, as :func:`difference` wants it.

    A mixture and its partner share that partner, so their luck does not add up: what varies is asked of the difference
    itself, and half of its variance given to each side.

    Returns:
        :data:`UNKNOWN` for fewer than two shared seeds.
    """
    shared = sorted(ranks.keys() & first.keys())
    if len(shared) < 2:
        return UNKNOWN
    own, base = ([metrics(side[seed], CUTOFFS) for seed in shared] for side in (ranks, first))
    changes = {m: [one[m] - other[m] for one, other in zip(own, base, strict=True)] for m in own[0]}
    return Spread({m: float(np.std(found, ddof=1) / 2**0.5) for m, found in changes.items()}, len(shared) - 1)


def difference(
    ranks: Mapping[int, np.ndarray], first: Mapping[int, np.ndarray], spread: Spread = UNKNOWN, seed: int = 0
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
        seed: of the bootstrap.

    Returns:
        metric -> ``diff``, ``low``, ``high`` (95 %) and ``over`` ("users and seeds" or "users").
    """
    shared = ranks.keys() & first.keys()
    ranks, first = ({s: r for s, r in side.items() if s in shared or not shared} for side in (ranks, first))
    own, base = _user_means(ranks), _user_means(first)
    over = "users and seeds" if spread.sd else "users"
    found: dict[str, Any] = {}
    for metric, values in own.items():
        change = values - base[metric]
        of_users = float(bootstrap_means(change, RESAMPLES, seed).var())
        of_seeds = spread.sd.get(metric, 0.0) ** 2 * (1 / len(ranks) + 1 / len(first))
        half, mean = _half_width(of_users, of_seeds, spread.degrees), float(change.mean())
        found[metric] = {"diff": mean, "low": mean - half, "high": mean + half, "over": over}
    return found


def _half_width(of_users: float, of_seeds: float, degrees: float) -> float:
    """Of a 95 % interval, from the variance of the users' part and of the seeds', the latter not known exactly."""
    free = degrees * (1 + of_users / of_seeds) ** 2 if of_seeds else np.inf
    return float(stats.t.ppf(0.975, free) * (of_users + of_seeds) ** 0.5)


def _user_means(ranks: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
    every: Sequence[dict[str, np.ndarray]] = [per_user_metrics(r, CUTOFFS) for r in ranks.values()]
    return {metric: np.mean([values[metric] for values in every], axis=0) for metric in every[0]}
