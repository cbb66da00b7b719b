"""OTLP spans to plain records: bounded in size, and free of message content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"

MAX_ATTRIBUTES = 64
MAX_EVENTS = 128
MAX_TEXT = 2_000
MAX_ITEMS = 64
MAX_DEPTH = 3

# Attributes in which instrumentations put what people wrote or models answered: never kept.
CONTENT = frozenset(
    {
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.prompt",
        "gen_ai.completion",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
    }
)
_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_STATUSES = {1: "ok", 2: "error"}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at ``at_ns`` (Unix nanoseconds) within a span."""

    name: str
    at_ns: int
    attributes: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Span:
    """One ended span; ids are lower-case hex, times Unix nanoseconds, ``parent_id`` empty at the root."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    message: str
    attributes: dict[str, Value]
    events: tuple[Event, ...]


def decode(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """Yield the request's spans; those with malformed ids are left out."""
    for group in request.resource_spans:
        service = str(_attributes(group.resource.attributes).get("service.name") or "unknown")
        for scope in group.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) == 16 and len(span.span_id) == 8:
                    yield _span(span, service.removeprefix("weir-"))


def _span(span: trace_pb2.Span, service: str) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name[:MAX_TEXT],
        service=service[:MAX_TEXT],
        kind=_KINDS.get(span.kind, "internal"),
        start_ns=_sqlite_int(span.start_time_unix_nano),
        end_ns=_sqlite_int(max(span.end_time_unix_nano, span.start_time_unix_nano)),
        status=_STATUSES.get(span.status.code, "unset"),
        message=span.status.message[:MAX_TEXT],
        attributes=_attributes(span.attributes),
        events=tuple(
            Event(event.name[:MAX_TEXT], _sqlite_int(event.time_unix_nano), _attributes(event.attributes))
            for event in span.events[:MAX_EVENTS]
        ),
    )


def _sqlite_int(value: int) -> int:
    return min(value, 2**63 - 1)


def _attributes(pairs: Iterable[KeyValue], depth: int = 0) -> dict[str, Value]:
    kept: dict[str, Value] = {}
    for pair in pairs:
        if len(kept) >= MAX_ATTRIBUTES:
            break
        if pair.key not in CONTENT:
            kept[pair.key[:MAX_TEXT]] = _value(pair.value, depth)
    return kept


def _value(value: AnyValue, depth: int) -> Value:
    kind = value.WhichOneof("value")
    if kind is None or depth >= MAX_DEPTH:
        return None
    if kind == "string_value":
        text = value.string_value
        return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    if kind == "array_value":
        return [_value(item, depth + 1) for item in value.array_value.values[:MAX_ITEMS]]
    if kind == "kvlist_value":
        return dict(_attributes(value.kvlist_value.values, depth + 1))
    if kind == "bytes_value":
        return f"{len(value.bytes_value)} bytes"
    number = value.bool_value if kind == "bool_value" else getattr(value, kind)
    # JSON knows no NaN and no infinity, and JavaScript no integer past 2**53.
    is_plain = isinstance(number, bool) or (number == number and abs(number) < 2**53)
    return number if is_plain else str(number)
