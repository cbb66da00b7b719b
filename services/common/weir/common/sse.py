"""Server-sent events, read from a byte stream that may be cut anywhere (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import NamedTuple

import aiohttp

MAX_EVENT_BYTES = 4 * 1024 * 1024


class SseEvent(NamedTuple):
    """One dispatched event; ``event`` is "message" where the stream names none."""

    event: str
    data: str


class SseOverflowError(ValueError):
    """An event grew past the bound."""


class _Lines:
    """Cuts a byte stream into lines ended by LF, CR or CRLF, wherever the chunks were split."""

    def __init__(self) -> None:
        self._tail: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        if b"\n" not in chunk and b"\r" not in chunk:
            self._keep(chunk)
            return []
        lines = (b"".join((*self._tail, chunk)) if self._tail else chunk).splitlines()
        self._tail, self._size = [], 0
        if not chunk.endswith((b"\n", b"\r")):
            self._keep(lines.pop())
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        return lines

    def _keep(self, part: bytes) -> None:
        """Put by the part of a line; joined once the line ends, so that trickled bytes cost no more."""
        self._tail.append(part)
        self._size += len(part)
        if self._size > MAX_EVENT_BYTES:
            raise SseOverflowError(f"a line of more than {MAX_EVENT_BYTES} bytes")


class SseParser:
    """Puts the events of one byte stream together."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Return the events that ``chunk`` completes. Raises SseOverflowError past ``MAX_EVENT_BYTES``."""
        events = []
        for line in self._lines.feed(chunk):
            if line:
                self._take(line)
                continue
            if self._data:
                events.append(self._event())
            self._name = ""
        return events

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._size += len(value)
            if self._size > MAX_EVENT_BYTES:
                raise SseOverflowError(f"an event of more than {MAX_EVENT_BYTES} bytes")
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", errors="replace")

    def _event(self) -> SseEvent:
        data = b"\n".join(self._data).decode("utf-8", errors="replace")
        self._data, self._size = [], 0
        return SseEvent(self._name or "message", data)


async def sse_events(content: aiohttp.StreamReader | AsyncIterable[bytes]) -> AsyncGenerator[SseEvent, None]:
    """Yield the events of a response body (``response.content``) as they are completed.

    Comments and unknown fields are skipped; an event that the stream breaks off in is not dispatched.
    Raises SseOverflowError past ``MAX_EVENT_BYTES``, and whatever reading the content raises.
    """
    chunks = content.iter_any() if isinstance(content, aiohttp.StreamReader) else content
    parser = SseParser()
    async for chunk in chunks:
        for event in parser.feed(chunk):
            yield event
