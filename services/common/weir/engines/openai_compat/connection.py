"""The HTTP side of the engine: one session with a server, its errors translated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Health
from weir.engines.openai_compat.failures import Asked, broken_off, connection_errors, response_error
from weir.engines.openai_compat.wire import ModelCard, ModelList

CONNECT_TIMEOUT_S = 5.0
# Longest silence between two parts of an answer; the first waits for the server's own queue.
READ_TIMEOUT_S = 300.0
HEALTH_TIMEOUT_S = 2.0


class Connection:
    """A server under one address.

    Args:
        base_url: without a trailing slash, ending in /v1.
        key: sent as bearer token unless empty.
    """

    def __init__(self, base_url: str, key: str) -> None:
        self.base_url = base_url
        self.closed = False
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Prepare for requests; touches no network."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        # llama.cpp announces keep-alive, and closes after a stream all the same.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._http = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)

    async def aclose(self) -> None:
        """Break off all requests; idempotent, and safe before ``open``."""
        self.closed = True
        if self._http is not None:
            await self._http.close()

    @asynccontextmanager
    async def post(
        self, path: str, body: dict[str, Any], asked: Asked
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; leaving the context closes the connection, read to its end or not.

        Raises:
            WeirError: what the server's status means, ENGINE_CRASHED, STREAM_BROKEN, SHUTTING_DOWN.
        """
        data = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        async with connection_errors():
            response = await self._session().post(f"{self.base_url}{path}", data=data, headers=headers)
            try:
                if response.status != 200:
                    raise await response_error(response, asked)
                yield response
            except (aiohttp.ClientConnectionError, RuntimeError) as error:
                raise self._broken(error) from error
            finally:
                response.close()

    async def models(self) -> list[ModelCard] | None:
        """Ask GET /v1/models; None where the server has no such list.

        Raises:
            WeirError: ENGINE_CRASHED, MODEL_UNAVAILABLE, or what the server's status means.
        """
        async with connection_errors(), self._session().get(f"{self.base_url}/models") as response:
            if response.status == 404:
                return None
            if response.status != 200:
                raise await response_error(response, Asked())
            content = await response.read()
        try:
            return msgspec.json.decode(content, type=ModelList).data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WeirError(
                ErrorCode.MODEL_UNAVAILABLE,
                "No OpenAI-compatible server answers at run.base_url; correct the address (it ends in /v1).",
                internal=str(error),
            ) from None

    async def health(self) -> Health:
        """Ask GET /health, or for the list of models where there is none."""
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                status = await self._status(f"{self.base_url.removesuffix('/v1')}/health")
                if status == 404:
                    status = await self._status(f"{self.base_url}/models")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Health.RESTARTING
        return Health.READY if status in (200, 404) else Health.RESTARTING

    async def _status(self, url: str) -> int:
        async with self._session().get(url) as response:
            return response.status

    def _session(self) -> aiohttp.ClientSession:
        if self.closed:
            raise WeirError(ErrorCode.SHUTTING_DOWN)
        if self._http is None:
            raise WeirError(
                ErrorCode.MODEL_UNAVAILABLE, "The engine has not been started yet; retry shortly."
            )
        return self._http

    def _broken(self, error: Exception) -> Exception:
        # aiohttp raises a RuntimeError for reading on where its session was closed.
        if self.closed:
            return WeirError(ErrorCode.SHUTTING_DOWN)
        return error if isinstance(error, RuntimeError) else broken_off(repr(error))
