"""The server interceptor: every handler is guarded, observed, and answers failures from the catalog."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc

from weir.common.context import CallInfo, enter_call
from weir.common.errors import ErrorCode, WeirError
from weir.common.errors.grpc import abort, translate
from weir.common.grpc_types import ServicerContext
from weir.common.interceptors.decoding import checked, tolerant
from weir.common.interceptors.observers import Observer, Rpc, record_failure
from weir.common.propagation import CREDENTIAL_KEYS, REQUEST_ID_KEY, TENANT_KEY

MAX_ID_LENGTH = 128

# Runs before the handler; may refuse the call, and may say whose it is.
Guard = Callable[[Rpc], Awaitable[None]]
_Work = Callable[[Any, ServicerContext, Rpc], Awaitable[Any]]


class ServingInterceptor(grpc.aio.ServerInterceptor):
    """Runs handlers as plain coroutines that write their messages.

    gRPC does not close a handler's generator when the client cancels; a coroutine is cancelled where it
    stands, so every ``finally`` below it runs in the RPC's own task. A message that the client does not
    take within ``stall_timeout_s`` ends the stream with READER_STALLED.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        *,
        stall_timeout_s: float,
        max_streams: int,
        guards: Sequence[Guard] = (),
    ) -> None:
        self._observers, self._guards = tuple(observers), tuple(guards)
        self._stall_timeout_s = stall_timeout_s
        self._max_streams = max_streams
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._serving: dict[str, tuple[Any, Any]] = {}

    async def wait_idle(self) -> None:
        """Return when no handler runs, their clean-up included."""
        await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Replace the method's handler by one that serves it."""
        handler = await continuation(details)
        if handler is None:
            return None
        # gRPC asks before every call; the answer stays the same.
        known, serving = self._serving.get(details.method, (None, None))
        if known is not handler:
            serving = self._served(details.method, handler)
            self._serving[details.method] = handler, serving
        return serving

    def _served(self, method: str, handler: Any) -> Any:
        streams_in, streams_out = handler.request_streaming, handler.response_streaming
        if streams_out:
            kind = (
                grpc.stream_stream_rpc_method_handler if streams_in else grpc.unary_stream_rpc_method_handler
            )
            work = self._streaming(handler.stream_stream or handler.unary_stream)
        else:
            kind = grpc.stream_unary_rpc_method_handler if streams_in else grpc.unary_unary_rpc_method_handler
            work = _unary(handler.stream_unary or handler.unary_unary)

        async def run(request: Any, context: ServicerContext) -> Any:
            return await self._serve(method, request, context, work)

        served: Any = run
        return kind(served, tolerant(handler.request_deserializer), handler.response_serializer)

    def _streaming(self, behavior: Callable[[Any, ServicerContext], Any]) -> _Work:
        async def work(request: Any, context: ServicerContext, rpc: Rpc) -> None:
            result = behavior(request, context)
            if not hasattr(result, "__aiter__"):  # a coroutine that writes by itself
                await result
                return
            async with aclosing(result) as messages:
                async for message in messages:
                    await self._write(context, message)
                    rpc.messages_sent += 1

        return work

    async def _write(self, context: ServicerContext, message: object) -> None:
        try:
            async with asyncio.timeout(self._stall_timeout_s):
                await context.write(message)
        except TimeoutError:
            raise WeirError(ErrorCode.READER_STALLED) from None

    async def _serve(self, method: str, request: Any, context: ServicerContext, work: _Work) -> Any:
        rpc = _describe(method, request, context)
        enter_call(rpc.info)
        if not rpc.quiet:
            for observer in self._observers:
                observer.begun(rpc)
        try:
            return await self._guarded(request, context, rpc, work)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await abort(context, translate(error), rpc.info.request_id)

    async def _guarded(self, request: Any, context: ServicerContext, rpc: Rpc, work: _Work) -> Any:
        """Do the work of an RPC that may pass."""
        admitted = False
        try:
            if not rpc.quiet:
                admitted = self._admit()
                for guard in self._guards:
                    await guard(rpc)
            return await work(checked(request), context, rpc)
        except asyncio.CancelledError:
            late = rpc.info.remaining() == 0
            rpc.status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            record_failure(rpc, error)
            raise
        finally:
            if not rpc.quiet:
                # Later in this turn of the event loop: the client need not wait for it.
                asyncio.get_running_loop().call_soon(self._ended, rpc, admitted)

    def _ended(self, rpc: Rpc, admitted: bool) -> None:
        try:
            for observer in reversed(self._observers):
                observer.ended(rpc)
        finally:
            if admitted:
                self._leave()

    def _admit(self) -> bool:
        if self._in_flight >= self._max_streams:
            raise WeirError(ErrorCode.QUEUE_FULL, f"{self._max_streams} calls are being served already.")
        self._in_flight += 1
        self._idle.clear()
        return True

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()


def _unary(behavior: Callable[[Any, ServicerContext], Awaitable[Any]]) -> _Work:
    async def work(request: Any, context: ServicerContext, rpc: Rpc) -> Any:
        return await behavior(request, context)

    return work


def _describe(method: str, request: object, context: ServicerContext) -> Rpc:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    # Taken out, so that nothing that shows a call's metadata shows them.
    credentials = tuple((key, metadata.pop(key)) for key in CREDENTIAL_KEYS if key in metadata)
    named = getattr(request, "request_id", "") or metadata.get(REQUEST_ID_KEY, "")
    remaining = context.time_remaining()
    info = CallInfo(
        request_id=named[:MAX_ID_LENGTH] or uuid.uuid4().hex,
        tenant=metadata.get(TENANT_KEY, "")[:MAX_ID_LENGTH],
        method=method,
        deadline=None if remaining is None else time.monotonic() + remaining,
        credentials=credentials,
    )
    return Rpc(info, metadata, context.peer() or "")
