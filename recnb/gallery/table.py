"""The table: rows asked about the same users and candidates, and what stands beside each other of their answers.

Shown in ``notebooks/gallery/one_table.ipynb``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from recnb.errors import RecipeError
from recnb.evaluation.candidates import CandidateSets, candidate_metrics, ranks_of
from recnb.evaluation.intervals import mean_interval, paired_bootstrap
from recnb.evaluation.metrics import expected_per_user, rank_bounds
from recnb.gallery.cost import Cost, costed
from recnb.gallery.interface import Answer, Bench, Learned, Ranker, Retriever, of_candidates, without_test
from recnb.gallery.llmseqsim import Similar
from recnb.llm.ranker import open_backbone, trained_parameters
from recnb.llm.ranking_prompts import prompts_for
from recnb.recommenders.next_item import NextItemEncoder

if TYPE_CHECKING:
    from recnb.data.held_out import HeldOut
    from recnb.data.schema import Sequences as Events
    from recnb.gallery.recipe import Gallery
    from recnb.recommenders.interface import Scorer

WHOLE = "catalogue"
Outcomes = dict[str, dict[str, np.ndarray]]  # rule or WHOLE -> metric -> (U,)


@dataclass(frozen=True)
class Chance:
    """Scores by lot: the row below which nothing should stand."""

    n_items: int
    seed: int

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """(U, N), another lot for each place of a user."""
        return np.random.default_rng([self.seed, 67]).random((len(histories), self.n_items))


@dataclass(frozen=True)
class Entry:
    """What a row answered.

    Attributes:
        name, answer: of the row.
        scores: rule -> (U, D, C), of the rules that it was asked about.
        whole: (U, N) of the catalogue; None: the row only scores candidates.
        cost: of its answers, a user, all sets of all rules together.
    """

    name: str
    answer: Answer
    scores: dict[str, np.ndarray]
    whole: np.ndarray | None
    cost: Cost

    @property
    def asked(self) -> int:
        """Sets that each user was asked about."""
        return sum(own.shape[1] for own in self.scores.values())


def lay_bench(
    recipe: Gallery, titles: Sequence[str], held: HeldOut, valid: np.ndarray, models: Mapping[str, Scorer], keep: Path,
    device: str = "cpu", dtype: torch.dtype = torch.float32, ratings: np.ndarray | None = None,
) -> Bench:  # fmt: skip
    """The bench of a recipe.

    Args:
        titles: (N,) what items are called; held: all cases, of which the test part is taken out.
        valid: (U, D, C) uniform candidates of the validation users; models: fitted on ``held.train``.
        keep: folder for what systems train; dtype: what the language model computes in.
        ratings: (n,) of the events of ``held.train``.

    Raises:
        RecipeError: likes are to be learned, and there are no ratings.
    """
    if recipe.gallery.labels == "liked" and ratings is None:
        raise RecipeError("gallery.labels: liked learns from ratings, and the data have none; expected chosen")
    prompts = prompts_for(recipe.llm, titles, recipe.prompts)
    load = partial(open_backbone, recipe.llm, prompts.tokenizer, recipe.seed, device, dtype)
    sets = CandidateSets(valid, held.targets["valid"], "uniform")
    settings = recipe.llm, recipe.slots, recipe.tune
    return Bench(
        titles, prompts, without_test(held), sets, models, load, *settings, keep, recipe.seed, recipe.gallery, ratings
    )


def plain_rows(models: Mapping[str, Scorer], train: Events, n_items: int, seed: int) -> list[Ranker]:
    """What stands beside every system: lots, and recommenders without a language model, fitted on ``train``."""
    every = {"random": Chance(n_items, seed), **models}
    return [Similar(name, model, "no language model", _learned(model, train)) for name, model in every.items()]


def _learned(model: Scorer, train: Events) -> Learned:
    """Of a neural one: its weights, and a target for each event but the first of a sequence, every epoch."""
    if not isinstance(model, NextItemEncoder):
        return Learned()
    return Learned(trained_parameters(model), len(model.log) * (len(train.items) - len(train)))


def ask(row: Ranker, histories: np.ndarray, sets: Mapping[str, CandidateSets]) -> Entry:
    """Let a row score all sets (rule -> sets) after histories (U, T): a retriever the catalogue, once; others all sets
    of a user together, whose history they read once."""
    if isinstance(row, Retriever):
        whole, cost = costed(row, lambda: np.asarray(row.catalogue(histories)), len(histories))
        return Entry(row.name, row.answer, {r: of_candidates(whole, one.items) for r, one in sets.items()}, whole, cost)
    every = np.concatenate([each.items for each in sets.values()], axis=1)  # (U, all draws of all rules, C)
    found, cost = costed(row, lambda: row.scores(histories, every), len(histories))
    ends = np.cumsum([each.items.shape[1] for each in sets.values()])[:-1]
    scores = dict(zip(sets, np.split(found, ends, axis=1), strict=True))
    return Entry(row.name, row.answer, scores, None, cost)


def sets_for(row: Ranker, sets: Mapping[str, CandidateSets], chief: str) -> Mapping[str, CandidateSets]:
    """What a row is asked: all sets; variants and controls that pay for every set those of the chief rule alone."""
    return {chief: sets[chief]} if "/" in row.name and not isinstance(row, Retriever) else sets


def outcomes(entry: Entry, sets: Mapping[str, CandidateSets], cutoffs: Sequence[int]) -> Outcomes:
    """Per-user metrics: HR@1, N@k and MRR among the candidates of each rule; R@k and N@k of the catalogue under
    :data:`WHOLE` (ties at random), where the row has scored it. Items of the history are kept."""
    found = {rule: candidate_metrics(ranks_of(own, sets[rule]), cutoffs) for rule, own in entry.scores.items()}
    if entry.whole is not None:
        bounds = rank_bounds(entry.whole, next(iter(sets.values())).targets)
        both = {k: expected_per_user(*bounds, k) for k in cutoffs}
        found[WHOLE] = {f"{m}@{k}": values for k, pair in both.items() for m, values in zip("RN", pair, strict=True)}
    return found


def over_seeds(several: Sequence[Outcomes]) -> Outcomes:
    """One row of trainings that differ in their seed: each user's mean."""
    first = several[0]
    return {r: {m: np.mean([one[r][m] for one in several], axis=0) for m in values} for r, values in first.items()}


def intervals(each: Mapping[str, Outcomes], resamples: int, seed: int) -> pd.DataFrame:
    """Means with 95 % intervals over users: system, rule, metric, mean, low, high."""
    return pd.DataFrame([
        {"system": name, "rule": rule, "metric": metric, **mean_interval(values, resamples, seed)}
        for name, rules in each.items() for rule, own in rules.items() for metric, values in own.items()
    ])  # fmt: skip


def differences(
    each: Mapping[str, Outcomes], against: str, metric: str, rules: Iterable[str], resamples: int, seed: int
) -> pd.DataFrame:
    """Every other row minus ``against``, users paired: system, rule, diff, low, high, p; sorted by the last rule, about
    which all were asked."""
    bar, rules = each[against], list(rules)
    rows = [
        {"system": name, "rule": rule, **paired_bootstrap(own[rule][metric], bar[rule][metric], resamples, seed)}
        for rule in rules for name, own in each.items() if name != against and rule in own
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    order = frame[frame.rule == rules[-1]].sort_values("diff", ascending=False, kind="stable").system.tolist()
    return frame.sort_values("system", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
