"""What is left at the end is sent, and a collector that is gone keeps no server from ending."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import TracerProvider

from weir.common import telemetry


@dataclass
class Collector(TraceServiceServicer):
    """Notes the names of the spans that come, and may turn each call away."""

    away: bool = False
    calls: list[list[str]] = field(default_factory=list)

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
        self.calls.append([span.name for scope in scopes for span in scope.spans])
        if self.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return ExportTraceServiceResponse()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made, server = Collector(), grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(made, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}")
    server.start()
    yield made
    server.stop(None).wait()


def end_with_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set telemetry up, for nobody else, record one span and close it."""
    providers: list[TracerProvider] = []
    monkeypatch.setattr(trace, "set_tracer_provider", providers.append)
    made = telemetry.Telemetry("test", metrics_host="127.0.0.1", metrics_port=None)
    providers[0].get_tracer("test").start_span("last words").end()
    made.close()


def test_what_is_left_is_sent_at_the_end(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    end_with_a_span(monkeypatch)
    assert collector.calls == [["last words"]]


def test_a_collector_that_is_gone_is_not_tried_again_and_again_at_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "FLUSH_S", 0.2)
    collector.away = True
    end_with_a_span(monkeypatch)
    assert len(collector.calls) <= 1
