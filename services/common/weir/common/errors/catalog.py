"""The one table from error code to gRPC status, public sentence and whether a retry may help."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from grpc import StatusCode

from weir.common.errors.base import ErrorCode as C


@dataclass(frozen=True, slots=True)
class Entry:
    """How a code appears to a caller. ``retry_after_s`` is the default delay where the case names none."""

    status: StatusCode
    message: str
    retry_after_s: float | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later, unchanged."""
        return self.retry_after_s is not None


_S = StatusCode
CATALOG = MappingProxyType(
    {
        C.INVALID_PROMPT: Entry(_S.INVALID_ARGUMENT, "The prompt cannot be used; correct it and send again."),
        C.INVALID_SAMPLING: Entry(_S.INVALID_ARGUMENT, "A sampling parameter is out of range; correct it."),
        C.INVALID_CONSTRAINT: Entry(
            _S.INVALID_ARGUMENT, "The output constraint cannot be compiled or met; correct it."
        ),
        C.INVALID_POLICY: Entry(_S.INVALID_ARGUMENT, "The policy contradicts itself; relax one side of it."),
        C.INVALID_REQUEST: Entry(_S.INVALID_ARGUMENT, "The request is malformed; correct the named field."),
        C.CONTEXT_TOO_LONG: Entry(
            _S.INVALID_ARGUMENT, "The prompt exceeds the context of every model it may use; shorten it."
        ),
        C.UNKNOWN_MODEL: Entry(_S.NOT_FOUND, "No such model; list the models to see their names."),
        C.UNKNOWN_ADAPTER: Entry(_S.NOT_FOUND, "No such adapter; GetModelInfo lists those loaded."),
        C.UNKNOWN_DECISION: Entry(_S.NOT_FOUND, "No such decision; send the decision_id of a Decision."),
        C.UNSUPPORTED: Entry(
            _S.UNIMPLEMENTED, "The configured engine cannot do this; configure one that can."
        ),
        C.TOKENIZER_MISMATCH: Entry(
            _S.FAILED_PRECONDITION,
            "Drafter and verifier have different tokenizers; use models of one family for the hybrid tier.",
        ),
        C.RESIDENCY_FORBIDDEN: Entry(
            _S.PERMISSION_DENIED, "The content must not leave this installation; ask for a local tier."
        ),
        C.NO_ELIGIBLE_TIER: Entry(
            _S.FAILED_PRECONDITION, "No tier may answer this request under its policy; relax the policy."
        ),
        C.COST_LIMIT: Entry(
            _S.FAILED_PRECONDITION,
            "The answer would cost more than max_cost_usd; raise it or shorten the answer.",
        ),
        C.UNAUTHENTICATED: Entry(
            _S.UNAUTHENTICATED, "The credentials are missing or not valid; send a valid key or token."
        ),
        C.IDENTITY_UNAVAILABLE: Entry(
            _S.UNAVAILABLE, "The identity provider's keys cannot be had now; retry later.", 5.0
        ),
        C.TENANT_FORBIDDEN: Entry(
            _S.PERMISSION_DENIED, "The tenant may not do this; ask the operator for the right to it."
        ),
        C.TENANT_RATE: Entry(
            _S.RESOURCE_EXHAUSTED,
            "The tenant sends more than it may in a minute; retry after the delay.",
            1.0,
        ),
        C.LEDGER_UNAVAILABLE: Entry(
            _S.UNAVAILABLE, "The ledger cannot be written, so nothing may be spent; retry later.", 5.0
        ),
        C.BUDGET_EXHAUSTED: Entry(_S.RESOURCE_EXHAUSTED, "The tenant's budget is spent; raise it or wait."),
        C.QUEUE_FULL: Entry(
            _S.RESOURCE_EXHAUSTED, "The server is at capacity; retry after the given delay.", 1.0
        ),
        C.READER_STALLED: Entry(
            _S.ABORTED, "The stream was not read for too long; read it faster and retry.", 0.0
        ),
        C.MODEL_UNAVAILABLE: Entry(
            _S.UNAVAILABLE, "The model is not loaded; wait for it, or run `weir models pull`.", 2.0
        ),
        C.ENGINE_CRASHED: Entry(_S.UNAVAILABLE, "The engine stopped and is restarting; retry shortly.", 2.0),
        C.TIER_UNAVAILABLE: Entry(
            _S.UNAVAILABLE, "No eligible tier is reachable now; retry, or check the services' health.", 1.0
        ),
        C.STREAM_BROKEN: Entry(
            _S.UNAVAILABLE, "The answer broke off before its end; send the request again.", 0.5
        ),
        C.STORE_UNAVAILABLE: Entry(
            _S.UNAVAILABLE, "The database of the receipts cannot be used now; retry later.", 5.0
        ),
        C.SHUTTING_DOWN: Entry(_S.UNAVAILABLE, "The server is shutting down; retry on another replica.", 0.5),
        C.PROVIDER_FAILED: Entry(_S.UNAVAILABLE, "The provider failed; retry, or configure a fallback.", 1.0),
        C.PROVIDER_REJECTED: Entry(
            _S.FAILED_PRECONDITION, "The provider refused the request; change the prompt or the model."
        ),
        C.PROVIDER_AUTH: Entry(
            _S.FAILED_PRECONDITION, "The provider refused its key; the operator must set a valid one."
        ),
        C.RATE_LIMITED: Entry(
            _S.RESOURCE_EXHAUSTED, "The provider limits the rate; retry after the delay.", 5.0
        ),
        C.DEADLINE: Entry(_S.DEADLINE_EXCEEDED, "The deadline passed; allow more time or ask for less."),
        C.INTERNAL: Entry(_S.INTERNAL, "Something failed inside the server; report it with the request id."),
    }
)
