"""Trace context and request identity across hops, as gRPC metadata."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

REQUEST_ID_KEY = "x-request-id"
TENANT_KEY = "x-weir-tenant"
API_KEY_KEY = "x-api-key"
AUTHORIZATION_KEY = "authorization"
# What says who a caller is; goes to the services alone that check it or pass it on.
CREDENTIAL_KEYS = (API_KEY_KEY, AUTHORIZATION_KEY)
_TRUSTED = ("/weir.v1.FrontierProxyService/", "/weir.v1.VerifierService/")
# Trace context alone: baggage is dropped at every hop, since the first one faces strangers.
_PROPAGATOR = TraceContextTextMapPropagator()


def extract(metadata: Mapping[str, str]) -> Context:
    """Return the trace context that the caller sent, empty where it sent none."""
    return _PROPAGATOR.extract(metadata, context=Context())


def inject(span: Span) -> dict[str, str]:
    """Return the metadata that makes ``span`` the parent of what is called."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context=set_span_in_context(span, Context()))
    return carrier


def takes_credentials(method: str) -> bool:
    """Whether the caller's credentials go along to ``method`` (``/package.Service/Method``)."""
    return method.startswith(_TRUSTED)
