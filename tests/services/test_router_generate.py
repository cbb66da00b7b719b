"""Answers through a real router on scripted upstreams: choice, stream, fall-back, failure, cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.services.scripted_upstreams import ScriptedWorker, ask, router_bench
from weir.client.status_details import TRAILER, read_details
from weir.common.config import Settings
from weir.common.config.model import HybridTier, LocalModel, SlmTier
from weir.common.errors import ErrorCode, WeirError
from weir.v1 import router_pb2, types_pb2, verifier_pb2

SLM, HYBRID, FRONTIER = types_pb2.TIER_SLM, types_pb2.TIER_HYBRID, types_pb2.TIER_FRONTIER


def kinds(events: list[router_pb2.GenerateResponse]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


def text(events: list[router_pb2.GenerateResponse]) -> str:
    return "".join(event.delta.text for event in events)


def reason(error: grpc.aio.AioRpcError) -> str:
    trailers = dict(error.trailing_metadata() or ())
    return str(read_details(trailers[TRAILER])["ErrorInfo"].reason)


def codes(decision: router_pb2.Decision) -> list[str]:
    return [item.code for item in decision.reasons]


@pytest.mark.parametrize(("complexity", "tier"), [(0.1, SLM), (0.5, HYBRID), (0.9, FRONTIER)])
async def test_complexity_decides_the_tier_that_answers(
    settings: Settings, complexity: float, tier: types_pb2.Tier.ValueType
) -> None:
    async with router_bench(settings, complexity=complexity) as bench:
        events = await bench.generate()
        assert kinds(events) == ["decision", "delta", "delta", "finished"]
        assert events[0].decision.tier == tier
        assert text(events) == "one two"
        assert [bool(script.calls) for script in bench.scripts.values()] == [tier == t for t in bench.scripts]


async def test_finished_sums_costs_and_prices_the_frontier_alternative(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        local = (await bench.generate())[-1].finished
        assert local.cost_usd == 0
        assert local.frontier_cost_usd == pytest.approx((10 * 2.5 + 2 * 10) / 1e6)
        assert local.confidence == pytest.approx(0.9)
        bench.classifier.complexity = 0.9
        dear = (await bench.generate())[-1].finished
        assert dear.cost_usd == pytest.approx(0.001)
        assert dear.timing.total.ToNanoseconds() >= dear.timing.time_to_first_token.ToNanoseconds() > 0


async def test_tokens_are_stripped_unless_asked_for(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        assert not any(event.delta.tokens for event in await bench.generate())
        detailed = await bench.generate(token_detail=True)
        assert [len(event.delta.tokens) for event in detailed] == [0, 1, 1, 0]


async def test_tier_defaults_fill_only_what_was_left_open(settings: Settings) -> None:
    tiers = settings.tiers.model_copy(update={"slm": SlmTier(temperature=0.2, top_p=0.9, max_tokens=77)})
    async with router_bench(settings, tiers=tiers) as bench:
        await bench.generate(sampling=types_pb2.SamplingParams(temperature=0.0))
        sampling = bench.worker.script.calls[0].prompt.sampling
        assert sampling.HasField("temperature")
        assert (sampling.temperature, sampling.max_tokens) == (0.0, 77)
        assert sampling.top_p == pytest.approx(0.9)
        assert not sampling.HasField("seed")


async def test_acceptance_threshold_of_the_configuration_reaches_the_verifier(settings: Settings) -> None:
    async with router_bench(settings, complexity=0.5) as bench:
        await bench.generate()
        assert bench.verifier.script.calls[0].acceptance.WhichOneof("rule") == "lossless"
    tiers = settings.tiers.model_copy(
        update={
            "hybrid": HybridTier(
                acceptance_threshold=0.88, fallback_below=0.2, takeover="stretch", escalate_below=0.3
            )
        }
    )
    async with router_bench(settings, complexity=0.5, tiers=tiers) as bench:
        await bench.generate()
        call = bench.verifier.script.calls[0]
        threshold = call.acceptance.threshold
        assert threshold.min_probability == pytest.approx(0.88)
        assert threshold.fallback_below == pytest.approx(0.2)
        assert threshold.takeover == verifier_pb2.TAKEOVER_STRETCH
        assert call.escalate_below == pytest.approx(0.3)
        assert call.residency == types_pb2.RESIDENCY_ANY


async def test_verifier_may_not_escalate_where_the_frontier_is_not_allowed(settings: Settings) -> None:
    tiers = settings.tiers.model_copy(update={"hybrid": HybridTier(escalate_below=0.3)})
    async with router_bench(settings, complexity=0.5, tiers=tiers) as bench:
        await bench.generate(policy=types_pb2.Policy(allowed_tiers=[SLM, HYBRID]))
        call = bench.verifier.script.calls[0]
        assert call.escalate_below == 0
        assert call.residency == types_pb2.RESIDENCY_LOCAL_ONLY


async def test_handoffs_of_the_verifier_are_passed_on(settings: Settings) -> None:
    async with router_bench(settings, complexity=0.5) as bench:
        bench.verifier.handoff = router_pb2.Handoff(
            from_tier=HYBRID, to_tier=FRONTIER, reason=router_pb2.Reason(code="low_acceptance"), kept_tokens=2
        )
        events = await bench.generate()
        assert kinds(events) == ["decision", "delta", "delta", "handoff", "finished"]
        assert events[3].handoff == bench.verifier.handoff


async def test_another_tier_takes_over_before_the_first_token(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        bench.worker.script.error = WeirError(ErrorCode.ENGINE_CRASHED)
        events = await bench.generate()
        assert kinds(events) == ["decision", "handoff", "delta", "delta", "finished"]
        handoff = events[1].handoff
        assert (handoff.from_tier, handoff.to_tier, handoff.reason.code) == (SLM, HYBRID, "tier_failed")
        assert handoff.kept_tokens == 0
        assert [usage.tier for usage in events[-1].finished.usage] == [HYBRID]


async def test_failed_attempt_that_cost_something_is_in_the_usage(settings: Settings) -> None:
    spent = {"cost_usd": "0.002", "prompt_tokens": "7", "completion_tokens": "3"}
    async with router_bench(settings, complexity=0.9) as bench:
        bench.frontier.script.error = WeirError(ErrorCode.PROVIDER_FAILED, metadata=spent)
        finished = (await bench.generate())[-1].finished
        assert next((usage.tier, usage.cost_usd) for usage in finished.usage) == (FRONTIER, 0.002)
        assert finished.usage[0].completion_tokens == 3
        assert finished.cost_usd == pytest.approx(0.002)


async def test_nothing_takes_over_after_the_first_token(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        bench.worker.script.error, bench.worker.script.fail_at = WeirError(ErrorCode.ENGINE_CRASHED), 1
        received: list[router_pb2.GenerateResponse] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for event in bench.stub.Generate(ask()):
                received.append(event)  # noqa: PERF401 - what came before the error is wanted
        assert text(received) == "one "
        assert reason(caught.value) == "ENGINE_CRASHED"
        assert not bench.verifier.script.calls


async def test_upstream_killed_in_mid_stream_ends_the_stream_with_stream_broken(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        bench.worker.script.hold_at = 1
        call: Any = bench.stub.Generate(ask())
        assert (await call.read()).WhichOneof("event") == "decision"
        assert (await call.read()).delta.text == "one "
        await bench.wires["slm_worker"].cut()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(caught.value) == "STREAM_BROKEN"
        bench.worker.script.release.set()


async def test_stream_that_ends_without_a_finish_falls_back(settings: Settings) -> None:
    class Cut(ScriptedWorker):
        async def Complete(self, request, context):  # type: ignore[no-untyped-def]
            self.script.calls.append(request)
            return
            yield

    async with router_bench(settings, worker=Cut()) as bench:
        events = await bench.generate()
        assert events[1].handoff.to_tier == HYBRID


async def test_full_queue_is_refused_and_not_turned_into_cost(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        bench.worker.script.error = WeirError(ErrorCode.QUEUE_FULL)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bench.generate()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason(caught.value) == "QUEUE_FULL"
        assert not bench.frontier.script.calls


async def test_client_cancel_reaches_the_upstream(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        bench.worker.script.hold_at = 1
        call = bench.stub.Generate(ask())
        await call.read()
        await call.read()
        await bench.worker.script.holding.wait()
        call.cancel()
        async with asyncio.timeout(2):
            await bench.worker.script.closed.wait()
        bench.worker.script.hold_at = None
        assert kinds(await bench.generate())[-1] == "finished"


async def test_deadline_is_carried_to_the_upstream(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        async for _ in bench.stub.Generate(ask(), timeout=5):
            pass
        (remaining,) = bench.worker.script.deadlines
        assert remaining is not None
        assert 4 < remaining < 5


async def test_deadline_that_passes_in_mid_stream_ends_the_upstream(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        bench.worker.script.hold_at = 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in bench.stub.Generate(ask(), timeout=0.4):
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(2):
            await bench.worker.script.closed.wait()


async def test_stalled_client_is_let_go_and_frees_the_upstream(settings: Settings) -> None:
    router = settings.services.router.model_copy(update={"stalled_reader_timeout_s": 0.3})
    stalling = settings.model_copy(
        update={"services": settings.services.model_copy(update={"router": router})}
    )
    async with router_bench(stalling) as bench:
        bench.worker.script.pieces = ["x" * 100_000] * 400
        call = bench.stub.Generate(ask())
        await call.read()
        async with asyncio.timeout(10):
            await bench.worker.script.closed.wait()
        call.cancel()
        bench.worker.script.pieces = ["fine"]
        assert text(await bench.generate()) == "fine"


async def test_cost_limit_is_passed_on_and_spent_by_attempts(settings: Settings) -> None:
    async with router_bench(settings, complexity=0.9) as bench:
        await bench.generate(policy=types_pb2.Policy(max_cost_usd=0.02))
        assert bench.frontier.script.calls[0].max_cost_usd == pytest.approx(0.02)


async def test_cost_limit_shortens_a_priced_local_answer(settings: Settings) -> None:
    slm = SlmTier(run=LocalModel(input_usd_per_million=0, output_usd_per_million=100))
    tiers = settings.tiers.model_copy(update={"slm": slm})
    async with router_bench(settings, tiers=tiers) as bench:
        bench.worker.script.finish = types_pb2.FINISH_REASON_LENGTH
        events = await bench.generate(policy=types_pb2.Policy(max_cost_usd=0.01, allowed_tiers=[SLM]))
        assert bench.worker.script.calls[0].prompt.sampling.max_tokens == 100
        assert events[-1].finished.finish_reason == types_pb2.FINISH_REASON_BUDGET


async def test_answer_that_breaks_its_schema_has_no_confidence(settings: Settings) -> None:
    schema = types_pb2.OutputConstraint(json_schema='{"type": "object", "required": ["name"]}')
    async with router_bench(settings) as bench:
        bench.worker.script.pieces = ['{"age":', " 3}"]
        events = await bench.generate(output=schema)
        assert codes(events[0].decision) == ["schema_constrained"]
        assert events[-1].finished.confidence == 0
        bench.worker.script.pieces = ['{"name":', ' "Al"}']
        assert (await bench.generate(output=schema))[-1].finished.confidence > 0.5


async def test_stand_in_is_told_in_the_decision(settings: Settings) -> None:
    async with router_bench(settings, worker=ScriptedWorker(model="another-model")) as bench:
        decision = await bench.route()
        assert decision.model == "another-model"
        assert codes(decision) == ["low_complexity", "stand_in"]


async def test_pinned_domain_selects_the_adapter(settings: Settings) -> None:
    async with router_bench(settings, complexity=0.95, worker=ScriptedWorker(adapters=("legal",))) as bench:
        events = await bench.generate(policy=types_pb2.Policy(domain="legal"))
        assert codes(events[0].decision) == ["domain_pinned"]
        assert bench.worker.script.calls[0].adapter == "legal"


async def test_tier_that_went_down_is_excluded_and_comes_back(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        await bench.wires["slm_worker"].cut()
        decision = await bench.until(lambda d: d.tier == HYBRID)
        assert [(e.tier, e.reason.code) for e in decision.exclusions] == [(SLM, "unavailable")]
        assert codes(decision)[-1] == "fallback_excluded"
        await bench.wires["slm_worker"].open()
        await bench.until(lambda d: d.tier == SLM)


async def test_only_tier_down_is_unavailable_with_a_delay(settings: Settings) -> None:
    async with router_bench(settings) as bench:
        await bench.wires["slm_worker"].cut()
        await bench.until(lambda d: d.tier == HYBRID)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bench.generate(policy=types_pb2.Policy(allowed_tiers=[SLM]))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(caught.value) == "TIER_UNAVAILABLE"
