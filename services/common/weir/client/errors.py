"""Typed exceptions, one per family of gRPC status, with the server's sentence and its details."""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError

from weir.client.status_details import TRAILER, read_details


class WeirClientError(Exception):
    """A call failed.

    Attributes:
        status: the gRPC status code.
        message: the server's sentence; it says what to do.
        reason: the stable code of Weir's catalog, such as ``QUEUE_FULL``; empty where it came from elsewhere.
        retry_after_s: seconds after which the same request may succeed, where the server named them.
        fields: field path to problem, for invalid requests.
        metadata: further facts; ``request_id`` among them.
    """

    def __init__(
        self,
        status: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        retry_after_s: float | None = None,
        fields: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.reason = status, message, reason
        self.retry_after_s, self.fields, self.metadata = retry_after_s, fields or {}, metadata or {}


class InvalidRequest(WeirClientError):  # noqa: N818 - named as gRPC names it
    """INVALID_ARGUMENT: correct the request."""


class NotFound(WeirClientError):  # noqa: N818
    """NOT_FOUND: an unknown model, adapter or decision."""


class FailedPrecondition(WeirClientError):  # noqa: N818
    """FAILED_PRECONDITION: the set-up or the policy rules it out."""


class Unauthenticated(WeirClientError):  # noqa: N818
    """UNAUTHENTICATED: no credentials, or none that are valid."""


class PermissionDenied(WeirClientError):  # noqa: N818
    """PERMISSION_DENIED: residency or access forbids it."""


class ResourceExhausted(WeirClientError):  # noqa: N818
    """RESOURCE_EXHAUSTED: a queue, rate or budget is full; see ``retry_after_s``."""


class DeadlineExceeded(WeirClientError):  # noqa: N818
    """DEADLINE_EXCEEDED: the time given was too short."""


class Unavailable(WeirClientError):  # noqa: N818
    """UNAVAILABLE: retry, after ``retry_after_s`` where it is given."""


_TYPES: dict[grpc.StatusCode, type[WeirClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}


def from_rpc_error(error: grpc.aio.AioRpcError) -> WeirClientError:
    """Return the typed exception for a failed call."""
    status = error.code()
    kind = _TYPES.get(status, WeirClientError)
    trailer = next((value for key, value in error.trailing_metadata() or () if key == TRAILER), b"")
    try:
        details = read_details(trailer) if isinstance(trailer, bytes) else {}
    except DecodeError:
        details = {}
    info, retry, bad = (details.get(name) for name in ("ErrorInfo", "RetryInfo", "BadRequest"))
    return kind(
        status,
        error.details() or status.name,
        reason=info.reason if info else "",
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
        fields={item.field: item.description for item in bad.field_violations} if bad else None,
        metadata={entry.key: entry.value for entry in info.metadata} if info else None,
    )
