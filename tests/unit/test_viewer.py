"""The trace viewer: what a real exporter sends is stored, bounded, summarized and served as JSON."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

from weir.common import conventions as names
from weir.viewer.app import Viewer
from weir.viewer.spans import Event, Span
from weir.viewer.store import TraceStore

GENERATE = "weir.v1.RouterService/Generate"


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Viewer]:
    viewer = Viewer(folder / "traces.db", http_port=0, otlp_port=0, **options)
    try:
        await viewer.start()
        yield viewer
    finally:
        await viewer.aclose()


@pytest.fixture
async def viewer(tmp_path: Path) -> AsyncIterator[Viewer]:
    async with running(tmp_path) as viewer:
        yield viewer


@pytest.fixture
async def http(viewer: Viewer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(viewer.url) as session:
        yield session


@contextmanager
def exporting(viewer: Viewer, service: str) -> Iterator[trace.Tracer]:
    """A tracer of ``service`` whose spans go to the viewer the moment they end."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"weir-{service}"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(viewer.otlp_endpoint)))
    try:
        yield provider.get_tracer("test")
    finally:
        provider.shutdown()


def export_request(viewer: Viewer) -> str:
    """Send a request's spans from two services, as the services do; return the trace id."""
    with exporting(viewer, "router") as router, exporting(viewer, "slm_worker") as worker:
        attributes: dict[str, Any] = {
            "weir.tier": "slm",
            "weir.model": "small",
            "weir.reasons": ["low_complexity", "pinned"],
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 40,
            "weir.cost.usd": 0.0,
            "weir.frontier_cost.usd": 0.002,
            "weir.stand_in": True,
            "rpc.response.status_code": "OK",
            "gen_ai.input.messages": "what somebody wrote",
        }
        root = router.start_span(GENERATE, kind=SpanKind.SERVER, attributes=attributes)
        name = "weir.v1.SlmWorkerService/Complete"
        with worker.start_as_current_span(
            name, trace.set_span_in_context(root), kind=SpanKind.SERVER
        ) as span:
            span.add_event("first_token", {"position": 1})
            span.set_status(Status(StatusCode.ERROR, "it broke"))
        root.end()
        return f"{root.get_span_context().trace_id:032x}"


async def exported(viewer: Viewer) -> str:
    trace_id = await asyncio.to_thread(export_request, viewer)
    await viewer.store.flush()
    return trace_id


def make_span(number: int, **changes: Any) -> Span:
    fields: dict[str, Any] = {
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "parent_id": "",
        "name": GENERATE,
        "service": "router",
        "kind": "server",
        "start_ns": number * 1000,
        "end_ns": number * 1000 + 10,
        "status": "unset",
        "message": "",
        "attributes": {},
        "events": (Event("first_token", number * 1000, {}),),
    }
    return Span(**{**fields, **changes})


async def test_an_exported_request_appears_in_the_list(viewer: Viewer, http: aiohttp.ClientSession) -> None:
    trace_id = await exported(viewer)
    async with http.get("/api/traces") as response:
        body = await response.json()
    (row,) = body["traces"]
    assert row["trace_id"] == trace_id
    assert (row["tier"], row["model"], row["reason"]) == ("slm", "small", "low_complexity")
    assert (row["input_tokens"], row["output_tokens"], row["spans"]) == (7, 40, 2)
    assert (row["cost_usd"], row["frontier_cost_usd"], row["stand_in"]) == (0.0, 0.002, True)
    assert row["outcome"] == "ok"
    assert body["totals"] == [
        {"tier": "slm", "requests": 1, "output_tokens": 40, "cost_usd": 0, "frontier_cost_usd": 0.002}
    ]


async def test_a_replay_is_marked_in_the_list(viewer: Viewer, http: aiohttp.ClientSession) -> None:
    viewer.store.add([make_span(1), make_span(2, attributes={names.REPLAY: True})])
    await viewer.store.flush()
    async with http.get("/api/traces") as response:
        body = await response.json()
    assert [row["replay"] for row in body["traces"]] == [True, False]


async def test_a_trace_has_the_spans_of_all_services(viewer: Viewer, http: aiohttp.ClientSession) -> None:
    trace_id = await exported(viewer)
    async with http.get(f"/api/traces/{trace_id}") as response:
        spans = (await response.json())["spans"]
    router, worker = sorted(spans, key=lambda span: span["service"])
    assert (router["service"], worker["service"]) == ("router", "slm_worker")
    assert worker["parent_id"] == router["span_id"]
    assert (worker["status"], worker["message"]) == ("error", "it broke")
    assert worker["events"][0]["name"] == "first_token"
    assert worker["events"][0]["attributes"] == {"position": 1}


async def test_message_content_is_never_kept(viewer: Viewer, tmp_path: Path) -> None:
    await exported(viewer)
    with sqlite3.connect(tmp_path / "traces.db") as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert "low_complexity" in dump
    assert "what somebody wrote" not in dump


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("tier=hybrid", {2, 3}),
        ("outcome=error", {3}),
        ("outcome=cancelled", {4}),
        ("tier=hybrid&outcome=ok", {2}),
        ("limit=1", {4}),
        ("before=2000", {1}),
    ],
)
async def test_the_list_is_filtered(
    viewer: Viewer, http: aiohttp.ClientSession, query: str, found: set[int]
) -> None:
    status = "rpc.response.status_code"
    viewer.store.add(
        [
            make_span(1, attributes={"weir.tier": "slm"}),
            make_span(2, attributes={"weir.tier": "hybrid", status: "OK"}),
            make_span(3, attributes={"weir.tier": "hybrid", status: "UNAVAILABLE"}),
            make_span(4, attributes={"weir.tier": "frontier", status: "CANCELLED"}),
        ]
    )
    await viewer.store.flush()
    async with http.get(f"/api/traces?{query}") as response:
        rows = (await response.json())["traces"]
    assert {int(row["trace_id"], 16) for row in rows} == found


async def test_the_routers_span_tells_the_summary_whichever_arrives_first(viewer: Viewer) -> None:
    shared = "a" * 32
    answer = make_span(1, trace_id=shared, parent_id="f" * 16, attributes={"weir.tier": "slm"})
    worker = make_span(2, trace_id=shared, name="work", service="slm_worker", start_ns=1)
    for order in ([answer, worker], [worker, answer]):
        viewer.store.add(order)
        await viewer.store.flush()
        (row,) = await viewer.store.traces()
        assert (row["name"], row["tier"], row["spans"]) == (GENERATE, "slm", 2)


async def test_housekeeping_changes_nothing_for_visitors(tmp_path: Path) -> None:
    noted: list[str] = []
    store = TraceStore(tmp_path / "traces.db", on_change=lambda: noted.append("changed"))
    await store.start()
    for name in ("weir.v1.FrontierProxyService/GetSpend", GENERATE, names.HOUSEKEEPING[0]):
        store.add([make_span(1, name=name)])
        await store.flush()
        noted.append(name)
    await store.aclose()
    assert noted.count("changed") == 1
    assert noted[1:3] == ["changed", GENERATE]


async def test_housekeeping_is_not_listed(viewer: Viewer) -> None:
    viewer.store.add([make_span(1, name="weir.v1.SlmWorkerService/GetModelInfo"), make_span(2)])
    await viewer.store.flush()
    assert [row["name"] for row in await viewer.store.traces()] == [GENERATE]


async def test_the_oldest_traces_make_room(tmp_path: Path) -> None:
    async with running(tmp_path, max_traces=10) as viewer:
        for number in range(1, 31):
            viewer.store.add([make_span(number)])
        await viewer.store.flush()
        rows = await viewer.store.traces(limit=100)
    assert [int(row["trace_id"], 16) for row in rows] == list(range(30, 20, -1))
    with sqlite3.connect(tmp_path / "traces.db") as connection:
        (spans,) = connection.execute("SELECT COUNT(*) FROM spans").fetchone()
    connection.close()
    assert spans == 10


async def test_traces_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as viewer:
        viewer.store.add([make_span(1)])
    async with running(tmp_path) as viewer:
        assert len(await viewer.store.traces()) == 1


async def test_a_damaged_database_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "traces.db").write_bytes(b"this is no database" * 1000)
    async with running(tmp_path) as viewer:
        viewer.store.add([make_span(1)])
        await viewer.store.flush()
        assert len(await viewer.store.traces()) == 1
    damaged = list(tmp_path.glob("traces.db.damaged-*"))  # noqa: ASYNC240 - nothing else runs
    assert damaged


async def test_spans_beyond_the_queue_are_refused(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "traces.db")  # not started: nothing is taken from its queue
    accepted = [store.add([make_span(number)]) for number in range(1000)]
    assert True in accepted
    assert accepted[-1] is False


async def test_oversized_attributes_are_cut(viewer: Viewer) -> None:
    def export() -> str:
        with exporting(viewer, "router") as tracer:
            attributes = {f"key{number}": "x" * 10_000 for number in range(100)}
            span = tracer.start_span(GENERATE, attributes=attributes)
            span.end()
            return f"{span.get_span_context().trace_id:032x}"

    trace_id = await asyncio.to_thread(export)
    await viewer.store.flush()
    found = await viewer.store.trace(trace_id)
    assert found is not None
    kept = found["spans"][0]["attributes"]
    assert len(kept) <= 64
    assert max(map(len, kept.values())) <= 2001


async def test_metrics_are_taken_and_let_go(viewer: Viewer) -> None:
    async with grpc.aio.insecure_channel(viewer.otlp_endpoint.removeprefix("http://")) as channel:
        stub: Any = metrics_service_pb2_grpc.MetricsServiceStub(channel)  # type: ignore[no-untyped-call]
        reply = await stub.Export(metrics_service_pb2.ExportMetricsServiceRequest())
    assert reply == metrics_service_pb2.ExportMetricsServiceResponse()


async def test_a_new_trace_is_announced(viewer: Viewer, http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(10), http.get("/api/changes") as response:
        assert response.content_type == "text/event-stream"
        assert await response.content.readuntil(b"\n\n") == b"data: 0\n\n"
        viewer.store.add([make_span(1)])
        assert await response.content.readuntil(b"\n\n") == b"data: 1\n\n"


@pytest.mark.parametrize(
    "path", ["/api/traces/" + "0" * 32, "/api/traces/nonsense", "/api/traces/%3Cscript%3E"]
)
async def test_an_unknown_trace_is_not_found(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as response:
        assert response.status == 404
        assert "no such trace" in (await response.json())["error"]


@pytest.mark.parametrize("query", ["limit=many", "before=x", "outcome=odd"])
async def test_a_bad_query_is_refused(http: aiohttp.ClientSession, query: str) -> None:
    async with http.get(f"/api/traces?{query}") as response:
        assert response.status == 400


async def test_a_foreign_host_name_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/traces", headers={"Host": "evil.example"}) as response:
        assert response.status == 403


@pytest.mark.parametrize("path", ["/", "/trace/" + "0" * 32, "/static/app.js", "/api/traces"])
async def test_every_response_has_the_strict_policy(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as response:
        assert response.status == 200
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
