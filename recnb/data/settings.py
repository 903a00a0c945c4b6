"""Settings of the data: where users, items and their order come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recnb.data.locate import source_files
from recnb.errors import DataError
from recnb.settings import Positive, Problem, Section, Share

TextField = Literal["title", "description", "categories", "brand"]


class ToyConfig(Section):
    """The generated catalogue with known structure."""

    users: int = Field(120, ge=5, description="users of the generated catalogue")
    items: int = Field(60, ge=8, description="items of the generated catalogue")
    groups: int = Field(6, ge=2, description="hidden groups: an item's text names its group, users move inside one")
    length: int = Field(12, ge=4, description="interactions per user (mean)")
    noise: Share = Field(0.1, description="share of steps that ignore the structure")


class DataConfig(Section):
    """01_data: the source, the filter and the history length."""

    source: Literal["movielens-100k", "files", "amazon-2014", "amazon-2018", "toy"] = Field(
        "movielens-100k", description="where users, items and their order come from; files: your own catalogue"
    )
    path: str | None = Field(
        None, description="folder (or archive) of the source; movielens-100k: none = local copy, wheel, or archive"
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

    def folder(self, root: Path) -> Path | None:
        """``path``, from the project root; none where the recipe names none."""
        return None if self.path is None else root / Path(self.path).expanduser()

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
