"""The classifier's limits, cache and exchange as a client of the router sees them."""

from __future__ import annotations

from typing import Any

from tests.services.scripted_upstreams import router_bench
from weir.common.config import Settings
from weir.common.config.routing import Routing
from weir.v1 import router_pb2, types_pb2


def signal(decision: router_pb2.Decision, name: str) -> str:
    return next((each.value for each in decision.signals if each.name == name), "")


def routing(**runtime: Any) -> Routing:
    return Routing.model_validate({"runtime": {"reload_seconds": 0, **runtime}})


async def test_a_slow_classifier_is_not_waited_for_and_the_decision_says_so(settings: Settings) -> None:
    async with router_bench(settings, routing=routing(time_limit_ms=40, cache_entries=0)) as bench:
        bench.classifier.held.clear()
        decision = await bench.route("Say hello slowly.")
        bench.classifier.held.set()
    assert "classifier_slow" in [reason.code for reason in decision.reasons]
    assert signal(decision, "judged_by") == "prior"
    assert decision.classifier_revision == "test"


async def test_a_slow_classifier_cannot_widen_what_is_eligible(settings: Settings) -> None:
    async with router_bench(settings, routing=routing(time_limit_ms=40, cache_entries=0)) as bench:
        bench.classifier.held.clear()
        decision = await bench.route("Keep it here.", residency=types_pb2.RESIDENCY_LOCAL_ONLY)
        bench.classifier.held.set()
    assert types_pb2.TIER_FRONTIER in [exclusion.tier for exclusion in decision.exclusions]
    assert decision.tier != types_pb2.TIER_FRONTIER


async def test_an_identical_prompt_is_judged_once_but_decided_each_time(settings: Settings) -> None:
    async with router_bench(settings, routing=routing(cache_entries=100)) as bench:
        first = await bench.route("Say hello.")
        again = await bench.route("Say hello.", residency=types_pb2.RESIDENCY_LOCAL_ONLY)
        assert bench.classifier.seen == ["Say hello."]
    assert (signal(first, "judged_by"), signal(again, "judged_by")) == ("classifier", "cache")
    assert first.complexity == again.complexity
    assert types_pb2.TIER_FRONTIER in [exclusion.tier for exclusion in again.exclusions]


async def test_nothing_is_kept_of_a_request_with_no_store(settings: Settings) -> None:
    async with router_bench(settings, routing=routing(cache_entries=100)) as bench:
        for _ in range(2):
            await bench.route("Say hello.", no_store=True)
        assert bench.classifier.seen == ["Say hello.", "Say hello."]
