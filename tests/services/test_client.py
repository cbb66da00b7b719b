"""The client against a real server: typed events, typed errors, and calls that end when they are left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from weir.client import (
    Decision,
    Delta,
    Finished,
    InvalidRequest,
    Message,
    Output,
    Policy,
    Residency,
    ResourceExhausted,
    Sampling,
    Source,
    Tier,
    Unavailable,
    WeirClient,
)
from weir.common.app import App
from weir.common.config import Settings
from weir.common.context import current_call
from weir.common.errors import ErrorCode, WeirError
from weir.v1 import router_pb2, router_pb2_grpc, types_pb2


class Router(router_pb2_grpc.RouterServiceServicer):
    """Answers as the test says and keeps what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.error: WeirError | None = None
        self.endless = False
        self.closed = asyncio.Event()
        self.deadline: float | None = None

    async def Generate(self, request: router_pb2.GenerateRequest, context: Any) -> Any:
        self.seen.append(request)
        self.deadline = current_call().remaining()
        try:
            yield router_pb2.GenerateResponse(
                decision=router_pb2.Decision(tier=types_pb2.TIER_SLM, model="m")
            )
            delta = types_pb2.TokenDelta(text="Hi", source=types_pb2.SOURCE_SLM)
            yield router_pb2.GenerateResponse(delta=delta)
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.closed.set()
        if self.error:
            raise self.error
        finished = router_pb2.Finished(finish_reason=types_pb2.FINISH_REASON_STOP, cost_usd=0.5)
        yield router_pb2.GenerateResponse(finished=finished)

    async def Route(self, request: router_pb2.RouteRequest, context: Any) -> Any:
        self.seen.append(request)
        if self.error:
            raise self.error
        return router_pb2.RouteResponse(decision=router_pb2.Decision(tier=types_pb2.TIER_HYBRID))

    async def SendFeedback(self, request: router_pb2.SendFeedbackRequest, context: Any) -> Any:
        self.seen.append(request)
        return router_pb2.SendFeedbackResponse()


@pytest.fixture
async def router(settings: Settings) -> AsyncIterator[tuple[Router, WeirClient]]:
    servicer = Router()
    app = App(
        "router",
        settings.services.router,
        settings,
        register=lambda server: router_pb2_grpc.add_RouterServiceServicer_to_server(servicer, server),
        grpc_services=["weir.v1.RouterService"],
    )
    async with app, WeirClient(f"127.0.0.1:{app.port}") as client:
        yield servicer, client


async def test_events_come_typed_and_in_order(router: tuple[Router, WeirClient]) -> None:
    events = [event async for event in router[1].generate("Hello")]
    assert [type(event) for event in events] == [Decision, Delta, Finished]
    decision, delta, finished = events
    assert isinstance(decision, Decision)
    assert isinstance(delta, Delta)
    assert isinstance(finished, Finished)
    assert (decision.tier, delta.source, finished.finish_reason) == (Tier.SLM, Source.SLM, "stop")


async def test_result_gathers_the_whole(router: tuple[Router, WeirClient]) -> None:
    decision, text, finished = await router[1].generate("Hello").result()
    assert (decision.model, text, finished.cost_usd) == ("m", "Hi", 0.5)


async def test_what_is_absent_stays_absent(router: tuple[Router, WeirClient]) -> None:
    servicer, client = router
    await client.generate("Hello").text()
    (request,) = servicer.seen
    assert not request.prompt.sampling.ListFields()
    assert not request.policy.HasField("max_cost_usd")
    assert request.prompt.messages[0].role == types_pb2.ROLE_USER


async def test_what_is_given_arrives(router: tuple[Router, WeirClient]) -> None:
    servicer, client = router
    await client.route(
        [Message("system", "Be brief."), Message("user", "Hello")],
        sampling=Sampling(max_tokens=7, temperature=0.0),
        output=Output(choices=["yes", "no"]),
        policy=Policy(
            residency=Residency.LOCAL_ONLY, allowed_tiers=[Tier.SLM, Tier.HYBRID], max_cost_usd=0.1
        ),
    )
    (request,) = servicer.seen
    assert request.prompt.sampling.HasField("temperature")
    assert list(request.prompt.output.choices.choice) == ["yes", "no"]
    assert request.policy.residency == types_pb2.RESIDENCY_LOCAL_ONLY
    assert list(request.policy.allowed_tiers) == [types_pb2.TIER_SLM, types_pb2.TIER_HYBRID]


async def test_two_constraints_are_refused_before_sending(router: tuple[Router, WeirClient]) -> None:
    with pytest.raises(ValueError, match="regex and choices"):
        router[1].generate("Hello", output=Output(regex="a", choices=["b"]))


async def test_deadline_is_carried(router: tuple[Router, WeirClient]) -> None:
    servicer, client = router
    await client.generate("Hello", timeout=30).text()
    assert servicer.deadline is not None
    assert 0 < servicer.deadline <= 30


async def test_leaving_the_block_cancels(router: tuple[Router, WeirClient]) -> None:
    servicer, client = router
    servicer.endless = True
    async with client.generate("Hello") as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    await asyncio.wait_for(servicer.closed.wait(), 5)


async def test_dropping_the_last_reference_cancels(router: tuple[Router, WeirClient]) -> None:
    servicer, client = router
    servicer.endless = True
    async for event in client.generate("Hello"):
        if isinstance(event, Delta):
            break
    await asyncio.wait_for(servicer.closed.wait(), 5)


async def test_closing_the_client_cancels_what_runs(router: tuple[Router, WeirClient]) -> None:
    servicer, client = router
    servicer.endless = True
    events = client.generate("Hello")
    await anext(events)
    await client.aclose()
    await asyncio.wait_for(servicer.closed.wait(), 5)


async def test_errors_are_typed_with_their_details(router: tuple[Router, WeirClient]) -> None:
    servicer, client = router
    servicer.error = WeirError(ErrorCode.QUEUE_FULL, "Full.", retry_after_s=1.25)
    with pytest.raises(ResourceExhausted) as caught:
        await client.generate("Hello", request_id="r-7").text()
    assert (caught.value.reason, caught.value.retry_after_s) == ("QUEUE_FULL", 1.25)
    assert caught.value.metadata["request_id"] == "r-7"


async def test_bad_fields_are_named(router: tuple[Router, WeirClient]) -> None:
    servicer, client = router
    servicer.error = WeirError(ErrorCode.INVALID_SAMPLING, fields={"prompt.sampling.top_p": "too big"})
    with pytest.raises(InvalidRequest) as caught:
        await client.route("Hello")
    assert caught.value.fields == {"prompt.sampling.top_p": "too big"}


async def test_nobody_listening_is_unavailable() -> None:
    async with WeirClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable) as caught:
            await client.route("Hello", timeout=5)
    assert caught.value.status is grpc.StatusCode.UNAVAILABLE


async def test_feedback_arrives(router: tuple[Router, WeirClient]) -> None:
    servicer, client = router
    await client.send_feedback("d-1", acceptable=False)
    (request,) = servicer.seen
    assert (request.decision_id, request.acceptable, request.HasField("score")) == ("d-1", False, False)
