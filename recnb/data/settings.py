"""Settings of the data: where users, items and their order come from."""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recnb.data.locate import source_files
from recnb.errors import DataError
from recnb.settings import Positive, Problem, Section, Share, StageSpec

Prefixes = Literal["all", "last"]
TextField = Literal["title", "description", "categories", "brand"]
DATA = StageSpec(
    "01_data", ("data",), (), "01_data", ("items.parquet", "interactions.parquet", "dataset.json"),
    eases=("data.toy.users", "data.toy.items"),
)  # fmt: skip


class ToyConfig(Section):
    """The generated catalogue with known structure."""

    users: int = Field(120, ge=5, description="users of the generated catalogue")
    items: int = Field(60, ge=8, description="items of the generated catalogue")
    groups: int = Field(6, ge=2, description="hidden groups: an item's text names its group, users move inside one")
    length: int = Field(12, ge=4, description="interactions per user (mean)")
    noise: Share = Field(0.1, description="share of steps that ignore the structure")


class DataConfig(Section):
    """01_data: the source, the filter and the history length."""

    source: Literal["movielens-100k", "movielens-1m", "files", "amazon-2014", "amazon-2018", "toy"] = Field(
        "movielens-100k", description="where users, items and their order come from; files: your own catalogue"
    )
    path: str | None = Field(
        None, description="folder (or archive) of the source; movielens-100k: none = local copy, wheel, or archive; "
        "movielens-1m: your own copy of GroupLens's ratings.dat and movies.dat"
    )
    interactions: str | None = Field(None, description="files: interactions.csv[.gz]; amazon: the reviews file")
    items: str | None = Field(None, description="files: items.jsonl[.gz] or .csv; amazon: the metadata file")
    k_core: int = Field(0, ge=0, le=1000, description="keep users and items with >= k interactions, repeatedly; 0: off")
    text_columns: dict[TextField, str] = Field(
        {}, description="files: fields that stand under another name, e.g. {description: short_text}"
    )
    without_text: Literal["error", "drop", "id"] = Field(
        "error", description="items without any text: refuse, drop, or id: keep (people see the id, no model reads it)"
    )
    max_history: Positive = Field(20, description="T: the latest items a prompt shows, the same for every model")
    download: bool = Field(True, description="may fetch a public archive (checked by sha256) if no copy is here")
    toy: ToyConfig = ToyConfig()

    @model_validator(mode="after")
    def _columns_are_read(self) -> Self:
        if self.text_columns and self.source != "files":
            raise ValueError(f"text_columns is for source: files, and this is source: {self.source}")
        return self

    @property
    def may_have_ratings(self) -> bool:
        """Whether events of this source can say how much they were liked."""
        return self.source != "toy" and not self.source.startswith("amazon")

    def folder(self, root: Path) -> Path | None:
        """``path``, from the project root; none where the recipe names none."""
        return None if self.path is None else root / expanduser(self.path)

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The folder or archive of the source, and the files that the recipe names in it."""
        folder = self.folder(root)
        return [] if folder is None else [folder, *(folder / name for name in (self.interactions, self.items) if name)]

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """The source is not here, and may not be fetched."""
        try:
            found = source_files(self.source, self.folder(root), self.interactions, self.items)
        except DataError as error:
            way = "put the files there, or name their folder: --set data.path=..."
            return [Problem(f"its data ({self.source}) is not here: {error}", way)]
        if found or self.source == "toy" or self.download:
            return []
        return [Problem(f"its data ({self.source}) is not here and data.download is off", "--set data.download=true")]


class SplitConfig(Section):
    """03_candidates: who is tested, on which item."""

    name: Literal["leave-one-out", "llara-split"] = Field(
        "leave-one-out", description="every user's last item; or LLaRA's: the last tenth of people, one window each "
        "(files: those whom a column `split` of interactions.csv calls test)"
    )
    holdout: Literal["last", "random"] = Field(
        "last", description="leave-one-out: which item of a user is kept for the test; random: any, the rest in order"
    )
    min_rating: float = Field(0.0, ge=0, description="events rated lower are left out (LLaRA: 3); 0: none is")
    validation_users: int = Field(0, ge=0, description="validate on this many users, drawn once; 0: all")
    test_users: int = Field(0, ge=0, description="test on this many users, drawn once; 0: all")

    @model_validator(mode="after")
    def _random_items_are_left_out_one_by_one(self) -> Self:
        if self.holdout == "random" and self.name != "leave-one-out":
            raise ValueError(f"holdout: random is for name: leave-one-out, and this is name: {self.name}")
        return self

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The source again: ratings and published parts stand in it alone."""
        return recipe.data.files(root, recipe)


class SessionsConfig(Section):
    """03_sessions: how events become sessions, and sessions become samples of three parts."""

    by: Literal["user", "bins", "gaps"] = Field(
        "user", description="a session is a user, a user's bin of `minutes`, or ends at a gap of more than `minutes`"
    )
    minutes: float = Field(10.0, gt=0, description="bins: width of a bin; gaps: longest pause inside a session")
    rare_items: Literal["drop-session", "drop-item"] = Field(
        "drop-session", description="what goes with an item of too few clicks: its sessions (release), or its clicks"
    )
    min_count: int = Field(5, ge=0, description="clicks below which an item is rare, counted over all events, once")
    min_length: int = Field(2, ge=2, description="a session with fewer clicks is dropped")
    augment: Prefixes = Field(
        "all", description="targets in training: every click but the first, or the last alone"
    )
    targets: Prefixes = Field("all", description="the same in validation and test")
    split: Literal["by-number", "by-user", "by-time"] = Field(
        "by-user", description="the last sessions are test: by the numbers in a file, by user, or by their start"
    )
    order: str | None = Field(None, description="by-number: csv of session_id and user_id, in the folder of the data")
    test: float = Field(0.1, gt=0, lt=1, description="share of the sessions")
    validation: float = Field(0.1, gt=0, lt=1, description="share of the training sessions, whole ones, their last")
    ties: Literal["file", "item", "shuffle"] = Field(
        "shuffle", description="order of clicks of one time: as in the file, by item id, or drawn by the seed"
    )

    @property
    def samples(self) -> tuple[Prefixes, Prefixes]:
        """Which clicks are targets in training, and in validation and test."""
        return self.augment, self.targets

    @model_validator(mode="after")
    def _numbers_have_a_file(self) -> Self:
        if (self.order is not None) != (self.split == "by-number"):
            raise ValueError("sessions.order names the file of session numbers for split: by-number, and only for it")
        if self.split == "by-number" and self.by != "user":
            raise ValueError("split: by-number numbers users: expected by: user, or split: by-user or by-time")
        return self

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The file of session numbers."""
        return [(recipe.data.folder(root) or root) / self.order] if self.order else []

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """The file of session numbers is not here."""
        way = "put the file there: --set sessions.order=..."
        lacking = [path for path in self.files(root, recipe) if not path.is_file()]
        return [Problem(f"its session numbers are not here: {self.order}", way) for _ in lacking]
