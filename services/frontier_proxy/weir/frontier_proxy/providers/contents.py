"""What the body of an answer holds: an event stream, or one JSON object where a server does not stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import aiohttp

from weir.common.sse import MAX_EVENT_BYTES, SseEvent, sse_events
from weir.frontier_proxy.providers import failures
from weir.frontier_proxy.providers.base import Access

_EVENT_STREAM = "text/event-stream"
_JSON = "application/json"
# How long a connection may take to end an answer that is complete; later it is closed instead of kept.
_TAIL_S = 0.1


async def content_events(access: Access, response: aiohttp.ClientResponse) -> AsyncGenerator[SseEvent, None]:
    """Return the events of an answer with status 200; a JSON object is one of them.

    Raises:
        WeirError: PROVIDER_FAILED for every other type of content, and what an error object tells.
        aiohttp.ClientError: the connection broke.
    """
    if response.content_type == _EVENT_STREAM:
        return sse_events(response.content)
    if response.content_type != _JSON:
        raise failures.no_stream(access, response.content_type)
    data = (await first_bytes(response.content, MAX_EVENT_BYTES)).decode(errors="replace")
    content = failures.parse(access, data)
    if content.get("error"):
        raise failures.told(access, content)
    return _single(data)


async def first_bytes(content: aiohttp.StreamReader, limit: int) -> bytes:
    """Return a body's beginning, of ``limit`` bytes at most."""
    body = bytearray()
    while len(body) < limit and (chunk := await content.read(limit - len(body))):
        body += chunk
    return bytes(body)


async def drained(content: aiohttp.StreamReader) -> None:
    """Read what little may follow a complete answer, so that the connection can serve the next request."""
    if content.at_eof():
        return
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_TAIL_S):
            await first_bytes(content, MAX_EVENT_BYTES)


async def _single(data: str) -> AsyncGenerator[SseEvent, None]:
    yield SseEvent("message", data)
