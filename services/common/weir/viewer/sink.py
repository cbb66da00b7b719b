"""The OTLP/gRPC receiver: spans go to the store; metrics and logs are taken politely and let go."""

from __future__ import annotations

from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from weir.viewer.spans import decode
from weir.viewer.store import TraceStore

Context = grpc.aio.ServicerContext[Any, Any]


class TraceSink(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans; those that the store cannot keep up with are refused as OTLP's partial success."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def Export(  # noqa: N802 - the generated name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Context
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Queue the spans for writing."""
        spans = list(decode(request))
        response = trace_service_pb2.ExportTraceServiceResponse()
        if spans and not self._store.add(spans):
            response.partial_success.rejected_spans = len(spans)
            response.partial_success.error_message = "The trace store cannot keep up; spans were dropped."
        return response


class MetricsSink(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Lets metrics go, so that exporters pointed here by one endpoint variable do not complain."""

    async def Export(  # noqa: N802
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, context: Context
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        """Accept."""
        return metrics_service_pb2.ExportMetricsServiceResponse()


class LogsSink(logs_service_pb2_grpc.LogsServiceServicer):
    """Lets log records go, for the same reason."""

    async def Export(  # noqa: N802
        self, request: logs_service_pb2.ExportLogsServiceRequest, context: Context
    ) -> logs_service_pb2.ExportLogsServiceResponse:
        """Accept."""
        return logs_service_pb2.ExportLogsServiceResponse()


def register(server: grpc.aio.Server, store: TraceStore) -> None:
    """Add the three OTLP services."""
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(TraceSink(store), server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(MetricsSink(), server)  # type: ignore[no-untyped-call]
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(LogsSink(), server)  # type: ignore[no-untyped-call]
