"""A server's life: start, warm up, SERVING, NOT_SERVING, drain, close."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, Self

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from weir.common.channels import KEEPALIVE_OPTIONS
from weir.common.config import Settings
from weir.common.config.model import Service
from weir.common.errors import ErrorCode, WeirError
from weir.common.garbage import spare_collector
from weir.common.interceptors import AccessLog, Guard, Measured, ServingInterceptor, Tracing

log = structlog.get_logger(__name__)
HEALTH_PERIOD_S = 0.2
MAX_MESSAGE_BYTES = 8 * 2**20


class Component(Protocol):
    """Anything with a life: an engine, a pool of channels, a ledger."""

    async def start(self) -> None:
        """Get ready. Raises WeirError where it cannot."""
        ...

    async def aclose(self) -> None:
        """Free everything; idempotent, and safe before ``start``."""
        ...


class App:
    """One gRPC server with its components, health, reflection and graceful end.

    Args:
        name: the service's short name, as in logs.
        service: where it listens and how it drains.
        settings: the whole configuration.
        register: adds the servicers to the server.
        grpc_services: full names of the gRPC services, for health and reflection.
        components: started in order before the port opens, closed in reverse after the drain.
        healthy: asked five times a second; what it says is what ``grpc.health.v1`` says.
        guards: may refuse a call before its handler runs.
    """

    def __init__(
        self,
        name: str,
        service: Service,
        settings: Settings,
        *,
        register: Callable[[grpc.aio.Server], None],
        grpc_services: Sequence[str],
        components: Sequence[Component] = (),
        healthy: Callable[[], bool] | None = None,
        guards: Sequence[Guard] = (),
    ) -> None:
        self.name, self.service, self.settings = name, service, settings
        self.port = 0
        self._register, self._grpc_services = register, tuple(grpc_services)
        self._components, self._started = tuple(components), list[Component]()
        self._healthy = healthy or (lambda: True)
        self._health = health.aio.HealthServicer()
        self._interceptor = ServingInterceptor(
            [Measured(), AccessLog(), Tracing()],
            stall_timeout_s=service.stalled_reader_timeout_s,
            max_streams=service.max_streams,
            guards=guards,
        )
        self._server: grpc.aio.Server | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the components, open the port, report SERVING.

        Raises:
            WeirError: a component cannot start, or the port is taken.
        """
        try:
            for component in self._components:
                self._started.append(component)
                await component.start()
            await self._open()
        except BaseException:
            await self.aclose()
            raise

    async def _open(self) -> None:
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            *KEEPALIVE_OPTIONS,
        ]
        server = grpc.aio.server(interceptors=[self._interceptor], options=options)
        self._register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*self._grpc_services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        address = f"{self.service.host}:{self.service.port}"
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError as error:
            hint = f"{address} cannot be bound; another process may hold the port."
            raise WeirError(ErrorCode.TIER_UNAVAILABLE, hint, internal=str(error)) from None
        self._server = server
        await server.start()
        await self._tell(self._healthy())
        self._watcher = asyncio.create_task(self._watch_health())
        log.info("serving", service=self.name, address=f"{self.service.host}:{self.port}")

    async def _tell(self, serving: bool) -> None:
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *self._grpc_services):
            await self._health.set(name, status)

    async def _watch_health(self) -> None:
        told = self._healthy()
        while True:
            await asyncio.sleep(HEALTH_PERIOD_S)
            if (now := self._healthy()) is not told:
                log.warning("health_changed", service=self.name, serving=now)
                await self._tell(now)
                told = now

    async def aclose(self) -> None:
        """Drain and close: balancers first, then new calls, then running ones, then what they stand on."""
        if self._watcher:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            self._watcher = None
        server, self._server = self._server, None
        if server:
            await self._health.enter_graceful_shutdown()
            if self.service.drain_delay_s:
                await asyncio.sleep(self.service.drain_delay_s)
            await server.stop(self.service.drain_grace_s)
            await self._interceptor.wait_idle()
        while self._started:
            await self._started.pop().aclose()

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT; a second signal ends the process at once."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        starting, stopping = asyncio.create_task(self.start()), asyncio.create_task(stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
        else:
            try:
                await starting
                spare_collector()
                await stopping
            finally:
                stopping.cancel()
                await self.aclose()
        log.info("stopped", service=self.name)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
