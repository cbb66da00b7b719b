"""One HTTP session for all providers: posting a request, reading its event stream, naming its failures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from weir.common.errors import ErrorCode, WeirError
from weir.common.sse import SseEvent, SseOverflowError, sse_events
from weir.frontier_proxy.providers.base import Access
from weir.frontier_proxy.providers.failures import raise_for_status

MAX_ERROR_BYTES = 65_536


@dataclass(frozen=True, slots=True, repr=False)
class HttpCall:
    """One request. ``headers`` hold the key, so this has no repr."""

    access: Access
    url: str
    headers: dict[str, str]
    body: dict[str, Any]


class HttpClient:
    """The shared session: certificates are verified, proxies come from the environment, no redirects."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session:
            await session.close()

    @asynccontextmanager
    async def events(self, call: HttpCall) -> AsyncIterator[AsyncIterator[SseEvent]]:
        """Post and yield the answer's events; leaving the block early closes the connection.

        Raises WeirError, see ``failures``.
        """
        if self._session is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=call.access.connect_timeout_s)
        headers = {"Accept": "text/event-stream", **call.headers}
        with _named(call.access):
            response = await self._session.post(
                call.url,
                json=call.body,
                headers=headers,
                timeout=timeout,
                proxy=environment_proxy(call.url),
                allow_redirects=False,
            )
        try:
            if response.status != 200:
                raise_for_status(call.access, response.status, response.headers, await _error_body(response))
            events = _read(call.access, response)
            async with aclosing(events):
                yield events
        finally:
            response.close()


def environment_proxy(url: str) -> str | None:
    """Return the proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name for ``url``.

    aiohttp's own ``trust_env`` would also read ``~/.netrc`` and replace the provider's key by what it finds.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return None if not proxy or proxy_bypass(parts.netloc) else proxy


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.read(MAX_ERROR_BYTES)
    except aiohttp.ClientError:
        return b""


async def _read(access: Access, response: aiohttp.ClientResponse) -> AsyncGenerator[SseEvent, None]:
    async with aclosing(sse_events(response.content)) as events:
        while True:
            with _named(access):
                event = await anext(events, None)
            if event is None:
                return
            yield event


@contextmanager
def _named(access: Access) -> Iterator[None]:
    """Turn what the transport raises into PROVIDER_FAILED; its own words may hold addresses, so they go."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, SseOverflowError, OSError) as error:
        raise WeirError(
            ErrorCode.PROVIDER_FAILED,
            f"The connection to provider '{access.name}' failed.",
            internal=f"{access.name}: {type(error).__name__}",
            metadata={"provider": access.name},
        ) from None
