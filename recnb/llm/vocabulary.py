"""The bridge between an item's codes and a language model's tokens (04_train).

An item is L tokens such as ``<s1_17><s2_3><b1_40><b2_5>``: one special token per column and code. They are added to a
tokenizer together with the summary token ``[CON]``. Item text is untrusted: whatever a title contains, it is encoded
as ordinary text and never as one of these tokens, nor as any special token of the base tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from recnb.llm.plain_text import PlainText

CON = "[CON]"


def index_token(column: str, code: int) -> str:
    """The name of one index token, e.g. ``<s1_17>``."""
    return f"<{column}_{code}>"


def train_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE learned on the catalogue's own text, for a backbone built from scratch.

    Byte-level: any string can be encoded, so no text is ever lost to an unknown token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", padding_side="left"
    )


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer that knows the catalogue.

    Attributes:
        tokenizer: base tokenizer plus L·K index tokens plus ``[CON]``.
        columns: names of the L columns of a code.
        index_tokens: (L, K) token ids.
        item_tokens: (N, L) token ids of every item.
    """

    tokenizer: PreTrainedTokenizerFast
    columns: tuple[str, ...]
    index_tokens: np.ndarray
    item_tokens: np.ndarray

    @classmethod
    def build(cls, tokenizer: PreTrainedTokenizerFast, columns: Sequence[str], codes: np.ndarray, k: int) -> Vocabulary:
        """Add the tokens of L columns of ``k`` codes each to a fast tokenizer, in place (idempotent), and look up those
        of the items by their codes (N, L)."""
        names = [index_token(column, code) for column in columns for code in range(k)]
        tokenizer.add_tokens([*names, CON], special_tokens=True)
        ids = np.array(tokenizer.convert_tokens_to_ids(names), dtype=np.int64).reshape(len(columns), k)
        return cls(tokenizer, tuple(columns), ids, ids[np.arange(len(columns)), codes])

    @property
    def size(self) -> int:
        """V: rows the embedding table needs."""
        return len(self.tokenizer)

    @cached_property
    def con_id(self) -> int:
        """Id of ``[CON]``."""
        return int(self.tokenizer.convert_tokens_to_ids(CON))  # type: ignore[arg-type]

    @property
    def eos_id(self) -> int:
        """Id that ends an answer in words."""
        return int(self.tokenizer.eos_token_id)  # type: ignore[arg-type]

    @property
    def pad_id(self) -> int:
        """Id that fills a batch; EOS where the base tokenizer has no padding token."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.eos_id)  # type: ignore[arg-type]

    @property
    def start(self) -> list[int]:
        """The tokens every prompt begins with: the base tokenizer's BOS, if it has one."""
        bos = self.tokenizer.bos_token_id
        return [] if bos is None else [int(bos)]  # type: ignore[arg-type]

    @cached_property
    def new_ids(self) -> np.ndarray:
        """(L·K + 1,) ids of all added tokens."""
        return np.append(self.index_tokens.ravel(), self.con_id)

    @cached_property
    def _reserved(self) -> frozenset[int]:
        return frozenset(self.new_ids.tolist()) | frozenset(int(i) for i in self.tokenizer.all_special_ids)

    @cached_property
    def plain(self) -> PlainText:
        """Reads text as the characters it has."""
        return PlainText(self.tokenizer, self._reserved)

    def encode(self, texts: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """Ordinary text to token ids; no id is ever an index token, ``[CON]`` or another special token."""
        return [ids[:max_tokens] for ids in self.plain.encode(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        """Token ids to text, without special and index tokens."""
        return str(self.tokenizer.decode([int(i) for i in ids if int(i) not in self._reserved])).strip()
