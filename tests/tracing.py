"""One tracer provider for the whole test process; OpenTelemetry admits no second."""

from functools import cache

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider


@cache
def test_tracing() -> TracerProvider:
    """Return the provider, set as the global one at first use."""
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    return provider


test_tracing.__test__ = False  # type: ignore[attr-defined]
