"""Errors that several parts of the verifier raise."""

from __future__ import annotations

from weir.common.errors import ErrorCode, WeirError


def malformed(field: str, problem: str) -> WeirError:
    """Return the error for a request whose ``field`` has this problem."""
    return WeirError(ErrorCode.INVALID_REQUEST, f"{field} {problem}.", fields={field: problem})


def too_long(tokens: int, context: int) -> WeirError:
    """Return the error for a sequence of ``tokens`` that leaves no room in the context."""
    return WeirError(
        ErrorCode.CONTEXT_TOO_LONG,
        f"The prompt has {tokens} tokens and the verifier's context {context}.",
        metadata={"tokens": str(tokens), "context": str(context)},
    )
