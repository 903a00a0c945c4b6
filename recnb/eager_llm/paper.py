"""What the paper or its release ran with, and where a recipe departs from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAPER_PARAMETERS = 6.7e9  # Llama-7B (arXiv 2302.13971, table 2), the backbone of EAGER-LLM

PAPER_SETTINGS: dict[str, Any] = {  # the marks stand in params/paper/*.yaml, key by key
    "backbone.model": "huggyllama/llama-7b",
    "embeddings.semantic.encoder": "causal-lm",
    "embeddings.behaviour.encoder": "din",
    "embeddings.behaviour.width": 1024,
    "index.source": "both",
    "index.semantic_file": None,
    "index.codes": 256,
    "index.second_level": "local",
    "train.expand": "per_target",
    "train.epochs": 3,
    "train.initialisation": "mean",
    "train.lambda_next": 0.0,
    "anneal.enabled": True,
    "decode.beam": 20,
    "decode.normalisation": "full",
}
_IN_WORDS = {"backbone.model": "Llama-7B", "embeddings.semantic.encoder": "causal-lm (Llama-7B)"}


def departures(settings: Mapping[str, Any]) -> list[str]:
    """Where a recipe departs from the published settings, for the ledger's "why".

    Args:
        settings: dotted key -> value of a recipe (:func:`recnb.settings.flatten` of its plain form).

    >>> departures({"decode.beam": 10, "decode.normalisation": "full"})
    ['decode.beam 10 (paper: 20)']
    """
    return [
        f"{key} {_plain(settings[key])} (paper: {_IN_WORDS.get(key) or _plain(value)})"
        for key, value in PAPER_SETTINGS.items()
        if key in settings and settings[key] != value
    ]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else value or "none"
