"""One replica of an upstream: its channel, and what its health, load and description streams say."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from weir.common.channels import connect
from weir.router.upstreams.balancing import ReplicaLoad
from weir.router.upstreams.ejection import Circuit

SERVING = health_pb2.HealthCheckResponse.SERVING
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 1.0
DESCRIBE_EVERY_S = 5.0
PROBE_TIMEOUT_S = 2.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """What to ask of a replica of one service. ``describe`` and ``watch_load`` are optional RPCs of it."""

    service: str
    describe: Callable[[grpc.aio.Channel], Awaitable[Any]] | None = None
    watch_load: Callable[[grpc.aio.Channel, str], AsyncGenerator[ReplicaLoad]] | None = None


class Replica:
    """A replica at one address. ``changed`` is called whenever it may be used or no longer."""

    def __init__(self, address: str, kind: Kind, changed: Callable[[], None]) -> None:
        self.address = address
        self.description: Any = None
        self.in_flight = 0
        self.judged = asyncio.Event()
        self._kind = kind
        self._changed = changed
        self._serving = False
        self._circuit = Circuit()
        self._load = ReplicaLoad(address)
        self._tasks: list[asyncio.Task[None]] = []
        self._probe: asyncio.Task[None] | None = None
        self.channel: grpc.aio.Channel = connect(address)
        # The published stubs leave out its methods.
        self._health: Any = health_pb2_grpc.HealthStub(self.channel)

    def start(self) -> None:
        """Begin to watch."""
        self._tasks.append(asyncio.create_task(self._forever(self._watch_health)))
        if self._kind.watch_load:
            self._tasks.append(asyncio.create_task(self._forever(self._watch_load)))
        if self._kind.describe:
            self._tasks.append(asyncio.create_task(self._redescribe()))

    @property
    def available(self) -> bool:
        """Whether requests may be sent here now."""
        return self._serving and not self._circuit.ejected

    @property
    def load(self) -> ReplicaLoad:
        """Its last report with our own requests."""
        return replace(self._load, in_flight=self.in_flight)

    def succeeded(self) -> None:
        """Note an answer."""
        self._circuit.succeeded()

    def failed(self) -> None:
        """Note a failure of the replica itself; several in a row eject it."""
        if self._circuit.failed(time.monotonic()):
            log.warning("replica_ejected", address=self.address, service=self._kind.service)
            self._changed()
            self._probe = asyncio.create_task(self._readmit())

    async def aclose(self) -> None:
        """Stop watching and close the channel; idempotent."""
        tasks = [*self._tasks, *([self._probe] if self._probe else [])]
        self._tasks.clear()
        self._probe = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.channel.close()

    async def _forever(self, watch: Callable[[], AsyncGenerator[None]]) -> None:
        """Run a watch again and again; the pause grows while it says nothing."""
        pause = FIRST_BACKOFF_S
        while True:
            try:
                async with contextlib.aclosing(watch()) as reports:
                    async for _ in reports:
                        pause = FIRST_BACKOFF_S
            except grpc.aio.AioRpcError as error:
                log.debug("watch_broken", address=self.address, code=error.code().name)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_BACKOFF_S)

    async def _watch_health(self) -> AsyncGenerator[None]:
        request = health_pb2.HealthCheckRequest(service=self._kind.service)
        call = self._health.Watch(request)
        try:
            async for response in call:
                serving = response.status == SERVING
                if serving and not self._serving:
                    await self._describe()
                self._set_serving(serving=serving)
                yield
        finally:
            call.cancel()
            self._set_serving(serving=False)

    async def _watch_load(self) -> AsyncGenerator[None]:
        assert self._kind.watch_load  # noqa: S101 - started only where there is one
        async with contextlib.aclosing(self._kind.watch_load(self.channel, self.address)) as reports:
            async for load in reports:
                self._load = load
                yield
        self._load = ReplicaLoad(self.address)

    async def _redescribe(self) -> None:
        while True:
            await asyncio.sleep(DESCRIBE_EVERY_S)
            if self._serving:
                await self._describe()

    async def _describe(self) -> None:
        if self._kind.describe is None:
            return
        try:
            self.description = await self._kind.describe(self.channel)
        except grpc.aio.AioRpcError as error:
            log.warning("replica_not_described", address=self.address, code=error.code().name)

    async def _readmit(self) -> None:
        """Wait out the ejection, then probe until the replica proves healthy."""
        until = self._circuit.ejected_until or 0.0
        pause = max(0.0, until - time.monotonic())
        while True:
            await asyncio.sleep(pause)
            if await self._healthy():
                break
            pause = LONGEST_BACKOFF_S
        self._circuit.readmit()
        log.info("replica_readmitted", address=self.address, service=self._kind.service)
        self._changed()

    async def _healthy(self) -> bool:
        request = health_pb2.HealthCheckRequest(service=self._kind.service)
        try:
            response = await self._health.Check(request, timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(response.status == SERVING)

    def _set_serving(self, *, serving: bool) -> None:
        self.judged.set()
        if serving != self._serving:
            self._serving = serving
            log.info("replica_health", address=self.address, service=self._kind.service, serving=serving)
            self._changed()
