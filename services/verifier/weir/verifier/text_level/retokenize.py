"""Another model's text in the verifier's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import llguidance

# Tokens said before that are looked at: those that a tokenizer could have merged with what follows.
RECENT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Retokenized:
    """Tokens, and for each the offset of its end, in bytes of the text given."""

    ids: tuple[int, ...]
    ends: tuple[int, ...]


class Retokenizer:
    """Turns bytes that follow given tokens into more tokens, which spell exactly them.

    Tokens that were said stay as they are, also where the tokenizer would have merged the last of them with
    what follows. Those at the end of the text are left out while more of it could change them.
    """

    def __init__(self, guide: llguidance.LLTokenizer) -> None:
        self._guide = guide

    def tokens(self, text: bytes, said: Sequence[int], *, final: bool = False) -> Retokenized:
        """Return the tokens of ``text`` behind those ``said``; with ``final`` nothing follows it.

        They end before what would read as a control token, which no drafter has a say in.
        """
        ids, rest = self._guide.tokenize_partial(text, recent_tokens=list(said[-RECENT_TOKENS:]))
        if final and rest:
            ids = [*ids, *self._guide.tokenize_bytes(rest)]
        kept: list[int] = []
        ends: list[int] = []
        at = 0
        for token in ids:
            spelled = b"" if self._guide.is_special_token(token) else self._guide.decode_bytes([token])
            if not spelled or not text.startswith(spelled, at):
                break
            at += len(spelled)
            kept.append(token)
            ends.append(at)
        return Retokenized(tuple(kept), tuple(ends))
