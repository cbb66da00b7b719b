"""What happens around every RPC: each concern is one async context manager over the call."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode

from weir.common import conventions as names
from weir.common.context import CallInfo
from weir.common.errors.catalog import CATALOG
from weir.common.errors.grpc import translate
from weir.common.propagation import extract
from weir.common.telemetry import meter, tracer

log = structlog.get_logger(__name__)
# OpenTelemetry's RPC conventions: the statuses that are the server's fault.
_SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
# Probes and reflection would drown what matters.
_QUIET = ("/grpc.health.", "/grpc.reflection.")


@dataclass(slots=True)
class Rpc:
    """One RPC as its scopes see it; ``status`` is final once the innermost scope has been left."""

    info: CallInfo
    metadata: dict[str, str]
    peer: str
    status: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    messages_sent: int = 0

    @property
    def quiet(self) -> bool:
        """Whether this is a probe, of which no log line and no span is made."""
        return self.info.method.startswith(_QUIET)


# Entered before the handler, left after it, whatever its end.
Scope = Callable[[Rpc], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def tracing(rpc: Rpc) -> AsyncIterator[None]:
    """A server span that ends with the RPC's true status, also where the client cancelled."""
    method = rpc.info.method.lstrip("/")
    attributes = {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: method, names.REQUEST_ID: rpc.info.request_id}
    span = tracer().start_span(method, extract(rpc.metadata), kind=SpanKind.SERVER, attributes=attributes)
    rpc.info.span = span
    try:
        yield
    finally:
        span.set_attribute(names.RPC_STATUS, rpc.status.name)
        if rpc.status is not grpc.StatusCode.OK:
            span.set_attribute(names.ERROR_TYPE, rpc.reason or rpc.status.name)
        if rpc.status in _SERVER_FAULTS:
            span.set_status(Status(StatusCode.ERROR, rpc.reason))
        span.end()


@asynccontextmanager
async def access_log(rpc: Rpc) -> AsyncIterator[None]:
    """One line per RPC: who, what, how long, how it ended; no content."""
    started = time.perf_counter()
    try:
        yield
    finally:
        log.info(
            "rpc",
            method=rpc.info.method.lstrip("/"),
            status=rpc.status.name,
            reason=rpc.reason or None,
            seconds=round(time.perf_counter() - started, 4),
            messages=rpc.messages_sent,
            peer=rpc.peer,
            tenant=rpc.info.tenant or None,
        )


class Measured:
    """Counts RPCs in flight and records their durations."""

    def __init__(self) -> None:
        self._in_flight = meter().create_up_down_counter(names.IN_FLIGHT, "{rpc}", "RPCs being served")
        self._duration = meter().create_histogram(names.RPC_SERVER_DURATION, "s", "Duration of served RPCs")

    @asynccontextmanager
    async def __call__(self, rpc: Rpc) -> AsyncIterator[None]:
        """Measure one RPC."""
        method = {names.RPC_METHOD: rpc.info.method.lstrip("/")}
        started = time.perf_counter()
        self._in_flight.add(1, method)
        try:
            yield
        finally:
            self._in_flight.add(-1, method)
            self._duration.record(
                time.perf_counter() - started, {**method, names.RPC_STATUS: rpc.status.name}
            )


def record_failure(rpc: Rpc, error: Exception) -> None:
    """Log what the caller must not see, at a level that fits the fault."""
    known = translate(error)
    rpc.reason = known.code
    rpc.status = CATALOG[known.code].status
    if known.internal:
        unexpected = rpc.status is grpc.StatusCode.INTERNAL
        write = log.error if unexpected else log.info
        write(
            "rpc_failed",
            method=rpc.info.method,
            reason=known.code,
            detail=known.internal,
            exc_info=error if unexpected else None,
        )
