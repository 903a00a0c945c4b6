"""What recipes are made of: typed sections, the stages that read them, and the base that a system's recipe extends.

A wing keeps the sections of what it holds in its ``settings.py``. A system (``recnb/eager_llm/recipe.py``) joins them
in one class of :class:`Recipe` and declares its stages there; the rooms above read what it declares and know no system.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from recnb.errors import nearest

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
_ARM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Problem:
    """What stands in the way of a recipe, and the way on."""

    what: str  # one line or more
    way: str  # how to mend it
    blocks: bool = True  # False: it mends itself where there is a network
    stage: str = ""  # the first that would miss it; empty: none in particular


class Section(BaseModel):
    """Base of all sections: frozen; an unknown key or a value of another type is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, strict=True, allow_inf_nan=False)

    def inner(self) -> list[Section]:
        """The sections within this one."""
        values = [getattr(self, name) for name in type(self).model_fields]
        return [value for value in values if isinstance(value, Section)]

    def files(self, root: Path, recipe: Any) -> list[Path]:
        """Files and folders outside a run that this section names, whether or not they are there; relative names start
        at the project's ``root``, and the whole ``recipe`` tells what two sections say together."""
        return [path for section in self.inner() for path in section.files(root, recipe)]

    def problems(self, root: Path, recipe: Any) -> list[Problem]:
        """What this section names and this machine lacks; nothing is downloaded. Arguments as of :meth:`files`."""
        return [problem for section in self.inner() for problem in section.problems(root, recipe)]

    def count_weights(self, root: Path) -> int:
        """Numbers in the models that this section describes or names; 0: none, or of a size that nothing tells."""
        return sum(section.count_weights(root) for section in self.inner())


class PathsConfig(Section):
    """Where results go."""

    runs: str = Field("runs", description="what the machine keeps; relative to the project root")
    reports: str = Field("reports", description="what a person reads; relative to the project root")


class RuntimeConfig(Section):
    """What to compute on; chosen once, printed with the reason (`recnb.runtime`)."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU if there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on a GPU that has it, float32 elsewhere (on most CPUs bf16 is slower)"
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0: one per physical core at hand")
    require_gpu: bool = Field(False, description="refuse to start on a machine without a GPU")
    solutions: bool = Field(True, description="run the exercises' solutions too; no later cell needs them")
    max_hours: float = Field(0.0, ge=0, description="for people: expected upper bound, shown by `recnb doctor`")


@dataclass(frozen=True)
class StageSpec:
    """One stage: a notebook, what it reads and may depend on, what it writes."""

    name: str  # of its folder under runs/<recipe> and of its page in the report
    sections: tuple[str, ...]  # recipe sections it may read; its key depends on them (seed and runtime always count)
    inputs: tuple[str, ...]  # stages whose artifacts it may read
    notebook: str  # under notebooks/, without suffix
    outputs: tuple[str, ...]  # artifacts that it always writes
    optional: tuple[str, ...] = ()  # those that it writes where the recipe asks for them; * stands for part of a name
    deterministic: bool = True  # same recipe, same machine: identical artifact hashes
    switch: str = ""  # recipe key that says whether a run includes the stage; empty: it always does
    trains: bool = False  # gradients and moments stand beside its models' weights (else weights alone)
    eases: tuple[str, ...] = ()  # keys that lower the memory it takes, the mildest first
    home: str = ""  # why it is not done on a far machine (`recnb pack`); empty: it can be

    def belongs_to(self, recipe: Recipe) -> bool:
        """Whether a run of this recipe includes the stage."""
        return not self.switch or bool(attrgetter(self.switch)(recipe))

    def declares(self, artifact: str) -> bool:
        """Whether the stage may write an artifact of this name."""
        return "/" not in artifact and any(fnmatchcase(artifact, name) for name in (*self.outputs, *self.optional))

    def file(self, root: Path) -> Path:
        """The notebook itself."""
        return root / "notebooks" / f"{self.notebook}.ipynb"


@dataclass(frozen=True)
class Judged:
    """Something that a comparison may judge on validation: what has to be run for it, and who makes its ranks.

    ``ranks`` is ``package.module:function``, called with the stage ``last`` opened to look at, the trial's recipe, the
    name of what is judged, and how many validation users count (0: all). It returns (users,) ranks from 0, or floats:
    HR@1 among candidates (:func:`recnb.evaluation.intervals.outcomes_of`).
    """

    last: str  # the stage up to which a trial is run
    ranks: str
    settings: tuple[str, ...] = ()  # sections that the ranks alone depend on; a change in them runs nothing again
    sessions: str = ""  # called as `ranks`: (users,) numbers, equal where rows belong together; empty: none do


class Recipe(Section):
    """What every system's recipe has, and what it declares for the rooms that serve all systems."""

    system: str = Field(description="whose recipe this is: a wing of recnb")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="names runs/<name> and reports/<name>")
    title: str = Field("", description="one line for the report")
    seed: int = Field(
        42, ge=0, lt=2**31, description="the only source of chance: every random draw of every stage follows from it"
    )
    paths: PathsConfig = PathsConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    stages: ClassVar[tuple[StageSpec, ...]] = ()  # in the order of a run
    evaluation: ClassVar[str] = ""  # the stage that writes metrics.json, ledger.json and per_user.parquet
    protocol: ClassVar[str] = ""  # a sentence for the report: what the evaluation ranks, of whom, among what
    pictures: ClassVar[tuple[str, ...]] = ()  # figures for the top of the report: how their names start
    judged: ClassVar[Mapping[str, Judged]] = {}  # what a comparison may judge, the usual first
    rows: ClassVar[str] = "users"  # what metrics are means over
    among: ClassVar[str] = "seen items kept"  # what verdicts and ledger of a report are about
    over: ClassVar[str] = "users"  # what intervals are over: sessions, where rows of one session stand together

    @property
    def slug(self) -> str:
        """How the names of this system's own rows begin, beside baselines."""
        return self.system.replace("_", "-")

    @property
    def wing(self) -> str:
        """The package that its system lives in: its published rows and its paper's claims lie there."""
        return type(self).__module__.rpartition(".")[0]

    @property
    def published(self) -> str:
        """``evaluate.published``: key of the published rows beside ours; empty: nothing was published on these data."""
        return getattr(getattr(self, "evaluate", None), "published", "")

    @property
    def offline(self) -> bool:
        """Whether notebooks may not ask the hub for a model: ``data.download`` is off."""
        return not getattr(getattr(self, "data", None), "download", True)

    @model_validator(mode="after")
    def _rows_are_published(self) -> Self:
        if key := self.published:
            tables = read_wing(self.wing, "published.yaml")
            if key not in tables:
                raise ValueError(f"evaluate.published = {key!r}: expected {', '.join(tables)}{nearest(key, tables)}")
        return self

    def shown(self) -> dict[str, Any]:
        """What a comparison keeps of its base recipe for its reader."""
        return {}


S = TypeVar("S", bound=Section)


def arms_of(section: Any, kind: type[S], where: str, main: str) -> dict[str, S]:
    """A section's own settings under the name ``main``, then its ``arms``, which are otherwise in some of them."""
    for name, changes in section.arms.items():
        if not _ARM.fullmatch(name) or name == main:
            raise ValueError(
                f"{where}.arms: '{name[:40]}': expected a name of letters, digits, '-', '_' and '.' (it names a "
                f"folder and a row), and not {main}, which is the recipe's own model"
            )
        for key in changes:
            if key not in kind.model_fields:
                raise ValueError(f"{where}.arms.{name}: unknown key '{key}'{nearest(key, kind.model_fields)}")
    if len({name.casefold() for name in section.arms}) < len(section.arms):
        raise ValueError(f"{where}.arms: {', '.join(section.arms)}: expected names that differ in more than capitals")
    own, made = {name: getattr(section, name) for name in kind.model_fields}, {}
    for name, changes in {main: {}, **section.arms}.items():
        try:
            made[name] = kind(**own | changes)
        except ValidationError as error:
            said = dict.fromkeys(_told(problem, kind) for problem in error.errors())
            raise ValueError(f"{where}.arms.{name}: {' or '.join(said)}") from None
    return made


def _told(problem: ErrorDetails, kind: type[Section]) -> str:
    """What is wrong in a section of some kind; an unknown key with the nearest."""
    *above, last = problem["loc"] or ("",)
    at = ".".join(part for part in map(str, problem["loc"]) if "[" not in part)  # by which pydantic tells unions apart
    if problem["type"] != "extra_forbidden":
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        return f"{at} = {problem['input']!r}: {message}" if at else message
    for name in (one for one in above if isinstance(one, str)):
        held = kind.model_fields[name].annotation
        kind = next(one for one in (held, *get_args(held)) if isinstance(one, type) and issubclass(one, Section))
    return f"unknown key '{at}'{nearest(str(last), kind.model_fields)}"


@cache
def read_wing(wing: str, file: str) -> Any:
    """What a YAML file that lies in a wing says; nobody may change it."""
    return yaml.safe_load(resources.files(wing).joinpath(file).read_text(encoding="utf-8"))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"train": {"epochs": 3}}`` -> ``{"train.epochs": 3}``."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Dotted key and both values, for each value in which two trees differ; a missing one is None."""
    mine, theirs = flatten(one), flatten(other)
    return [(key, mine.get(key), theirs.get(key)) for key in mine | theirs if mine.get(key) != theirs.get(key)]


def reasons(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Dotted key of each setting -> its reason."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= reasons(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = field.description or ""
    return found
