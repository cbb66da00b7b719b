"""Calls to other services: deadline, cancellation, identity and trace go along; errors come back typed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, cast

import grpc
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from weir.common import conventions as names
from weir.common.channels import connect
from weir.common.context import current_call
from weir.common.errors import CATALOG, ErrorCode, WeirError
from weir.common.errors.grpc import from_rpc_error
from weir.common.propagation import REQUEST_ID_KEY, TENANT_KEY, inject, takes_credentials
from weir.common.telemetry import tracer

__all__ = ["Bidi", "bidi", "connect", "stream_from", "unary"]

Request = TypeVar("Request")
Response = TypeVar("Response")
# Left to this hop for telling its own caller, once the next hop has run out of time.
DEADLINE_MARGIN_S = 0.02


def _timeout(wanted: float | None) -> float | None:
    """Return what is left of the present RPC's deadline, or less where less is wanted."""
    remaining = current_call().remaining()
    if remaining is None:
        return wanted
    left = remaining - DEADLINE_MARGIN_S
    if left <= 0:
        raise WeirError(ErrorCode.DEADLINE)
    return left if wanted is None else min(left, wanted)


def _path(method: object) -> str:
    raw = getattr(method, "_method", b"")
    return raw.decode() if isinstance(raw, bytes) else str(raw)


def _metadata(method: object, span: Span) -> list[tuple[str, str]]:
    call = current_call()
    identity = {REQUEST_ID_KEY: call.request_id, TENANT_KEY: call.tenant}
    sent = [(key, value) for key, value in {**identity, **inject(span)}.items() if value]
    if call.credentials and takes_credentials(_path(method)):
        sent += call.credentials
    return sent


@asynccontextmanager
async def _client_span(method: object) -> AsyncIterator[Span]:
    """A client span that ends with the call's true status, also when the caller breaks it off."""
    name = _path(method).lstrip("/")
    parent = set_span_in_context(current_call().span, Context())
    span = tracer().start_span(
        name, parent, kind=SpanKind.CLIENT, attributes={names.RPC_SYSTEM: "grpc", names.RPC_METHOD: name}
    )
    status = "OK"
    try:
        yield span
    except WeirError as error:
        status = CATALOG[error.code].status.name
        span.set_attribute(names.ERROR_TYPE, error.code)
        span.set_status(Status(StatusCode.ERROR, error.code))
        raise
    except BaseException as error:
        status = "CANCELLED"
        span.set_attribute(names.ERROR_TYPE, type(error).__name__)
        raise
    finally:
        span.set_attribute(names.RPC_STATUS, status)
        span.end()


async def unary(method: Any, request: Request, *, timeout: float | None = None) -> Any:
    """Call a unary method. Raises WeirError."""
    async with _client_span(method) as span:
        call = method(request, timeout=_timeout(timeout), metadata=_metadata(method, span))
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()


@asynccontextmanager
async def stream_from(
    method: Any, request: Request, *, timeout: float | None = None
) -> AsyncIterator[AsyncIterator[Any]]:
    """Open a server stream; leaving the block cancels what has not ended. Iterating raises WeirError."""
    async with _client_span(method) as span:
        call = method(request, timeout=_timeout(timeout), metadata=_metadata(method, span))
        try:
            yield _responses(call)
        finally:
            call.cancel()


async def _responses(call: Any) -> AsyncIterator[Any]:
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


class Bidi(Generic[Request, Response]):
    """Both directions of an open stream."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def write(self, request: Request) -> None:
        """Send one message. Raises WeirError where the stream has broken."""
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def done_writing(self) -> None:
        """Say that no more messages come."""
        await self._call.done_writing()

    async def read(self) -> Response | None:
        """Return the next message, ``None`` at the stream's end. Raises WeirError where it has broken."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return None if message is grpc.aio.EOF else cast("Response", message)


@asynccontextmanager
async def bidi(method: Any, *, timeout: float | None = None) -> AsyncIterator[Bidi[Any, Any]]:
    """Open a stream in both directions; leaving the block cancels what has not ended."""
    async with _client_span(method) as span:
        call = method(timeout=_timeout(timeout), metadata=_metadata(method, span))
        try:
            yield Bidi(call)
        finally:
            call.cancel()
