"""Settings of the item index."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from recnb.errors import DataError
from recnb.settings import Positive, Problem, Section, Share


class GateConfig(Section):
    """03_index: the health an index must have before any training starts."""

    min_unique: Share = Field(1.0, description="share of items whose whole code is theirs alone")
    min_usage: Share = Field(0.5, description="share of codes in use, on the worst level")
    min_entropy: Share = Field(0.7, description="entropy of code usage over log K, on the worst level")


class IndexConfig(Section):
    """03_index: hierarchical balanced k-means per source, and the order of a code's columns."""

    source: Literal["both", "semantic", "behaviour", "random"] = Field("both", description="the paper's ablation")
    semantic_file: str | None = Field(
        None, description="a published index in place of k-means on text: json[.gz], item id to tokens, beside the data"
    )
    levels: int = Field(2, ge=1, le=6, description="levels per source; L = levels x sources (a file has its own)")
    codes: Annotated[int, Field(ge=2, le=65536)] | Literal["auto"] = Field(
        "auto", description="K: codes per level; auto: the smallest K with K^levels >= N (256 in the paper)"
    )
    second_level: Literal["local", "aligned"] = Field(
        "aligned", description="local: a code means its own leaf (release); aligned: one shared residual codebook"
    )
    order: list[str] = Field([], description="columns of a code, e.g. [s1, b1, s2, b2]; empty: s1.. then b1..")
    pca: int = Field(64, ge=0, description="k-means runs on this many principal components; 0: on the full width")
    iterations: Positive = Field(25, description="Lloyd steps of k-means")
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _file_is_used(self) -> Self:
        if self.semantic_file and self.source not in ("both", "semantic"):
            raise ValueError(f"semantic_file is for source: both or semantic, and this is source: {self.source}")
        return self

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """The published index: beside the data, or where its name says."""
        if not self.semantic_file:
            return []
        return [(recipe.data.folder(root) or root) / self.semantic_file, root / Path(self.semantic_file).expanduser()]

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """The published index is not here, or not readable. (What it says of which items, 03_index asks.)"""
        from recnb.index.published import find_codes, read_object

        try:
            if self.semantic_file and not recipe.data.problems(root, recipe):
                read_object(find_codes(self.semantic_file, recipe.data.path, root))
        except DataError as error:
            return [Problem(f"its published index is not here: {error}", "put it beside the data, or give its path")]
        return []
