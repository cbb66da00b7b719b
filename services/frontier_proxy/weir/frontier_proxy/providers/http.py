"""One HTTP session for all providers: posting a request, reading its event stream, naming its failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from weir.common.errors import ErrorCode, WeirError
from weir.common.sse import SseEvent, SseOverflowError
from weir.frontier_proxy.network import PrivateAddressError, public_socket
from weir.frontier_proxy.providers.base import Access
from weir.frontier_proxy.providers.contents import content_events, drained, first_bytes
from weir.frontier_proxy.providers.failures import raise_for_status
from weir.frontier_proxy.providers.rate_limits import Allowances, observe

MAX_ERROR_BYTES = 65_536
# The status says enough where the words that explain it do not come.
ERROR_BODY_S = 5.0


@dataclass(frozen=True, slots=True, repr=False)
class HttpCall:
    """One request. ``headers`` hold the key, so this has no repr."""

    access: Access
    url: str
    headers: dict[str, str]
    body: dict[str, Any]
    model: str = ""


class HttpClient:
    """The shared sessions: certificates are verified, proxies are the route's, no redirects are followed.

    Providers that may be in private networks have a session of their own, so that no connection that was
    opened for one of them serves another provider.
    """

    def __init__(self) -> None:
        self._guarded: aiohttp.ClientSession | None = None
        self._open: aiohttp.ClientSession | None = None
        self._allowances = Allowances()

    async def start(self) -> None:
        """Open the sessions."""
        self._guarded, self._open = _session(guarded=True), _session(guarded=False)
        observe()

    async def aclose(self) -> None:
        """Close every connection."""
        sessions = self._guarded, self._open
        self._guarded = self._open = None
        for session in sessions:
            if session:
                await session.close()

    @asynccontextmanager
    async def events(self, call: HttpCall) -> AsyncIterator[AsyncIterator[SseEvent]]:
        """Post and yield the answer's events; leaving the block early closes the connection.

        Raises WeirError, see ``failures``.
        """
        route = call.access.route
        session = self._guarded if route.guarded else self._open
        if session is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=call.access.connect_timeout_s)
        headers = {"Accept": "text/event-stream", **call.headers}
        with _named(call.access):
            response = await session.post(
                call.url,
                json=call.body,
                headers=headers,
                timeout=timeout,
                proxy=route.proxy,
                ssl=route.tls or True,
                allow_redirects=False,
            )
        try:
            self._allowances.note(call.access.name, call.model, response.headers)
            if response.status != 200:
                raise_for_status(call.access, response.status, response.headers, await _error_body(response))
            with _named(call.access):
                contents = await content_events(call.access, response)
            async with aclosing(_read(call.access, contents)) as events:
                yield events
            await drained(response.content)
        finally:
            response.close()


def _session(*, guarded: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=60, socket_factory=public_socket if guarded else None
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    try:
        async with asyncio.timeout(ERROR_BODY_S):
            return await first_bytes(response.content, MAX_ERROR_BYTES)
    except (aiohttp.ClientError, TimeoutError):
        return b""


async def _read(access: Access, contents: AsyncGenerator[SseEvent, None]) -> AsyncGenerator[SseEvent, None]:
    with _named(access):
        async with aclosing(contents) as events:
            async for event in events:
                yield event


@contextmanager
def _named(access: Access) -> Iterator[None]:
    """Turn what the transport raises into PROVIDER_FAILED; its own words may hold addresses, so they go."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, SseOverflowError, OSError) as error:
        raise WeirError(
            ErrorCode.PROVIDER_FAILED,
            f"The connection to provider '{access.name}' failed{_why(access, error)}.",
            internal=f"{access.name}: {type(error).__name__}",
            metadata={"provider": access.name},
        ) from None


def _why(access: Access, error: Exception) -> str:
    """Say what the operator can do about it; nothing of the transport's own words."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f": its certificate is not trusted (frontier.providers.{access.name}.ca_bundle)"
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return f": the HTTP proxy on the way did not connect (frontier.providers.{access.name}.proxy)"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
    if isinstance(cause, PrivateAddressError):
        return f": it leads into a private network (frontier.providers.{access.name}.allow_private)"
    return ""
