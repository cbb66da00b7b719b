"""Telemetry of one attempt: its span and its metrics (GenAI semantic conventions)."""

from __future__ import annotations

import time
from functools import cache

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from weir.common import conventions as names
from weir.common.context import current_call
from weir.common.telemetry import meter, tracer
from weir.frontier_proxy.domain import AttemptUsage, to_usd
from weir.frontier_proxy.providers.base import ProviderRequest


class Instruments:
    """The metrics of attempts."""

    def __init__(self, meter: Meter) -> None:
        self.duration = meter.create_histogram(names.CLIENT_DURATION, "s", "Duration of one attempt")
        self.first_text = meter.create_histogram(names.CLIENT_FIRST_CHUNK, "s", "Time to the first text")
        self.tokens = meter.create_histogram(names.CLIENT_TOKEN_USAGE, "{token}", "Tokens of one attempt")
        self.attempts = meter.create_counter(names.FRONTIER_ATTEMPTS, "{attempt}", "Attempts by outcome")
        self.cost = meter.create_counter(names.FRONTIER_COST, "USD", "Cost of all attempts, failed ones too")


@cache
def instruments() -> Instruments:
    """Return the process's instruments, made at first use: the meter provider is set after the imports."""
    return Instruments(meter())


class AttemptTelemetry:
    """Measures one attempt from its creation to ``end``."""

    def __init__(self, provider: str, request: ProviderRequest, *, stand_in: bool) -> None:
        self._begun = time.monotonic()
        self._attributes: dict[str, str | bool] = {
            names.OPERATION: "chat",
            names.PROVIDER: provider,
            names.REQUEST_MODEL: request.model,
            names.STAND_IN: stand_in,
        }
        self._span = self._start_span(request)

    def _start_span(self, request: ProviderRequest) -> Span:
        wanted = {
            names.MAX_TOKENS: request.sampling.max_tokens,
            names.TEMPERATURE: request.sampling.temperature,
        }
        stated = {name: value for name, value in wanted.items() if value is not None}
        parent = set_span_in_context(current_call().span, Context())
        attributes = {**self._attributes, names.TIER: "frontier", **stated}
        return tracer().start_span(
            f"chat {request.model}", parent, kind=SpanKind.CLIENT, attributes=attributes
        )

    def first_text(self) -> None:
        """Note the time to the first text."""
        seconds = time.monotonic() - self._begun
        instruments().first_text.record(seconds, self._attributes)
        self._span.add_event("first_text")

    def end(self, usage: AttemptUsage, outcome: str) -> None:
        """Record tokens, cost and duration; ``outcome`` is "stop", "length", an error code or "cancelled"."""
        failed = outcome not in ("stop", "length")
        attributes = {**self._attributes, **({names.ERROR_TYPE: outcome} if failed else {})}
        made = instruments()
        made.duration.record(time.monotonic() - self._begun, attributes)
        made.tokens.record(usage.counts.prompt, {**self._attributes, names.TOKEN_TYPE: "input"})
        made.tokens.record(usage.counts.completion, {**self._attributes, names.TOKEN_TYPE: "output"})
        made.cost.add(to_usd(usage.cost_nano), self._attributes)
        made.attempts.add(1, attributes)
        self._end_span(usage, outcome, failed=failed)

    def _end_span(self, usage: AttemptUsage, outcome: str, *, failed: bool) -> None:
        span = self._span
        span.set_attribute(names.INPUT_TOKENS, usage.counts.prompt)
        span.set_attribute(names.CACHED_INPUT_TOKENS, usage.counts.cached)
        span.set_attribute(names.OUTPUT_TOKENS, usage.counts.completion)
        span.set_attribute(names.COST_USD, to_usd(usage.cost_nano))
        if not failed:
            span.set_attribute(names.FINISH_REASONS, (outcome,))
        else:
            span.set_attribute(names.ERROR_TYPE, outcome)
            if outcome != "cancelled":
                span.set_status(Status(StatusCode.ERROR, outcome))
        span.end()
