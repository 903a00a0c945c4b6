"""Answers in files: those that a person's own language model gave, and those kept with the project.

Texts are untrusted: they are cleaned as a model's answers are. Shown in ``notebooks/llm4sbr/04_intents.ipynb``.
"""

import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recnb.artifacts import write_atomic
from recnb.data.schema import left_padded
from recnb.data.tables import check_columns, read_csv, read_json_lines
from recnb.errors import DataError, ModelNotFoundError, nearest
from recnb.llm4sbr.intents import COLUMNS, TYPES, Questions, asker_of, input_keys, no_answers
from recnb.llm4sbr.prompts import clean_answer, known_titles
from recnb.llm4sbr.settings import VIEWS, IntentsConfig

FROM_FILE = "file"  # the asker of answers that came in a file
FORMATS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class Answerer:
    """Who answers.

    Attributes:
        asker: hash of words and model, a part of every key; empty: nobody is asked.
        kept: answers that were given before; None: a model is to be asked now.
        said: one sentence for the reader.
        rest: answers kept with the project, of the same model to the same words, for those who are not asked now.
    """

    asker: str
    kept: pd.DataFrame | None
    said: str
    rest: pd.DataFrame = field(default_factory=no_answers)


def answerer(config: IntentsConfig, root: Path, item_ids: Sequence[Any], lines: Sequence[str]) -> Answerer:
    """Who answers under these settings: the model, a file, the project's cache where the model is not here, or nobody.

    Args:
        root: where relative paths start.
        item_ids, lines: of the catalogue, as of :func:`recnb.llm4sbr.intents.catalogue_lines`.

    Raises:
        ModelNotFoundError: the model is not here and no cache stands in for it.
        DataError: the file of answers or the cache is not as documented, or was made under other settings.
    """
    if config.source == "file":
        path = root / Path(str(config.file)).expanduser()
        kept = read_answers(path, item_ids, lines, config)
        said = f"{len(kept):,} answers were read from {path.name}; no model is asked.{_second_answers(kept)}"
        return Answerer(FROM_FILE, kept, said)
    if not config.asks:
        return Answerer("", no_answers(), f"intents.source = {config.source} is no language model: nobody is asked.")
    cache = None if config.cache is None or config.source != "llm" else root / Path(config.cache).expanduser()
    try:
        asker = asker_of(config, root / ".cache" / "models")
    except ModelNotFoundError:
        if cache is None:
            raise
        kept, about = read_cache(cache, config)
        when = about.get("made", "at a time not noted")
        said = f"{config.model} is not on this machine: its answers come from {config.cache} (made {when})."
        return Answerer(about["asker"], kept, said, kept)
    return Answerer(asker, None, f"{config.model} is asked here.", _same_asker(cache, asker))


def _same_asker(cache: Path | None, asker: str) -> pd.DataFrame:
    """What a cache holds of this model and these words; nothing where it was made otherwise."""
    if cache is None or not cache.is_file():
        return no_answers()
    kept, about = read_cache(cache)
    return kept if about["asker"] == asker else no_answers()


def read_answers(path: Path, item_ids: Sequence[Any], lines: Sequence[str], config: IntentsConfig) -> pd.DataFrame:
    """Answers that any language model gave elsewhere.

    Columns: ``items`` (ids of the catalogue, oldest first, a space between them, or ``|`` where an id has a space, in
    JSON a list too; the latest T count), ``view`` (long, short, merged) and ``text``; or ``key`` in place of ``items``,
    as :func:`questions_frame` writes it.

    Raises:
        DataError: no such file or format, or a line with an unknown item or view or without its key; the line is named.
    """
    table = _table(path)
    table["view"] = table["view"].astype(str).str.strip()
    unknown = table[~table["view"].isin(VIEWS)]
    if len(unknown):
        line, view = unknown.index[0], unknown["view"].iloc[0]
        raise DataError(f"{path}: line {line}: view '{view}', expected {', '.join(VIEWS)}{nearest(view, VIEWS)}")
    said = table["text"].astype(object).where(table["text"].notna(), "")  # null says nothing, and not "None"
    known = known_titles((line.partition("\t")[2] for line in lines), config)
    texts = [clean_answer(str(text), config, known) for text in said]
    keys = _given(table, path) if "key" in table else _keys(table, path, item_ids, lines, config)
    values = (np.asarray(keys, dtype=object), table["view"].to_numpy(object), texts, 0, np.nan)
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True))).astype(TYPES)


def _table(path: Path) -> pd.DataFrame:
    """The file's rows by their line numbers."""
    if not path.is_file():
        raise DataError(f"intents.file: {path}: no such file")
    if path.suffix == ".parquet":
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise DataError(f"intents.file: {path} is not a parquet file: {error}") from None
        table.index = pd.RangeIndex(1, len(table) + 1)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        table = read_json_lines(path, ["view", "text"])
    elif path.name.endswith((".csv", ".csv.gz")):
        table = read_csv(path, ["view", "text"])
    else:
        raise DataError(f"intents.file: {path}: expected one of {', '.join(FORMATS)}")
    check_columns(table.columns, ["view", "text"] + ([] if "key" in table else ["items"]), path)
    return table


def _given(table: pd.DataFrame, path: Path) -> pd.Series:
    """(rows,) keys as they stand in the file."""
    keys = table["key"].where(table["key"].notna(), "").astype(str).str.strip()
    if (keys == "").any():
        raise DataError(f"{path}: line {keys.index[keys == ''][0]}: no key, and other lines have one")
    return keys


def _second_answers(answers: pd.DataFrame) -> str:
    """How many answers follow another one to the same question, in words; empty: none."""
    again = int(answers.drop_duplicates(["key", "view", "text"]).duplicated(["key", "view"]).sum())
    return f" {again:,} of them answer a question a second time, otherwise: the first counts." if again else ""


def _keys(
    table: pd.DataFrame, path: Path, item_ids: Sequence[Any], lines: Sequence[str], config: IntentsConfig
) -> NDArray[np.object_]:
    """(rows,) keys of the file's inputs."""
    known = pd.Index([str(item) for item in item_ids])
    between = _between(known)
    rows = [one if isinstance(one, list) else str(one).split(between) for one in table["items"]]
    named = pd.Series(rows, table.index, dtype=object).explode().fillna("").astype(str).str.strip()
    found = known.get_indexer(pd.Index(named))
    if (found < 0).any():
        line, item = named.index[found < 0][0], named.iloc[int((found < 0).argmax())]
        what = f"unknown item '{item}'" if item else "no items"
        raise DataError(f"{path}: line {line}: {what}, expected ids of the catalogue{nearest(str(item), known)}")
    counts = named.groupby(level=0, sort=False).size().reindex(table.index).to_numpy()
    ends = np.cumsum(counts)
    inputs = left_padded(found.astype(np.int32), ends - counts, ends, config.items)
    return input_keys(inputs, lines, FROM_FILE)


def _between(ids: Sequence[str]) -> str | None:
    """What stands between ids of the catalogue; none: white space."""
    return "|" if any(len(item.split()) > 1 for item in ids) else None


def questions_frame(questions: Questions, item_ids: Sequence[Any]) -> pd.DataFrame:
    """What there is to ask, for a language model elsewhere: ``key``, ``items`` (ids, oldest first) and ``view``."""
    names = [str(item) for item in item_ids]
    mark = _between(names) or " "
    items = [mark.join(names[item] for item in row if item >= 0) for row in questions.inputs.tolist()]
    count, views = len(questions.views), list(questions.views) * len(items)
    return pd.DataFrame({"key": np.repeat(questions.keys, count), "items": np.repeat(items, count), "view": views})


def unanswered(questions: Questions, answers: pd.DataFrame, item_ids: Sequence[Any]) -> str:
    """How many questions have no answer, and one of them; empty where all have.

    Raises:
        DataError: none has one.
    """
    missing = questions_frame(questions, item_ids)[questions.rows(answers).ravel() < 0]
    if missing.empty:
        return ""
    example = f"e.g. items '{missing['items'].iloc[0]}', view {missing['view'].iloc[0]}"
    if len(missing) == len(questions):
        raise DataError(f"none of the {len(questions):,} questions is answered, {example}")
    return f"{len(missing):,} of {len(questions):,} questions have no answer, {example}"


def settings_of(config: IntentsConfig) -> dict[str, Any]:
    """The settings that answers depend on."""
    return config.model_dump(include={"model", "items", "max_tokens", "title_length", "with_ids", "noun", "brackets"})


def write_cache(path: Path, answers: pd.DataFrame, config: IntentsConfig, asker: str, **about: Any) -> None:
    """Keep answers with the project, as ``.csv.gz``: keys in place of items, so that nobody's clicks are in it.

    The first line says in JSON what it was made with; ``about`` goes along (``made``, ``device``, ...).
    """
    note = {"asker": asker, "settings": settings_of(config), "answers": len(answers), **about}
    text = f"# {json.dumps(note, sort_keys=True)}\n{answers[list(COLUMNS)].to_csv(index=False, lineterminator=chr(10))}"
    write_atomic(path, lambda file: file.write_bytes(gzip.compress(text.encode(), mtime=0)))


def read_cache(path: Path, config: IntentsConfig | None = None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What :func:`write_cache` wrote: the answers, and what they were made with.

    Raises:
        DataError: no such file, not such a file, or made with other settings than these.
    """
    try:
        first, _, rest = gzip.decompress(path.read_bytes()).decode().partition("\n")
        about = json.loads(first.removeprefix("# "))
        made, asker = dict(about["settings"]), str(about["asker"])
    except FileNotFoundError:
        raise DataError(f"intents.cache: {path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"intents.cache: {path} is not a cache of intents: {error}") from None
    wanted = made if config is None else settings_of(config)
    for name, value in wanted.items():
        if made.get(name) != value:
            raise DataError(
                f"intents.cache: {path} was made with intents.{name} = {made.get(name)}, the recipe says {value}: "
                "set it so, or install the model"
            )
    return _answers(rest), about | {"asker": asker}


def _answers(text: str) -> pd.DataFrame:
    table = pd.read_csv(
        io.StringIO(text), keep_default_na=False, na_values={"logprob": [""]}, dtype={"key": str, "text": str}
    )
    return table[list(COLUMNS)].astype(TYPES)
