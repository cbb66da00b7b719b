"""One HTTP session for all providers: posting a request, and refusing what is no answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import aiohttp
import msgspec

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.network import public_socket
from weir.frontier_proxy.providers.base import Access
from weir.frontier_proxy.providers.connections import BROKEN, broken
from weir.frontier_proxy.providers.contents import Contents, first_bytes
from weir.frontier_proxy.providers.failures import raise_for_status
from weir.frontier_proxy.providers.rate_limits import Allowances, observe

MAX_ERROR_BYTES = 65_536
# The status says enough where the words that explain it do not come.
ERROR_BODY_S = 5.0
_HEADERS = {"Accept": "text/event-stream", "Content-Type": "application/json"}


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
        self._draining: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the sessions."""
        self._guarded, self._open = _session(guarded=True), _session(guarded=False)
        observe()

    async def aclose(self) -> None:
        """Close every connection."""
        draining = list(self._draining)
        for task in draining:
            task.cancel()
        await asyncio.gather(*draining, return_exceptions=True)
        sessions = self._guarded, self._open
        self._guarded = self._open = None
        for session in sessions:
            if session:
                await session.close()

    async def post(self, call: HttpCall) -> Contents:
        """Post and return the accepted answer, which the caller closes.

        Raises WeirError, see ``failures`` and ``connections``.
        """
        response = await self._response(call)
        try:
            self._allowances.note(call.access.name, call.model, response.headers)
            if response.status != 200:
                await _refuse(call.access, response)
            contents = Contents(call.access, response)
            await contents.open()
        except BaseException:
            response.close()
            raise
        return contents

    def release(self, contents: Contents) -> None:
        """Close an answer that was read whole; its connection serves another request as soon as it can."""
        if contents.over:
            contents.close()
            return
        task = asyncio.create_task(contents.drain())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
        # Also where the task is cancelled before its first step.
        task.add_done_callback(lambda _: contents.close())

    async def _response(self, call: HttpCall) -> aiohttp.ClientResponse:
        access, route = call.access, call.access.route
        session = self._guarded if route.guarded else self._open
        if session is None:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        try:
            return await session.post(
                call.url,
                data=msgspec.json.encode(call.body),
                headers={**_HEADERS, **call.headers},
                timeout=_timeout(access.connect_timeout_s),
                proxy=route.proxy,
                ssl=route.tls or True,
                allow_redirects=False,
            )
        except BROKEN as error:
            raise broken(access, error) from None


@lru_cache
def _timeout(connect_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s)


def _session(*, guarded: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=60, socket_factory=public_socket if guarded else None
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _refuse(access: Access, response: aiohttp.ClientResponse) -> NoReturn:
    try:
        async with asyncio.timeout(ERROR_BODY_S):
            body = await first_bytes(response.content, MAX_ERROR_BYTES)
    except (aiohttp.ClientError, TimeoutError):
        body = b""
    raise_for_status(access, response.status, response.headers, body)
