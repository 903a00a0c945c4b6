"""Text that nobody checked, as token ids: it never becomes a token with a meaning of its own."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer


class PlainText:
    """A tokenizer that reads every text as the characters it has.

    A title may say ``<|im_end|>`` or ``<eos>``; it is spelt out.

    Args:
        tokenizer: a fast one.
        reserved: ids that never come out; none: those of all added tokens, special or not (chat marks, end of text,
            placeholders).
    """

    def __init__(self, tokenizer: Any, reserved: frozenset[int] | None = None) -> None:
        self.plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.plain.no_padding()
        self.plain.no_truncation()
        self.plain.encode_special_tokens = True
        added = frozenset(map(int, [*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids]))
        self.reserved = added if reserved is None else reserved

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, none of them reserved."""
        encoded = [found.ids for found in self.plain.encode_batch(list(texts), add_special_tokens=False)]
        pairs = zip(encoded, texts, strict=True)
        return [ids if self.reserved.isdisjoint(ids) else self.spell(text) for ids, text in pairs]

    def spell(self, text: str) -> list[int]:
        """Character by character: no character alone is a special token; what still is one is dropped."""
        pieces = self.plain.encode_batch(list(text), add_special_tokens=False)
        return [token for piece in pieces for token in piece.ids if token not in self.reserved]
