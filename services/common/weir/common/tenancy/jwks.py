"""An identity provider's keys at hand: fetched once, renewed in the background, kept while it is down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import jwt
import structlog

from weir.common.config.tenancy import Jwt
from weir.common.errors import ErrorCode, WeirError
from weir.common.tenancy.files import WatchedFile
from weir.common.tenancy.key_set import KeySet

log = structlog.get_logger(__name__)
# At most so often the provider is asked for a key that is not known, and after a failure.
RETRY_S, FILE_RETRY_S = 10.0, 0.1
FILE_PERIOD_S = 1.0
FETCH_TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20

# Gives a key set's text, ``None`` where it has not changed. Raises OSError, TimeoutError, ValueError or
# aiohttp.ClientError.
Load = Callable[[], Awaitable[bytes | None]]


class Jwks:
    """The keys of one identity provider.

    Args:
        load: reads them.
        lifetime_s: after it they are read anew, while those at hand stay in use.
        retry_s: least time between two readings that are asked for meanwhile.
        clock: seconds.
    """

    def __init__(
        self, load: Load, lifetime_s: float, retry_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load, self._lifetime_s, self._retry_s, self._clock = load, lifetime_s, retry_s, clock
        self._keys: KeySet | None = None
        self._stale_at = self._next_try = clock()
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the keys; where that fails it is said, and tried again when a token comes."""
        await self._refreshed()

    async def aclose(self) -> None:
        """Stop reading; idempotent."""
        reading, self._reading = self._reading, None
        if reading:
            reading.cancel()
            await asyncio.wait([reading])

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """Return the key that a token names, ``None`` where there is none.

        Raises:
            WeirError: IDENTITY_UNAVAILABLE while no keys could be read at all.
        """
        if self._clock() >= self._stale_at:
            self._refresh()
        found = self._keys.find(key_id, algorithm) if self._keys else None
        if found is None:
            await self._refreshed()
            if self._keys is None:
                raise WeirError(ErrorCode.IDENTITY_UNAVAILABLE)
            found = self._keys.find(key_id, algorithm)
        return found

    def _refresh(self) -> asyncio.Task[None] | None:
        """Return the reading under way, a new one where one is due."""
        if self._reading and not self._reading.done():
            return self._reading
        if self._clock() < self._next_try:
            return None
        self._next_try = self._clock() + self._retry_s
        self._reading = asyncio.create_task(self._read())
        return self._reading

    async def _refreshed(self) -> None:
        """Wait for a reading; it belongs to no caller, so that none can stop it by leaving."""
        if reading := self._refresh():
            await asyncio.wait([reading])

    async def _read(self) -> None:
        try:
            content = await self._load()
            if content is not None:
                self._keys = await asyncio.to_thread(KeySet, content)
        except (OSError, TimeoutError, ValueError, aiohttp.ClientError) as error:
            log.warning("jwks_not_read", reason=type(error).__name__, kept=self._keys is not None)
        else:
            self._stale_at = self._clock() + self._lifetime_s


def configured_jwks(config: Jwt) -> Jwks:
    """Return the keys of ``config``, not yet read."""
    if config.jwks_file:
        file = WatchedFile(config.jwks_file)
        return Jwks(lambda: asyncio.to_thread(file.read_changed), FILE_PERIOD_S, FILE_RETRY_S)
    url = config.jwks_url or ""
    return Jwks(lambda: fetch(url), config.jwks_cache_s, min(RETRY_S, config.jwks_cache_s))


async def fetch(url: str) -> bytes:
    """Return what an address serves. Raises aiohttp.ClientError, TimeoutError, OSError, ValueError."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
        session.get(url, proxy=proxy, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise ValueError("not a key set")
        content = bytearray()
        async for piece in response.content.iter_any():
            content += piece
            if len(content) > MAX_BYTES:
                raise ValueError("too large")
    return bytes(content)
