"""Baselines on the same split: dense scores (U, N), or lists (U, W) of their own; :func:`ranked_lists` takes both.

Each one sees training interactions only, and at test time the same history of T items as our model. Shown in
``06_evaluate``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recnb.data.schema import Sequences
from recnb.data.sessions import Samples, every_prefix
from recnb.errors import RecipeError
from recnb.recommenders.cornac_models import fit_fpmc, fit_spop
from recnb.recommenders.counting import Popularity, fit_itemknn
from recnb.recommenders.interface import Fitted, Scorer
from recnb.recommenders.mixture import fit_mixture
from recnb.recommenders.next_item import train_sequential
from recnb.recommenders.recency import settle_seen
from recnb.recommenders.rules import fit_rules
from recnb.recommenders.session_model import train_session_model
from recnb.recommenders.session_models import SAVED, SESSION_MODELS, load_session_model
from recnb.recommenders.settings import BaselinesConfig
from recnb.recommenders.words import fit_words


def fit_baseline(
    name: str, train: Sequences, n_items: int, config: BaselinesConfig, length: int, *, seed: int,
    validation: tuple[np.ndarray, np.ndarray], codes: np.ndarray | None = None,
    device: str = "cpu", progress: bool = False, keep: Path | None = None, samples: Samples | None = None,
    texts: Sequence[str] | None = None, trained: Path | None = None,
) -> tuple[Fitted, str]:  # fmt: skip
    """Fit one of the recipe's baselines; whatever is chosen is chosen on validation.

    Args:
        name: one of ``evaluate.baselines``; config: the section that says how it is fitted.
        train: training sequences; n_items: N; length: T; validation: histories (U, T) and targets (U,).
        seed, device, progress: of the neural ones; keep: folder for their states, so that a second call goes on.
        codes: (N, L) semantic codes of the items, for ``tiger``; texts: of the N items, for ``words``.
        samples: what session models are trained on; none: every prefix of the training sequences.
        trained: folder of saved models (:mod:`recnb.recommenders.session_models`): what lies there by name is loaded.

    Returns:
        the fitted baseline, and what was chosen, in words.

    Raises:
        RecipeError: ``tiger`` without codes, ``words`` without texts.
        DataError: texts that share no word.
        ModelNotFoundError: ``spop`` or ``fpmc`` where cornac is not installed.
    """
    if trained is not None and (trained / name).is_dir():
        found = load_session_model(trained / name, device)
        return found, _chosen(found, found.config.epochs)
    if name == "popularity":
        return Popularity(np.bincount(train.items, minlength=n_items)), "nothing to choose"
    if name == "itemknn":
        return fit_itemknn(train, n_items, config.itemknn_neighbours, length, validation)
    if name in ("rules", "words", "rules+words"):
        return fit_counting(name, train, n_items, config, validation, texts)
    if name == "spop":
        return fit_spop(train, n_items), "nothing to choose"
    if name == "fpmc":
        fpmc = fit_fpmc(train, n_items, config.fpmc, seed=seed, device=device, progress=progress)
        return fpmc, f"{config.fpmc.epochs} epochs, nothing to choose"
    section = getattr(config, name.replace("-", "_"))
    file = None if keep is None else keep / f"{name}.pt"
    same: Any = {"seed": seed, "validation": validation, "device": device, "progress": progress, "keep": file}
    if name == "tiger":
        from recnb.recommenders.tiger import train_tiger  # transformers' T5, which nothing else needs

        model: Any = train_tiger(train, _codes_of_all(codes, n_items), section, length, **same)
    elif name in SESSION_MODELS:
        known = every_prefix(train) if samples is None else samples
        model = train_session_model(known, n_items, section, length, model=SESSION_MODELS[name], **same)
    else:
        model = train_sequential(train, n_items, section, length, encoder=SAVED[name], **same)
    return model, _chosen(model, section.epochs)


def _chosen(model: Any, most: int) -> str:
    """Which epoch of a trained model validation took."""
    best = max(model.log, key=lambda row: row["R@10"])
    return f"epoch {best['epoch']:.0f} of {len(model.log)} run (at most {most})"


def fit_counting(
    name: str, train: Sequences, n_items: int, config: BaselinesConfig, validation: tuple[np.ndarray, np.ndarray],
    texts: Sequence[str] | None,
) -> tuple[Scorer, str]:  # fmt: skip
    """``rules``, ``words``, or both added up (``rules+words``); arguments and errors as of :func:`fit_baseline`."""
    members: dict[str, tuple[Scorer, str]] = {}
    if "rules" in name:
        members["rules"] = fit_rules(train, n_items, config.rules, validation)
    if "words" in name:
        seen = settle_seen(config.words.seen, train, n_items)
        members["words"] = fit_words(_texts_of_all(texts, n_items), config.words, seen, validation)
    if name in members:
        return members[name]
    mixture, choice = fit_mixture({part: fitted for part, (fitted, _) in members.items()}, *validation)
    return mixture, f"{choice.told()} ({'; '.join(f'{part}: {words}' for part, (_, words) in members.items())})"


def _texts_of_all(texts: Sequence[str] | None, n_items: int) -> Sequence[str]:
    if texts is None:
        raise RecipeError(
            "evaluate.baselines: words needs the items' texts, and none were given: expected texts= of all items, or "
            "baselines without words and rules+words"
        )
    if len(texts) != n_items:
        raise ValueError(f"texts of {len(texts)} items, expected {n_items}")
    return texts


def _codes_of_all(codes: np.ndarray | None, n_items: int) -> np.ndarray:
    if codes is None or codes.shape[-1] == 0:
        raise RecipeError(
            "evaluate.baselines: tiger needs the items' semantic codes, and this index has none: expected index.source "
            "both or semantic, or baselines without tiger"
        )
    if len(codes) != n_items:
        raise ValueError(f"codes of {len(codes)} items, expected {n_items}")
    return codes
