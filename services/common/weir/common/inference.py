"""The span and the metrics of one run of a model, the same in every service that runs one."""

from __future__ import annotations

import time
from typing import Self

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from weir.common import conventions as names
from weir.common.context import current_call
from weir.common.telemetry import meter, tracer
from weir.engines.base import EngineInfo, FinishReason, Sampling


class _Metrics:
    """The server-side histograms of the GenAI conventions."""

    def __init__(self) -> None:
        histogram = meter().create_histogram
        self.duration = histogram(names.SERVER_DURATION, "s", "From arrival to the last token")
        self.first_token = histogram(names.SERVER_FIRST_TOKEN, "s", "From arrival to the first token")
        self.per_token = histogram(names.SERVER_PER_TOKEN, "s", "Per token after the first")
        self.tokens = histogram(names.CLIENT_TOKEN_USAGE, "{token}", "Tokens read and written")


_metrics: _Metrics | None = None


def _instruments() -> _Metrics:
    # Made at first use: the meter provider is set after the modules were imported.
    global _metrics
    _metrics = _metrics or _Metrics()
    return _metrics


class Inference:
    """A run of a local model, from the request's arrival to its last token; a context manager."""

    def __init__(self, operation: str, info: EngineInfo, sampling: Sampling) -> None:
        self.first_token_s = 0.0
        self._started = time.perf_counter()
        self._attributes = {
            names.OPERATION: operation,
            names.PROVIDER: f"weir.{info.engine}",
            names.REQUEST_MODEL: info.model,
        }
        parent = set_span_in_context(current_call().span, Context())
        self.span = tracer().start_span(
            f"{operation} {info.model}",
            parent,
            kind=SpanKind.INTERNAL,
            attributes={**self._attributes, names.STAND_IN: info.stand_in},
        )
        if sampling.max_tokens is not None:
            self.span.set_attribute(names.MAX_TOKENS, sampling.max_tokens)
        if sampling.temperature is not None:
            self.span.set_attribute(names.TEMPERATURE, sampling.temperature)

    def tokens(self, count: int) -> None:
        """Note the arrival of ``count`` tokens; the first sets the time to the first token."""
        if count and not self.first_token_s:
            self.first_token_s = time.perf_counter() - self._started
            self.span.add_event("first_token")

    def finish(self, prompt: int, cached: int, completion: int, reason: FinishReason | None) -> None:
        """Set the counts once the answer is complete."""
        span = self.span
        span.set_attribute(names.INPUT_TOKENS, prompt)
        span.set_attribute(names.CACHED_INPUT_TOKENS, cached)
        span.set_attribute(names.OUTPUT_TOKENS, completion)
        span.set_attribute(names.FINISH_REASONS, [reason or "unknown"])
        metrics, total = _instruments(), time.perf_counter() - self._started
        metrics.duration.record(total, self._attributes)
        metrics.first_token.record(self.first_token_s, self._attributes)
        if completion > 1:
            metrics.per_token.record((total - self.first_token_s) / (completion - 1), self._attributes)
        metrics.tokens.record(prompt, {**self._attributes, names.TOKEN_TYPE: "input"})
        metrics.tokens.record(completion, {**self._attributes, names.TOKEN_TYPE: "output"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None:
            self.span.set_attribute(names.ERROR_TYPE, kind.__name__)
            if isinstance(error, Exception):
                self.span.set_status(Status(StatusCode.ERROR, kind.__name__))
        self.span.end()
