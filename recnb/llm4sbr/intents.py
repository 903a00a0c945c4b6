"""Who says what a session wants, and the answers: one row per distinct input and view. LLM4SBR section 3.2.

An answer depends on what its prompt shows (the latest T items and their titles), on our words, on the model, and on the
view; the hash of all but the view is its *key*. Samples that show the same share an answer; a rerun asks nothing again;
and a file of answers needs no items in it to be found again. Shown in ``notebooks/llm4sbr/04_intents.ipynb``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from recnb.artifacts import hash_json, hash_once, read_artifact, write_artifact
from recnb.data.sessions import Samples, Sessions
from recnb.llm.pretrained import locate
from recnb.llm4sbr.prompts import WORDS, Prompter, aligned_left, clean_answer, known_titles, shown_titles
from recnb.llm4sbr.settings import IntentsConfig

COLUMNS = ("key", "view", "text", "tokens", "logprob")
TYPES = {"key": str, "view": str, "text": str, "tokens": "int32", "logprob": "float32"}
SAME_INPUT = "\n"  # between the lines that a key is made of; no line has one


def draw_sessions(part: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sessions that are asked about: ``count`` of them, from each part as many as its share; 0: all.

    A larger count holds the smaller one's sessions.

    Args:
        part: (S,) part of each session.

    Returns:
        (S,) bool.
    """
    if not count or count >= len(part):
        return np.ones(len(part), bool)
    order = np.lexsort((np.random.default_rng([seed, 23]).random(len(part)), part))
    sizes = np.bincount(part)
    place = np.arange(len(part)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # in its part, in drawn order
    depth = np.empty(len(part))
    depth[order] = (place + 0.5) / np.repeat(sizes, sizes)
    chosen = np.zeros(len(part), bool)
    chosen[np.argsort(depth, kind="stable")[:count]] = True
    return chosen


def asked_about(sessions: Sessions, samples: Samples, config: IntentsConfig, seed: int) -> Samples:
    """The samples whose intents are asked for: of some sessions (:func:`draw_sessions`), every prefix or the whole."""
    chosen = draw_sessions(sessions.part, config.sessions, seed)
    whole = samples.end == sessions.offsets[samples.session + 1] - 1
    return samples.take(chosen[samples.session] & (whole | (config.prefixes == "all")))


def catalogue_lines(item_ids: Sequence[Any], titles: Sequence[str], config: IntentsConfig) -> list[str]:
    """(N,) what a key knows of each item: its id and its title as prompts show it."""
    return [f"{item}\t{title}" for item, title in zip(item_ids, shown_titles(titles, config), strict=True)]


def input_keys(inputs: np.ndarray, lines: Sequence[str], asker: str) -> NDArray[np.object_]:
    """(A,) keys of inputs (A, T), -1 on the left; ``asker`` is the hash of words and model (:func:`asker_of`)."""
    shown = (SAME_INPUT.join([lines[item] for item in row if item >= 0]) for row in inputs.tolist())
    return np.array([_hash(f"{asker}{SAME_INPUT}{text}") for text in shown], dtype=object)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def asker_of(config: IntentsConfig, cache: Path | None = None) -> str:
    """Hash of all that an answer depends on besides its input: our words, how long it may be, and the model's files.

    Args:
        cache: folder for models made from packages; see :func:`recnb.llm.pretrained.locate`.

    Raises:
        ModelNotFoundError: the model is not on this machine.
    """
    words = {"words": WORDS, "noun": config.noun, "ids": config.with_ids, "tokens": config.max_tokens}
    words["source"] = config.source  # what is written, or what is read
    return hash_json(words | {"model": hash_once(locate(config.model, cache))})[:32]


@dataclass(frozen=True)
class Questions:
    """What is asked, each question once.

    Attributes:
        inputs: (A, T) distinct latest items of the samples, oldest first, -1 on the left.
        views: V names.
        keys: (A,) of the inputs; a question is a key and a view.
        sample: (M,) row of ``inputs`` of each sample.
    """

    inputs: np.ndarray
    views: tuple[str, ...]
    keys: NDArray[np.object_]
    sample: np.ndarray

    def __len__(self) -> int:
        return len(self.keys) * len(self.views)

    @classmethod
    def about(cls, samples: Samples, lines: Sequence[str], config: IntentsConfig, asker: str) -> Questions:
        """The questions about samples; ``lines`` of the catalogue as :func:`catalogue_lines` gives them."""
        inputs, sample = np.unique(samples.inputs(config.items), axis=0, return_inverse=True)
        return cls(inputs, tuple(config.views), input_keys(inputs, lines, asker), sample.reshape(-1))

    def rows(self, answers: pd.DataFrame) -> np.ndarray:
        """(A, V) first row of ``answers`` for each question, -1 where it has none."""
        found = []
        for view in self.views:
            own = answers["key"][(answers["view"] == view).to_numpy()].drop_duplicates()
            place = pd.Index(own).get_indexer(self.keys)
            rows = answers.index.get_indexer(own.index)
            found.append(np.where(place >= 0, rows[place], -1) if len(own) else np.full(len(place), -1))
        return np.stack(found, axis=1)

    def select(self, answers: pd.DataFrame) -> pd.DataFrame:
        """The answers to these questions, in their order; without those that nobody gave."""
        found = self.rows(answers.reset_index(drop=True)).ravel()
        return answers.iloc[found[found >= 0]].reset_index(drop=True)

    def shards(self, answers: int) -> list[np.ndarray]:
        """Rows of ``inputs`` that are asked together, about so many answers; beginnings of one list stay together."""
        if not len(self.inputs):
            return []
        order = np.lexsort(aligned_left(self.inputs)[0].T[::-1])
        count = max(1, answers // len(self.views))
        return np.split(order, np.arange(count, len(order), count))


def no_answers() -> pd.DataFrame:
    """A frame of answers without rows."""
    return pd.DataFrame(columns=list(COLUMNS)).astype(TYPES)


def ask(
    questions: Questions,
    titles: Sequence[str],
    config: IntentsConfig,
    folder: Path,
    load: Callable[[], tuple[Any, Any]],
    progress: bool = False,
) -> pd.DataFrame:
    """The answers of a language model, shard by shard; what a broken-off run had finished is not asked again.

    Args:
        questions: what to ask; titles: (N,) of the catalogue; config: prompts, lengths and batches.
        folder: where finished shards lie; it belongs to this ``questions`` and this model.
        load: gives model and tokenizer; called once, and not at all if every shard is finished.

    Returns:
        a frame of :data:`COLUMNS`, one row per question: cleaned text, tokens written, summed log-probability. For
        ``state`` and ``score`` the text is a title, no token is written, and in place of the last stands the cosine or
        the gain.
    """
    answer: Callable[[np.ndarray], pd.DataFrame] | None = None
    frames = [no_answers()]
    for rows in tqdm(questions.shards(config.shard), desc="intents", unit="shard", disable=not progress):
        path = folder / f"{_hash(SAME_INPUT.join([*questions.views, *questions.keys[rows]]))}.parquet"
        if not path.is_file():
            answer = answer or _answering(questions, titles, config, *load())
            write_artifact(path, answer(rows))
        frames.append(read_artifact(path))
    return questions.select(pd.concat(frames, ignore_index=True).astype(TYPES))


def _answering(
    questions: Questions, titles: Sequence[str], config: IntentsConfig, model: Any, tokenizer: Any
) -> Callable[[np.ndarray], pd.DataFrame]:
    """A function from rows of the inputs to their answers."""
    from recnb.llm.continuations import continuations  # transformers: who has all answers does not wait for it
    from recnb.llm4sbr.readings import Reader

    prompter = Prompter.build(tokenizer, titles, config)
    known = known_titles(prompter.titles, config)
    reader, stops = Reader(model, prompter, questions.views, config.batch_tokens), prompter.stops()

    def written(inputs: np.ndarray) -> tuple[list[str], Any, np.ndarray]:
        forks = prompter.forks(inputs, questions.views)
        found = continuations(model, forks, stops, config.max_tokens, config.batch_tokens)
        return prompter.decode(found.ids), found.lengths, found.scores

    def chosen(inputs: np.ndarray) -> tuple[list[str], Any, np.ndarray]:
        items, scores = (reader.by_state if config.source == "state" else reader.by_score)(inputs)
        return [prompter.titles[item] for item in items.ravel()], 0, scores.ravel()

    def answer(rows: np.ndarray) -> pd.DataFrame:
        texts, tokens, scores = (written if config.source == "llm" else chosen)(questions.inputs[rows])
        views = list(questions.views) * len(rows)
        keys = np.repeat(questions.keys[rows], len(questions.views))
        values = (keys, views, [clean_answer(text, config, known) for text in texts], tokens, scores.round(3))
        return pd.DataFrame(dict(zip(COLUMNS, values, strict=True))).astype(TYPES)

    return answer
