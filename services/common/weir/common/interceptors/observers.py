"""What is seen of every RPC: a span, a log line, counts and durations."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import grpc
import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode

from weir.common import conventions as names
from weir.common.context import CallInfo
from weir.common.errors.catalog import CATALOG
from weir.common.errors.grpc import translate
from weir.common.propagation import extract
from weir.common.tally import Tally
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
    """One RPC as its observers see it; ``started`` is on the clock of ``time.perf_counter``."""

    info: CallInfo
    metadata: dict[str, str]
    peer: str
    status: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    messages_sent: int = 0
    started: float = field(default_factory=time.perf_counter)

    @property
    def quiet(self) -> bool:
        """Whether this is a probe, which nobody is told of."""
        return self.info.method.startswith(_QUIET)

    @property
    def name(self) -> str:
        """The method, as ``package.Service/Method``."""
        return self.info.method.lstrip("/")


class Observer(Protocol):
    """Is told of every RPC; plain calls, since they come with each and nothing in them waits."""

    def begun(self, rpc: Rpc) -> None:
        """Take note that the RPC begins."""
        ...

    def ended(self, rpc: Rpc) -> None:
        """Take note of its end; ``status``, ``reason`` and ``messages_sent`` are final."""
        ...


class Tracing:
    """A server span that ends with the RPC's true status, also where the client cancelled."""

    def begun(self, rpc: Rpc) -> None:
        """Start the span, below the caller's."""
        span = tracer().start_span(rpc.name, extract(rpc.metadata), kind=SpanKind.SERVER)
        if span.is_recording():
            span.set_attributes(
                {
                    names.RPC_SYSTEM: "grpc",
                    names.RPC_METHOD: rpc.name,
                    names.REQUEST_ID: rpc.info.request_id,
                }
            )
        rpc.info.span = span

    def ended(self, rpc: Rpc) -> None:
        """End it."""
        span = rpc.info.span
        if not span.is_recording():
            return
        span.set_attribute(names.RPC_STATUS, rpc.status.name)
        if rpc.status is not grpc.StatusCode.OK:
            span.set_attribute(names.ERROR_TYPE, rpc.reason or rpc.status.name)
        if rpc.status in _SERVER_FAULTS:
            span.set_status(Status(StatusCode.ERROR, rpc.reason))
        span.end()


class AccessLog:
    """One line per RPC: who, what, how long, how it ended; no content."""

    def begun(self, rpc: Rpc) -> None:
        """Say nothing yet."""

    def ended(self, rpc: Rpc) -> None:
        """Write the line."""
        log.info(
            "rpc",
            method=rpc.name,
            status=rpc.status.name,
            reason=rpc.reason or None,
            seconds=round(time.perf_counter() - rpc.started, 4),
            messages=rpc.messages_sent,
            peer=rpc.peer,
            tenant=rpc.info.tenant or None,
        )


@cache
def _in_flight() -> Tally:
    """Return the process's tally: two of one name would be shown twice."""
    create = meter().create_observable_up_down_counter
    return Tally(create, names.IN_FLIGHT, "{rpc}", "RPCs being served", (names.RPC_METHOD,))


class Measured:
    """Counts RPCs in flight and records their durations."""

    def __init__(self) -> None:
        self._in_flight = _in_flight()
        self._duration = meter().create_histogram(names.RPC_SERVER_DURATION, "s", "Duration of served RPCs")

    def begun(self, rpc: Rpc) -> None:
        """Count it in."""
        self._in_flight.add(1, rpc.name)

    def ended(self, rpc: Rpc) -> None:
        """Count it out and record how long it took."""
        self._in_flight.add(-1, rpc.name)
        labels = {names.RPC_METHOD: rpc.name, names.RPC_STATUS: rpc.status.name}
        self._duration.record(time.perf_counter() - rpc.started, labels)


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
