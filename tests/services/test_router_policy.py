"""Policies and bad input at the router's door, decisions without answers, and labels."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.services.scripted_upstreams import Bench, ScriptedWorker, ask, prompt, router_bench
from weir.client.status_details import TRAILER, read_details
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.v1 import router_pb2, types_pb2

SLM, HYBRID, FRONTIER = types_pb2.TIER_SLM, types_pb2.TIER_HYBRID, types_pb2.TIER_FRONTIER
LOCAL_ONLY = types_pb2.RESIDENCY_LOCAL_ONLY


async def refused(bench: Bench, request: router_pb2.GenerateRequest) -> tuple[grpc.StatusCode, str, str]:
    """Return status, reason and message, and see that the router still answers."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in bench.stub.Generate(request):
            pass
    trailer: Any = dict(caught.value.trailing_metadata() or ())[TRAILER]
    assert (await bench.generate())[-1].WhichOneof("event") == "finished"
    return caught.value.code(), read_details(trailer)["ErrorInfo"].reason, caught.value.details() or ""


def under(output: types_pb2.OutputConstraint | None = None, **policy: Any) -> router_pb2.GenerateRequest:
    return ask(policy=types_pb2.Policy(**policy), output=output)


INVALID = grpc.StatusCode.INVALID_ARGUMENT
REFUSED = grpc.StatusCode.FAILED_PRECONDITION
BAD_REQUESTS = {
    "no messages": (router_pb2.GenerateRequest(), INVALID, "INVALID_PROMPT", "prompt.messages"),
    "long id": (
        router_pb2.GenerateRequest(request_id="x" * 200, prompt=prompt("Hi")),
        INVALID, "INVALID_REQUEST", "request_id",
    ),
    "empty text": (ask("  "), INVALID, "INVALID_PROMPT", "prompt.messages[0].content"),
    "a megabyte": (ask("x" * 2**20), INVALID, "INVALID_PROMPT", "1048576 bytes of text exceed the limit"),
    "NaN temperature": (
        ask(sampling=types_pb2.SamplingParams(temperature=float("nan"))),
        INVALID, "INVALID_SAMPLING", "temperature",
    ),
    "broken schema": (
        ask(output=types_pb2.OutputConstraint(json_schema="{")), INVALID, "INVALID_CONSTRAINT", "json_schema",
    ),
    "contradiction": (
        under(residency=LOCAL_ONLY, allowed_tiers=[FRONTIER]),
        INVALID, "INVALID_POLICY", "LOCAL_ONLY forbids",
    ),
    "tier 0": (under(allowed_tiers=[0]), INVALID, "INVALID_POLICY", "policy.allowed_tiers"),
    "tier 9": (under(allowed_tiers=[9]), INVALID, "INVALID_POLICY", "9 is not a tier"),
    "residency 9": (under(residency=9), INVALID, "INVALID_POLICY", "policy.residency"),
    "NaN cost": (under(max_cost_usd=float("nan")), INVALID, "INVALID_POLICY", "max_cost_usd"),
    "negative budget": (
        under(latency_budget=duration_pb2.Duration(seconds=-1)), INVALID, "INVALID_POLICY", "latency_budget",
    ),
    "unknown domain": (under(domain="cooking"), grpc.StatusCode.NOT_FOUND, "UNKNOWN_ADAPTER", "cooking"),
    "too long for all": (
        ask(sampling=types_pb2.SamplingParams(max_tokens=500_000)), INVALID, "CONTEXT_TOO_LONG", "FRONTIER: ",
    ),
    "cost of nothing": (
        under(max_cost_usd=0, allowed_tiers=[FRONTIER]), REFUSED, "COST_LIMIT", "max_cost_usd",
    ),
    "no tier can": (
        under(output=types_pb2.OutputConstraint(grammar="root ::= 'a'"), allowed_tiers=[FRONTIER]),
        REFUSED, "NO_ELIGIBLE_TIER", "grammar",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_bad_request_gets_its_status_and_a_sentence(settings: Settings, case: str) -> None:
    request, status, reason, sentence = BAD_REQUESTS[case]
    async with router_bench(settings) as bench:
        found = await refused(bench, request)
    assert found[:2] == (status, reason)
    assert sentence in found[2]


async def test_invalid_utf8_is_refused_and_harms_nobody(settings: Settings) -> None:
    raw = ask("valid").SerializeToString().replace(b"valid", b"\xff\xfe\xfa\xfb\xfc")
    async with router_bench(settings) as bench:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{bench.app.port}")
        method: Any = channel.unary_stream("/weir.v1.RouterService/Generate")
        call = method(raw)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() in {grpc.StatusCode.INTERNAL, INVALID}
        await channel.close()
        assert await bench.generate()


async def test_deadline_in_the_past_is_exceeded(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in bench.stub.Generate(ask(), timeout=-1):
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not bench.worker.script.calls


async def test_route_decides_and_generates_nothing(settings: Settings) -> None:
    async with router_bench(settings, complexity=0.9) as bench:
        decision = await bench.route()
        assert (decision.tier, decision.model) == (FRONTIER, "gpt-4o")
        assert decision.complexity_threshold == pytest.approx(0.72)
        assert decision.classifier_revision == "test"
        assert decision.estimated_cost_usd > 0
        assert not any(script.calls for script in bench.scripts.values())


async def test_latency_is_estimated_once_measured(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        assert not (await bench.route()).HasField("estimated_latency")
        await bench.generate()
        assert (await bench.route()).estimated_latency.ToNanoseconds() > 0


async def test_exclusions_are_listed_with_their_reasons(settings: Settings) -> None:
    async with router_bench(settings, complexity=0.9) as bench:
        decision = await bench.route(residency=LOCAL_ONLY)
        assert decision.tier == HYBRID
        assert [(e.tier, e.reason.code) for e in decision.exclusions] == [(FRONTIER, "residency")]


async def test_default_residency_applies_where_none_is_stated(settings: Settings) -> None:
    routing = settings.routing.model_copy(update={"default_residency": "local_only"})
    async with router_bench(settings, complexity=0.9, routing=routing) as bench:
        assert (await bench.route()).tier == HYBRID
        assert (await bench.route(residency=types_pb2.RESIDENCY_ANY)).tier == FRONTIER


async def test_open_circuit_of_the_frontier_excludes_it(settings: Settings) -> None:
    async with router_bench(settings, complexity=0.9) as bench:
        bench.frontier.model.available = False
        await bench.wires["frontier_proxy"].cut()
        await bench.until(lambda d: d.tier == HYBRID)
        await bench.wires["frontier_proxy"].open()
        decision = await bench.until(lambda d: bool(d.exclusions))
        assert [(e.tier, e.reason.code) for e in decision.exclusions] == [(FRONTIER, "unavailable")]


policies = st.builds(
    types_pb2.Policy,
    residency=st.sampled_from([LOCAL_ONLY, types_pb2.RESIDENCY_UNSPECIFIED]),
    allowed_tiers=st.lists(st.sampled_from([SLM, HYBRID, FRONTIER])),
    max_cost_usd=st.none() | st.floats(0, 1),
    latency_budget=st.none() | st.builds(duration_pb2.Duration, seconds=st.integers(1, 5)),
    no_store=st.booleans(),
    domain=st.sampled_from(["", "legal"]),
)
failures = st.none() | st.sampled_from(
    [ErrorCode.ENGINE_CRASHED, ErrorCode.CONTEXT_TOO_LONG, ErrorCode.UNSUPPORTED, ErrorCode.QUEUE_FULL]
)


async def test_content_that_must_stay_never_reaches_the_frontier(settings: Settings) -> None:
    """Whatever the policy, the complexity and the local tiers' failures; LOCAL_ONLY is the default here."""
    routing = settings.routing.model_copy(update={"default_residency": "local_only"})
    cases: list[tuple[types_pb2.Policy, float, ErrorCode | None, ErrorCode | None]] = []

    @examples(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(policies, st.floats(0, 1), failures, failures)
    def collect(
        policy: types_pb2.Policy, complexity: float, one: ErrorCode | None, other: ErrorCode | None
    ) -> None:
        cases.append((policy, complexity, one, other))

    collect()
    async with router_bench(settings, routing=routing, worker=ScriptedWorker(adapters=("legal",))) as bench:
        for policy, complexity, one, other in cases:
            bench.classifier.complexity = complexity
            bench.worker.script.error = WeirError(one) if one else None
            bench.verifier.script.error = WeirError(other) if other else None
            with suppress(grpc.aio.AioRpcError):
                await bench.generate(policy=policy)
        assert not bench.frontier.script.calls
        assert all(call.residency == LOCAL_ONLY for call in bench.verifier.script.calls)


async def test_feedback_is_stored_for_a_known_decision_only(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        decision = (await bench.generate())[0].decision
        label = router_pb2.SendFeedbackRequest(decision_id=decision.decision_id, acceptable=True, score=0.5)
        assert await bench.stub.SendFeedback(label) == router_pb2.SendFeedbackResponse()
        label.decision_id = "unknown"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bench.stub.SendFeedback(label)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "fields",
    [{"score": float("nan")}, {"score": float("inf")}, {}, {"comment": "x" * 5000}, {"decision_id": ""}],
)
async def test_feedback_that_says_nothing_or_nonsense_is_refused(
    settings: Settings, fields: dict[str, Any]
) -> None:
    async with router_bench(settings) as bench:
        given_fields = {"decision_id": (await bench.route()).decision_id, **fields}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bench.stub.SendFeedback(router_pb2.SendFeedbackRequest(**given_fields))
        assert caught.value.code() is INVALID
