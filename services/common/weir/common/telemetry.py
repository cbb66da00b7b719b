"""Traces and metrics: set up once per process, exported by the standard OTEL_ variables."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import structlog
from opentelemetry import metrics, trace
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from weir.common import conventions as names

SCOPE = "weir"
# How long the end waits for a collector: the exporters' own tries go on for ten seconds and more.
FLUSH_S = 2.0
log = structlog.get_logger(__name__)


@cache
def tracer() -> Tracer:
    """Return the process's tracer; it records nothing until a ``Telemetry`` was made."""
    return trace.get_tracer(SCOPE)


def meter() -> Meter:
    """Return the process's meter."""
    return metrics.get_meter(SCOPE)


def _configured(signal: str) -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp") == "none":
        return False
    return any(f"OTEL_EXPORTER_OTLP{part}_ENDPOINT" in os.environ for part in ("", f"_{signal}"))


def _views() -> Sequence[View]:
    seconds = ExplicitBucketHistogramAggregation(names.LATENCY_BUCKETS_S)
    tokens = ExplicitBucketHistogramAggregation(names.TOKEN_BUCKETS)
    return [
        View(instrument_name="*.duration", aggregation=seconds),
        View(instrument_name="*.time_*", aggregation=seconds),
        View(instrument_name="*.token.usage", aggregation=tokens),
    ]


def _serve_prometheus(host: str, port: int) -> tuple[MetricReader, int, Callable[[], None]]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import start_http_server

    server, thread = start_http_server(port, addr=host)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return PrometheusMetricReader(), server.server_address[1], stop


class Telemetry:
    """The process's exporters. ``metrics_port`` is where Prometheus may scrape, ``None`` where it may not."""

    def __init__(self, service: str, *, metrics_host: str, metrics_port: int | None) -> None:
        resource = Resource.create({"service.name": f"weir-{service}", "service.namespace": "weir"})
        self._stops: list[Callable[[], object]] = []
        self._exporters: list[Any] = []
        self.metrics_port: int | None = None
        readers: list[MetricReader] = []
        if metrics_port is not None:
            reader, self.metrics_port, stop = _serve_prometheus(metrics_host, metrics_port)
            readers.append(reader)
            self._stops.append(stop)
        if _configured("METRICS"):
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

            self._exporters.append(OTLPMetricExporter())
            readers.append(PeriodicExportingMetricReader(self._exporters[-1]))
        if readers:
            provider = MeterProvider(readers, resource=resource, views=_views())
            metrics.set_meter_provider(provider)
            self._stops.append(provider.shutdown)
        if _configured("TRACES"):
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            traces = TracerProvider(resource=resource)
            # Half a second: a person who asked a question looks at its trace next.
            self._exporters.append(OTLPSpanExporter())
            traces.add_span_processor(BatchSpanProcessor(self._exporters[-1], schedule_delay_millis=500))
            trace.set_tracer_provider(traces)
            self._stops.append(traces.shutdown)

    def close(self) -> None:
        """Flush and stop every exporter; blocking, a few seconds at most.

        What no collector has taken after ``FLUSH_S`` is lost.
        """
        limit = threading.Timer(FLUSH_S, self._give_up)
        limit.start()
        try:
            self._stop()
        finally:
            limit.cancel()

    def _give_up(self) -> None:
        for exporter in self._exporters:
            exporter.shutdown()

    def _stop(self) -> None:
        while self._stops:
            stop = self._stops.pop()
            try:
                stop()
            except Exception as error:  # a collector that is gone must not keep a server from ending
                log.warning("telemetry_close_failed", error=type(error).__name__)
