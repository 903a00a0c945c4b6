"""The six tasks of EAGER-LLM as token sequences (§3 of our reading; 04_train).

A sample is *prompt, response, [CON]*; the loss counts on the response only. Items appear as their L index tokens,
text as ordinary tokens (see :mod:`recnb.llm.vocabulary`). A history is followed directly by what comes next, so that a
window of a user's sequence can train all its items in one pass (``expand: dense``). What a target of a window sees is
what a (prompt, response) pair (``expand: per_target``) would say with the same items, but not the same number of them:
a pair shows the latest T, a window of T targets 1 to T, and ``burn_in`` items more where the user has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recnb.data.schema import Sequences, has_text, titles_of
from recnb.data.tables import read_json_lines
from recnb.eager_llm.prompts import Pieces, joined
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
        hidden: (N,) bool: items whose text no task shows: it is held out, or there is none. Their lists are empty, so
            that no task can.
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
        """Tokenize the catalogue; ``seed`` draws the items whose text is held out."""
        drawn, says = np.zeros(len(items), dtype=bool), has_text(items)
        count = round(config.heldout_text * len(items))
        drawn[np.random.default_rng([seed, 1]).permutation(len(items))[:count]] = True
        hidden = drawn | ~says

        def shown(texts: Iterable[Any], nothing: Any) -> list[Any]:
            return [nothing if hide else text for text, hide in zip(texts, hidden, strict=True)]

        titles, full = shown(titles_of(items), ""), shown(full_text(items), "")
        return cls(
            title=vocabulary.encode(titles, config.max_text_tokens),
            full=vocabulary.encode(full, config.max_text_tokens),
            categories=[list(c) for c in shown(items["categories"], ())],
            words=[[w for w in t.split() if len(w) > 2][:8] for t in titles],
            hidden=hidden,
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


def preference_text(text: ItemText, history: Sequence[int] | np.ndarray) -> str:
    """What a history says its user likes: the three commonest categories and title words, as one sentence."""
    categories = Counter(c for i in history for c in text.categories[i]).most_common(3)
    words = Counter(w.strip(".,:;()!?'\"").lower() for i in history for w in dict.fromkeys(text.words[i]))
    frequent = [w for w, n in words.most_common(30) if n > 1 and len(w) > 3][:3]
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
    users = rows["user_id"].astype(str)
    for line, user in users.items():
        if user not in number:
            raise DataError(f"{path}: line {line}: unknown user '{user}'{nearest(user, number)}")
    return dict(zip(users.map(number).tolist(), rows["preference"], strict=True))


def query_text(text: ItemText, item: int, rng: np.random.Generator) -> str:
    """A search query a person might type for an item: some of its categories, some of its title's words."""
    categories = list(rng.permutation(text.categories[item])[:2]) if text.categories[item] else []
    words = list(rng.permutation(text.words[item])[:2]) if text.words[item] else []
    return ", ".join(str(w) for w in categories + words) or "anything"


@dataclass
class TaskBuilder:
    """Builds the samples of one epoch.

    Args:
        vocabulary, text: tokens, and what the catalogue says in them.
        train: training sequences only (nothing held out may enter here); config: mixture, templates, separator.
        max_history: T; dense: T items of a window are targets in one pass, else one sample per target.
        con_before: ``[CON]`` before the response, not after it (the paper).
        seed: all draws depend on (seed, epoch, task).
        preferences: user number -> preference sentence, replacing the derived one.
        users: (U,) bool, users whose sequences count; None for all.
        targets: (N,) bool, items that may be a target of ``seqrec``; None for all.
        burn_in: items that a window shows before its targets, where the user has them; they are no targets in it.
    """

    vocabulary: Vocabulary
    text: ItemText
    train: Sequences
    config: TasksConfig
    max_history: int
    dense: bool
    con_before: bool
    seed: int
    preferences: dict[int, str] = field(default_factory=dict)
    users: np.ndarray | None = None
    targets: np.ndarray | None = None
    burn_in: int = 0

    def __post_init__(self) -> None:
        self._pieces, self._tokens = Pieces(self.vocabulary, self.config), self.vocabulary.item_tokens  # (N, L)
        self._wanted = np.ones(len(self._tokens), dtype=bool) if self.targets is None else self.targets
        chosen = self.train.lengths >= 2
        self._users = np.flatnonzero(chosen if self.users is None else chosen & self.users)
        speaking = [task for task, weight in self.config.mixture.items() if weight > 0 and task != "seqrec"]
        if speaking and self.text.silent:
            raise DataError(
                f"tasks.mixture.{speaking[0]} = {self.config.mixture[speaking[0]]:g}, but no item of this catalogue "
                "has text: expected tasks.mixture with seqrec alone, e.g. --set 'tasks.mixture={seqrec: 1}'"
            )
        if len(self._users) == 0:
            raise DataError("no user is left to train on: each needs two training interactions and the recipe's floors")
        if len(self._targets()[0]) == 0:
            raise DataError("no target is left to train on: no item that may be one follows another; lower the floors")

    def epoch(self, epoch: int) -> list[Sample]:
        """All samples of one epoch, in task order (the loader shuffles); draws depend on (seed, epoch) only."""
        makers: dict[str, Callable[[np.random.Generator], Iterable[Sample]]] = {
            "seqrec": partial(self._dense, epoch) if self.dense else self._per_target,
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
                made = list(make(rng))
                if repeat == passes:
                    made = [made[i] for i in np.sort(rng.permutation(len(made))[: round(share * len(made))])]
                samples += made
        return samples

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _sample(
        self, task: str, prompt: Sequence[Sequence[int] | np.ndarray], response: Sequence[int] | np.ndarray, target: int
    ) -> Sample:
        con = [self.vocabulary.con_id]
        head, tail = (joined(*prompt, con), []) if self.con_before else (joined(*prompt), con)
        ids = joined(head, response, tail)
        labels = np.zeros(len(ids), dtype=bool)
        labels[len(head) : len(head) + len(response)] = True
        return Sample(ids, labels, target, task)

    def _instruction(self, task: str, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Before and after, of a template drawn."""
        return self._pieces.instructions[task][int(rng.integers(self.config.templates))]

    def _words(self, ids: Sequence[int]) -> list[int]:
        """An answer in words, with its end."""
        return [*ids, self.vocabulary.eos_id]

    def _events(self, user: int) -> np.ndarray:
        return self.train.items[self.train.offsets[user] : self.train.offsets[user + 1]]

    def _at(self, user: int, position: int) -> tuple[np.ndarray, int]:
        """What came before a position of a user's sequence, and the item that stands there."""
        events = self._events(user)
        return events[max(0, position - self.max_history) : position], int(events[position])

    def _drawn(self, rng: np.random.Generator) -> Iterator[tuple[int, np.ndarray, int]]:
        """One (user, history, target) per user, at a position drawn anew each epoch."""
        for user, draw in zip(self._users.tolist(), rng.random(len(self._users)), strict=True):
            yield user, *self._at(user, 1 + int(draw * (len(self._events(user)) - 1)))

    def _targets(self) -> tuple[np.ndarray, np.ndarray]:
        """User and position of every training target that has a history, of the users and items that count."""
        owner = np.repeat(np.arange(len(self.train)), self.train.lengths)
        place = np.arange(len(owner)) - self.train.offsets[owner]
        kept = (place > 0) & np.isin(owner, self._users) & self._wanted[self.train.items]
        return owner[kept], place[kept]

    # -- sequential tasks -------------------------------------------------------------------------------------------

    def windows(self, epoch: int) -> np.ndarray:
        """(M, 4) rows user, first, begin, stop: the windows of an epoch, which show the items from ``first`` on and
        have those from ``begin`` on as targets; each item after a user's first is a target once.

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
        nominal = 1 - shift[owner] + number * size
        begin, stop = np.maximum(nominal, 1), np.minimum(nominal + size, targets[owner] + 1)
        rows = np.stack([users[owner], np.maximum(begin - 1 - self.burn_in, 0), begin, stop], axis=1)
        return rows[stop > begin]

    def _dense(self, epoch: int, rng: np.random.Generator) -> Iterator[Sample]:
        """A sample per window."""
        length = self._tokens.shape[1]
        step = length + len(self._pieces.separator)
        for user, first, begin, stop in self.windows(epoch):
            items = self._events(user)[first:stop]
            before, _ = self._instruction("seqrec", rng)
            shown, last = self._pieces.history(items[:-1]), int(items[-1])
            sample = self._sample("seqrec", [before, shown], self._tokens[last], last)
            places = np.arange(begin - first, len(items))
            places = places[self._wanted[items[places]]]
            begins = len(before) + step * places  # where the tokens of each target begin
            labels, following = np.zeros(len(sample.ids), dtype=bool), np.full(len(sample.ids), -1)
            labels[(begins[:, None] + np.arange(length)).ravel()] = True
            following[begins - 1] = items[places]
            yield replace(sample, labels=labels, following=following)

    def _per_target(self, rng: np.random.Generator) -> Iterator[Sample]:
        """A sample for every training target that has a history."""
        for user, position in zip(*map(np.ndarray.tolist, self._targets()), strict=True):
            history, target = self._at(user, position)
            before, _ = self._instruction("seqrec", rng)
            sample = self._sample("seqrec", [before, self._pieces.history(history)], self._tokens[target], target)
            following = np.full(len(sample.ids), -1)
            following[sample.labels.argmax() - 1] = target  # the last token before the answer
            yield replace(sample, following=following)

    def _fusion(self, rng: np.random.Generator) -> Iterator[Sample]:
        """In turn: from tokens to a title, from titles to tokens."""
        for number, (_, history, target) in enumerate(self._drawn(rng)):
            if number % 2 == 0 and not self.text.hidden[target]:
                before, after = self._instruction("fusionseqrec", rng)
                shown, answer = self._pieces.history(history), self._words(self.text.title[target])
            else:
                before, after = self._instruction("fusionseqrec_titles", rng)
                titles = [self.text.title[item] for item in history[-5:] if not self.text.hidden[item]]
                shown = joined(*(title + self._pieces.separator for title in titles), [])
                answer = self._tokens[target]
            yield self._sample("fusionseqrec", [before, shown, after], answer, target)

    def _search(self, rng: np.random.Generator) -> Iterator[Sample]:
        """From a query to tokens, every second time with a history."""
        for number, (_, history, target) in enumerate(self._drawn(rng)):
            query = self.vocabulary.encode([query_text(self.text, target, rng)], self.config.max_text_tokens)[0]
            before, after = self._instruction("itemsearch", rng)
            alone = number % 2 == 0 and not self.text.hidden[target]  # what has no words is asked with a history
            shown = self._pieces.history(history[:0] if alone else history)
            yield self._sample("itemsearch", [before, query, after, shown], self._tokens[target], target)

    def _preference(self, rng: np.random.Generator) -> Iterator[Sample]:
        """From a history to a sentence about its user."""
        for user, history, _ in self._drawn(rng):
            before, after = self._instruction("preferenceobtain", rng)
            sentence = self.preferences.get(user) or preference_text(self.text, history)
            answer = self._words(self.vocabulary.encode([sentence], self.config.max_text_tokens)[0])
            yield self._sample("preferenceobtain", [before, self._pieces.history(history), after], answer, -1)

    # -- catalogue tasks --------------------------------------------------------------------------------------------

    def _item2index(self, rng: np.random.Generator) -> Iterator[Sample]:
        """From an item's text to its tokens."""
        for item in np.flatnonzero(~self.text.hidden).tolist():
            before, after = self._instruction("item2index", rng)
            yield self._sample("item2index", [before, self.text.full[item], after], self._tokens[item], item)

    def _index2item(self, rng: np.random.Generator) -> Iterator[Sample]:
        """From an item's tokens to its text."""
        for item in np.flatnonzero(~self.text.hidden).tolist():
            before, after = self._instruction("index2item", rng)
            answer = self._words(self.text.full[item])
            yield self._sample("index2item", [before, self._tokens[item], after], answer, item)
