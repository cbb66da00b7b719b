"""A router in a process of its own before scripted upstreams, and its spans, for benchmarks."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from stack import free_ports

from weir.common.app import App
from weir.common.channels import connect
from weir.common.config import Settings
from weir.common.config.model import Service
from weir.v1 import (
    frontier_proxy_pb2,
    frontier_proxy_pb2_grpc,
    router_pb2,
    slm_worker_pb2,
    slm_worker_pb2_grpc,
    types_pb2,
)

UPSTREAMS = ("slm_worker", "verifier", "frontier_proxy")
START_TIMEOUT_S = 60.0
ROUTE = "/weir.v1.RouterService/Route"


class _Worker(slm_worker_pb2_grpc.SlmWorkerServiceServicer):
    """Says what a worker says of itself; nothing is generated here."""

    def Complete(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    def Draft(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def GetModelInfo(self, request: Any, context: Any) -> slm_worker_pb2.GetModelInfoResponse:  # noqa: N802
        return slm_worker_pb2.GetModelInfoResponse(model="smollm2-135m-instruct", max_context=8192)

    async def WatchLoad(self, request: Any, context: Any) -> AsyncIterator[slm_worker_pb2.WatchLoadResponse]:  # noqa: N802
        yield slm_worker_pb2.WatchLoadResponse(capacity=8)
        await asyncio.Event().wait()


class _Frontier(frontier_proxy_pb2_grpc.FrontierProxyServiceServicer):
    """Says which model a frontier proxy has."""

    def Forward(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    def GetSpend(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def ListModels(self, request: Any, context: Any) -> frontier_proxy_pb2.ListModelsResponse:  # noqa: N802
        model = frontier_proxy_pb2.FrontierModel(
            model="gpt-4o", provider="scripted", input_usd_per_million=2.5, output_usd_per_million=10.0,
            max_context=128_000, available=True,
        )  # fmt: skip
        return frontier_proxy_pb2.ListModelsResponse(models=[model])


class Spans(trace_service_pb2_grpc.TraceServiceServicer):
    """Collects the durations of `Route` in the service, milliseconds."""

    def __init__(self) -> None:
        self._route_ms: list[float] = []
        self._arrived = asyncio.Condition()

    async def collected(self, count: int) -> list[float]:
        """Wait for so many."""
        async with asyncio.timeout(30), self._arrived:
            await self._arrived.wait_for(lambda: len(self._route_ms) >= count)
            return list(self._route_ms)

    async def Export(self, request: Any, context: Any) -> trace_service_pb2.ExportTraceServiceResponse:  # noqa: N802
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if span.name == ROUTE.lstrip("/"):
                        took = span.end_time_unix_nano - span.start_time_unix_nano
                        self._route_ms.append(took / 1e6)
        async with self._arrived:
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()


@dataclass
class Router:
    """A running router; ``route`` returns the seconds of a round trip."""

    pid: int
    channel: grpc.aio.Channel
    spans: Spans
    _call: Any = field(init=False)

    def __post_init__(self) -> None:
        # Bytes in, bytes out: the client shares the two cores with what is measured.
        self._call = self.channel.unary_unary(ROUTE)

    def processor_s(self) -> float:
        """Seconds of processor time that the service has taken so far."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    async def route(self, request: bytes) -> float:
        started = time.perf_counter()
        await self._call(request)
        return time.perf_counter() - started


def request(text: str) -> bytes:
    """Return a `Route` request as it goes over the wire."""
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content=text)
    return router_pb2.RouteRequest(prompt=types_pb2.Prompt(messages=[message])).SerializeToString()


def _register(server: grpc.aio.Server) -> None:
    slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server(_Worker(), server)
    frontier_proxy_pb2_grpc.add_FrontierProxyServiceServicer_to_server(_Frontier(), server)


@asynccontextmanager
async def upstreams() -> AsyncIterator[str]:
    """Serve what the router asks its upstreams for; yield the address."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    app = App(
        "scripted",
        Service(port=0, drain_delay_s=0, drain_grace_s=0),
        Settings(),
        register=_register,
        grpc_services=[
            "weir.v1.SlmWorkerService", "weir.v1.VerifierService", "weir.v1.FrontierProxyService",
        ],
    )  # fmt: skip
    async with app:
        yield f"127.0.0.1:{app.port}"


@asynccontextmanager
async def running_router(
    upstream: str, variables: Mapping[str, str], *, traced: bool = False
) -> AsyncIterator[Router]:
    """Start a router with these settings in its environment, yield it once it is healthy, stop it."""
    async with AsyncExitStack() as cleanup:
        state = cleanup.enter_context(tempfile.TemporaryDirectory())
        [port] = free_ports(1)
        environment = {f"WEIR_SERVICES__ROUTER__{name.upper()}": f'["{upstream}"]' for name in UPSTREAMS}
        environment |= {
            "WEIR_SERVICES__ROUTER__PORT": str(port),
            "WEIR_STATE__DIRECTORY": str(Path(state)),
            "WEIR_OBSERVABILITY__LOG_LEVEL": "warning",
            **variables,
        }
        spans = Spans()
        if traced:
            environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = await _collect(spans, cleanup)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "weir.router", env={**os.environ, **environment},
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            channel = await cleanup.enter_async_context(connect(f"127.0.0.1:{port}"))
            await _healthy(channel, process)
            yield Router(process.pid, channel, spans)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _collect(spans: Spans, cleanup: AsyncExitStack) -> str:
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(spans, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    cleanup.push_async_callback(server.stop, None)
    return f"http://127.0.0.1:{port}"


async def _healthy(channel: grpc.aio.Channel, process: asyncio.subprocess.Process) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.returncode is None:
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
        except grpc.aio.AioRpcError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("the router did not come up")
