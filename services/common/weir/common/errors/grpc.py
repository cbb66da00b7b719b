"""Errors to gRPC statuses with details, and back: the only place that translates either way."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from weir.common.errors.base import ErrorCode, WeirError
from weir.common.errors.catalog import CATALOG

DOMAIN = "weir"


def to_status(error: WeirError, request_id: str = "") -> status_pb2.Status:
    """Build the public status: a sentence, and the google.rpc details that apply."""
    entry = CATALOG[error.code]
    details: list[any_pb2.Any] = []

    def add(message: object) -> None:
        packed = any_pb2.Any()
        packed.Pack(message)  # type: ignore[arg-type]
        details.append(packed)

    facts = {**error.metadata, "retryable": str(entry.retryable).lower()}
    if request_id:
        facts["request_id"] = request_id
    add(error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=facts))
    delay = error.retry_after_s if error.retry_after_s is not None else entry.retry_after_s
    if delay is not None:
        duration = duration_pb2.Duration()
        duration.FromMilliseconds(max(0, round(delay * 1000)))
        add(error_details_pb2.RetryInfo(retry_delay=duration))
    if error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=path, description=text)
            for path, text in error.fields.items()
        ]
        add(error_details_pb2.BadRequest(field_violations=violations))
    if error.code in (ErrorCode.BUDGET_EXHAUSTED, ErrorCode.TENANT_RATE):
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=error.metadata.get("tenant", ""), description=error.hint or entry.message
        )
        add(error_details_pb2.QuotaFailure(violations=[violation]))
    text = f"{error.hint} {entry.message}".strip() if error.hint else entry.message
    return status_pb2.Status(code=entry.status.value[0], message=text, details=details)


def from_rpc_error(error: grpc.RpcError) -> WeirError:
    """Recover the WeirError that an upstream of ours sent, or the nearest code for a bare status."""
    code = error.code()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is None:
        return _from_bare(code, error.details() or "")
    info, fields, delay = error_details_pb2.ErrorInfo(), {}, None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            fields = {v.field: v.description for v in bad.field_violations}
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            delay = retry.retry_delay.ToMilliseconds() / 1000
    if info.domain != DOMAIN or info.reason not in ErrorCode.__members__:
        return _from_bare(code, status.message)
    known = ErrorCode(info.reason)
    hint = status.message.removesuffix(CATALOG[known].message).strip()
    facts = {k: v for k, v in info.metadata.items() if k not in {"retryable", "request_id"}}
    return WeirError(known, hint, fields=fields, retry_after_s=delay, metadata=facts)


_BARE = {
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorCode.DEADLINE,
    grpc.StatusCode.UNAVAILABLE: ErrorCode.TIER_UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ErrorCode.QUEUE_FULL,
    grpc.StatusCode.UNIMPLEMENTED: ErrorCode.UNSUPPORTED,
    grpc.StatusCode.INVALID_ARGUMENT: ErrorCode.INVALID_REQUEST,
}


def _from_bare(code: grpc.StatusCode, text: str) -> WeirError:
    return WeirError(_BARE.get(code, ErrorCode.INTERNAL), internal=f"upstream said {code.name}: {text}")


def translate(error: Exception) -> WeirError:
    """Return the catalog error for anything that a handler raised; what is unknown becomes INTERNAL."""
    if isinstance(error, WeirError):
        return error
    if isinstance(error, grpc.RpcError):
        return from_rpc_error(error)
    if isinstance(error, TimeoutError):
        return WeirError(ErrorCode.DEADLINE)
    return WeirError(ErrorCode.INTERNAL, internal=f"{type(error).__name__}: {error}")


async def abort(context: grpc.aio.ServicerContext, error: WeirError, request_id: str) -> NoReturn:  # type: ignore[type-arg]
    """End the RPC with the error's public status."""
    status = to_status(error, request_id)
    if code_pb2.Code.Name(status.code) == "OK":
        raise asyncio.InvalidStateError(f"{error.code} has no status")
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort returned")
