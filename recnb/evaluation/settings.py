"""Settings of candidate sets: how many, drawn how."""

from os.path import expanduser
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from recnb.settings import Problem, Section, StageSpec

Rule = Literal["uniform", "popularity", "retrieved"]
RULES: tuple[Rule, ...] = get_args(Rule)
CANDIDATES = StageSpec(
    "03_candidates", ("data", "split", "models", "candidates"), ("01_data",), "rsllm/03_candidates",
    ("cases", "candidates.json", "models"), ("candidates_*.npy", "ratings.npy"), trains=True,
    eases=("data.max_history",),
)  # fmt: skip


class CandidatesConfig(Section):
    """03_candidates: the sets that are ranked, drawn once and kept."""

    size: int = Field(20, ge=2, le=1000, description="C: items of a set, the target among them")
    draws: int = Field(2, ge=1, le=100, description="D: sets of each user; outcomes are averaged over them")
    rules: list[Rule] = Field(
        ["uniform", "popularity", "retrieved"], min_length=1,
        description="how the others are drawn; retrieved: SASRec's best, the target only where it is among them",
    )  # fmt: skip
    file: str | None = Field(None, description="your own sets instead: csv of user_id, draw, item_id; rule: file")

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The person's own sets."""
        return [root / expanduser(self.file)] if self.file else []

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """They are not here; or sets are to be retrieved, and by nothing."""
        way = "put it there, or --set candidates.file=null"
        lacking = [path for path in self.files(root, recipe) if not path.is_file()]
        found = [Problem(f"candidates.file = {self.file}: no such file", way) for _ in lacking]
        if not self.file and "retrieved" in self.rules and "sasrec" not in recipe.models.baselines:
            said = "candidates.rules: retrieved takes SASRec's best, and models.baselines has no sasrec"
            found.append(Problem(said, "add sasrec there, or leave retrieved out", stage=CANDIDATES.name))
        return found
