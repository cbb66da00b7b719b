"""The server's life and what surrounds every RPC, on real servers with a scripted servicer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from tests.metering import metered
from tests.tracing import test_tracing
from weir.client.status_details import TRAILER, read_details
from weir.common import conventions as names
from weir.common.app import App
from weir.common.calls import bidi, connect, stream_from, unary
from weir.common.config import Settings
from weir.common.context import current_call
from weir.common.errors import ErrorCode, WeirError
from weir.v1 import slm_worker_pb2, slm_worker_pb2_grpc, types_pb2

Script = Callable[[slm_worker_pb2.CompleteRequest], AsyncIterator[slm_worker_pb2.CompleteResponse]]


def _delta(text: str) -> slm_worker_pb2.CompleteResponse:
    return slm_worker_pb2.CompleteResponse(delta=types_pb2.TokenDelta(text=text))


class Scripted(slm_worker_pb2_grpc.SlmWorkerServiceServicer):
    """Answers as the test says."""

    def __init__(self) -> None:
        self.complete: Script = self._hello
        self.info: Callable[[], Awaitable[slm_worker_pb2.GetModelInfoResponse]] = self._info
        self.closed = asyncio.Event()
        self.started = asyncio.Event()

    async def _info(self) -> slm_worker_pb2.GetModelInfoResponse:
        return slm_worker_pb2.GetModelInfoResponse(model=current_call().request_id)

    async def _hello(
        self, _: slm_worker_pb2.CompleteRequest
    ) -> AsyncIterator[slm_worker_pb2.CompleteResponse]:
        yield _delta("hello")

    async def endless(
        self, _: slm_worker_pb2.CompleteRequest
    ) -> AsyncIterator[slm_worker_pb2.CompleteResponse]:
        try:
            yield _delta("first")
            self.started.set()
            await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def flood(
        self, _: slm_worker_pb2.CompleteRequest
    ) -> AsyncIterator[slm_worker_pb2.CompleteResponse]:
        try:
            while True:
                yield _delta("x" * 100_000)
        finally:
            self.closed.set()

    async def Complete(self, request: slm_worker_pb2.CompleteRequest, context: Any) -> Any:
        async for response in self.complete(request):
            yield response

    async def GetModelInfo(self, request: slm_worker_pb2.GetModelInfoRequest, context: Any) -> Any:
        return await self.info()

    async def Draft(self, request_iterator: Any, context: Any) -> Any:
        async for request in request_iterator:
            sequence = request.start.chunk_tokens
            yield slm_worker_pb2.DraftResponse(chunk=slm_worker_pb2.DraftChunk(sequence=sequence))


def _app(settings: Settings, servicer: Scripted, **service: Any) -> App:
    return App(
        "slm_worker",
        settings.services.slm_worker.model_copy(update=service),
        settings,
        register=lambda server: slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server(servicer, server),
        grpc_services=["weir.v1.SlmWorkerService"],
    )


@asynccontextmanager
async def _served(
    settings: Settings, servicer: Scripted, **service: Any
) -> AsyncIterator[tuple[App, slm_worker_pb2_grpc.SlmWorkerServiceAsyncStub, grpc.aio.Channel]]:
    async with _app(settings, servicer, **service) as app, connect(f"127.0.0.1:{app.port}") as channel:
        yield app, slm_worker_pb2_grpc.SlmWorkerServiceStub(channel), channel


REQUEST = slm_worker_pb2.CompleteRequest(request_id="r-1")
INFO = slm_worker_pb2.GetModelInfoRequest()


async def test_stream_is_served_and_errors_are_rich(settings: Settings) -> None:
    servicer = Scripted()

    async def refuse(_: slm_worker_pb2.CompleteRequest) -> AsyncIterator[slm_worker_pb2.CompleteResponse]:
        yield _delta("text")
        raise WeirError(ErrorCode.QUEUE_FULL, "Two run already.", retry_after_s=2)

    servicer.complete = refuse
    async with _served(settings, servicer) as (_, stub, _channel):
        call = stub.Complete(REQUEST)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            assert [response.delta.text async for response in call] == ["text"]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailer = dict(caught.value.trailing_metadata() or ())[TRAILER]
    details = read_details(trailer)  # type: ignore[arg-type]
    assert details["ErrorInfo"].reason == "QUEUE_FULL"
    assert details["RetryInfo"].retry_delay.ToMilliseconds() == 2000


async def test_unknown_exception_shows_nothing_of_itself(settings: Settings) -> None:
    servicer = Scripted()

    async def fail() -> slm_worker_pb2.GetModelInfoResponse:
        raise RuntimeError("password=hunter2")

    servicer.info = fail
    async with _served(settings, servicer) as (_, stub, _channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetModelInfo(INFO)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in str(caught.value)


async def test_cancel_closes_the_handler_s_generator(settings: Settings) -> None:
    servicer = Scripted()
    servicer.complete = servicer.endless
    async with _served(settings, servicer) as (_, stub, _channel):
        call = stub.Complete(REQUEST)
        await call.read()
        await servicer.started.wait()
        call.cancel()
        await asyncio.wait_for(servicer.closed.wait(), 5)


async def test_client_that_stalls_is_cut_off(settings: Settings) -> None:
    servicer = Scripted()
    servicer.complete = servicer.flood
    async with _served(settings, servicer, stalled_reader_timeout_s=0.3) as (_, stub, _channel):
        responses = aiter(stub.Complete(REQUEST))
        await anext(responses)
        await asyncio.wait_for(servicer.closed.wait(), 20)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _response in responses:
                pass
    assert caught.value.code() is grpc.StatusCode.ABORTED


async def test_streams_past_the_bound_are_refused(settings: Settings) -> None:
    servicer = Scripted()
    servicer.complete = servicer.endless
    async with _served(settings, servicer, max_streams=1) as (_, stub, _channel):
        first = stub.Complete(REQUEST)
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetModelInfo(INFO)
        first.cancel()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_garbage_on_the_port_leaves_the_server_healthy(settings: Settings) -> None:
    async with _served(settings, Scripted()) as (app, stub, _channel):
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(b"\x00\xffrubbish" * 1000)
        await reader.read()
        writer.close()
        assert [r.delta.text async for r in stub.Complete(REQUEST)] == ["hello"]


async def test_bytes_that_are_no_message_are_refused(settings: Settings) -> None:
    async with _served(settings, Scripted()) as (_, stub, channel):
        raw = channel.unary_stream("/weir.v1.SlmWorkerService/Complete")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _response in raw(b"\x0a\x02\xff\xfe"):  # request_id holding invalid UTF-8
                pass
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "UTF-8" in (caught.value.details() or "")
        assert [r.delta.text async for r in stub.Complete(REQUEST)] == ["hello"]


async def test_health_follows_the_service_and_its_end(settings: Settings) -> None:
    async with _served(settings, Scripted()) as (app, _stub, channel):
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="weir.v1.SlmWorkerService"))
        serving = health_pb2.HealthCheckResponse.SERVING
        assert (await watch.read()).status == serving
        closing = asyncio.create_task(app.aclose())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        await closing


async def test_drain_lets_a_stream_finish(settings: Settings) -> None:
    servicer, release = Scripted(), asyncio.Event()

    async def slow(_: slm_worker_pb2.CompleteRequest) -> AsyncIterator[slm_worker_pb2.CompleteResponse]:
        yield _delta("a")
        await release.wait()
        yield _delta("b")

    servicer.complete = slow
    async with _served(settings, servicer, drain_grace_s=10) as (app, stub, _channel):
        call = stub.Complete(REQUEST)
        responses = aiter(call)
        first = await anext(responses)
        closing = asyncio.create_task(app.aclose())
        release.set()
        rest = [response.delta.text async for response in responses]
        await closing
    assert [first.delta.text, *rest] == ["a", "b"]


async def test_drain_ends_when_the_grace_is_over(settings: Settings) -> None:
    servicer = Scripted()
    servicer.complete = servicer.endless
    async with _served(settings, servicer, drain_grace_s=0.1) as (app, stub, _channel):
        call = stub.Complete(REQUEST)
        await call.read()
        await app.aclose()
        assert servicer.closed.is_set()


async def test_port_in_use_is_one_sentence(settings: Settings) -> None:
    async with _served(settings, Scripted()) as (app, _stub, _channel):
        with pytest.raises(WeirError, match="another process"):
            await _app(settings, Scripted(), port=app.port).start()


async def test_calls_carry_request_id_and_deadline(settings: Settings) -> None:
    inner, outer, seen = Scripted(), Scripted(), []

    async def look() -> slm_worker_pb2.GetModelInfoResponse:
        seen.append((current_call().request_id, current_call().remaining()))
        return slm_worker_pb2.GetModelInfoResponse()

    inner.info = look
    async with _served(settings, inner) as (_, inner_stub, _c1), _served(settings, outer) as (_, stub, _c2):

        async def forward(
            _: slm_worker_pb2.CompleteRequest,
        ) -> AsyncIterator[slm_worker_pb2.CompleteResponse]:
            await unary(inner_stub.GetModelInfo, INFO)
            yield _delta("done")

        outer.complete = forward
        assert [r.delta.text async for r in stub.Complete(REQUEST, timeout=30)] == ["done"]
    ((request_id, remaining),) = seen
    assert request_id == "r-1"
    assert 0 < remaining < 30


async def test_leaving_a_stream_cancels_the_upstream(settings: Settings) -> None:
    servicer = Scripted()
    servicer.complete = servicer.endless
    async with _served(settings, servicer) as (_, stub, _channel):
        async with stream_from(stub.Complete, REQUEST) as responses:
            async for _response in responses:
                break
        await asyncio.wait_for(servicer.closed.wait(), 5)


async def test_upstream_error_comes_back_as_it_was(settings: Settings) -> None:
    servicer = Scripted()

    async def refuse() -> slm_worker_pb2.GetModelInfoResponse:
        raise WeirError(
            ErrorCode.CONTEXT_TOO_LONG, "5 of 4.", fields={"prompt": "long"}, metadata={"max": "4"}
        )

    servicer.info = refuse
    async with _served(settings, servicer) as (_, stub, _channel):
        with pytest.raises(WeirError) as caught:
            await unary(stub.GetModelInfo, INFO)
    error = caught.value
    assert (error.code, error.hint) == (ErrorCode.CONTEXT_TOO_LONG, "5 of 4.")
    assert (error.fields, error.metadata) == ({"prompt": "long"}, {"max": "4"})


async def test_both_directions_stream(settings: Settings) -> None:
    async with _served(settings, Scripted()) as (_, stub, _channel), bidi(stub.Draft) as call:
        for number in (1, 2):
            start = slm_worker_pb2.DraftStart(chunk_tokens=number)
            await call.write(slm_worker_pb2.DraftRequest(start=start))
            reply = await call.read()
            assert reply is not None
            assert reply.chunk.sequence == number
        await call.done_writing()
        assert await call.read() is None


@pytest.fixture
def spans() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    test_tracing().add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def _named(spans: InMemorySpanExporter, kind: str) -> ReadableSpan:
    return next(span for span in spans.get_finished_spans() if span.kind.name == kind)


async def test_one_trace_crosses_the_hop(settings: Settings, spans: InMemorySpanExporter) -> None:
    async with _served(settings, Scripted()) as (_, stub, _channel):
        responses = stream_from(stub.Complete, REQUEST)
        async with responses as answer:
            assert [response.delta.text async for response in answer] == ["hello"]
    client, server = _named(spans, "CLIENT"), _named(spans, "SERVER")
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id
    assert server.name == "weir.v1.SlmWorkerService/Complete"
    assert (server.attributes or {})["rpc.response.status_code"] == "OK"


async def test_cancelled_stream_s_span_ends_with_its_true_status(
    settings: Settings, spans: InMemorySpanExporter
) -> None:
    servicer = Scripted()
    servicer.complete = servicer.endless
    async with _served(settings, servicer) as (_, stub, _channel):
        call = stub.Complete(REQUEST)
        await call.read()
        call.cancel()
        await asyncio.wait_for(servicer.closed.wait(), 5)
    assert (_named(spans, "SERVER").attributes or {})["rpc.response.status_code"] == "CANCELLED"


async def test_an_rpc_is_in_flight_until_it_ends_and_its_duration_is_measured(settings: Settings) -> None:
    metered()
    servicer, method = Scripted(), {names.RPC_METHOD: "weir.v1.SlmWorkerService/Complete"}
    servicer.complete = servicer.endless
    async with _served(settings, servicer) as (_, stub, _channel):
        calls = [stub.Complete(REQUEST) for _ in range(2)]
        for call in calls:
            await call.read()
        during = metered().total(names.IN_FLIGHT, **method)
        for call in calls:
            call.cancel()
    after = metered()
    assert (during, after.total(names.IN_FLIGHT, **method)) == (2, 0)
    assert after.count(names.RPC_SERVER_DURATION, **method, **{names.RPC_STATUS: "CANCELLED"}) == 2


async def test_access_log_has_no_content(settings: Settings) -> None:
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content="my secret question")
    request = slm_worker_pb2.CompleteRequest(prompt=types_pb2.Prompt(messages=[message]))
    with capture_logs() as logs:
        async with _served(settings, Scripted()) as (_, stub, _channel):
            assert [r.delta.text async for r in stub.Complete(request)] == ["hello"]
    line = next(entry for entry in logs if entry["event"] == "rpc")
    assert line["status"] == "OK"
    assert "secret" not in str(logs)
