"""Error codes and the one exception that carries them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ErrorCode(StrEnum):
    """Everything that can go wrong for a caller, by its stable machine-readable name."""

    INVALID_PROMPT = "INVALID_PROMPT"
    INVALID_SAMPLING = "INVALID_SAMPLING"
    INVALID_CONSTRAINT = "INVALID_CONSTRAINT"
    INVALID_POLICY = "INVALID_POLICY"
    INVALID_REQUEST = "INVALID_REQUEST"
    CONTEXT_TOO_LONG = "CONTEXT_TOO_LONG"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    UNKNOWN_ADAPTER = "UNKNOWN_ADAPTER"
    UNKNOWN_DECISION = "UNKNOWN_DECISION"
    UNSUPPORTED = "UNSUPPORTED"
    TOKENIZER_MISMATCH = "TOKENIZER_MISMATCH"
    RESIDENCY_FORBIDDEN = "RESIDENCY_FORBIDDEN"
    NO_ELIGIBLE_TIER = "NO_ELIGIBLE_TIER"
    COST_LIMIT = "COST_LIMIT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    IDENTITY_UNAVAILABLE = "IDENTITY_UNAVAILABLE"
    TENANT_FORBIDDEN = "TENANT_FORBIDDEN"
    TENANT_RATE = "TENANT_RATE"
    LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    QUEUE_FULL = "QUEUE_FULL"
    READER_STALLED = "READER_STALLED"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    ENGINE_CRASHED = "ENGINE_CRASHED"
    TIER_UNAVAILABLE = "TIER_UNAVAILABLE"
    STREAM_BROKEN = "STREAM_BROKEN"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    PROVIDER_FAILED = "PROVIDER_FAILED"
    PROVIDER_REJECTED = "PROVIDER_REJECTED"
    PROVIDER_AUTH = "PROVIDER_AUTH"
    RATE_LIMITED = "RATE_LIMITED"
    DEADLINE = "DEADLINE"
    INTERNAL = "INTERNAL"


class WeirError(Exception):
    """A failure with a code of the catalog.

    Args:
        code: the catalog entry; it decides the gRPC status and the general sentence.
        hint: a public sentence about this very case, saying what to do; the caller sees it.
        internal: what only the log may see.
        fields: field path to description, for bad arguments (``google.rpc.BadRequest``).
        retry_after_s: seconds after which a retry makes sense (``google.rpc.RetryInfo``).
        metadata: stable key-value facts for machines (``google.rpc.ErrorInfo.metadata``).
    """

    def __init__(
        self,
        code: ErrorCode,
        hint: str = "",
        *,
        internal: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {hint or internal}")
        self.code = code
        self.hint = hint
        self.internal = internal
        self.fields = dict(fields or {})
        self.retry_after_s = retry_after_s
        self.metadata = dict(metadata or {})
