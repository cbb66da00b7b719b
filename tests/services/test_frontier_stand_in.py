"""Without any key the local small model stands in for the frontier, and everything says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import pytest
import structlog

from tests.services.provider_doubles import Proxy, ask, configured, proxy
from weir.common.config import Settings
from weir.common.errors import ErrorCode
from weir.common.errors.grpc import from_rpc_error
from weir.v1 import frontier_proxy_pb2 as pb
from weir.v1 import slm_worker_pb2, slm_worker_pb2_grpc, types_pb2


@dataclass
class WorkerDouble(slm_worker_pb2_grpc.SlmWorkerServiceServicer):
    """A worker that answers with fixed pieces, and can be told to stay silent after them."""

    requests: list[slm_worker_pb2.CompleteRequest] = field(default_factory=list)
    hold: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def Complete(
        self, request: slm_worker_pb2.CompleteRequest, context: object
    ) -> AsyncIterator[slm_worker_pb2.CompleteResponse]:
        self.requests.append(request)
        try:
            for text in ("A weir ", "holds water."):
                yield slm_worker_pb2.CompleteResponse(delta=types_pb2.TokenDelta(text=text))
            if self.hold:
                await asyncio.Event().wait()
            usage = types_pb2.Usage(prompt_tokens=11, cached_prompt_tokens=4, completion_tokens=6)
            yield slm_worker_pb2.CompleteResponse(
                finished=slm_worker_pb2.SlmFinished(finish_reason=types_pb2.FINISH_REASON_LENGTH, usage=usage)
            )
        finally:
            self.ended.set()


@pytest.fixture
async def worker() -> WorkerDouble:
    return WorkerDouble()  # type: ignore[abstract]


@pytest.fixture
async def running(worker: WorkerDouble, settings: Settings) -> AsyncIterator[Proxy]:
    server = grpc.aio.server()
    slm_worker_pb2_grpc.add_SlmWorkerServiceServicer_to_server(worker, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    service = {"port": 0, "drain_delay_s": 0, "stand_in_worker": [f"127.0.0.1:{port}"]}
    with structlog.testing.capture_logs() as logs:
        async with proxy(configured(settings, services={"frontier_proxy": service})) as running:
            yield running
    await server.stop(None)
    assert any(log["event"] == "stand_in_active" and log["log_level"] == "warning" for log in logs)


async def test_the_answer_is_the_workers_and_marked(worker: WorkerDouble, running: Proxy) -> None:
    text, finished = await running.forward(ask())
    (usage,) = finished.usage
    assert text == "A weir holds water."
    assert usage.stand_in
    assert usage.model == "gpt-4o"
    assert usage.tier == types_pb2.TIER_FRONTIER
    assert usage.cost_usd == 0
    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens) == (11, 4, 6)
    assert finished.finish_reason == types_pb2.FINISH_REASON_LENGTH
    assert worker.requests[0].prompt.sampling.max_tokens == 1024


async def test_the_list_of_models_marks_it_and_shows_the_real_price(running: Proxy) -> None:
    models = (await running.stub.ListModels(pb.ListModelsRequest())).models
    assert (models[0].model, models[0].stand_in, models[0].available) == ("gpt-4o", True, True)
    assert models[0].input_usd_per_million == 2.5
    assert not any(model.stand_in or model.available for model in models[1:])


async def test_it_stands_in_for_the_configured_model_alone(running: Proxy) -> None:
    _, finished = await running.forward(ask(model="gpt-4o"))
    assert finished.usage[0].stand_in
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.forward(ask(model="gpt-4o-mini"))
    assert from_rpc_error(caught.value).code is ErrorCode.PROVIDER_AUTH


async def test_local_only_is_refused_all_the_same(worker: WorkerDouble, running: Proxy) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.forward(ask(residency=types_pb2.RESIDENCY_LOCAL_ONLY))
    assert from_rpc_error(caught.value).code is ErrorCode.RESIDENCY_FORBIDDEN
    assert not worker.requests


async def test_sent_text_is_continued_as_an_open_turn(worker: WorkerDouble, running: Proxy) -> None:
    await running.forward(ask(continue_from="Well, "))
    *_, last = worker.requests[0].prompt.messages
    assert (last.role, last.content) == (types_pb2.ROLE_ASSISTANT, "Well, ")


async def test_a_constraint_reaches_the_worker_as_it_is(worker: WorkerDouble, running: Proxy) -> None:
    request = ask()
    request.prompt.output.choices.choice.extend(["yes", "no"])
    text, _ = await running.forward(request)
    assert text == "A weir holds water."
    assert list(worker.requests[0].prompt.output.choices.choice) == ["yes", "no"]


async def test_a_cancelled_call_ends_the_workers_stream(worker: WorkerDouble, running: Proxy) -> None:
    worker.hold = True
    call = running.stub.Forward(ask())
    async for _ in call:
        break
    call.cancel()
    async with asyncio.timeout(2):
        await worker.ended.wait()


async def test_where_it_is_switched_off_the_missing_key_is_named(settings: Settings) -> None:
    async with proxy(configured(settings, frontier={"stand_in": False})) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.forward(ask())
    error = from_rpc_error(caught.value)
    assert error.code is ErrorCode.PROVIDER_AUTH
    assert "OPENAI_API_KEY" in error.hint
