"""Server-sent events, read from a byte stream that may be cut anywhere (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterator
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

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        if b"\n" not in chunk and b"\r" not in chunk:
            self._keep(chunk)
            return
        lines = b"".join((*self._tail, chunk)).splitlines()
        self._tail, self._size = [], 0
        if not chunk.endswith((b"\n", b"\r")):
            self._keep(lines.pop())
        for line in lines:
            yield line.removeprefix(b"\xef\xbb\xbf") if self._at_start else line
            self._at_start = False

    def _keep(self, part: bytes) -> None:
        """Put by the part of a line; joined once the line ends, so that trickled bytes cost no more."""
        self._tail.append(part)
        self._size += len(part)
        if self._size > MAX_EVENT_BYTES:
            raise SseOverflowError(f"a line of more than {MAX_EVENT_BYTES} bytes")


class _Event:
    """The event that is being put together, field by field."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def take(self, line: bytes) -> SseEvent | None:
        """Add a line; returns the event where the line ends one."""
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", errors="replace")
        if name == b"data":
            self._size += len(value)
            if self._size > MAX_EVENT_BYTES:
                raise SseOverflowError(f"an event of more than {MAX_EVENT_BYTES} bytes")
            self._data.append(text)
        elif name == b"event":
            self._name = text
        return None

    def _dispatch(self) -> SseEvent | None:
        event = SseEvent(self._name or "message", "\n".join(self._data)) if self._data else None
        self._name, self._data, self._size = "", [], 0
        return event


async def sse_events(content: aiohttp.StreamReader | AsyncIterable[bytes]) -> AsyncGenerator[SseEvent, None]:
    """Yield the events of a response body (``response.content``) as they are completed.

    Comments and unknown fields are skipped; an event that the stream breaks off in is not dispatched.
    Raises SseOverflowError past ``MAX_EVENT_BYTES``, and whatever reading the content raises.
    """
    chunks = content.iter_any() if isinstance(content, aiohttp.StreamReader) else content
    lines, event = _Lines(), _Event()
    async for chunk in chunks:
        for line in lines.feed(chunk):
            if (done := event.take(line)) is not None:
                yield done
