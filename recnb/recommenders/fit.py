"""Baselines on the same split: dense scores (U, N), or lists (U, W) of their own; :func:`ranked_lists` takes both.

Each one sees training interactions only, and at test time the same history of T items as our model. Shown in
``06_evaluate``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recnb.data.sessions import every_prefix
from recnb.errors import RecipeError
from recnb.recommenders.bert4rec import BERT4Rec
from recnb.recommenders.counting import Popularity, fit_itemknn
from recnb.recommenders.gru4rec import GRU4Rec
from recnb.recommenders.interface import Fitted
from recnb.recommenders.next_item import NextItemEncoder, train_sequential
from recnb.recommenders.sasrec import SASRec
from recnb.recommenders.session_model import train_session_model
from recnb.recommenders.session_models import SESSION_MODELS

if TYPE_CHECKING:
    from recnb.data.schema import Sequences
    from recnb.data.sessions import Samples
    from recnb.recommenders.settings import BaselinesConfig


ENCODERS: dict[str, type[NextItemEncoder]] = {
    "sasrec": SASRec, "sasrec-sampled": SASRec, "gru4rec": GRU4Rec, "bert4rec": BERT4Rec,
}  # fmt: skip


def fit_baseline(
    name: str, train: Sequences, n_items: int, config: BaselinesConfig, length: int, *, seed: int,
    validation: tuple[np.ndarray, np.ndarray], codes: np.ndarray | None = None,
    device: str = "cpu", progress: bool = False, keep: Path | None = None, samples: Samples | None = None,
) -> tuple[Fitted, str]:  # fmt: skip
    """Fit one of the recipe's baselines; whatever is chosen is chosen on validation.

    Args:
        name: one of ``evaluate.baselines``.
        train: training sequences; n_items: N; length: T.
        config: the ``evaluate`` section, or the part of it that says how they are fitted.
        seed: of what is random in it.
        validation: histories (U, T) and targets (U,) of the validation split.
        codes: (N, L) semantic codes of the items, for ``tiger``.
        device, progress: of the neural ones.
        keep: folder for the states of trainings that may be broken off; a second call with it goes on.
        samples: what session models are trained on; none: every prefix of the training sequences.

    Returns:
        the fitted baseline, and what was chosen, in words.

    Raises:
        RecipeError: ``tiger`` without codes.
    """
    if name == "popularity":
        return Popularity(np.bincount(train.items, minlength=n_items)), "nothing to choose"
    if name == "itemknn":
        return fit_itemknn(train, n_items, config.itemknn_neighbours, length, validation)
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
        model = train_sequential(train, n_items, section, length, encoder=ENCODERS[name], **same)
    best = max(model.log, key=lambda row: row["R@10"])
    return model, f"epoch {best['epoch']:.0f} of {len(model.log)} run (at most {section.epochs})"


def _codes_of_all(codes: np.ndarray | None, n_items: int) -> np.ndarray:
    if codes is None or codes.shape[-1] == 0:
        raise RecipeError(
            "evaluate.baselines: tiger needs the items' semantic codes, and this index has none: expected index.source "
            "both or semantic, or baselines without tiger"
        )
    if len(codes) != n_items:
        raise ValueError(f"codes of {len(codes)} items, expected {n_items}")
    return codes
