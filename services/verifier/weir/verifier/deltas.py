"""From verified tokens to deltas: whole characters, nothing past a stop string, one source each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from weir.engines.base import TextCodec, TokenInfo
from weir.engines.text.incremental import IncrementalText
from weir.verifier.events import Delta, Source
from weir.verifier.rounds import Emitted


class Transcript:
    """The text of one answer as it grows.

    A token that only begins a character, or a possible stop string, goes out with its source and no text;
    the text belongs to the token that makes it certain.
    """

    def __init__(self, codec: TextCodec, stop: Sequence[str]) -> None:
        self._codec = codec
        strip = bool(getattr(codec, "spells_leading_space", False))
        self._text = IncrementalText(codec.token_bytes, stop, strip_leading_space=strip)
        self.tokens = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self._text.stopped

    @property
    def settled(self) -> bool:
        """Whether nothing is held back."""
        return self._text.settled

    def add(self, tokens: Iterable[Emitted]) -> list[Delta]:
        """Take one round's tokens, up to a stop id or stop string, and return what can be sent."""
        deltas: list[Delta] = []
        for token in tokens:
            if self.stopped or token.id in self._codec.stop_ids:
                break
            text = self._text.push(token.id)
            self.tokens += 1
            self._append(deltas, text, token)
        return deltas

    def close(self) -> list[Delta]:
        """End the text: what was held back for a stop string that never came goes out."""
        rest = self._text.flush()
        return [Delta(rest, (), Source.VERIFIER)] if rest else []

    @staticmethod
    def _append(deltas: list[Delta], text: str, token: Emitted) -> None:
        source = Source.DRAFT if token.drafted else Source.VERIFIER
        info = TokenInfo(token.id, token.logprob, token.top)
        if deltas and deltas[-1].source is source:
            last = deltas.pop()
            deltas.append(Delta(last.text + text, (*last.tokens, info), source))
        else:
            deltas.append(Delta(text, (info,), source))
