"""From tokens to text, as they come: whole characters only, and nothing from a stop string on."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence


def _held(text: str, stops: Sequence[str]) -> int:
    """Return the length of the longest end of ``text`` with which a stop string may begin."""
    longest = min(len(text), max((len(stop) for stop in stops), default=1) - 1)
    for size in range(longest, 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0


class IncrementalText:
    """Turns tokens into text that may be sent at once.

    Bytes of an unfinished character and text that may begin a stop string are held back. At a stop string
    the text ends before it, ``stopped`` is set, and later tokens are ignored.
    """

    def __init__(
        self,
        token_bytes: Callable[[int], bytes],
        stop: Sequence[str] = (),
        *,
        strip_leading_space: bool = False,
    ) -> None:
        self._bytes = token_bytes
        self._stops = tuple(text for text in stop if text)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._strip = strip_leading_space
        self.stopped = False

    @property
    def settled(self) -> bool:
        """Whether nothing is held back."""
        return not self._pending and not self._decoder.getstate()[0]

    def push(self, token_id: int) -> str:
        """Take one token and return the text that is now certain."""
        return "" if self.stopped else self._take(self._decoder.decode(self._bytes(token_id)))

    def push_all(self, token_ids: Iterable[int]) -> str:
        """Take several tokens at once."""
        return "".join(map(self.push, token_ids))

    def flush(self) -> str:
        """End the text: return what was held back; an unfinished character becomes U+FFFD."""
        if self.stopped:
            return ""
        ready = self._take(self._decoder.decode(b"", final=True))
        held, self._pending = self._pending, ""
        return ready + held

    def _take(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            text = text.removeprefix(" ")
        if not self._stops:
            return text
        text = self._pending + text
        found = [at for at in map(text.find, self._stops) if at >= 0]
        if found:
            self.stopped, self._pending = True, ""
            return text[: min(found)]
        keep = len(text) - _held(text, self._stops)
        self._pending = text[keep:]
        return text[:keep]
