"""Telemetry of attempts (GenAI semantic conventions), and of what is done so that an answer survives."""

from __future__ import annotations

import time
from functools import cache, partial

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from weir.common import conventions as names
from weir.common.context import current_call
from weir.common.errors import ErrorCode
from weir.common.tally import Tally
from weir.common.telemetry import meter, tracer
from weir.frontier_proxy.domain import AttemptUsage, TokenCounts, to_usd
from weir.frontier_proxy.providers.base import ProviderRequest
from weir.frontier_proxy.selection import Candidate

# The labels that all metrics of attempts have.
_ATTEMPT = (names.OPERATION, names.PROVIDER, names.REQUEST_MODEL, names.STAND_IN, names.REPLAY)


class Instruments:
    """The metrics of attempts and of survival; all have the provider and the model."""

    def __init__(self, meter: Meter) -> None:
        histogram, counter = meter.create_histogram, meter.create_counter
        tally = partial(Tally, meter.create_observable_counter)
        self.duration = histogram(names.CLIENT_DURATION, "s", "Duration of one attempt")
        self.first_text = histogram(names.CLIENT_FIRST_CHUNK, "s", "Time to the first text")
        self.tokens = histogram(names.CLIENT_TOKEN_USAGE, "{token}", "Tokens of one attempt")
        self.attempts = tally(
            names.FRONTIER_ATTEMPTS, "{attempt}", "Attempts by outcome", (*_ATTEMPT, names.OUTCOME)
        )
        self.cost = tally(names.FRONTIER_COST, "USD", "Cost of all attempts, failed ones too", _ATTEMPT)
        self.classes = tally(
            names.FRONTIER_TOKENS,
            "{token}",
            "Tokens by the class that is priced",
            (*_ATTEMPT, names.TOKEN_CLASS),
        )
        self.retries = counter(names.FRONTIER_RETRIES, "{retry}", "Further tries of the same model")
        self.fallbacks = counter(names.FRONTIER_FALLBACKS, "{fallback}", "Models left before a first text")
        self.switches = counter(names.FRONTIER_SWITCHES, "{switch}", "Models left behind a first text")
        self.hedges = counter(names.FRONTIER_HEDGES, "{hedge}", "Hedges that were sent, and that won")
        self.hedge_cost = counter(names.FRONTIER_HEDGE_COST, "USD", "What hedging costs on top")
        self.opened = counter(names.FRONTIER_CIRCUIT_OPENED, "{opening}", "Openings of circuits by cause")


@cache
def instruments() -> Instruments:
    """Return the process's instruments, made at first use: the meter provider is set after the imports."""
    return Instruments(meter())


def labels(candidate: Candidate) -> dict[str, str]:
    """Return the labels that all of a candidate's metrics have."""
    return {names.PROVIDER: candidate.provider.access.name, names.REQUEST_MODEL: candidate.model}


def retried(candidate: Candidate, code: ErrorCode) -> None:
    """Count a further try of ``candidate``, whose last one ended with ``code``."""
    instruments().retries.add(1, {**labels(candidate), names.ERROR_TYPE: code})


def fell_back(left: Candidate, code: ErrorCode) -> None:
    """Count that another model is tried in place of ``left``, of which no text has come."""
    instruments().fallbacks.add(1, {**labels(left), names.ERROR_TYPE: code})


def switched(left: Candidate, code: ErrorCode) -> None:
    """Count that another model continues the text of ``left``."""
    instruments().switches.add(1, {**labels(left), names.ERROR_TYPE: code})


def hedge_sent(hedge: Candidate) -> None:
    """Count that ``hedge`` was asked beside the one that is waited for."""
    instruments().hedges.add(1, {**labels(hedge), names.HEDGE: "sent"})


def hedge_won(hedge: Candidate) -> None:
    """Count that ``hedge`` began first."""
    instruments().hedges.add(1, {**labels(hedge), names.HEDGE: "won"})


def hedge_paid(loser: Candidate, nano: int) -> None:
    """Count what the loser of a race cost, in nano-dollars."""
    instruments().hedge_cost.add(to_usd(nano), labels(loser))


def token_classes(counts: TokenCounts) -> dict[str, int]:
    """Return tokens by the class that is priced; classes do not overlap, empty ones are absent."""
    classes = {
        "input": max(0, counts.prompt - counts.cached - counts.cache_write),
        "cached_input": counts.cached,
        "cache_write": counts.cache_write,
        "output": max(0, counts.completion - counts.reasoning),
        "reasoning": counts.reasoning,
    }
    return {name: tokens for name, tokens in classes.items() if tokens}


class AttemptTelemetry:
    """Measures one attempt from its creation to ``end``."""

    def __init__(
        self, provider: str, request: ProviderRequest, *, stand_in: bool, replay: bool = False
    ) -> None:
        self._begun = time.monotonic()
        self._labels = ("chat", provider, request.model, stand_in, replay)
        self._attributes: dict[str, str | bool] = dict(zip(_ATTEMPT, self._labels, strict=True))
        self._span = self._start_span(request)

    def _start_span(self, request: ProviderRequest) -> Span:
        parent = set_span_in_context(current_call().span, Context())
        span = tracer().start_span(f"chat {request.model}", parent, kind=SpanKind.CLIENT)
        if span.is_recording():
            span.set_attributes({**self._attributes, names.TIER: "frontier"})
            if request.sampling.max_tokens is not None:
                span.set_attribute(names.MAX_TOKENS, request.sampling.max_tokens)
            if request.sampling.temperature is not None:
                span.set_attribute(names.TEMPERATURE, request.sampling.temperature)
        return span

    def first_text(self) -> float:
        """Note that the first text came; returns the seconds it took."""
        seconds = time.monotonic() - self._begun
        instruments().first_text.record(seconds, self._attributes)
        self._span.add_event("first_text")
        return seconds

    def end(self, usage: AttemptUsage, outcome: str) -> None:
        """Record tokens, cost and duration; ``outcome`` is "stop", "length", an error code or "cancelled"."""
        failed = outcome not in ("stop", "length")
        attributes = {**self._attributes, names.ERROR_TYPE: outcome} if failed else self._attributes
        made, labels, counts = instruments(), self._labels, usage.counts
        made.duration.record(time.monotonic() - self._begun, attributes)
        made.tokens.record(counts.prompt, {**self._attributes, names.TOKEN_TYPE: "input"})
        made.tokens.record(counts.completion, {**self._attributes, names.TOKEN_TYPE: "output"})
        for name, tokens in token_classes(counts).items():
            made.classes.add(tokens, *labels, name)
        made.cost.add(to_usd(usage.cost_nano), *labels)
        made.attempts.add(1, *labels, outcome)
        if self._span.is_recording():
            self._describe(usage, outcome, failed=failed)
        self._span.end()

    def _describe(self, usage: AttemptUsage, outcome: str, *, failed: bool) -> None:
        span, counts = self._span, usage.counts
        span.set_attributes(
            {
                names.INPUT_TOKENS: counts.prompt,
                names.CACHED_INPUT_TOKENS: counts.cached,
                names.OUTPUT_TOKENS: counts.completion,
                names.REASONING_TOKENS: counts.reasoning,
                names.COST_USD: to_usd(usage.cost_nano),
            }
        )
        if not failed:
            span.set_attribute(names.FINISH_REASONS, (outcome,))
            return
        span.set_attribute(names.ERROR_TYPE, outcome)
        if outcome != "cancelled":
            span.set_status(Status(StatusCode.ERROR, outcome))
