"""Which failures another replica or another tier may make good, before anything was sent."""

from __future__ import annotations

from weir.common.errors import ErrorCode as C
from weir.common.errors import WeirError

# The replica is not there or not well: several in a row eject it. A full queue, a refused request or a bug
# that a single prompt sets off say nothing against it.
REPLICA_DOWN = frozenset(
    {C.TIER_UNAVAILABLE, C.ENGINE_CRASHED, C.MODEL_UNAVAILABLE, C.SHUTTING_DOWN, C.STREAM_BROKEN}
)
OTHER_REPLICA = REPLICA_DOWN | {C.QUEUE_FULL, C.INTERNAL}
# A full queue is not among them: overload of the cheap tier must not become cost in a dear one.
OTHER_TIER = REPLICA_DOWN | {
    C.BUDGET_EXHAUSTED,
    C.CONTEXT_TOO_LONG,
    C.COST_LIMIT,
    C.INTERNAL,
    C.LEDGER_UNAVAILABLE,
    C.PROVIDER_AUTH,
    C.PROVIDER_FAILED,
    C.PROVIDER_REJECTED,
    C.RATE_LIMITED,
    C.RESIDENCY_FORBIDDEN,
    C.TENANT_FORBIDDEN,
    C.TENANT_RATE,
    C.TOKENIZER_MISMATCH,
    C.UNKNOWN_MODEL,
    C.UNSUPPORTED,
}
# The tier could not do its work, whatever was asked of it.
TIER_FAILS = OTHER_REPLICA | {C.BUDGET_EXHAUSTED, C.PROVIDER_AUTH, C.PROVIDER_FAILED, C.RATE_LIMITED}
_BREAKS = frozenset({C.TIER_UNAVAILABLE, C.SHUTTING_DOWN})


def mid_stream(error: WeirError) -> WeirError:
    """Return the error for an answer of which a part has been sent."""
    if error.code not in _BREAKS:
        return error
    return WeirError(C.STREAM_BROKEN, internal=f"{error.code}: {error.internal or error.hint}")
