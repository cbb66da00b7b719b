"""What the proxy measures of providers and models: circuits, tokens by class, retries and hedges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.metering import Metered, metered
from tests.tracing import test_tracing as tracing
from weir.common import conventions as names
from weir.common.config.frontier import Frontier
from weir.common.errors import ErrorCode
from weir.engines.base import ChatMessage, Sampling
from weir.frontier_proxy import meters
from weir.frontier_proxy.circuits import measured, observe
from weir.frontier_proxy.domain import AttemptUsage, TokenCounts
from weir.frontier_proxy.prices import load_prices
from weir.frontier_proxy.providers.base import ProviderRequest
from weir.frontier_proxy.providers.stand_in import StandInProvider
from weir.frontier_proxy.selection import Candidate, Selection

LABELS = {names.PROVIDER: "stand_in", names.REQUEST_MODEL: "gpt-4o"}


def candidate() -> Candidate:
    frontier = Frontier.model_validate({"circuit_breaker": {"consecutive_failures": 1}})
    return measured(StandInProvider(["127.0.0.1:1"]), load_prices({})["gpt-4o"], frontier)


def fail(candidate: Candidate) -> None:
    permit = candidate.breaker.admit()
    assert permit
    permit.failed(ErrorCode.PROVIDER_FAILED)


def states(measures: Metered) -> list[float]:
    return [
        point.value
        for point in measures.points.get(names.FRONTIER_CIRCUIT, [])
        if dict(point.attributes) == LABELS
    ]


def test_the_state_of_a_circuit_is_measured_when_it_is_asked_for() -> None:
    made = candidate()
    selection = Selection("gpt-4o", [made])
    observe(selection)
    before = states(metered())
    fail(made)
    after = states(metered())
    assert (before, after) == ([0], [2])


def test_an_opening_is_counted_and_logged_by_its_cause() -> None:
    metered()
    with capture_logs() as logged:
        fail(candidate())
    counted = metered().total(
        names.FRONTIER_CIRCUIT_OPENED, **LABELS, **{names.CAUSE: "consecutive_failures"}
    )
    assert counted == 1
    (line,) = logged
    assert (line["event"], line["log_level"]) == ("circuit_opened", "warning")
    assert (line["provider"], line["model"], line["seconds"]) == ("stand_in", "gpt-4o", 15)


def test_a_named_wait_is_no_warning() -> None:
    permit = candidate().breaker.admit()
    assert permit
    with capture_logs() as logged:
        permit.rest(3)
    assert [(line["log_level"], line["cause"]) for line in logged] == [("info", "rate_limit")]


def test_what_an_answer_survived_is_counted_where_it_happened() -> None:
    made = candidate()
    metered()
    meters.retried(made, ErrorCode.RATE_LIMITED)
    meters.fell_back(made, ErrorCode.PROVIDER_FAILED)
    meters.switched(made, ErrorCode.STREAM_BROKEN)
    counted = metered()
    assert counted.total(names.FRONTIER_RETRIES, **LABELS, **{names.ERROR_TYPE: "RATE_LIMITED"}) == 1
    assert counted.total(names.FRONTIER_FALLBACKS, **LABELS, **{names.ERROR_TYPE: "PROVIDER_FAILED"}) == 1
    assert counted.total(names.FRONTIER_SWITCHES, **LABELS, **{names.ERROR_TYPE: "STREAM_BROKEN"}) == 1


def test_hedges_their_wins_and_their_price_are_counted() -> None:
    made = candidate()
    metered()
    meters.hedge_sent(made)
    meters.hedge_sent(made)
    meters.hedge_won(made)
    meters.hedge_paid(made, 2_500_000)
    counted = metered()
    assert counted.by(names.FRONTIER_HEDGES, names.HEDGE) == {"sent": 2, "won": 1}
    assert counted.total(names.FRONTIER_HEDGE_COST, **LABELS) == 0.0025


def test_an_attempt_is_measured_with_its_outcome_its_tokens_and_its_price() -> None:
    request = ProviderRequest("gpt-4o", (ChatMessage("user", "Name a river."),), Sampling())
    metered()
    telemetry = meters.AttemptTelemetry("stand_in", request, stand_in=False, replay=True)
    assert telemetry.first_text() >= 0
    counts = TokenCounts(prompt=10, completion=7, cached=4, cache_write=1, reasoning=5)
    telemetry.end(AttemptUsage("gpt-4o", "stand_in", counts, 3_000_000), "STREAM_BROKEN")
    counted = metered()
    assert counted.by(names.FRONTIER_ATTEMPTS, names.OUTCOME) == {"STREAM_BROKEN": 1}
    assert counted.by(names.FRONTIER_TOKENS, names.TOKEN_CLASS) == {
        "input": 5, "cached_input": 4, "cache_write": 1, "output": 2, "reasoning": 5,
    }  # fmt: skip
    assert counted.total(names.FRONTIER_COST, **LABELS) == 0.003
    assert {point.attributes[names.REPLAY] for point in counted.points[names.FRONTIER_ATTEMPTS]} == {True}
    assert counted.count(names.CLIENT_FIRST_CHUNK, **LABELS) == 1


def told(sampling: Sampling, *outcomes: str) -> list[ReadableSpan]:
    """Return the spans of attempts that ended so."""
    exporter = InMemorySpanExporter()
    tracing().add_span_processor(SimpleSpanProcessor(exporter))
    request = ProviderRequest("gpt-4o", (ChatMessage("user", "Name a river."),), sampling)
    for outcome in outcomes:
        telemetry = meters.AttemptTelemetry("openai", request, stand_in=False)
        telemetry.first_text()
        telemetry.end(AttemptUsage("gpt-4o", "openai", TokenCounts(10, 7, 4), 3_000_000), outcome)
    return list(exporter.get_finished_spans())


def test_the_span_of_an_attempt_says_what_was_asked_and_what_came() -> None:
    (span,) = told(Sampling(max_tokens=64, temperature=0.5), "stop")
    assert (span.name, span.kind) == ("chat gpt-4o", SpanKind.CLIENT)
    assert [event.name for event in span.events] == ["first_text"]
    assert dict(span.attributes or {}) == {
        names.OPERATION: "chat", names.PROVIDER: "openai", names.REQUEST_MODEL: "gpt-4o",
        names.STAND_IN: False, names.REPLAY: False, names.TIER: "frontier",
        names.MAX_TOKENS: 64, names.TEMPERATURE: 0.5,
        names.INPUT_TOKENS: 10, names.CACHED_INPUT_TOKENS: 4, names.OUTPUT_TOKENS: 7,
        names.REASONING_TOKENS: 0, names.COST_USD: 0.003, names.FINISH_REASONS: ("stop",),
    }  # fmt: skip


def test_a_failure_is_an_error_of_its_span_and_a_cancellation_is_none() -> None:
    failed, cancelled = told(Sampling(), "PROVIDER_FAILED", "cancelled")
    assert failed.status.status_code is StatusCode.ERROR
    assert cancelled.status.status_code is StatusCode.UNSET
    for span, outcome in ((failed, "PROVIDER_FAILED"), (cancelled, "cancelled")):
        attributes = dict(span.attributes or {})
        assert attributes[names.ERROR_TYPE] == outcome
        assert not {names.MAX_TOKENS, names.TEMPERATURE, names.FINISH_REASONS} & attributes.keys()


def test_the_page_of_metrics_has_the_documented_names_and_labels_of_an_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry, scope_info_enabled=False)])
    made = meters.Instruments(provider.get_meter("weir"))
    monkeypatch.setattr(meters, "instruments", lambda: made)
    told(Sampling(), "stop")
    shown = list(registry.collect())
    labels = {"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"}
    labels |= {"weir_stand_in", "weir_replay"}
    found = {
        sample.name: sample.labels.keys() - labels
        for family in shown
        for sample in family.samples
        if labels <= sample.labels.keys() and not sample.name.endswith(("_bucket", "_sum"))
    }
    assert found == {
        "weir_frontier_attempts_total": {"weir_outcome"},
        "weir_frontier_cost_USD_total": set(),
        "weir_frontier_tokens_total": {"weir_token_class"},
        "gen_ai_client_operation_duration_seconds_count": set(),
        "gen_ai_client_operation_time_to_first_chunk_seconds_count": set(),
        "gen_ai_client_token_usage_count": {"gen_ai_token_type"},
    }
    counters = {family.name for family in shown if family.type == "counter"}
    assert counters == {"weir_frontier_attempts", "weir_frontier_cost_USD", "weir_frontier_tokens"}
    provider.shutdown()


@given(st.data())
def test_classes_add_up_to_all_tokens(data: st.DataObject) -> None:
    prompt, completion = data.draw(st.integers(0, 10**6)), data.draw(st.integers(0, 10**6))
    cached = data.draw(st.integers(0, prompt))
    written = data.draw(st.integers(0, prompt - cached))
    counts = TokenCounts(prompt, completion, cached, written, data.draw(st.integers(0, completion)))
    classes = meters.token_classes(counts)
    assert sum(classes.values()) == prompt + completion
    assert 0 not in classes.values()
