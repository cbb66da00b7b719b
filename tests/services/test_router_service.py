"""The router as a service: its health, its spans, its packaged classifier."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.services import scripted_upstreams
from tests.services.scripted_upstreams import router_bench
from tests.tracing import test_tracing
from weir.common import conventions as names
from weir.common.calls import connect
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.router.app import build
from weir.v1 import types_pb2

SERVICE = "weir.v1.RouterService"
SERVING = health_pb2.HealthCheckResponse.SERVING


async def test_router_is_healthy_while_any_tier_can_be_reached(settings: Settings) -> None:
    async with router_bench(settings) as bench, connect(f"127.0.0.1:{bench.app.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING
        await bench.wires["slm_worker"].cut()
        await bench.wires["verifier"].cut()
        assert (await bench.until(lambda d: d.tier == types_pb2.TIER_FRONTIER)).tier
        await bench.wires["frontier_proxy"].cut()
        async with asyncio.timeout(5):
            assert (await watch.read()).status != SERVING
            await bench.wires["slm_worker"].open()
            assert (await watch.read()).status == SERVING
        watch.cancel()


async def test_server_span_tells_decision_handover_and_cost(settings: Settings) -> None:
    exporter = InMemorySpanExporter()
    test_tracing().add_span_processor(SimpleSpanProcessor(exporter))
    async with router_bench(settings) as bench:
        bench.worker.script.error = WeirError(ErrorCode.ENGINE_CRASHED)
        events = await bench.generate()
    spans = {
        (span.name, span.kind.name): span for span in exporter.get_finished_spans() if "Generate" in span.name
    }
    server = spans["weir.v1.RouterService/Generate", "SERVER"]
    attributes = dict(server.attributes or {})
    assert attributes[names.DECISION_ID] == events[0].decision.decision_id
    assert attributes[names.TIER] == "hybrid"
    assert attributes[names.REASONS] == ("low_complexity",)
    assert attributes[names.COST_USD] == 0
    assert attributes[names.OUTPUT_TOKENS] == 2
    assert [event.name for event in server.events] == ["handoff"]
    verifier = spans["weir.v1.VerifierService/GenerateVerified", "SERVER"]
    assert verifier.context.trace_id == server.context.trace_id
    exporter.shutdown()


async def test_packaged_classifier_decides(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted_upstreams, "build", lambda adapted, _: build(adapted))
    async with router_bench(settings) as bench:
        one = await bench.route("What is the capital of France?")
        other = await bench.route("A bond pays 4 % on 1,200 USD for 7 years, compounded. What is it worth?")
        assert 0 <= one.complexity <= 1
        assert one.complexity != other.complexity
        assert one.classifier_revision == other.classifier_revision != ""
