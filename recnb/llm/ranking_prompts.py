"""Prompts that ask for one item of a list: titles, slots, and where each part of a prompt stands.

A prompt is made of pieces that are tokenized apart, one line per item, the history before the candidates: under a
causal mask the history's states know nothing of what may be chosen (CALRec, arXiv 2405.02429, pools them). A title is
the same tokens wherever it stands, in a list, alone and as an answer. Item text is untrusted: it is one line, it is
spelt as the characters it has, and since items end with a line, no title can look like two. No item's number is shown.
Shown in ``notebooks/rsllm/04_prompts_and_slots.ipynb``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig

from recnb.errors import DataError, RecnbError
from recnb.llm.backbone import build_tokenizer
from recnb.llm.chat import UNCUT, chat_frame, without_brackets
from recnb.llm.plain_text import PlainText
from recnb.llm.pretrained import converted
from recnb.llm.settings import BackboneConfig, PromptsConfig
from recnb.llm.slots import UserStates
from recnb.style import plain

Kind = Literal["text", "hybrid", "slots"]


@dataclass(frozen=True)
class Wording:
    """What is said around the lists; {things} and {Things} are filled in with what items are called.

    Attributes:
        head: in front of the history, which stands one item a line.
        empty: in place of a history without items.
        listed: in front of the candidates.
        question: behind them, where there are candidates; {item}, if it stands in it, is the item that is asked about.
        open: the same, where there are none.
        cue: what the answer follows, in a chat the beginning of the model's own turn.
        labels: in front of the candidates' titles, one for each place, e.g. letters.
    """

    head: str = "{Things} a visitor chose, oldest first:"
    empty: str = "none yet"
    listed: str = "{Things} to choose from:"
    question: str = "Which of these does the same visitor choose next? Answer with its name alone."
    open: str = "What does the same visitor choose next? Answer with its name alone."
    cue: str = "Answer:"
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """Token ids, and what they are.

    Attributes:
        ids: (S,) int64; ``rows`` + i where the slot of item i stands.
        spans: where those parts stand that there are: ``history`` and ``candidates`` (their lines), ``question`` (up to
            the end), ``item`` (title and slot of the item asked about).
        rows: V.
    """

    ids: NDArray[np.int64]
    spans: dict[str, slice]
    rows: int

    @property
    def slots(self) -> NDArray[np.int64]:
        """(S,) the item whose vector stands at each place, -1 at words."""
        return np.where(self.ids >= self.rows, self.ids - self.rows, -1)

    def __len__(self) -> int:
        return len(self.ids)


class RankingPrompts:
    """Writes the prompts of one model over one catalogue.

    Args:
        tokenizer: the model's, a fast one. With a chat template a prompt is one user's turn and the beginning of the
            model's own, without one a text to go on with.
        titles: (N,) what items are called; rows: V, rows of the model's embedding table.
        config: what a prompt shows; wording: what it says.

    Attributes:
        titles: (N,) as they are shown: one line, cut, unique.
        cut, made_unique: items whose title was too long; items given a bracket or a number that tells them from others.
        chat: whether there is a chat template.
        lead: ids that a text by itself begins with (the start of text, where a tokenizer has one and no chat template).
        title_ids: (N,) ids of " title", without special tokens.
        answers: (N,) the same with what ends an answer: the end of a turn, or of a line.
        users: the histories met so far, where prompts have slots of users.

    Raises:
        DataError: a title is empty, or nothing is left of it as tokens.
        RecnbError: the tokenizer has more tokens than the table has rows, or a chat template drops what is said.
    """

    def __init__(
        self, tokenizer: Any, titles: Sequence[str], rows: int, config: PromptsConfig, wording: Wording | None = None
    ) -> None:
        if len(tokenizer) > rows:
            raise RecnbError(f"{len(tokenizer):,} tokens, and a table of {rows:,} rows: expected a row for each token")
        self.tokenizer, self.rows, self.config, self.wording = tokenizer, rows, config, wording or Wording()
        self.plain, self.chat = PlainText(tokenizer), bool(tokenizer.chat_template)
        start = [] if self.chat or tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.lead = np.array(start, np.int64)
        self.before, self.after = chat_frame(tokenizer) if self.chat else ("", "\n")
        self.newline = self.said("\n")
        self.users = UserStates() if "user" in config.slots else None
        self._call(titles)

    def _call(self, titles: Sequence[str]) -> None:
        """Names of the items, and their tokens."""
        full = [plain(title, UNCUT) for title in titles]
        named = full if self.config.brackets else [without_brackets(title) for title in full]
        shown = self._cut(named)
        self.cut = np.flatnonzero([a != b for a, b in zip(named, shown, strict=True)])
        self.titles = unique_titles(shown, self._cut(full))
        self.made_unique = np.flatnonzero([a != b for a, b in zip(self.titles, shown, strict=True)])
        self.title_ids = [np.array(ids, np.int64) for ids in self.plain.encode([f" {title}" for title in self.titles])]
        for item, ids in enumerate(self.title_ids):
            if not len(ids):
                raise DataError(f"item {item}: its title {self.titles[item]!r} is no token; expected a title")
        end = [self.tokenizer.eos_token_id] if self.chat else self.newline
        self.answers = [np.append(ids, end) for ids in self.title_ids]

    def _cut(self, titles: list[str]) -> list[str]:
        """Titles of more than ``title_tokens`` tokens, cut there."""
        most, found = self.config.title_tokens, self.plain.encode([f" {title}" for title in titles])
        kept = self.tokenizer.batch_decode([ids[:most] for ids in found], clean_up_tokenization_spaces=False)
        pairs = zip(titles, found, kept, strict=True)
        return [title if len(ids) <= most else short.strip(" \ufffd") for title, ids, short in pairs]

    def said(self, text: str) -> NDArray[np.int64]:
        """Ids of words of ours: what items are called is filled in, marks of a chat are marks."""
        noun = self.config.noun
        filled = text.replace("{things}", noun).replace("{Things}", noun[:1].upper() + noun[1:])
        return np.array(self.tokenizer.encode(filled, add_special_tokens=False), np.int64)

    def named(self, item: int, kind: Kind, place: str) -> list[NDArray[np.int64]]:
        """Pieces that name an item: its title, its slot or both, at a place that the settings give slots or do not."""
        slot = kind != "text" and (place == "item" or place in self.config.slots)
        title = [] if slot and kind == "slots" else [self.title_ids[item]]
        pieces = [*title, self._slot(item)] if slot else title
        return pieces[::-1] if self.config.vectors_first else pieces

    def _slot(self, row: int) -> NDArray[np.int64]:
        return np.array([self.rows + row], np.int64)

    def lines(self, items: NDArray[Any], kind: Kind, place: str, labels: Sequence[str] = ()) -> NDArray[np.int64]:
        """Ids of a list: each of the items (n,) on a line of its own, behind its label where there are labels."""
        if 0 < len(labels) < len(items):
            raise RecnbError(f"{len(items)} candidates and {len(labels)} labels: expected a label for each")
        pieces = []
        for number, item in enumerate(np.asarray(items).tolist()):
            label = [self.said(labels[number])] if labels else []
            pieces += [*label, *self.named(item, kind, place), self.newline]
        return np.concatenate([np.zeros(0, np.int64), *pieces])

    def history(self, items: NDArray[Any], kind: Kind) -> NDArray[np.int64]:
        """Ids of the latest items of a history (T,) padded with -1, and the slot of its user where there is one: the
        state after all of it."""
        known = np.asarray(items)[np.asarray(items) >= 0][-self.config.history :]
        found = [self.lines(known, kind, "history") if len(known) else self.said(f" {self.wording.empty}\n")]
        if kind != "text" and self.users is not None:
            found += [self._slot(len(self.titles) + self.users.row(np.asarray(items))), self.newline]
        return np.concatenate(found)

    def build(
        self, history: NDArray[Any], candidates: NDArray[Any] | None = None, kind: Kind = "text",
        item: int | None = None,
    ) -> Prompt:  # fmt: skip
        """One prompt.

        Args:
            history: (T,) items, oldest first, padded with -1; the latest ``config.history`` are shown.
            candidates: (C,) what may be chosen, in this order; none, or ``config.candidates`` off: the open prompt.
            kind: titles, titles with slots, or slots in the place of titles, wherever ``config.slots`` has slots.
            item: whom the question is about, where the words ask about one item.
        """
        parts = [("", self.said(f"{self.wording.head}\n")), ("history", self.history(history, kind))]
        if candidates is not None and self.config.candidates:
            listed = self.lines(candidates, kind, "candidates", self.wording.labels)
            parts += [("", self.said(f"{self.wording.listed}\n")), ("candidates", listed)]
            return self.join([*parts, *self._question(self.wording.question, kind, item)])
        return self.join([*parts, *self._question(self.wording.open, kind, item)])

    def _question(self, text: str, kind: Kind, item: int | None) -> list[tuple[str, NDArray[np.int64]]]:
        before, asked, behind = text.partition("{item}")
        if not asked:
            return [("question", self.said(before))]
        if item is None:
            raise RecnbError(f"the question '{text}' is about an item: expected one")
        named = np.concatenate(self.named(item, kind, "item"))
        return [("question", self.said(before)), ("item", named), ("question", self.said(behind))]

    def join(self, parts: Sequence[tuple[str, NDArray[np.int64]]]) -> Prompt:
        """Named parts as one prompt: the start or the user's turn before them, the cue behind them.

        Parts of one name make one span, from the first of them to the end of the last; ``question`` takes in the cue.
        """
        whole = [("", self.lead), ("", self.said(self.before)), *parts, ("question", self.tail)]
        ends = np.cumsum([len(ids) for _, ids in whole]).tolist()
        spans: dict[str, slice] = {}
        for (name, ids), end in zip(whole, ends, strict=True):
            if name:
                spans[name] = slice(spans[name].start if name in spans else end - len(ids), end)
        return Prompt(np.concatenate([ids for _, ids in whole]), spans, self.rows)

    @cached_property
    def tail(self) -> NDArray[np.int64]:
        """Ids of the end of a prompt: the user's turn ends, and the cue."""
        return self.said(self.after + self.wording.cue)

    def alone(self, item: int, kind: Kind = "text") -> NDArray[np.int64]:
        """Ids of an item by itself, behind :attr:`lead`: its title, with its slot, or its slot alone."""
        return np.concatenate([self.lead, *self.named(item, kind, "item")])

    def joined(self) -> NDArray[np.bool_]:
        """(N,) whether a title behind the cue is the same tokens when both are tokenized as one string.

        Where it is not, nothing breaks, as prompts are made of pieces everywhere; a text model has met the other way.
        """
        cue, *both = self.plain.encode([self.wording.cue, *(f"{self.wording.cue} {title}" for title in self.titles)])
        return np.array([[*cue, *ids.tolist()] == one for ids, one in zip(self.title_ids, both, strict=True)])

    def following(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(K,) for each short answer the id that comes first behind the cue, in the string that joins them.

        With a space before it or, where a tokenizer makes the space a token of its own, without.

        Raises:
            RecnbError: answers that begin with the same token, or change the tokens of the cue.
        """
        for space in (" ", ""):
            joined = [self.said(self.after + self.wording.cue + space + text) for text in texts]
            known = all(np.array_equal(ids[: len(self.tail)], self.tail) for ids in joined)
            first = np.array([ids[len(self.tail)] for ids in joined if len(ids) > len(self.tail)], np.int64)
            if known and len(np.unique(first)) == len(texts):
                return first
        raise RecnbError(f"answers {', '.join(texts)} behind '{self.wording.cue}': not told apart by their first token")

    @cached_property
    def letters(self) -> NDArray[np.int64]:
        """(26,) ids of the answers A to Z."""
        return self.following(ascii_uppercase)

    @cached_property
    def yes_no(self) -> NDArray[np.int64]:
        """(2,) ids of the answers Yes and No."""
        return self.following(["Yes", "No"])


def prompts_for(llm: BackboneConfig, titles: Sequence[str], config: PromptsConfig) -> RankingPrompts:
    """The prompts of a recipe's language model: its own tokenizer, or one learned on titles and wording (scratch).

    The model itself is not loaded: V is what its configuration says, or as many rows as the tokenizer has tokens.
    """
    words = [str(text).replace("{things}", config.noun) for text in vars(Wording()).values()]
    tokenizer = build_tokenizer(llm, [*(f" {plain(title, UNCUT)}" for title in titles), *words * 8])
    rows = len(tokenizer)
    if llm.kind == "pretrained":
        page = AutoConfig.from_pretrained(converted(llm.model), local_files_only=True)
        rows = max(rows, page.get_text_config(decoder=True).vocab_size)
    return RankingPrompts(tokenizer, titles, rows, config)


def unique_titles(titles: Sequence[str], full: Sequence[str] | None = None) -> list[str]:
    """Titles that no two items share, capitals or not: with what ``full`` adds to them (a year), then by number.

    Raises:
        DataError: an empty title; the item is named.

    >>> unique_titles(["Heat", "Alien", "heat"], ["Heat (1995)", "Alien (1979)", "Heat (1986)"])
    ['Heat (1995)', 'Alien', 'Heat (1986)']
    >>> unique_titles(["Heat", "Heat", "Heat (2)"])
    ['Heat', 'Heat (3)', 'Heat (2)']
    """
    for item, title in enumerate(titles):
        if not title.strip():
            raise DataError(f"item {item}: its title is empty; expected a title for each item")
    shared = Counter(title.casefold() for title in titles)
    pairs = zip(titles, full or titles, strict=True)
    longer = [whole if shared[title.casefold()] > 1 else title for title, whole in pairs]
    taken, seen, found = {title.casefold() for title in longer}, set(), []
    numbers: Counter[str] = Counter()  # tried already: thousands may be called "Unknown"
    for title in longer:
        name, folded = title, title.casefold()
        if folded in seen:
            while (name := f"{title} ({numbers[folded] + 2})").casefold() in taken:
                numbers[folded] += 1
        seen.add(name.casefold())
        taken.add(name.casefold())
        found.append(name)
    return found
