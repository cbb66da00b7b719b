"""What the body of an answer holds: an event stream, or one JSON object where a server does not stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import aiohttp

from weir.common.sse import MAX_EVENT_BYTES, SseEvent, SseParser
from weir.frontier_proxy.providers import failures
from weir.frontier_proxy.providers.base import Access
from weir.frontier_proxy.providers.connections import BROKEN, broken

_EVENT_STREAM = "text/event-stream"
_JSON = "application/json"
# How long a connection may take to end an answer that is complete; later it is closed instead of kept.
_TAIL_S = 0.1


class Contents:
    """The events of one answer with status 200, as many at a time as have arrived."""

    def __init__(self, access: Access, response: aiohttp.ClientResponse) -> None:
        self._access, self._response = access, response
        self._parser = SseParser()
        # A JSON object is one event.
        self._whole: SseEvent | None = None

    async def open(self) -> None:
        """Look at what the body is.

        Raises:
            WeirError: PROVIDER_FAILED for what is neither, and for a connection that breaks; what an error
                object in its place tells.
        """
        content_type = self._response.content_type
        if content_type == _EVENT_STREAM:
            return
        if content_type != _JSON:
            raise failures.no_stream(self._access, content_type)
        try:
            body = await first_bytes(self._response.content, MAX_EVENT_BYTES)
        except BROKEN as error:
            raise broken(self._access, error) from None
        self._whole = SseEvent("message", body.decode(errors="replace"))
        content = failures.parse(self._access, self._whole.data)
        if content.get("error"):
            raise failures.told(self._access, content)

    def __aiter__(self) -> Contents:
        return self

    async def __anext__(self) -> Sequence[SseEvent]:
        """Wait for the next events. Raises WeirError PROVIDER_FAILED where the connection breaks."""
        if self._whole:
            event, self._whole = self._whole, None
            return (event,)
        try:
            if chunk := await self._response.content.readany():
                return self._parser.feed(chunk)
        except BROKEN as error:
            raise broken(self._access, error) from None
        raise StopAsyncIteration

    @property
    def over(self) -> bool:
        """Whether the body has been read to its end."""
        return self._response.content.at_eof()

    async def drain(self) -> None:
        """Read what little may follow a whole answer, so that the connection can serve the next request."""
        with suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(_TAIL_S):
                await first_bytes(self._response.content, MAX_EVENT_BYTES)

    def close(self) -> None:
        """Close the connection, unless the body has been read to its end."""
        self._response.close()


async def first_bytes(content: aiohttp.StreamReader, limit: int) -> bytes:
    """Return a body's beginning, of ``limit`` bytes at most."""
    body = bytearray()
    while len(body) < limit and (chunk := await content.read(limit - len(body))):
        body += chunk
    return bytes(body)
