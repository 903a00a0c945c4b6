"""Settings chosen on validation: each in turn, the others held."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recnb.evaluation.metrics import expected_per_user
from recnb.recommenders.interface import Scorer, tied_ranks

SAMPLES = 4000  # validation samples that a choice looks at
Setting = dict[str, float]


@dataclass(frozen=True)
class Choice:
    """What was chosen, among what, and how good it is.

    Attributes:
        setting: name -> chosen value.
        grid: name -> candidates; a name with one was not open.
        reached: the judge's word on it; None where nothing was open.
    """

    setting: Setting
    grid: Mapping[str, Sequence[float]]
    reached: float | None

    def told(self) -> str:
        """In words.

        >>> Choice({"a": 1, "b": 5}, {"a": [0, 1], "b": [5]}, 0.25).told()
        'a 1 (of 0, 1): N@10 0.2500 on validation'
        """
        if self.reached is None:
            return "nothing to choose"
        among = {name: ", ".join(f"{value:g}" for value in values) for name, values in self.grid.items()}
        parts = [f"{name} {self.setting[name]:g} (of {among[name]})" for name in among if len(self.grid[name]) > 1]
        return f"{'; '.join(parts)}: N@10 {self.reached:.4f} on validation"


def choose(grid: Mapping[str, Sequence[float]], judge: Callable[[list[Setting]], Sequence[float]]) -> Choice:
    """Coordinate ascent: every setting in turn takes its best value, until a round changes nothing.

    Args:
        grid: the candidates of each setting; the search starts at the first of each, and leaves a value only for a
            better one.
        judge: how good each of several settings is, larger is better.

    >>> choose({"a": [0, 1, 2], "b": [5, 6]}, lambda tried: [-((s["a"] - 1) ** 2) - s["b"] for s in tried]).setting
    {'a': 1, 'b': 5}
    """
    setting = {name: values[0] for name, values in grid.items()}
    reached: float | None = None
    before: Setting = {}
    while setting != before:
        before = setting
        for name in (name for name, values in grid.items() if len(values) > 1):
            tried = [setting, *({**setting, name: value} for value in grid[name] if value != setting[name])]
            found = judge(tried)
            best = int(np.argmax(found))  # the first of equals: what was held
            setting, reached = tried[best], float(found[best])
    return Choice(setting, grid, reached)


def ndcg(scorer: Scorer, histories: np.ndarray, targets: np.ndarray, k: int = 10) -> float:
    """Expected N@k over histories (M, T) and targets (M,), equal scores in random order."""
    return float(expected_per_user(*tied_ranks(scorer, histories, targets), k)[1].mean())
