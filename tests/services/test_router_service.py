"""The router as a service: its health, its spans, its packaged classifier."""

from __future__ import annotations

import asyncio

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.services import scripted_upstreams
from tests.services.scripted_upstreams import prompt, router_bench
from tests.tracing import test_tracing
from weir.common import conventions as names
from weir.common.calls import connect
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.router.app import build
from weir.v1 import router_pb2, types_pb2

SERVICE = "weir.v1.RouterService"
SERVING = health_pb2.HealthCheckResponse.SERVING


async def test_router_is_healthy_while_any_tier_can_be_reached(settings: Settings) -> None:
    async with router_bench(settings) as bench, connect(f"127.0.0.1:{bench.app.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
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
    processor = SimpleSpanProcessor(exporter)
    test_tracing().add_span_processor(processor)
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
    processor.shutdown()


async def test_packaged_classifier_decides(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted_upstreams, "build", lambda adapted, _: build(adapted))
    hard = (
        "Prove that every bounded sequence of real numbers has a convergent subsequence, then generalize. "
        * 6
    )
    async with router_bench(settings) as bench:
        easy = await bench.route("What is the capital of France?")
        other = (await bench.stub.Route(router_pb2.RouteRequest(prompt=prompt(hard)))).decision
        assert 0 <= easy.complexity < other.complexity <= 1
        assert easy.classifier_revision == other.classifier_revision != ""
