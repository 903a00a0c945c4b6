"""What a language model is asked about a session: a list of items, then the view. LLM4SBR section 3.2.

The list comes first and the view last, so that every prefix of a session and every view of it are forks of one list
(:class:`recnb.llm.continuations.Forks`). Item text is untrusted: one line per item whatever the title holds, and no
token with a meaning of its own. Shown in ``notebooks/llm4sbr/04_intents.ipynb``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np

from recnb.llm.chat import UNCUT, chat_frame, without_brackets
from recnb.llm.plain_text import PlainText
from recnb.llm4sbr.settings import IntentsConfig
from recnb.settings import read_wing
from recnb.style import plain

if TYPE_CHECKING:
    from recnb.llm.continuations import Forks

WORDS: dict[str, Any] = read_wing("recnb.llm4sbr", "prompts.yaml")
_QUOTES = " \"'`*_“”‘’«»"
_ITEM = re.compile(rf"_\d+(?=[{_QUOTES}]*$)")
_TIDY: tuple[Callable[[str], str], ...] = (
    partial(re.compile(r"^(?:[-*•] |\d{1,3}[.)](?!\d)) *").sub, ""),  # a number or mark of a list
    methodcaller("strip", _QUOTES),
    partial(re.compile(r"(?<=[^ ]) *\([^()]*$").sub, ""),  # a bracket left open
)


def shown_titles(titles: Sequence[str], config: IntentsConfig) -> list[str]:
    """(N,) how each item stands in a prompt: one line without control characters, cut, with its number if asked for."""
    cut = [_bracketed(plain(title, UNCUT), config)[: config.title_length].rstrip() for title in titles]
    if not config.with_ids:
        return cut
    return [WORDS["named"].format(title=title, item=item) for item, title in enumerate(cut)]


def _bracketed(title: str, config: IntentsConfig) -> str:
    return title if config.brackets else without_brackets(title)


def known_titles(shown: Iterable[str], config: IntentsConfig) -> frozenset[str]:
    """Titles as :func:`shown_titles` gives them, without numbers and in lower case: what needs no cleaning."""
    return frozenset(_unnumbered(title, config).casefold() for title in shown)


def _unnumbered(title: str, config: IntentsConfig) -> str:
    return _ITEM.sub("", title) if config.with_ids else title


def clean_answer(text: str, config: IntentsConfig, known: Container[str] = ()) -> str:
    """The first line of what a model wrote, as a title would stand in a prompt.

    Control characters and an item's number are taken away; a leading ``1.``, quotes and a bracket that the end of the
    answer left open until it is one of the :func:`known_titles`: "12. Juli" is a film.

    Example:
        >>> clean_answer(' 1. "Heat (1995)" \\n2. Casino', IntentsConfig())
        'Heat (1995)'
    """
    lines = text.lstrip().splitlines()
    line = _unnumbered(plain(lines[0] if lines else "", UNCUT), config)
    for tidy in _TIDY:
        line = line if line.casefold() in known else tidy(line)
    return _bracketed(line, config)


def aligned_left(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (A, T) filled with -1 on the left -> (A, T) filled on the right, and (A,) how many items each has."""
    counts = (inputs >= 0).sum(1)
    width = inputs.shape[1]
    columns = (np.arange(width) + width - counts[:, None]) % width
    return np.take_along_axis(inputs, columns, axis=1), counts


def shared_lists(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which inputs are beginnings of others, so that one list serves both.

    Sorted, an input stands right before those that go on where it ends; if the next one does, that one's list serves.

    Args:
        inputs: (A, T) distinct rows of items, oldest first, -1 on the right.

    Returns:
        (L,) rows whose lists are read, and (A,) the list of each input, as a place among those.
    """
    order = np.lexsort(inputs.T[::-1])
    ranked = inputs[order]
    begins = ((ranked[:-1] == ranked[1:]) | (ranked[:-1] < 0)).all(1)
    read = np.append(~begins, True)
    served_by = np.empty(len(inputs), np.int64)
    served_by[order] = np.cumsum(read) - read
    return order[read], served_by


@dataclass(frozen=True)
class Prompter:
    """Writes the prompts of one model over one catalogue.

    Attributes:
        tokenizer: the model's.
        titles: (N,) as :func:`shown_titles` gives them.
        words: what is said to a model of its kind: chat, or one that only continues a text.
        noun: what items are called.
        plain: encodes what nobody checked.
        start: token ids before the first item.
        after: what a chat template puts behind the question, and how the model's own turn begins.
    """

    tokenizer: Any
    titles: Sequence[str]
    words: dict[str, str]
    noun: str
    plain: PlainText
    start: np.ndarray
    after: str

    @classmethod
    def build(cls, tokenizer: Any, titles: Sequence[str], config: IntentsConfig) -> Prompter:
        """Words, chat template and titles for a tokenizer.

        Raises:
            RecnbError: a chat template that does not write what a user says.
        """
        chat = bool(tokenizer.chat_template)
        before, after = chat_frame(tokenizer, "intents.model") if chat else ("", "")
        words = WORDS["chat" if chat else "base"]
        start = _encode(tokenizer, before + _filled(words["head"], config.noun))
        if not chat and tokenizer.bos_token_id is not None:
            start = np.append(tokenizer.bos_token_id, start)
        plain_text, after = PlainText(tokenizer), after + words["answer"]
        return cls(tokenizer, shown_titles(titles, config), words, config.noun, plain_text, start, after)

    def ending(self, view: str, count: int) -> np.ndarray:
        """Token ids behind a list of ``count`` items that ask for a view."""
        return _encode(self.tokenizer, _filled(self.words[view], self.noun, count + 1) + self.after)

    def forks(self, inputs: np.ndarray, views: Sequence[str]) -> Forks:
        """All questions about distinct inputs (A, T), -1 on the left: A x views forks, the views of an input together.

        Raises:
            RecnbError: an input without items.
        """
        from recnb.llm.continuations import Forks  # transformers, for whom nothing else here waits

        rows, counts = aligned_left(inputs)
        read, served_by = shared_lists(rows)
        tokens, starts, lengths = self._lines(rows)
        ends = len(self.start) + np.cumsum(lengths, axis=1)  # (A, T)
        cuts = np.where(counts > 0, np.take_along_axis(ends, counts[:, None] - 1, axis=1)[:, 0], 0)
        lists = [np.append(self.start, one) for one in _gathered(tokens, starts[read], lengths[read])]
        endings = {(view, count): self.ending(view, count) for view in views for count in np.unique(counts).tolist()}
        asked = [endings[view, count] for count in counts.tolist() for view in views]
        return Forks(lists, np.repeat(served_by, len(views)), np.repeat(cuts, len(views)), asked)

    def _lines(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Token ids of all lines needed, one behind the other; where each line of (A, T) starts; how long it is."""
        cells = np.where(rows >= 0, rows * rows.shape[1] + np.arange(rows.shape[1]), -1)
        distinct, which = np.unique(cells, return_inverse=True)
        pairs = [divmod(cell, rows.shape[1]) for cell in distinct[distinct >= 0].tolist()]
        texts = [WORDS["line"].format(number=place + 1, title=self.titles[item]) for item, place in pairs]
        newline = _encode(self.tokenizer, "\n").tolist()
        lines = [[]] * bool((distinct < 0).any()) + [line + newline for line in self.plain.encode(texts)]
        lengths = np.array([len(line) for line in lines], np.int64)
        which = which.reshape(rows.shape)
        flat = np.array([token for line in lines for token in line], np.int64)
        return flat, (np.cumsum(lengths) - lengths)[which], lengths[which]

    def spoken(self) -> list[np.ndarray]:
        """(N,) token ids of each title as the model would answer with it, up to the end of its line or turn."""
        turn = self.tokenizer.eos_token_id if self.words is WORDS["chat"] else None
        ends = _encode(self.tokenizer, "\n").tolist() if turn is None else [turn]
        texts = self.plain.encode([f" {title}" for title in self.titles])  # a number or a colon stands before it
        return [np.array([*ids, *ends], np.int64) for ids in texts]

    def stops(self) -> list[int]:
        """Ids that end an answer: every token with a line break in it, and every token that is no text."""
        texts = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
        breaks = {token for token, text in enumerate(texts) if "\n" in text}
        special = {token for token, added in self.tokenizer.added_tokens_decoder.items() if added.special}
        return sorted(breaks | special | set(self.tokenizer.all_special_ids))

    def decode(self, ids: np.ndarray) -> list[str]:
        """What the model wrote (F, max_tokens), -1 behind each end, as text."""
        rows = [row[row >= 0].tolist() for row in ids]
        return list(self.tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _filled(words: str, noun: str, following: int = 0) -> str:
    """Words of ours with the noun and the number that the list would go on with."""
    return words.format(things=noun, Things=noun[:1].upper() + noun[1:], next=following)


def _encode(tokenizer: Any, text: str) -> np.ndarray:
    """Token ids of words of ours, chat marks among them."""
    return np.asarray(tokenizer.encode(text, add_special_tokens=False), np.int64)


def _gathered(flat: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Runs of ``flat`` by their starts and lengths (L, T), those of a row joined: L arrays."""
    runs, firsts = lengths.ravel(), starts.ravel()
    within = np.arange(runs.sum()) - np.repeat(np.cumsum(runs) - runs, runs)
    joined = flat[np.repeat(firsts, runs) + within]
    return np.split(joined, np.cumsum(lengths.sum(1))[:-1])
