"""A second system, declared outside of recnb: two stages, two notebooks, a recommender that shifts by one.

``tests/workflow/test_system.py`` puts it beside recnb as any package does, by an entry point of the group ``recnb.systems``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from recnb.settings import Judged, Positive, Recipe, Section, StageSpec


class WalkConfig(Section):
    """01_walk: users who go round a circle of items, now and then a step too far."""

    users: Positive = 40
    items: Positive = 30
    slips: float = 0.2


class RankConfig(Section):
    """02_rank: how far ahead the recommender looks."""

    ahead: Positive = 1


class Tiny(Recipe):
    """The recipe of the tiny system."""

    system: Literal["tiny"] = "tiny"
    walk: WalkConfig = WalkConfig()
    rank: RankConfig = RankConfig()

    stages: ClassVar[tuple[StageSpec, ...]] = (
        StageSpec("01_walk", ("walk",), (), "tiny/01_walk", ("walks.npy",)),
        StageSpec(
            "02_rank", ("rank",), ("01_walk",), "tiny/02_rank", ("metrics.json", "ledger.json", "per_user.parquet")
        ),
    )
    evaluation: ClassVar[str] = "02_rank"
    judged: ClassVar[dict[str, Judged]] = {
        "model": Judged("01_walk", "tiny_system:ranks", ("rank",), "tiny_system:together")
    }
    rows: ClassVar[str] = "steps"
    over: ClassVar[str] = "pairs of walkers"


def walks(config: WalkConfig) -> np.ndarray:
    """(U, 2) an item and the one after it: data, the same for every seed."""
    rng = np.random.default_rng(0)
    first = rng.integers(config.items, size=config.users)
    return np.stack([first, (first + 1 + (rng.random(config.users) < config.slips)) % config.items], axis=1)


def ranks(stage: Any, recipe: Tiny, judged: str, users: int = 0) -> np.ndarray:
    """(U,) rank of the true item in a list of the 20 items from ``ahead`` on; some users are forgotten, by the seed."""
    walked = stage.read("01_walk", "walks.npy")[: users or None]
    behind = (walked[:, 1] - walked[:, 0] - recipe.rank.ahead) % recipe.walk.items
    forgotten = np.random.default_rng(recipe.seed).random(len(walked)) < 0.1
    return np.where((behind < 20) & ~forgotten, behind, 20)


def together(stage: Any, recipe: Tiny, judged: str, users: int = 0) -> np.ndarray:
    """(U,) who walks with whom: two and two."""
    return np.arange(recipe.walk.users)[: users or None] // 2
