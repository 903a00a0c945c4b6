"""What the paper or its release ran with, and where a recipe departs from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAPER_PARAMETERS = 6.7e9  # Llama-7B (arXiv 2302.13971, table 2), the backbone of EAGER-LLM


# What the paper or its release ran with (the marks stand in params/paper/*.yaml, key by key).
PAPER_SETTINGS: dict[str, tuple[Any, str]] = {
    "backbone.model": ("huggyllama/llama-7b", "Llama-7B"),
    "embeddings.semantic.encoder": ("causal-lm", "causal-lm (Llama-7B)"),
    "embeddings.behaviour.encoder": ("din", "din"),
    "embeddings.behaviour.width": (1024, "1024"),
    "index.source": ("both", "both"),
    "index.semantic_file": (None, "none"),
    "index.codes": (256, "256"),
    "index.second_level": ("local", "local"),
    "train.expand": ("per_target", "per_target"),
    "train.epochs": (3, "3"),
    "train.initialisation": ("mean", "mean"),
    "train.lambda_next": (0.0, "0"),
    "anneal.enabled": (True, "true"),
    "decode.beam": (20, "20"),
    "decode.normalisation": ("full", "full"),
}


def departures(settings: Mapping[str, Any]) -> list[str]:
    """Where a recipe departs from the published settings, for the ledger's "why".

    Args:
        settings: dotted key -> value of a recipe (:func:`recnb.settings.flatten` of its plain form).

    >>> departures({"decode.beam": 10, "decode.normalisation": "full"})
    ['decode.beam 10 (paper: 20)']
    """
    return [
        f"{key} {_plain(settings[key])} (paper: {shown})"
        for key, (value, shown) in PAPER_SETTINGS.items()
        if key in settings and settings[key] != value
    ]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value or "none" if isinstance(value, str) else f"{value:g}"
