"""The six tasks of EAGER-LLM as token sequences (§3 of our reading; 04_train).

A sample is *prompt, response, [CON]*; the loss counts on the response only. Items appear as their L index tokens,
text as ordinary tokens (see :mod:`recnb.llm.vocabulary`). A history is followed directly by what comes next, so that a
window of a user's sequence can train all its items in one pass (``expand: dense``) with exactly the conditioning
that a (prompt, response) pair per target has (``expand: per_target``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from recnb.data.schema import Sequences, has_text, titles_of
from recnb.data.tables import read_json_lines
from recnb.eager_llm.recipe import TasksConfig
from recnb.eager_llm.templates import TEMPLATES
from recnb.errors import DataError, nearest
from recnb.llm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Sample:
    """One training sequence.

    Attributes:
        ids: (S,) token ids: prompt, response, and ``[CON]`` where the recipe puts it.
        labels: (S,) bool: True where the token is predicted (the response).
        target: the one item the sample is about, or -1.
        task: its task.
        following: (S,) item that follows each position as the next of a history, -1 elsewhere; None: nowhere.
    """

    ids: np.ndarray
    labels: np.ndarray
    target: int
    task: str
    following: np.ndarray | None = None


@dataclass(frozen=True)
class ItemText:
    """What the prompts say about each item, tokenized once.

    Attributes:
        title: N lists of token ids (title, or whatever text the item has).
        full: N lists: title, brand, categories.
        categories: N lists of category names.
        words: N lists of title words, for queries.
        hidden: (N,) bool: items whose text no task shows: it is held out, or there is none.
        heldout: (N,) bool: those of them that have a text; comprehension is read there.
    """

    title: list[list[int]]
    full: list[list[int]]
    categories: list[list[str]]
    words: list[list[str]]
    hidden: np.ndarray
    heldout: np.ndarray

    @property
    def silent(self) -> bool:
        """No item has any text."""
        return bool((self.hidden & ~self.heldout).all())

    @classmethod
    def build(cls, items: pd.DataFrame, vocabulary: Vocabulary, config: TasksConfig, seed: int) -> ItemText:
        """Tokenize the catalogue.

        Args:
            items: the catalogue (N rows).
            vocabulary: encodes text, never as index tokens.
            config: text length and the share of items kept out of the text tasks.
            seed: draws the hidden items.
        """
        titles, full, says = titles_of(items), full_text(items), has_text(items)
        drawn = np.zeros(len(items), dtype=bool)
        count = round(config.heldout_text * len(items))
        drawn[np.random.default_rng([seed, 1]).permutation(len(items))[:count]] = True
        return cls(
            title=vocabulary.encode(titles, config.max_text_tokens),
            full=vocabulary.encode(full, config.max_text_tokens),
            categories=[list(c) for c in items["categories"]],
            words=[[w for w in t.split() if len(w) > 2][:8] for t in titles],
            hidden=drawn | ~says,
            heldout=drawn & says,
        )


def full_text(items: pd.DataFrame) -> list[str]:
    """Title (or what stands for it: :func:`recnb.data.titles_of`), brand and categories of every item in one line."""
    titles = titles_of(items)
    brand = [f", by {b}" if b and b != title else "" for b, title in zip(items["brand"], titles, strict=True)]
    categories = [f" ({', '.join(c)})" if len(c) else "" for c in items["categories"]]
    return [title + b + c for title, b, c in zip(titles, brand, categories, strict=True)]


def tokenizer_texts(items: pd.DataFrame) -> list[str]:
    """What a tokenizer learns its words from: :func:`full_text` of the items that have text, or, where none has, the
    instructions of the tasks."""
    texts = [text for text, says in zip(full_text(items), has_text(items), strict=True) if says]
    return texts or [part for pairs in TEMPLATES.values() for pair in pairs for part in pair if part]


def preference_text(text: ItemText, history: Sequence[int] | np.ndarray, limit: int = 3) -> str:
    """What a history says its user likes: the commonest categories and title words, as one sentence."""
    categories = Counter(c for i in history for c in text.categories[i]).most_common(limit)
    shown = [i for i in history if not text.hidden[i]]
    words = Counter(w.strip(".,:;()!?'\"").lower() for i in shown for w in dict.fromkeys(text.words[i]))
    frequent = [w for w, n in words.most_common(30) if n > 1 and len(w) > 3][:limit]
    liked = ", ".join(c for c, _ in categories) or "no clear category"
    return f"likes {liked}" + (f"; often {', '.join(frequent)}" if frequent else "")


def load_preferences(path: Path, user_ids: Sequence[str]) -> dict[int, str]:
    """Preference sentences written elsewhere (the release used an external LLM), one JSON object per line.

    Args:
        path: jsonl of ``{"user_id": ..., "preference": ...}``; users without a line keep the derived sentence.
        user_ids: (U,) ids as in the source.

    Raises:
        DataError: the file is missing or damaged, a line is not such an object, or a user is unknown; names the line.
    """
    rows = read_json_lines(path, ("user_id", "preference"))
    number = {str(user): place for place, user in enumerate(user_ids)}
    spoilt = rows["user_id"].isna() | ~rows["preference"].map(lambda value: isinstance(value, str))
    for line in rows.index[spoilt]:
        raise DataError(f'{path}: line {line}: expected {{"user_id": ..., "preference": "a sentence"}}')
    found: dict[int, str] = {}
    for line, user, preference in zip(rows.index, rows["user_id"].astype(str), rows["preference"], strict=True):
        if user not in number:
            raise DataError(f"{path}: line {line}: unknown user '{user}'{nearest(user, number)}")
        found[number[user]] = preference
    return found


def query_text(text: ItemText, item: int, rng: np.random.Generator) -> str:
    """A search query a person might type for an item: some of its categories, some of its title's words."""
    categories = list(rng.permutation(text.categories[item])[:2]) if text.categories[item] else []
    words = list(rng.permutation(text.words[item])[:2]) if text.words[item] and not text.hidden[item] else []
    return ", ".join(str(w) for w in categories + words) or "anything"


@dataclass
class TaskBuilder:
    """Builds the samples of one epoch.

    Args:
        vocabulary: tokens.
        text: tokenized catalogue.
        train: training sequences only (nothing held out may enter here).
        config: mixture, templates, separator.
        max_history: T.
        dense: every item of a window is a target, else one sample per target.
        con_after: ``[CON]`` after the response (the paper) or before it.
        seed: all draws depend on (seed, epoch, task).
        preferences: user number -> preference sentence, replacing the derived one.
        users: (U,) bool, users whose sequences count; None for all.
        targets: (N,) bool, items that may be a target of ``seqrec``; None for all.
    """

    vocabulary: Vocabulary
    text: ItemText
    train: Sequences
    config: TasksConfig
    max_history: int
    dense: bool
    con_after: bool
    seed: int
    preferences: dict[int, str] = field(default_factory=dict)
    users: np.ndarray | None = None
    targets: np.ndarray | None = None

    def __post_init__(self) -> None:
        self._separator = self.vocabulary.encode([self.config.separator])[0] if self.config.separator else []
        self._prefix = {
            task: [tuple(self.vocabulary.encode(parts)) for parts in TEMPLATES[task][: self.config.templates]]
            for task in TEMPLATES
        }
        chosen = self.train.lengths >= 2
        self._users = np.flatnonzero(chosen if self.users is None else chosen & self.users)
        self._check_text()
        if len(self._users) == 0:
            raise DataError("no user is left to train on: each needs two training interactions and the recipe's floors")

    def _check_text(self) -> None:
        speaking = [task for task, weight in self.config.mixture.items() if weight > 0 and task != "seqrec"]
        if speaking and self.text.silent:
            raise DataError(
                f"tasks.mixture.{speaking[0]} = {self.config.mixture[speaking[0]]:g}, but no item of this catalogue "
                "has text: expected tasks.mixture with seqrec alone, e.g. --set 'tasks.mixture={seqrec: 1}'"
            )

    # -- pieces -------------------------------------------------------------------------------------------------

    def history_ids(self, items: np.ndarray) -> np.ndarray:
        """(len·(L+sep),) ids: each item's tokens followed by the separator."""
        tokens = self.vocabulary.item_tokens[items]  # (T, L)
        if not self._separator:
            return tokens.ravel()
        separator = np.broadcast_to(np.array(self._separator), (len(items), len(self._separator)))
        return np.concatenate([tokens, separator], axis=1).ravel()

    def _sample(
        self, prompt: Sequence[np.ndarray | list[int]], response: Sequence[int] | np.ndarray, target: int, task: str
    ) -> Sample:
        head = np.concatenate([np.asarray(p, dtype=np.int64) for p in prompt])
        con = np.array([self.vocabulary.con_id])
        body = np.asarray(response, dtype=np.int64)
        parts = [head, body, con] if self.con_after else [head, con, body]
        labels = np.zeros(sum(map(len, parts)), dtype=bool)
        start = len(head) + (0 if self.con_after else 1)
        labels[start : start + len(body)] = True
        return Sample(np.concatenate(parts), labels, target, task)

    def _wrap(self, task: str, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        before, after = self._prefix[task][int(rng.integers(len(self._prefix[task])))]
        return [*self.vocabulary.start, *before], after

    # -- sequential tasks ---------------------------------------------------------------------------------------

    def windows(self, epoch: int) -> np.ndarray:
        """(M, 3) rows user, first, stop: the windows of an epoch; each item after a user's first is a target once.

        The cut shifts from epoch to epoch, so that a target is seen with histories of different length; the number
        of windows does not change with the epoch.
        """
        users, size = self._users, self.max_history
        targets = self.train.lengths[users] - 1
        count, rest = 1 + targets // size, targets % size
        least, most = (rest == 0).astype(np.int64), np.minimum(size - rest, size - 1)  # no window may be empty
        rng = np.random.default_rng([self.seed, epoch, 2])
        shift = least + (rng.random(len(users)) * np.maximum(most - least + 1, 0)).astype(np.int64)
        owner = np.repeat(np.arange(len(users)), count)
        number = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        first_target = 1 - shift[owner] + number * size
        first = np.maximum(first_target, 1) - 1
        stop = np.minimum(first_target + size, targets[owner] + 1)
        rows = np.stack([users[owner], first, stop], axis=1)
        return rows[stop - first >= 2]

    def _dense(self, epoch: int, rng: np.random.Generator) -> list[Sample]:
        samples = []
        for user, first, stop in self.windows(epoch):
            items = self._events(int(user))[first:stop]
            prefix, _ = self._wrap("seqrec", rng)
            sample = self._sample(
                [prefix, self.history_ids(items[:-1])], self.vocabulary.item_tokens[items[-1]], int(items[-1]), "seqrec"
            )
            step = self.vocabulary.item_tokens.shape[1] + len(self._separator)
            starts = len(prefix) + step * np.arange(1, len(items) - 1)  # items 1.. are targets too
            length = self.vocabulary.item_tokens.shape[1]
            sample.labels[(starts[:, None] + np.arange(length)).ravel()] = True
            if self.targets is not None:
                dropped = np.flatnonzero(~self.targets[items])
                sample.labels[(len(prefix) + step * dropped[:, None] + np.arange(length)).ravel()] = False
            samples.append(replace(sample, following=self._following(len(sample.ids), len(prefix), step, items)))
        return samples

    def _following(self, size: int, start: int, step: int, items: np.ndarray) -> np.ndarray:
        """(size,) what :class:`Sample` calls following, for a window whose items begin at ``start``, ``step`` apart."""
        following = np.full(size, -1, np.int64)
        wanted = items if self.targets is None else np.where(self.targets[items], items, -1)
        following[start + step * np.arange(1, len(items)) - 1] = wanted[1:]  # the last token before each item
        return following

    def _events(self, user: int) -> np.ndarray:
        return self.train.items[self.train.offsets[user] : self.train.offsets[user + 1]]

    def target_rows(self) -> np.ndarray:
        """(M, 2) rows user, position: every training target with a history."""
        lengths = self.train.lengths[self._users] - 1
        users = np.repeat(self._users, lengths)
        positions = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
        rows = np.stack([users, positions], axis=1)
        if self.targets is None:
            return rows
        return rows[self.targets[self.train.items[self.train.offsets[rows[:, 0]] + rows[:, 1]]]]

    def _per_target(self, rng: np.random.Generator) -> list[Sample]:
        samples = []
        for user, position in self.target_rows():
            events = self._events(user)
            history, target = events[max(0, position - self.max_history) : position], int(events[position])
            prefix, _ = self._wrap("seqrec", rng)
            prompt = [np.asarray(prefix, np.int64), self.history_ids(history)]
            sample = self._sample(prompt, self.vocabulary.item_tokens[target], target, "seqrec")
            following = np.full(len(sample.ids), -1, np.int64)
            following[sum(map(len, prompt)) - int(self.con_after)] = target  # the last token before the answer
            samples.append(replace(sample, following=following))
        return samples

    def _drawn(self, rng: np.random.Generator) -> list[tuple[int, np.ndarray, int]]:
        """One (user, history, target) per user, at a position drawn anew each epoch."""
        out = []
        for user, draw in zip(self._users, rng.random(len(self._users)), strict=True):
            events = self._events(int(user))
            position = 1 + int(draw * (len(events) - 1))
            out.append((int(user), events[max(0, position - self.max_history) : position], int(events[position])))
        return out

    def _fusion(self, rng: np.random.Generator) -> list[Sample]:
        samples = []
        for number, (_, history, target) in enumerate(self._drawn(rng)):
            if number % 2 == 0 and not self.text.hidden[target]:
                prefix, suffix = self._wrap("fusionseqrec", rng)
                answer = [*self.text.title[target], self.vocabulary.eos_id]
                samples.append(
                    self._sample([prefix, self.history_ids(history), suffix], answer, target, "fusionseqrec")
                )
            else:
                prefix, suffix = self._wrap("fusionseqrec_titles", rng)
                shown = [i for i in history[-5:] if not self.text.hidden[i]]
                titles = [t for i in shown for t in [*self.text.title[i], *self._separator]]
                samples.append(
                    self._sample([prefix, titles, suffix], self.vocabulary.item_tokens[target], target, "fusionseqrec")
                )
        return samples

    def _search(self, rng: np.random.Generator) -> list[Sample]:
        samples = []
        for number, (_, history, target) in enumerate(self._drawn(rng)):
            query = self.vocabulary.encode([query_text(self.text, target, rng)], self.config.max_text_tokens)[0]
            prefix, suffix = self._wrap("itemsearch", rng)
            shown = history if number % 2 else history[:0]
            samples.append(
                self._sample(
                    [prefix, query, suffix, self.history_ids(shown)],
                    self.vocabulary.item_tokens[target],
                    target,
                    "itemsearch",
                )
            )
        return samples

    def _preference(self, rng: np.random.Generator) -> list[Sample]:
        samples = []
        for user, history, _ in self._drawn(rng):
            prefix, suffix = self._wrap("preferenceobtain", rng)
            sentence = self.preferences.get(user) or preference_text(self.text, history)
            answer = [*self.vocabulary.encode([sentence], self.config.max_text_tokens)[0], self.vocabulary.eos_id]
            samples.append(self._sample([prefix, self.history_ids(history), suffix], answer, -1, "preferenceobtain"))
        return samples

    # -- catalogue tasks ----------------------------------------------------------------------------------------

    def _item2index(self, rng: np.random.Generator) -> list[Sample]:
        samples = []
        for item in np.flatnonzero(~self.text.hidden):
            prefix, suffix = self._wrap("item2index", rng)
            samples.append(
                self._sample(
                    [prefix, self.text.full[item], suffix], self.vocabulary.item_tokens[item], int(item), "item2index"
                )
            )
        return samples

    def _index2item(self, rng: np.random.Generator) -> list[Sample]:
        samples = []
        for item in np.flatnonzero(~self.text.hidden):
            prefix, suffix = self._wrap("index2item", rng)
            answer = [*self.text.full[item], self.vocabulary.eos_id]
            samples.append(
                self._sample([prefix, self.vocabulary.item_tokens[item], suffix], answer, int(item), "index2item")
            )
        return samples

    def epoch(self, epoch: int) -> list[Sample]:
        """All samples of one epoch, in task order (the loader shuffles); draws depend on (seed, epoch) only."""
        makers: dict[str, Callable[[np.random.Generator], list[Sample]]] = {
            "seqrec": (lambda rng: self._dense(epoch, rng)) if self.dense else self._per_target,
            "item2index": self._item2index,
            "index2item": self._index2item,
            "fusionseqrec": self._fusion,
            "itemsearch": self._search,
            "preferenceobtain": self._preference,
        }
        samples: list[Sample] = []
        for number, (task, make) in enumerate(makers.items()):
            weight = self.config.mixture.get(task, 0.0)  # type: ignore[call-overload]
            passes, share = int(weight), weight - int(weight)
            for repeat in range(passes + (share > 0)):
                rng = np.random.default_rng([self.seed, epoch, 3, number, repeat])
                made = make(rng)
                if repeat == passes:
                    made = [made[i] for i in np.sort(rng.permutation(len(made))[: round(share * len(made))])]
                samples += made
        return samples
