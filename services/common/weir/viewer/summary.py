"""What a request came to, read off its most telling span."""

from __future__ import annotations

from dataclasses import dataclass

from weir.common import conventions as names
from weir.viewer.spans import Span, Value

GENERATE = "weir.v1.RouterService/Generate"
_CANCELLED = frozenset({"CANCELLED", "1"})
_OK = frozenset({"OK", "0", ""})


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of the list of requests. Counts and costs are ``None`` where the span does not tell."""

    name: str
    service: str
    start_ns: int
    duration_ns: int
    outcome: str  # "ok", "cancelled" or "error"
    code: str
    tier: str
    model: str
    reason: str
    request_id: str
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    frontier_cost_usd: float | None
    stand_in: bool
    replay: bool


def rank(span: Span) -> int:
    """Return how telling a span is for its trace: the router's answer first, then servers, then roots."""
    if span.kind == "server" and span.name == GENERATE:
        return 4
    if span.kind == "server" and span.service == "router":
        return 3
    if not span.parent_id:
        return 2
    return 1 if span.kind == "server" else 0


def summarize(span: Span) -> Summary:
    """Read the row off a span."""
    get = span.attributes.get
    reasons = get(names.REASONS)
    first = reasons[0] if isinstance(reasons, list) and reasons else reasons
    code = _text(get(names.RPC_STATUS))
    return Summary(
        name=span.name,
        service=span.service,
        start_ns=span.start_ns,
        duration_ns=span.end_ns - span.start_ns,
        outcome=_outcome(span, code),
        code=code or span.status.upper(),
        tier=_text(get(names.TIER)).lower().removeprefix("tier_"),
        model=_text(get(names.MODEL) or get(names.RESPONSE_MODEL) or get(names.REQUEST_MODEL)),
        reason=_text(first),
        request_id=_text(get(names.REQUEST_ID)),
        input_tokens=_integer(get(names.INPUT_TOKENS)),
        output_tokens=_integer(get(names.OUTPUT_TOKENS)),
        cost_usd=_number(get(names.COST_USD)),
        frontier_cost_usd=_number(get(names.FRONTIER_COST_USD)),
        stand_in=get(names.STAND_IN) is True,
        replay=get(names.REPLAY) is True,
    )


def _outcome(span: Span, code: str) -> str:
    if code in _CANCELLED:
        return "cancelled"
    return "error" if span.status == "error" or code not in _OK else "ok"


def _text(value: Value) -> str:
    return "" if value is None else str(value)


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _integer(value: Value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
