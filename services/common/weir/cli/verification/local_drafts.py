"""A worker without a network: the same servicer, called in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Protocol

import grpc

Draft = Callable[[AsyncIterator[Any], Any], Any]


class Servicer(Protocol):
    """What is called of a worker's."""

    Draft: Draft

    async def GetModelInfo(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Say what runs here."""
        ...


class LocalStub:
    """Stands where a channel's stub of ``SlmWorkerService`` would; deadline and metadata are for networks."""

    def __init__(self, servicer: Servicer) -> None:
        self._servicer = servicer

    def Draft(self, **_: Any) -> _Call:  # noqa: N802 - the stub's name
        """Open a stream."""
        return _Call(self._servicer.Draft)

    def GetModelInfo(self, request: Any, **_: Any) -> asyncio.Task[Any]:  # noqa: N802 - the stub's name
        """Ask what runs there."""
        return asyncio.create_task(self._servicer.GetModelInfo(request, None))


class _Call:
    """What ``weir.common.calls.bidi`` needs of a call."""

    def __init__(self, draft: Draft) -> None:
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._responses: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.create_task(self._pump(draft))

    async def write(self, request: Any) -> None:
        self._requests.put_nowait(request)

    async def done_writing(self) -> None:
        self._requests.put_nowait(None)

    async def read(self) -> Any:
        response = await self._responses.get()
        if response is grpc.aio.EOF:
            self._responses.put_nowait(response)
            await self._task  # raises what ended the stream
        return response

    def cancel(self) -> bool:
        return self._task.cancel()

    async def _incoming(self) -> AsyncIterator[Any]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _pump(self, draft: Draft) -> None:
        try:
            async with aclosing(draft(self._incoming(), None)) as responses:
                async for response in responses:
                    self._responses.put_nowait(response)
        finally:
            self._responses.put_nowait(grpc.aio.EOF)


class LocalUpstream:
    """Stands where ``weir.verifier.upstream.Upstream`` would: deals out one stub."""

    def __init__(self, stub: LocalStub | None) -> None:
        self._stub = stub

    def next(self) -> Any:
        """Return the stub."""
        return self._stub
